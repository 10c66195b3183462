//! Which pages of a process are resident: the PAGEMAP_SCAN ioctl, or reading `/proc/PID/pagemap` where there is none
//! (Documentation/admin-guide/mm/pagemap.rst).
//!
//! The pages that are [`PageFlags::in_rss`] times the page size equal `Rss` of smaps_rollup for a stopped process.
//! For that, these are left out, since the kernel does not count them either: hugetlb pages (found by the `ht` flag
//! of smaps), `[vsyscall]`, which is not the process's, and pages without a `struct page` such as `[vvar]`, which the
//! kernel's page walk skips by itself. `[vdso]` pages count. Guard markers (madvise(2), MADV_GUARD_INSTALL) are not
//! swapped pages, though the kernel says so.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use pagetrace_format::snapshot::{Mapping, PageFlags, Permissions, ResidencySource, ResidentRun};
use pagetrace_format::{Address, PageCount};

use crate::error::KernelError;
use crate::process_dir::ProcessDir;
use crate::sys::{PageRegion, ScanQuery, page_is, pagemap_scan};

/// Scans the pages of one process again and again.
#[derive(Debug)]
pub struct ResidencyScanner {
    process: ProcessDir,
    page_bytes: u64,
    method: Method,
    regions: Vec<PageRegion>,
    entries: Vec<u8>,
    /// Devices of which it is known whether their files are hugetlb ones.
    hugetlb_devices: HashMap<u64, bool>,
    missed: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// With the categories that the kernel is known to know.
    Scan {
        reported: u64,
    },
    Pagemap,
}

const SCANNED: u64 = page_is::PRESENT | page_is::SWAPPED;
const REPORTED: u64 = SCANNED | page_is::FILE | page_is::PFNZERO | page_is::HUGE;

const REGIONS_PER_CALL: usize = 4096;
const ENTRIES_PER_READ: usize = 64 * 1024;
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

impl ResidencyScanner {
    /// For the process with this pid.
    ///
    /// # Errors
    /// [`KernelError::Gone`] where there is no such process. That its pages may not be seen is no error, see
    /// [`ResidencyScanner::scan`].
    pub fn open(pid: u32) -> Result<ResidencyScanner, KernelError> {
        Ok(ResidencyScanner {
            process: ProcessDir::open(pid)?,
            page_bytes: rustix::param::page_size() as u64,
            method: Method::Scan { reported: REPORTED | page_is::GUARD },
            regions: vec![PageRegion::default(); REGIONS_PER_CALL],
            entries: Vec::new(),
            hugetlb_devices: HashMap::new(),
            missed: String::new(),
        })
    }

    /// Reads pagemap from now on, as is done where the ioctl is missing.
    pub fn use_pagemap(&mut self) {
        self.method = Method::Pagemap;
        self.missed = "the shared page of zeros cannot be told from memory of the process, and huge pages not from \
                       others: /proc/PID/pagemap was read, which does not say"
            .to_owned();
    }

    /// Bytes of a page of the runs.
    #[must_use]
    pub fn page_bytes(&self) -> u64 {
        self.page_bytes
    }

    /// What the last scan could not see and why, empty for nothing.
    #[must_use]
    pub fn missed(&self) -> &str {
        &self.missed
    }

    /// The pages of these mappings that are not simply absent; every run lies within one mapping. Where the kernel
    /// shows them to nobody of this user's, the source is [`ResidencySource::None`] and
    /// [`ResidencyScanner::missed`] says why.
    ///
    /// # Errors
    /// [`KernelError::Gone`] if the process has ended.
    pub fn scan(&mut self, mappings: &[Mapping]) -> Result<(Vec<ResidentRun>, ResidencySource), KernelError> {
        let pagemap = match self.process.file("pagemap") {
            Ok(file) => file,
            Err(KernelError::Gone { pid }) if self.process.read("stat").is_err() => {
                return Err(KernelError::Gone { pid });
            }
            Err(KernelError::Gone { .. }) => return Ok(self.nothing("this kernel has no /proc/PID/pagemap")),
            Err(error) => return Ok(self.nothing(&format!("/proc/PID/pagemap cannot be opened: {error}"))),
        };
        let mut runs = match self.scan_with_ioctl(&pagemap, mappings) {
            Some(runs) => runs,
            None => match self.read_pagemap(&pagemap, mappings) {
                Ok(runs) => runs,
                Err(error) => return Ok(self.nothing(&format!("/proc/PID/pagemap cannot be read: {error}"))),
            },
        };
        self.drop_hugetlb(mappings, &mut runs)?;
        let source = match self.method {
            Method::Scan { .. } => ResidencySource::PagemapScan,
            Method::Pagemap => ResidencySource::Pagemap,
        };
        Ok((runs, source))
    }

