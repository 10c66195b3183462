//! Files: the trace's, and those of /proc and /sys.

use core::ffi::CStr;
use std::io;

/// Descriptors of the tracer lie from here on, where programs that count on the lowest numbers do not see them.
const DESCRIPTOR_MIN: libc::c_int = 500;

/// Opens the file of a trace, made with mode 0600 if need be. All writes append.
pub fn open_for_trace(path: &CStr) -> io::Result<i32> {
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC | libc::O_NOCTTY;
    // SAFETY: a valid C string.
    let fd = unsafe { libc::open(path.as_ptr(), flags, 0o600) };
    if fd < 0 {
        let refused = io::Error::last_os_error();
        // A pipe or a device may be open to writing alone.
        return open_again(path).map_err(|_| refused);
    }
    if !is_pipe(fd) {
        return Ok(fd);
    }
    // Open to reading, too, it would be its own reader, and nobody would be told when the last other one goes.
    let write_only = open_again(path).map_err(io::Error::from_raw_os_error);
    close(fd);
    write_only
}

/// Opens it again for appending.
pub fn open_again(path: &CStr) -> Result<i32, i32> {
    // SAFETY: a valid C string.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_APPEND | libc::O_CLOEXEC | libc::O_NOCTTY) };
    if fd >= 0 { Ok(fd) } else { Err(errno()) }
}

/// Locks a file for as long as anybody has this descriptor, or one made from it by fork (flock(2)). Files that cannot
/// be locked count as locked.
pub fn lock_file(descriptor: i32) -> bool {
    // SAFETY: changes no memory.
    unsafe { libc::flock(descriptor, libc::LOCK_EX | libc::LOCK_NB) == 0 || errno() != libc::EWOULDBLOCK }
}

/// close(2).
pub fn close(descriptor: i32) {
    // SAFETY: the callers' own descriptor.
    unsafe { libc::close(descriptor) };
}

/// The same file under a higher number, where that is possible; then the one given is closed.
pub fn move_descriptor_up(descriptor: i32) -> i32 {
    // SAFETY: changes no memory.
    let high = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, DESCRIPTOR_MIN) };
    if high < 0 {
        return descriptor;
    }
    close(descriptor);
    high
}

/// Device and inode.
pub fn file_identity(descriptor: i32) -> io::Result<(u64, u64)> {
    let stat = stat_of(descriptor)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Whether it is a regular file.
pub fn is_regular(descriptor: i32) -> io::Result<bool> {
    Ok(stat_of(descriptor)?.st_mode & libc::S_IFMT == libc::S_IFREG)
}

fn is_pipe(descriptor: i32) -> bool {
    stat_of(descriptor).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFIFO)
}

/// Whether it is a file that has no name any more.
pub fn is_removed(descriptor: i32) -> bool {
    stat_of(descriptor).is_ok_and(|stat| stat.st_nlink == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFREG)
}

fn stat_of(descriptor: i32) -> io::Result<libc::stat> {
    // SAFETY: all zeros is a valid stat, and the call writes to it alone.
    unsafe {
        let mut stat: libc::stat = core::mem::zeroed();
        if libc::fstat(descriptor, &raw mut stat) == 0 { Ok(stat) } else { Err(io::Error::last_os_error()) }
    }
}

/// pread(2).
pub fn read_at(descriptor: i32, into: &mut [u8], offset: i64) -> io::Result<usize> {
    // SAFETY: a buffer of the length given.
    let read = unsafe { libc::pread(descriptor, into.as_mut_ptr().cast(), into.len(), offset) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// Empties a file.
pub fn truncate(descriptor: i32) -> io::Result<()> {
    // SAFETY: changes no memory.
    if unsafe { libc::ftruncate(descriptor, 0) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Writes all of `bytes`; the error number otherwise.
pub fn write_all(descriptor: i32, mut bytes: &[u8]) -> Result<(), i32> {
    while !bytes.is_empty() {
        // SAFETY: a buffer of the length given.
        let written = unsafe { libc::write(descriptor, bytes.as_ptr().cast(), bytes.len()) };
        match usize::try_from(written) {
            Ok(0) => return Err(libc::EIO),
            Ok(written) => bytes = &bytes[written..],
            Err(_) if errno() == libc::EINTR => {}
            Err(_) => return Err(errno()),
        }
    }
    Ok(())
}

/// Prints a line on standard error: the parts, then what the error number means. No part of it allocates.
pub fn print_error(parts: &[&[u8]], error: i32) {
    // SAFETY: glibc and musl keep these texts for good (strerrordesc_np(3) of glibc 2.32; strerror(3) of musl).
    let text = unsafe {
        let text = strerror_text(error);
        if text.is_null() { c"unknown error" } else { CStr::from_ptr(text) }
    };
    for part in parts.iter().copied().chain([text.to_bytes(), b"\n"]) {
        // Nothing can be done if nobody listens.
        let _ = write_all(libc::STDERR_FILENO, part);
    }
}

#[cfg(target_env = "gnu")]
unsafe fn strerror_text(error: i32) -> *const libc::c_char {
    // SAFETY: glibc declares it so.
    unsafe extern "C" {
        fn strerrordesc_np(error: libc::c_int) -> *const libc::c_char;
    }
    // SAFETY: any number may be asked for.
    unsafe { strerrordesc_np(error) }
}

#[cfg(not(target_env = "gnu"))]
unsafe fn strerror_text(error: i32) -> *const libc::c_char {
    // SAFETY: any number may be asked for.
    unsafe { libc::strerror(error) }
}

/// Whether the descriptor is the kernel's anonymous file of this name, in brackets.
pub(super) fn is_anonymous(descriptor: i32, name: &[u8]) -> bool {
    // "/proc/self/fd/", ten digits, and the end of the string.
    let mut path = *b"/proc/self/fd/0000000000\0";
    let Ok(mut rest) = u32::try_from(descriptor) else { return false };
    for digit in path[14..24].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let first = path[14..23].iter().take_while(|&&digit| digit == b'0').count();
    path.copy_within(14 + first..25, 14);
    let mut target = [0; 64];
    let path = CStr::from_bytes_until_nul(&path).unwrap_or_default();
    let length = super::files::read_link(path, &mut target).unwrap_or(0);
    target[..length].strip_prefix(b"anon_inode:") == Some(name)
}

pub(super) fn errno() -> i32 {
    // SAFETY: the calling thread's own (errno(3)).
    unsafe { *libc::__errno_location() }
}
