//! Which pages of this process are resident: the PAGEMAP_SCAN ioctl, or reading /proc/self/pagemap where there is none
//! (Documentation/admin-guide/mm/pagemap.rst).
//!
//! As for a recorder outside the pages that are `PageFlags::in_rss` are those that the kernel counts: hugetlb pages and
//! `[vsyscall]` are left out, and guard markers are not swapped pages.

use core::ffi::CStr;

use pagetrace_format::snapshot::{MappingCursor, PageFlags, Permissions, ResidencySource, SnapshotRuns};

use super::proc_text::{Lines, number};
use crate::sys::files::{ReadFile, page_bytes};
use crate::sys::pagemap::{PageRegion, mapping_page_bytes, page_is, pagemap_scan};

const SCANNED: u64 = page_is::PRESENT | page_is::SWAPPED;
const REPORTED: u64 = SCANNED | page_is::FILE | page_is::PFNZERO | page_is::HUGE;

const REGIONS_PER_CALL: usize = 2048;
const ENTRIES_PER_READ: usize = 8 * 1024;
const HUGETLB_ALIGNMENT: u64 = 64 * 1024;

/// Above this, the pagemap of memory that nobody may access is not read: it would take seconds per terabyte.
const LARGEST_INACCESSIBLE_READ: u64 = 4 << 30;

/// Bits of an entry of `/proc/PID/pagemap`.
mod entry {
    pub(super) const PRESENT: u64 = 1 << 63;
    pub(super) const SWAPPED: u64 = 1 << 62;
    pub(super) const FILE: u64 = 1 << 61;
    pub(super) const GUARD: u64 = 1 << 58;
}

/// How residency is read: the best that has not been found missing.
mod method {
    pub(super) const SCAN_WITH_GUARDS: u32 = 0;
    pub(super) const SCAN: u32 = 1;
    pub(super) const PAGEMAP: u32 = 2;
}

/// Memory for scanning, and what earlier scans have found out of the kernel. All zeros is a new one.
#[repr(C)]
#[derive(Debug)]
pub struct Scanner {
    regions: [PageRegion; REGIONS_PER_CALL],
    /// Used, and so resident, where pagemap has to be read only.
    entries: [u64; ENTRIES_PER_READ],
    /// Devices with [`device_is`] bits, each in the place that its number gives.
    devices: [u64; 16],
    method: u32,
}

/// What is known of a device; above all bits of its number.
mod device_is {
    pub(super) const KNOWN: u64 = 1 << 63;
    pub(super) const HUGETLB: u64 = 1 << 62;
}

/// What a scan needs to know of a mapping.
struct Scanned {
    start: u64,
    end: u64,
    /// No page of it can be of a file. The kernel is then not asked for that: it would look at the `struct page` of
    /// every page, which takes longer than all the rest.
    anonymous: bool,
    accessible: bool,
}

impl Scanner {
    /// Adds the pages of the mappings of `runs` that are not simply absent. `text` is memory to read into.
    pub fn scan(&mut self, runs: &mut SnapshotRuns<'_>, text: &mut [u8]) -> ResidencySource {
        // Resident before the scan and not by it.
        self.regions.fill(PageRegion::default());
        let Some(pagemap) = ReadFile::open(c"/proc/self/pagemap") else { return ResidencySource::None };
        let maps = ReadFile::open(c"/proc/self/maps");
        let mut own = OwnMappings { cursor: runs.first_mapping(), maps, text, left_out: false };
        if self.method == method::PAGEMAP || self.find_out(&pagemap) == method::PAGEMAP {
            self.read_pagemap(&pagemap, runs, &mut own);
            return ResidencySource::Pagemap;
        }
        self.scan_with_ioctl(&pagemap, runs, &mut own);
        ResidencySource::PagemapScan
    }

    /// Reads pagemap from now on, as is done where the ioctl is missing.
    pub fn use_pagemap(&mut self) {
        self.method = method::PAGEMAP;
    }

    /// Tries the ioctl on no pages at all.
    fn find_out(&mut self, pagemap: &ReadFile) -> u32 {
        while self.method != method::PAGEMAP {
            match pagemap_scan(pagemap, (0, 0), SCANNED, REPORTED | self.guards(), &mut self.regions) {
                Ok(_) => break,
                Err(libc::EINTR) => {}
                Err(_) if self.method == method::SCAN_WITH_GUARDS => self.method = method::SCAN,
                Err(_) => self.method = method::PAGEMAP,
            }
        }
        self.method
    }

