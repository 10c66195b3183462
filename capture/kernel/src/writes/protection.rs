//! The write protection of one process: arms what is mapped, and finds at the end of each epoch what was written.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use pagetrace_format::snapshot::{Mapping, Permissions};
use pagetrace_format::{PageCount, PageIndex, PageRange, PageShift, TraceNanos};
use rustix::fs::fstat;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use rustix::time::{ClockId, clock_gettime};

use super::sys;
use crate::error::KernelError;
use crate::proc_maps::AddressSpace;
use crate::process_dir::ProcessDir;
use crate::residency::is_anonymous;
use crate::sys::{PageRegion, ScanQuery, page_is, pagemap_scan};

const REGIONS_PER_CALL: usize = 4096;
/// The page tables of shared memory up to this size are filled, so that what is read there is told from what is written.
const SHARED_BYTES_MAX: u64 = 4 << 30;

/// The memory of one process, armed for writes. Dropping it disarms all.
#[derive(Debug)]
pub struct WriteProtection {
    process: ProcessDir,
    userfaultfd: OwnedFd,
    pagemap: File,
    /// Memory of the tracer, which is not the program's.
    excluded: Vec<(u64, u64)>,
    regions: Vec<PageRegion>,
    number: u64,
    begin: TraceNanos,
    /// What was armed in the last epoch, as it was told.
    told: Vec<PageRange>,
    arms_anything: bool,
}

/// What was found at the end of an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The epoch's number, from 1.
    pub number: u64,
    /// No write of the epoch came before.
    pub begin: TraceNanos,
    /// The look began. Of each page it came at a moment between this and the end.
    pub looked: TraceNanos,
    /// The look ended.
    pub end: TraceNanos,
    /// What was armed during the epoch, where that is not what was in the one before.
    pub armed: Option<Vec<PageRange>>,
    /// Pages that look as if they were written, in their order.
    pub found: Vec<FoundRun>,
}

/// Pages side by side that look as if they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundRun {
    /// Which.
    pub range: PageRange,
    /// What that means.
    pub how: HowFound,
}

/// What it means that a page looks as if it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HowFound {
    /// It was armed, or is new memory of the heap: it was written.
    Armed,
    /// It was armed, but its page table was too large to be filled: it was written, or read for the first time.
    ReadOrWritten,
    /// Its memory was not armed yet and is the process's own: it was written if that is new memory.
    Unarmed,
    /// Its memory was not armed yet and is shared with others or of a file: it was written, or read for the first time.
    UnarmedShared,
}

impl WriteProtection {
    /// Takes the descriptor that a process offers, and arms all that it has mapped. `excluded` is memory that is not the
    /// program's.
    ///
    /// # Errors
    /// [`KernelError::Gone`] if it has ended, [`KernelError::Denied`] where the kernel does not hand the descriptor over, or the
    /// number is another file's by now.
    pub fn take(pid: u32, (fd, inode): (u32, u64), excluded: &[(u64, u64)]) -> Result<WriteProtection, KernelError> {
        let denied = |source: io::Error| KernelError::of(pid, "fd", source);
        let userfaultfd = take_descriptor(pid, fd).map_err(denied)?;
        if fstat(&userfaultfd).map_err(|errno| denied(errno.into()))?.st_ino != inode {
            return Err(denied(io::Error::other("the descriptor is another file's by now")));
        }
        WriteProtection::of(pid, userfaultfd, excluded)
    }

    /// Arms all that a process has mapped, by a descriptor of its own that has been asked for what is needed.
    ///
    /// # Errors
    /// As [`WriteProtection::take`].
    pub fn of(pid: u32, userfaultfd: OwnedFd, excluded: &[(u64, u64)]) -> Result<WriteProtection, KernelError> {
        let process = ProcessDir::open(pid)?;
        let pagemap = process.file("pagemap")?;
        let mut excluded = excluded.to_vec();
        excluded.sort_unstable();
        let mut protection = WriteProtection {
            process,
            userfaultfd,
            pagemap,
            excluded,
            regions: vec![PageRegion::default(); REGIONS_PER_CALL],
            number: 0,
            begin: TraceNanos(0),
            told: Vec::new(),
            arms_anything: false,
        };
        // What was written before it was armed is not known.
        protection.look()?;
        Ok(protection)
    }

