//! System calls that no safe wrapper covers: of snapshots, of processes of the recorder's own, and of trying what works.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags};

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
    pub(crate) const WRITTEN: u64 = 1 << 1;
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

/// Which pages a scan is to find, and what is to be done with them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ScanQuery {
    /// They are in any of these categories; all where there are none.
    pub(crate) any_of: u64,
    /// They are in all of these.
    pub(crate) all_of: u64,
    /// They are in none of these.
    pub(crate) none_of: u64,
    /// The categories that the regions tell.
    pub(crate) reported: u64,
    /// Whether those that are found are protected at once, so that the next write to each takes it into the category
    /// [`page_is::WRITTEN`] again. Then EPERM tells of memory in the range that cannot be, before anything is changed there.
    pub(crate) protect: bool,
}

/// Fills `regions` with the pages of `start..end` that `PAGEMAP_SCAN` finds: how many regions. If no region is left over, go
/// on from the end of the last one. Not from the `walk_end` that the kernel gives: it works in portions of 512 regions, and
/// where the walk came to its end after the first portion, Linux 6.18 says where that portion ended.
///
/// # Errors
/// The kernel's: ENOTTY where it has no such ioctl, EINVAL for a category that it does not know.
pub(crate) fn pagemap_scan(
    pagemap: &File,
    (start, end): (u64, u64),
    query: &ScanQuery,
    regions: &mut [PageRegion],
) -> io::Result<usize> {
    /// `PM_SCAN_WP_MATCHING` and `PM_SCAN_CHECK_WPASYNC`.
    const PROTECT: u64 = 1 << 0 | 1 << 1;
    let mut arg = PmScanArg {
        size: size_of::<PmScanArg>() as u64,
        flags: if query.protect { PROTECT } else { 0 },
        start,
        end,
        vec: regions.as_mut_ptr() as u64,
        vec_len: regions.len() as u64,
        category_inverted: query.none_of,
        category_mask: query.all_of | query.none_of,
        category_anyof_mask: query.any_of,
        return_mask: query.reported,
        ..PmScanArg::default()
    };
    // SAFETY: the ioctl reads and writes `arg`, which has the size that it says, and writes at most `vec_len` regions
    // to `vec`; both are exclusively borrowed here and any bits are valid in them. What it protects stays as usable to its
    // process as before.
    let count = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut arg) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    Ok(count.min(regions.len()))
}

/// Forks a child that stores 1 in the word, if there is one, and then waits to be killed; it dies with this thread.
///
/// # Errors
/// Those of fork(2).
pub(crate) fn fork_waiting(word: Option<&AtomicU32>) -> io::Result<u32> {
    // SAFETY: fork itself has no requirement. The child, which may have copied locks that other threads held, only
    // makes system calls and stores to an atomic.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: these take no pointers, and are safe in a fork's child.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            if let Some(word) = word {
                word.store(1, Ordering::Release);
            }
            loop {
                // SAFETY: as above.
                unsafe { libc::pause() };
            }
        }
        pid => u32::try_from(pid).map_err(io::Error::other),
    }
}

/// Forks a process that belongs to nobody here, with its signals blocked. Of the descriptors it has copies of `kept`
/// only; its standard streams are closed too. It runs `work` and ends.
///
/// # Errors
/// Those of fork(2).
pub(crate) fn fork_detached(kept: &[RawFd], work: impl FnOnce()) -> io::Result<()> {
    let mut kept = kept.to_vec();
    kept.sort_unstable();
    // From before it is there: the handlers that it has copies of would tell its parent of signals that it alone got.
    let before = block_signals();
    // SAFETY: fork has no requirement of its own. What runs in the child was written for it: it allocates at most, for
    // which the C library keeps its heap usable in a fork's child, and takes no other lock.
    let forked = unsafe { libc::fork() };
    let error = io::Error::last_os_error();
    if forked == 0 {
        // SAFETY: these take numbers only, and are safe in a fork's child.
        unsafe {
            if libc::fork() != 0 {
                libc::_exit(0);
            }
            libc::setsid();
            close_all_but(&kept);
            work();
            libc::_exit(0)
        }
    }
    // SAFETY: a pointer to a local, which holds what this thread had.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
    if forked == -1 {
        return Err(error);
    }
    let mut status = 0;
    // SAFETY: a pointer to a local; the child ends at once.
    unsafe { libc::waitpid(forked, &raw mut status, 0) };
    Ok(())
}