    fn nothing(&mut self, why: &str) -> (Vec<ResidentRun>, ResidencySource) {
        self.missed = format!("no residency at all: {why}");
        (Vec::new(), ResidencySource::None)
    }

    /// `None` where the ioctl does not work, for good.
    fn scan_with_ioctl(&mut self, pagemap: &File, mappings: &[Mapping]) -> Option<Vec<ResidentRun>> {
        loop {
            let Method::Scan { reported } = self.method else { return None };
            match self.scan_span(pagemap, mappings, reported) {
                Ok(runs) => return Some(runs),
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) && reported & page_is::GUARD != 0 => {
                    self.method = Method::Scan { reported: reported & !page_is::GUARD };
                }
                Err(_) => self.use_pagemap(),
            }
        }
    }

    /// One walk over all mappings that may have the same categories and lie next to each other: the kernel skips the
    /// holes between them faster than we could.
    fn scan_span(&mut self, pagemap: &File, mappings: &[Mapping], reported: u64) -> io::Result<Vec<ResidentRun>> {
        let mut runs = RunsOfMappings::new(mappings, self.page_bytes);
        let mut spans = Vec::new();
        for mapping in own(mappings) {
            let reported = if is_anonymous(mapping) { reported & !page_is::FILE } else { reported };
            match spans.last_mut() {
                Some((_, end, known)) if *known == reported => *end = mapping.end.0,
                _ => spans.push((mapping.start.0, mapping.end.0, reported)),
            }
        }
        for (mut next, end, reported) in spans {
            while next < end {
                let query = ScanQuery { any_of: SCANNED, reported, ..ScanQuery::default() };
                let count = match pagemap_scan(pagemap, (next, end), &query, &mut self.regions) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    result => result?,
                };
                for region in &self.regions[..count] {
                    runs.add(region.start, region.end, flags_of_categories(region.categories));
                }
                // Room left over means that the walk came to the end.
                next = match self.regions[..count].last() {
                    Some(last) if count == self.regions.len() => last.end.max(next + self.page_bytes),
                    _ => end,
                };
            }
        }
        Ok(runs.runs)
    }

    fn read_pagemap(&mut self, pagemap: &File, mappings: &[Mapping]) -> io::Result<Vec<ResidentRun>> {
        self.entries.resize(ENTRIES_PER_READ * 8, 0);
        let mut runs = RunsOfMappings::new(mappings, self.page_bytes);
        let accessible = Permissions::READ | Permissions::WRITE | Permissions::EXECUTE;
        for mapping in own(mappings) {
            if mapping.permissions.0 & accessible == 0 && mapping.end.0 - mapping.start.0 > LARGEST_INACCESSIBLE_READ {
                continue;
            }
            let (mut page, end) = (mapping.start.0 / self.page_bytes, mapping.end.0 / self.page_bytes);
            while page < end {
                let wanted = usize::try_from(end - page).unwrap_or(usize::MAX).min(ENTRIES_PER_READ) * 8;
                let read = match pagemap.read_at(&mut self.entries[..wanted], page * 8) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    result => result? / 8,
                };
                if read == 0 {
                    break;
                }
                for bytes in self.entries[..read * 8].as_chunks::<8>().0 {
                    let flags = flags_of_entry(u64::from_ne_bytes(*bytes));
                    runs.add(page * self.page_bytes, (page + 1) * self.page_bytes, flags);
                    page += 1;
                }
            }
        }
        Ok(runs.runs)
    }

    /// Takes away the pages of hugetlb mappings. Only mappings of a file that are aligned as such can be some.
    fn drop_hugetlb(&mut self, mappings: &[Mapping], runs: &mut Vec<ResidentRun>) -> Result<(), KernelError> {
        let aligned = |it: &&Mapping| it.inode != 0 && (it.start.0 | it.end.0).is_multiple_of(HUGETLB_ALIGNMENT);
        if mappings.iter().filter(aligned).any(|it| !self.hugetlb_devices.contains_key(&it.device)) {
            let smaps = self.process.read("smaps")?;
            let hugetlb = hugetlb_starts(&smaps);
            for mapping in mappings.iter().filter(aligned) {
                let known = self.hugetlb_devices.entry(mapping.device).or_default();
                *known |= hugetlb.contains(&mapping.start.0);
            }
        }
        if self.hugetlb_devices.values().any(|&hugetlb| hugetlb) {
            let hugetlb = |it: &Mapping| self.hugetlb_devices.get(&it.device) == Some(&true);
            runs.retain(|run| {
                let after = mappings.partition_point(|it| it.start <= run.start);
                !after.checked_sub(1).is_some_and(|index| hugetlb(&mappings[index]))
            });
        }
        Ok(())
    }
}

