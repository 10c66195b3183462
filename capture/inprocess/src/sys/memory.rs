//! Mappings: shared with children, closed and opened, given back.

use core::ffi::CStr;
use core::ptr;
use std::io;

/// Guard pages on any mapping (madvise(2), since Linux 6.13; on shared memory since 6.15).
const MADV_GUARD_INSTALL: libc::c_int = 102;
const MADV_GUARD_REMOVE: libc::c_int = 103;

/// Maps zeroed memory that forked children share. It has a name in /proc/PID/maps where the kernel gives it one.
pub fn map_shared(bytes: usize) -> io::Result<*const u8> {
    let named = map_memfd(bytes);
    if let Ok(base) = named {
        return Ok(base);
    }
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let base = unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if base == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(base as *const u8) }
}

fn map_memfd(bytes: usize) -> io::Result<*const u8> {
    // The limit of file sizes counts here, too, and beyond it the kernel sends a signal that would kill the program.
    super::with_signals_blocked(|| {
        // SAFETY: a valid C string; the descriptor is closed below, and the mapping outlives it.
        unsafe {
            let fd = libc::memfd_create(c"pagetrace".as_ptr(), libc::MFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            let base = if libc::ftruncate(fd, bytes as libc::off_t) == 0 {
                let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
                libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0)
            } else {
                libc::MAP_FAILED
            };
            let result = if base == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(base as *const u8) };
            libc::close(fd);
            result
        }
    })
}

/// Maps zeroed memory of this process's own, at most a page, that has a name in /proc/PID/maps. A forked child gets a copy.
/// `None` where the kernel has no such memory.
pub fn map_named(name: &CStr, bytes: usize) -> Option<*const u8> {
    super::with_signals_blocked(|| {
        // SAFETY: a valid C string; the descriptor is closed below, and the mapping outlives it.
        unsafe {
            let fd = libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC);
            if fd < 0 {
                return None;
            }
            let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE);
            let sized = libc::ftruncate(fd, bytes as libc::off_t) == 0;
            let base = if sized { libc::mmap(ptr::null_mut(), bytes, rights, flags, fd, 0) } else { libc::MAP_FAILED };
            libc::close(fd);
            (base != libc::MAP_FAILED).then_some(base as *const u8)
        }
    })
}

/// Has the kernel give memory to a range of shared memory at once, which takes a fifth of the time of as many faults
/// (madvise(2), MADV_POPULATE_WRITE, since Linux 5.14; without it the faults come one by one).
pub fn populate(start: *const u8, bytes: usize) {
    if super::sandbox::is_entered() {
        return;
    }
    // SAFETY: the tracer's own memory; what is in it stays.
    unsafe { libc::madvise(start as *mut _, bytes, libc::MADV_POPULATE_WRITE) };
}

/// Makes any access to this range of the tracer's own a fault, its contents being lost. Whether the kernel can.
pub fn install_guard(start: *const u8, bytes: usize) -> bool {
    // SAFETY: the tracer's own memory, which nobody uses now.
    unsafe { libc::madvise(start as *mut _, bytes, MADV_GUARD_INSTALL) == 0 }
}

/// Undoes [`install_guard`].
pub fn remove_guard(start: *const u8, bytes: usize) -> bool {
    // SAFETY: only makes memory accessible that is the tracer's own.
    unsafe { libc::madvise(start as *mut _, bytes, MADV_GUARD_REMOVE) == 0 }
}

/// Allows or forbids all access to a range of the tracer's own.
pub fn protect(start: *const u8, bytes: usize, accessible: bool) -> io::Result<()> {
    let protection = if accessible { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_NONE };
    // SAFETY: the tracer's own memory, which nobody uses now.
    if unsafe { libc::mprotect(start as *mut _, bytes, protection) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Rights to pages (mprotect(2)).
pub mod page_rights {
    pub const NONE: i32 = libc::PROT_NONE;
    pub const READ: i32 = libc::PROT_READ;
    pub const ALL: i32 = libc::PROT_READ | libc::PROT_WRITE;
}

/// Gives the program these rights to pages of its own, or takes others away: whoever lacks one gets SIGSEGV. Whether the kernel
/// does it.
pub fn set_rights(start: usize, bytes: usize, rights: i32) -> bool {
    // SAFETY: what is in the pages stays, and the handler of the signal gives the rights back.
    unsafe { libc::mprotect(start as *mut _, bytes, rights) == 0 }
}

/// Gives a range of shared memory back to the kernel, its contents being lost for all who share it (madvise(2),
/// MADV_REMOVE).
pub fn remove_shared(start: *const u8, bytes: usize) {
    // SAFETY: the tracer's own memory, which nobody uses now. A kernel that refuses leaves it as it is.
    unsafe { libc::madvise(start as *mut _, bytes, libc::MADV_REMOVE) };
}