/// Blocks all signals of this thread; gives what was blocked before.
fn block_signals() -> libc::sigset_t {
    // SAFETY: pointers to locals, which any bits may fill and sigfillset(3) and pthread_sigmask(3) do.
    unsafe {
        let (mut all, mut before) = (std::mem::zeroed::<libc::sigset_t>(), std::mem::zeroed::<libc::sigset_t>());
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        before
    }
}

/// Closes every descriptor but these, which ascend (close_range(2)).
///
/// # Safety
/// Nothing may use another one afterwards.
unsafe fn close_all_but(kept: &[RawFd]) {
    let mut first = 0;
    let bounds = kept.iter().filter_map(|&fd| libc::c_uint::try_from(fd).ok()).chain([libc::c_uint::MAX]);
    for bound in bounds {
        if bound > first {
            // SAFETY: the caller's word; the call takes numbers only.
            unsafe { libc::syscall(libc::SYS_close_range, first, bound - 1, 0) };
        }
        first = bound.saturating_add(1);
    }
}

/// Whether two processes have one address space (kcmp(2)), `None` where the kernel does not tell.
pub(crate) fn share_address_space(one: u32, other: u32) -> Option<bool> {
    /// `KCMP_VM` of linux/kcmp.h.
    const ADDRESS_SPACE: libc::c_long = 1;
    let (one, other) = (libc::c_long::from(one), libc::c_long::from(other));
    // SAFETY: the call takes numbers only.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, one, other, ADDRESS_SPACE, 0, 0) };
    (order >= 0).then_some(order == 0)
}

const PROBED_BYTES: usize = 4096;

/// The first word of a file of at least a page, shared with whoever maps it. It stays mapped.
///
/// # Errors
/// Those of mmap(2).
pub(crate) fn map_shared_word(file: &File) -> io::Result<&'static AtomicU32> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let base = unsafe { rustix::mm::mmap(ptr::null_mut(), PROBED_BYTES, protection, MapFlags::SHARED, file, 0)? };
    // SAFETY: page aligned, readable and writable, within the file as the caller promises, never unmapped; all access
    // is atomic.
    Ok(unsafe { AtomicU32::from_ptr(base.cast()) })
}

/// A word that this process shares with those that it forks. It stays mapped.
///
/// # Errors
/// Those of mmap(2).
pub(crate) fn word_shared_with_forks() -> io::Result<&'static AtomicU32> {
    let base = shared_with_forks(PROBED_BYTES)?;
    // SAFETY: page aligned, readable and writable, never unmapped; all access is atomic.
    Ok(unsafe { AtomicU32::from_ptr(base.cast()) })
}

/// The same of so many words of 64 bits, which are zero.
///
/// # Errors
/// Those of mmap(2).
pub(crate) fn words_shared_with_forks(count: usize) -> io::Result<&'static [AtomicU64]> {
    let base = shared_with_forks(count * size_of::<AtomicU64>())?;
    // SAFETY: page aligned, so many words long, readable and writable, never unmapped; all access is atomic.
    Ok(unsafe { std::slice::from_raw_parts(base.cast(), count) })
}

fn shared_with_forks(bytes: usize) -> io::Result<*mut libc::c_void> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice.
    Ok(unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), bytes, protection, MapFlags::SHARED)? })
}

/// Maps a file for execution, as a dynamic linker does with a library, and unmaps it again.
///
/// # Errors
/// EPERM where the file lies on a filesystem mounted noexec.
pub(crate) fn try_map_executable(file: &File) -> io::Result<()> {
    let protection = ProtFlags::READ | ProtFlags::EXEC;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let base = unsafe { rustix::mm::mmap(ptr::null_mut(), PROBED_BYTES, protection, MapFlags::PRIVATE, file, 0)? };
    // SAFETY: exactly what was mapped, and nobody has its address.
    unsafe { rustix::mm::munmap(base, PROBED_BYTES)? };
    Ok(())
}

/// Makes a userfaultfd(2) that handles faults of user mode only.
///
/// # Errors
/// EPERM or ENOSYS where it is refused.
pub(crate) fn open_userfaultfd() -> io::Result<OwnedFd> {
    const USER_MODE_ONLY: libc::c_int = 1;
    // SAFETY: the call takes no pointers.
    owned(unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | USER_MODE_ONLY) })
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The time stamp counter.
pub(crate) fn time_stamp_counter() -> u64 {
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { std::arch::x86_64::_rdtsc() }
}
