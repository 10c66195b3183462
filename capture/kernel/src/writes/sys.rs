//! userfaultfd(2) as the recorder uses it, linux/userfaultfd.h: its kinds of registration and protection.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// `_IOWR(0xaa, 0x00, struct uffdio_register)`.
const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
/// `_IOWR(0xaa, 0x06, struct uffdio_writeprotect)`.
const UFFDIO_WRITEPROTECT: libc::c_ulong = 0xc018_aa06;
/// `_IOWR(0xaa, 0x3f, struct uffdio_api)`.
const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
const UFFD_API: u64 = 0xaa;
const REGISTER_MODE_WP: u64 = 1 << 1;
const WRITEPROTECT_MODE_WP: u64 = 1 << 0;
const FEATURE_WP_UNPOPULATED: u64 = 1 << 13;
const FEATURE_WP_ASYNC: u64 = 1 << 15;

/// Asks a new descriptor for write protection whose faults the kernel serves by itself.
///
/// # Errors
/// EINVAL where the kernel has none, before Linux 6.7.
pub(super) fn ask_for_async_protection(userfaultfd: &OwnedFd) -> io::Result<()> {
    let mut api = [UFFD_API, FEATURE_WP_ASYNC | FEATURE_WP_UNPOPULATED, 0];
    // SAFETY: `struct uffdio_api` is three words, which the call reads and writes.
    check(unsafe { libc::ioctl(userfaultfd.as_raw_fd(), UFFDIO_API, api.as_mut_ptr()) })
}

/// Has writes to the range tracked from the next protection on, in the process that made the descriptor.
///
/// # Errors
/// EBUSY where the program has registered it with a descriptor of its own, EINVAL where memory is of a kind that cannot be,
/// ESRCH where the address space is gone.
pub(super) fn register(userfaultfd: &OwnedFd, (start, end): (u64, u64)) -> io::Result<()> {
    let mut register = [start, end - start, REGISTER_MODE_WP, 0];
    // SAFETY: `struct uffdio_register` is four words, which the call reads and writes. Another process's memory stays as usable
    // to it as before.
    check(unsafe { libc::ioctl(userfaultfd.as_raw_fd(), UFFDIO_REGISTER, register.as_mut_ptr()) })
}

/// Protects all of a registered range, also what is not in memory.
///
/// # Errors
/// ENOENT where it is not registered.
pub(super) fn protect(userfaultfd: &OwnedFd, (start, end): (u64, u64)) -> io::Result<()> {
    let mut protect = [start, end - start, WRITEPROTECT_MODE_WP];
    // SAFETY: `struct uffdio_writeprotect` is three words, which the call reads. As above.
    check(unsafe { libc::ioctl(userfaultfd.as_raw_fd(), UFFDIO_WRITEPROTECT, protect.as_mut_ptr()) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