    fn guards(&self) -> u64 {
        if self.method == method::SCAN_WITH_GUARDS { page_is::GUARD } else { 0 }
    }

    /// One walk over all mappings that may have the same categories and lie next to each other: the kernel skips the
    /// holes between them faster than we could.
    fn scan_with_ioctl(&mut self, pagemap: &ReadFile, runs: &mut SnapshotRuns<'_>, own: &mut OwnMappings<'_>) {
        let mut next = own.next(runs, &mut self.devices);
        while let Some(Scanned { start, mut end, anonymous, .. }) = next {
            loop {
                next = own.next(runs, &mut self.devices);
                match &next {
                    Some(after) if after.anonymous == anonymous && !own.left_out => end = after.end,
                    _ => break,
                }
            }
            let reported = REPORTED | self.guards();
            let reported = if anonymous { reported & !page_is::FILE } else { reported };
            self.scan_span(pagemap, runs, (start, end), reported);
        }
    }

    fn scan_span(&mut self, pagemap: &ReadFile, runs: &mut SnapshotRuns<'_>, span: (u64, u64), reported: u64) {
        let (mut next, end) = span;
        while next < end {
            let count = match pagemap_scan(pagemap, (next, end), SCANNED, reported, &mut self.regions) {
                Err(libc::EINTR) => continue,
                // Memory that the kernel could not write the regions to is the only other reason, and not ours.
                Err(_) => return,
                Ok(count) => count,
            };
            for region in &self.regions[..count] {
                runs.pages(region.start, region.end, flags_of_categories(region.categories));
            }
            // Room left over means that the walk came to the end.
            next = match self.regions[..count].last() {
                Some(last) if count == self.regions.len() => last.end.max(next + page_bytes()),
                _ => end,
            };
        }
    }

    fn read_pagemap(&mut self, pagemap: &ReadFile, runs: &mut SnapshotRuns<'_>, own: &mut OwnMappings<'_>) {
        let page_bytes = page_bytes();
        while let Some(mapping) = own.next(runs, &mut self.devices) {
            if !mapping.accessible && mapping.end - mapping.start > LARGEST_INACCESSIBLE_READ {
                continue;
            }
            let (mut page, end) = (mapping.start / page_bytes, mapping.end / page_bytes);
            while page < end {
                let wanted = usize::try_from(end - page).unwrap_or(usize::MAX).min(ENTRIES_PER_READ);
                let read = pagemap.read_words_at(&mut self.entries[..wanted], page * 8).unwrap_or(0);
                if read == 0 {
                    break;
                }
                for &entry in &self.entries[..read] {
                    runs.pages(page * page_bytes, (page + 1) * page_bytes, flags_of_entry(entry));
                    page += 1;
                }
            }
        }
    }
}

/// The mappings whose pages the kernel counts, one after the other.
struct OwnMappings<'a> {
    cursor: MappingCursor,
    maps: Option<ReadFile>,
    text: &'a mut [u8],
    /// Whether a mapping was left out in front of the last one.
    left_out: bool,
}

impl OwnMappings<'_> {
    fn next(&mut self, runs: &SnapshotRuns<'_>, devices: &mut [u64; 16]) -> Option<Scanned> {
        self.left_out = false;
        loop {
            let mapping = runs.next_mapping(&mut self.cursor)?;
            let (start, end, device) = (mapping.start.0, mapping.end.0, mapping.device);
            let aligned = mapping.inode != 0 && (start | end).is_multiple_of(HUGETLB_ALIGNMENT);
            if mapping.path == b"[vsyscall]" || aligned && self.is_hugetlb(start, device, devices) {
                self.left_out = true;
                continue;
            }
            let of_the_program = [&b""[..], b"[heap]", b"[stack]"].contains(&mapping.path);
            let anonymous = mapping.inode == 0 && of_the_program && !mapping.permissions.has(Permissions::SHARED);
            let accessible = Permissions::READ | Permissions::WRITE | Permissions::EXECUTE;
            return Some(Scanned { start, end, anonymous, accessible: mapping.permissions.0 & accessible != 0 });
        }
    }

    /// Whether the pages of an aligned mapping of a file are hugetlb pages. It is asked once for a device.
    fn is_hugetlb(&mut self, start: u64, device: u64, devices: &mut [u64; 16]) -> bool {
        let place = &mut devices[(device % 16) as usize];
        if *place & !device_is::HUGETLB != device | device_is::KNOWN {
            let page_bytes_there = self.maps.as_ref().and_then(|maps| mapping_page_bytes(maps, start));
            let hugetlb = match page_bytes_there {
                Some(bytes) => bytes != page_bytes(),
                None => smaps_says_hugetlb(c"/proc/self/smaps", start, self.text),
            };
            *place = device | device_is::KNOWN | if hugetlb { device_is::HUGETLB } else { 0 };
        }
        *place & device_is::HUGETLB != 0
    }
}