/// The mappings that are the process's own.
fn own(mappings: &[Mapping]) -> impl Iterator<Item = &Mapping> {
    mappings.iter().filter(|it| it.path != "[vsyscall]")
}

/// Whether no page of it can be of a file. The kernel is then not asked for that: it would look at the `struct page`
/// of every page, which takes longer than all the rest.
pub(crate) fn is_anonymous(mapping: &Mapping) -> bool {
    let memory_of_the_program = ["", "[heap]", "[stack]"].contains(&mapping.path.as_str());
    mapping.inode == 0 && memory_of_the_program && !mapping.permissions.has(Permissions::SHARED)
}

/// Runs that each lie within one mapping, joined where they touch.
struct RunsOfMappings<'a> {
    rest: &'a [Mapping],
    page_bytes: u64,
    runs: Vec<ResidentRun>,
}

impl<'a> RunsOfMappings<'a> {
    fn new(mappings: &'a [Mapping], page_bytes: u64) -> RunsOfMappings<'a> {
        RunsOfMappings { rest: mappings, page_bytes, runs: Vec::new() }
    }

    /// Adds pages in one state, in order of address.
    fn add(&mut self, mut start: u64, end: u64, state: PageFlags) {
        if state.0 == 0 {
            return;
        }
        while let [mapping, after @ ..] = self.rest {
            let first = start.max(mapping.start.0);
            let last = end.min(mapping.end.0);
            if first < last {
                self.push(first, last, state, first == mapping.start.0);
                start = last;
            }
            if end < mapping.end.0 {
                return;
            }
            self.rest = after;
        }
    }

    fn push(&mut self, start: u64, end: u64, state: PageFlags, opens_mapping: bool) {
        let pages = (end - start) / self.page_bytes;
        match self.runs.last_mut() {
            Some(last)
                if !opens_mapping && last.state == state && last.start.0 + last.pages.0 * self.page_bytes == start =>
            {
                last.pages.0 += pages;
            }
            _ => self.runs.push(ResidentRun { start: Address(start), pages: PageCount(pages), state }),
        }
    }
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

/// Start addresses of the mappings with the flag `ht` in the text of a smaps file.
fn hugetlb_starts(smaps: &[u8]) -> Vec<u64> {
    let mut starts = Vec::new();
    let mut start = 0;
    for line in smaps.split(|&byte| byte == b'\n') {
        if let Some(flags) = line.strip_prefix(b"VmFlags:") {
            if flags.split(|&byte| byte == b' ').any(|flag| flag == b"ht") {
                starts.push(start);
            }
        } else if line.first().is_some_and(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()) {
            let digits = line.split(|&byte| byte == b'-').next().unwrap_or_default();
            start = str::from_utf8(digits).ok().and_then(|it| u64::from_str_radix(it, 16).ok()).unwrap_or(0);
        }
    }
    starts
}