    /// The size of the pages.
    #[must_use]
    pub fn page_shift() -> PageShift {
        PageShift::new(rustix::param::page_size().trailing_zeros() as u8).unwrap_or(PageShift::KIB_4)
    }

    /// Whether anything is armed.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.arms_anything
    }

    /// Ends the epoch and begins the next: finds what was written, and arms it again with all that is new.
    ///
    /// # Errors
    /// [`KernelError::Gone`] if the process has ended or executed another program.
    pub fn look(&mut self) -> Result<Look, KernelError> {
        let looked = now();
        let mappings = AddressSpace::open(&self.process)?.mappings()?;
        let (mut found, mut armed) = (Vec::new(), Ranges::default());
        self.arms_anything = false;
        for mapping in mappings.iter().filter(|mapping| is_own_memory(mapping)) {
            for part in without(&self.excluded, (mapping.start.0, mapping.end.0)) {
                let before = found.len();
                match self.scan(part, mapping, true, &mut found) {
                    Ok(()) => {
                        armed.add(part);
                        self.arms_anything = true;
                    }
                    Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                        found.truncate(before);
                        if may_be_written(mapping) && self.arm(part, mapping, &mut found).is_ok() {
                            self.arms_anything = true;
                        }
                    }
                    // It was unmapped meanwhile.
                    Err(_) => found.truncate(before),
                }
            }
        }
        let end = now();
        let look = Look {
            number: self.number,
            begin: self.begin,
            looked,
            end,
            armed: (armed.0 != self.told).then(|| armed.0.clone()),
            found,
        };
        self.number += 1;
        self.begin = looked;
        self.told = armed.0;
        Ok(look)
    }

    /// Arms memory that was not.
    fn arm(&mut self, part: (u64, u64), mapping: &Mapping, found: &mut Vec<FoundRun>) -> io::Result<()> {
        sys::register(&self.userfaultfd, part)?;
        let before = found.len();
        self.scan(part, mapping, false, found).inspect_err(|_| found.truncate(before))?;
        if is_filled(mapping) {
            // What is not in memory, too.
            sys::protect(&self.userfaultfd, part)?;
        }
        Ok(())
    }

    fn scan(
        &mut self,
        (mut next, end): (u64, u64),
        mapping: &Mapping,
        was_armed: bool,
        found: &mut Vec<FoundRun>,
    ) -> io::Result<()> {
        let is_shared = mapping.permissions.has(Permissions::SHARED);
        let how = match (was_armed, is_shared) {
            (true, true) if !is_filled(mapping) => HowFound::ReadOrWritten,
            (true, _) => HowFound::Armed,
            // What was there before is armed, and stays so as the heap grows.
            _ if mapping.path == "[heap]" => HowFound::Armed,
            (false, true) => HowFound::UnarmedShared,
            (false, false) => HowFound::Unarmed,
        };
        // A page of zeros was read. A page of a private mapping that is still the file's was read, too; the kernel is not asked for that
        // of anonymous memory, where it takes ten times as long as all the rest.
        let read = match is_shared || is_anonymous(mapping) {
            true => page_is::PFNZERO,
            false => page_is::PFNZERO | page_is::FILE,
        };
        let query = ScanQuery {
            any_of: page_is::PRESENT | page_is::SWAPPED,
            all_of: page_is::WRITTEN,
            none_of: read,
            reported: page_is::WRITTEN,
            protect: true,
        };
        let shift = WriteProtection::page_shift().get();
        while next < end {
            let count = match pagemap_scan(&self.pagemap, (next, end), &query, &mut self.regions) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            };
            for region in &self.regions[..count] {
                let (first, last) = (region.start >> shift, region.end >> shift);
                let range = PageRange { first: PageIndex(first), pages: PageCount(last - first) };
                found.push(FoundRun { range, how });
            }
            next = match self.regions[..count].last() {
                Some(last) if count == self.regions.len() => last.end.max(next + 1),
                _ => end,
            };
        }
        Ok(())
    }
}