/// Whether the mapping with this start has the flag `ht` in a smaps file.
fn smaps_says_hugetlb(path: &CStr, start: u64, text: &mut [u8]) -> bool {
    let Some(mut lines) = Lines::open(path, text) else { return false };
    let mut inside = false;
    while lines.advance() {
        let mut line = lines.line();
        if let Some(flags) = line.strip_prefix(b"VmFlags:") {
            if inside {
                return flags.split(|&byte| byte == b' ').any(|flag| flag == b"ht");
            }
        } else if line.first().is_some_and(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()) {
            inside = number(&mut line, 16, b'-') == Some(start);
        }
    }
    false
}

fn flags_of_categories(categories: u64) -> PageFlags {
    let guard = categories & page_is::GUARD != 0;
    let pairs = [
        (page_is::PRESENT, PageFlags::PRESENT),
        (page_is::SWAPPED, if guard { 0 } else { PageFlags::SWAPPED }),
        (page_is::FILE, PageFlags::FILE),
        (page_is::PFNZERO, PageFlags::ZERO),
        (page_is::HUGE, PageFlags::HUGE),
    ];
    flags_of(categories, &pairs)
}

fn flags_of_entry(entry: u64) -> PageFlags {
    let swapped = if entry & entry::GUARD == 0 { PageFlags::SWAPPED } else { 0 };
    let pairs = [(entry::PRESENT, PageFlags::PRESENT), (entry::SWAPPED, swapped), (entry::FILE, PageFlags::FILE)];
    flags_of(entry, &pairs)
}

/// No flags at all for a page that is neither present nor swapped, whatever else is said of it.
fn flags_of(bits: u64, pairs: &[(u64, u8)]) -> PageFlags {
    let flags = pairs.iter().filter(|(bit, _)| bits & bit != 0).fold(0, |flags, (_, flag)| flags | flag);
    let there = flags & (PageFlags::PRESENT | PageFlags::SWAPPED) != 0;
    PageFlags(if there { flags } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hugetlb_mappings_are_known_by_both_ways() {
        let huge = libc::MAP_HUGETLB | libc::MAP_NORESERVE;
        let mut text = [0; 256];
        for (flags, expected) in [(huge, true), (0, false)] {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
            // SAFETY: a new mapping, which is never touched, so that it needs no pages that are set aside.
            let memory = unsafe { libc::mmap(core::ptr::null_mut(), 4 << 20, libc::PROT_READ, flags, -1, 0) };
            assert_ne!(memory, libc::MAP_FAILED, "hugetlb: {expected}");
            let start = memory.addr() as u64;
            let maps = ReadFile::open(c"/proc/self/maps").expect("/proc");
            if let Some(bytes) = mapping_page_bytes(&maps, start) {
                assert_eq!(bytes > page_bytes(), expected);
            }
            // An anonymous mapping may have been joined to the one in front of it.
            if expected {
                assert!(smaps_says_hugetlb(c"/proc/self/smaps", start, &mut text));
                assert!(!smaps_says_hugetlb(c"/proc/self/smaps", start + page_bytes(), &mut text));
            }
            // SAFETY: the mapping from above.
            unsafe { libc::munmap(memory, 4 << 20) };
        }
    }

    #[test]
    fn states_of_pages() {
        let check = |categories, entry, expected| {
            assert_eq!(flags_of_categories(categories), PageFlags(expected), "{categories:#x}");
            assert_eq!(flags_of_entry(entry), PageFlags(expected), "{entry:#x}");
        };
        check(0, 0, 0);
        check(page_is::PRESENT, entry::PRESENT, PageFlags::PRESENT);
        check(page_is::PRESENT | page_is::FILE, entry::PRESENT | entry::FILE, PageFlags::PRESENT | PageFlags::FILE);
        check(page_is::SWAPPED, entry::SWAPPED, PageFlags::SWAPPED);
        check(page_is::SWAPPED | page_is::GUARD, entry::SWAPPED | entry::GUARD, 0);
        check(page_is::FILE, entry::FILE, 0);
    }
}
