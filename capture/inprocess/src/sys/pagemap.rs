//! The two ioctls of /proc that tell of pages and mappings without text.

use super::files::ReadFile;

/// `struct page_region` of linux/fs.h: pages side by side in the same categories.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct PageRegion {
    pub start: u64,
    pub end: u64,
    pub categories: u64,
}

/// `struct pm_scan_arg` of linux/fs.h.
#[repr(C)]
#[derive(Debug, Default)]
struct PmScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// Categories of pages of linux/fs.h.
pub mod page_is {
    pub const WRITTEN: u64 = 1 << 1;
    pub const FILE: u64 = 1 << 2;
    pub const PRESENT: u64 = 1 << 3;
    pub const SWAPPED: u64 = 1 << 4;
    pub const PFNZERO: u64 = 1 << 5;
    pub const HUGE: u64 = 1 << 6;
    /// Since Linux 6.15; asking an older kernel for it is EINVAL.
    pub const GUARD: u64 = 1 << 8;
}

/// `struct procmap_query` of linux/fs.h.
#[repr(C)]
#[derive(Debug, Default)]
struct ProcmapQuery {
    size: u64,
    query_flags: u64,
    query_addr: u64,
    vma_start: u64,
    vma_end: u64,
    vma_flags: u64,
    vma_page_size: u64,
    vma_offset: u64,
    inode: u64,
    dev_major: u32,
    dev_minor: u32,
    vma_name_size: u32,
    build_id_size: u32,
    vma_name_addr: u64,
    build_id_addr: u64,
}

/// `_IOWR('f', number, struct)` of that many bytes.
const fn ioctl_number(number: libc::c_ulong, bytes: usize) -> libc::c_ulong {
    3 << 30 | (bytes as libc::c_ulong) << 16 | (b'f' as libc::c_ulong) << 8 | number
}

const PAGEMAP_SCAN: libc::c_ulong = ioctl_number(16, size_of::<PmScanArg>());
const PROCMAP_QUERY: libc::c_ulong = ioctl_number(17, size_of::<ProcmapQuery>());

/// Pages of `start..end` that are in any of the `wanted` categories, as `PAGEMAP_SCAN` fills `regions` with them: how
/// many regions. `reported` are the categories that the regions tell. If no region is left over, go on from the end of
/// the last one. Not from the `walk_end` that the kernel gives: it works in portions of 512 regions, and where the walk
/// came to its end after the first portion, Linux 6.18 says where that portion ended.
///
/// # Errors
/// The kernel's error number: ENOTTY where it has no such ioctl, EINVAL for a category that it does not know.
pub fn pagemap_scan(
    pagemap: &ReadFile,
    (start, end): (u64, u64),
    wanted: u64,
    reported: u64,
    regions: &mut [PageRegion],
) -> Result<usize, i32> {
    let mut arg = PmScanArg {
        size: size_of::<PmScanArg>() as u64,
        start,
        end,
        vec: regions.as_mut_ptr() as u64,
        vec_len: regions.len() as u64,
        category_anyof_mask: wanted,
        return_mask: reported,
        ..PmScanArg::default()
    };
    // SAFETY: the ioctl reads and writes `arg`, which has the size that it says, and writes at most `vec_len` regions
    // to `vec`; both are exclusively borrowed here and any bits are valid in them.
    let count = unsafe { libc::ioctl(pagemap.descriptor(), PAGEMAP_SCAN, &raw mut arg) };
    // SAFETY: errno is the calling thread's own.
    let count = usize::try_from(count).map_err(|_| unsafe { *libc::__errno_location() })?;
    Ok(count.min(regions.len()))
}

/// Flags of `PAGEMAP_SCAN`: found pages are write-protected anew; memory that is not registered for that is EPERM.
const PM_SCAN_WP_MATCHING: u64 = 1 << 0;
const PM_SCAN_CHECK_WPASYNC: u64 = 1 << 1;

/// As [`pagemap_scan`], and those of the pages that were written are protected again in the same step, so that no write is
/// missed or told twice. Pages that are neither present nor swapped are left out and stay unprotected.
///
/// # Errors
/// EPERM where a part of the range is not registered with userfaultfd for asynchronous write protection.
pub fn pagemap_scan_and_protect(
    pagemap: &ReadFile,
    (start, end): (u64, u64),
    reported: u64,
    regions: &mut [PageRegion],
) -> Result<usize, i32> {
    let mut arg = PmScanArg {
        size: size_of::<PmScanArg>() as u64,
        flags: PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
        start,
        end,
        vec: regions.as_mut_ptr() as u64,
        vec_len: regions.len() as u64,
        category_anyof_mask: page_is::PRESENT | page_is::SWAPPED,
        return_mask: reported,
        ..PmScanArg::default()
    };
    // SAFETY: as in `pagemap_scan`; write protection that the kernel resolves by itself changes nothing for the program.
    let count = unsafe { libc::ioctl(pagemap.descriptor(), PAGEMAP_SCAN, &raw mut arg) };
    // SAFETY: errno is the calling thread's own.
    let count = usize::try_from(count).map_err(|_| unsafe { *libc::__errno_location() })?;
    Ok(count.min(regions.len()))
}

/// Bytes of a page of the mapping that holds an address, by `PROCMAP_QUERY` of /proc/self/maps; `None` where there is
/// no mapping or the kernel has no such ioctl (before 6.11).
pub fn mapping_page_bytes(maps: &ReadFile, address: u64) -> Option<u64> {
    mapping_at(maps, address).map(|found| found.vma_page_size)
}

/// First address and one past the last of the mapping that holds an address. `None` as above.
pub fn mapping_of(address: usize) -> Option<(usize, usize)> {
    let maps = ReadFile::open(c"/proc/self/maps")?;
    mapping_at(&maps, address as u64).map(|found| (found.vma_start as usize, found.vma_end as usize))
}

fn mapping_at(maps: &ReadFile, address: u64) -> Option<ProcmapQuery> {
    let mut query =
        ProcmapQuery { size: size_of::<ProcmapQuery>() as u64, query_addr: address, ..ProcmapQuery::default() };
    // SAFETY: the ioctl reads and writes `query`, which has the size that it says; its addresses of memory to write a
    // name and a build id to are null, with no bytes.
    let result = unsafe { libc::ioctl(maps.descriptor(), PROCMAP_QUERY, &raw mut query) };
    (result == 0).then_some(query)
}