/// A copy of a process's descriptor (pidfd_getfd(2)), which takes the right to trace it.
///
/// # Errors
/// EPERM where that is refused, EBADF where there is none.
pub fn take_descriptor(pid: u32, fd: u32) -> io::Result<OwnedFd> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let raw = i32::try_from(fd).map_err(|_| invalid())?;
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(invalid)?;
    let pidfd = pidfd_open(process, PidfdFlags::empty())?;
    Ok(pidfd_getfd(&pidfd, raw, PidfdGetfdFlags::empty())?)
}

/// Pages side by side, joined where they touch.
#[derive(Debug, Default)]
struct Ranges(Vec<PageRange>);

impl Ranges {
    fn add(&mut self, (start, end): (u64, u64)) {
        let shift = WriteProtection::page_shift().get();
        let (first, pages) = (start >> shift, (end - start) >> shift);
        match self.0.last_mut() {
            Some(last) if last.first.0 + last.pages.0 == first => last.pages.0 += pages,
            _ => self.0.push(PageRange { first: PageIndex(first), pages: PageCount(pages) }),
        }
    }
}

/// Whether this is memory that the program could have written to, and no device's.
fn is_own_memory(mapping: &Mapping) -> bool {
    let Mapping { path, permissions, inode, .. } = mapping;
    let of_device = path.starts_with("/dev/") && !path.starts_with("/dev/shm/") && !path.starts_with("/dev/zero");
    let special = ["[vdso]", "[vsyscall]", "[uprobes]"].contains(&path.as_str()) || path.starts_with("[vvar");
    let huge = path.starts_with("/anon_hugepage") || path.starts_with("/memfd:hugepage");
    let unnamed = *inode != 0 && !path.starts_with('/');
    !permissions.has(Permissions::EXECUTE | Permissions::SHARED) && !of_device && !special && !huge && !unnamed
}

/// Whether the program can write to it, or make it so without a file's consent.
fn may_be_written(mapping: &Mapping) -> bool {
    let Mapping { permissions, inode, .. } = mapping;
    permissions.has(Permissions::WRITE) || *inode == 0 && !permissions.has(Permissions::SHARED)
}

/// Whether the page tables of all of it are filled as it is armed: those of shared memory, unless it is huge.
fn is_filled(mapping: &Mapping) -> bool {
    mapping.permissions.has(Permissions::SHARED) && mapping.end.0 - mapping.start.0 <= SHARED_BYTES_MAX
}

/// What is left of a range without the excluded ones, which are in order.
fn without(excluded: &[(u64, u64)], (mut start, end): (u64, u64)) -> Vec<(u64, u64)> {
    let mut left = Vec::new();
    for &(first, last) in excluded {
        if first >= end || last <= start {
            continue;
        }
        if first > start {
            left.push((start, first));
        }
        start = start.max(last);
    }
    if start < end {
        left.push((start, end));
    }
    left
}

fn now() -> TraceNanos {
    let time = clock_gettime(ClockId::Monotonic);
    let (seconds, nanos) = (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    TraceNanos(seconds * 1_000_000_000 + nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_excluded_is_left_out() {
        let check = |excluded: &[(u64, u64)], expected: &[(u64, u64)]| {
            assert_eq!(without(excluded, (10, 20)), expected, "{excluded:?}");
        };
        check(&[], &[(10, 20)]);
        check(&[(0, 5), (20, 30)], &[(10, 20)]);
        check(&[(0, 12)], &[(12, 20)]);
        check(&[(12, 14), (14, 15), (18, 40)], &[(10, 12), (15, 18)]);
        check(&[(0, 40)], &[]);
        check(&[(10, 20)], &[]);
        check(&[(9, 16), (12, 14)], &[(16, 20)]);
    }
}
