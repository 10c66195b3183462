//! System calls that no safe wrapper covers. The only file of this crate with unsafe code.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `struct page_region` of linux/fs.h: pages side by side in the same categories.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PageRegion {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) categories: u64,
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
pub(crate) mod page_is {
    pub(crate) const FILE: u64 = 1 << 2;
    pub(crate) const PRESENT: u64 = 1 << 3;
    pub(crate) const SWAPPED: u64 = 1 << 4;
    pub(crate) const PFNZERO: u64 = 1 << 5;
    pub(crate) const HUGE: u64 = 1 << 6;
    /// Since Linux 6.15; asking an older kernel for it is EINVAL.
    pub(crate) const GUARD: u64 = 1 << 8;
}

/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: libc::c_ulong =
    3 << 30 | (size_of::<PmScanArg>() as libc::c_ulong) << 16 | (b'f' as libc::c_ulong) << 8 | 16;

/// Pages of `start..end` that are in any of the `wanted` categories, as `PAGEMAP_SCAN` fills `regions` with them: how
/// many regions, and where the walk ended. `reported` are the categories that the regions tell.
///
/// # Errors
/// The kernel's: ENOTTY where it has no such ioctl, EINVAL for a category that it does not know.
pub(crate) fn pagemap_scan(
    pagemap: &File,
    (start, end): (u64, u64),
    wanted: u64,
    reported: u64,
    regions: &mut [PageRegion],
) -> io::Result<(usize, u64)> {
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
    let count = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut arg) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    Ok((count.min(regions.len()), arg.walk_end))
}
