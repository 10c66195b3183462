//! Every system call of the tracer.

pub mod files;
pub mod linker;
mod memory;
pub mod page_faults;
pub mod pagemap;
mod private_memory;
pub mod sandbox;
pub mod segv;
mod threads;
mod trace_descriptor;
pub mod userfaultfd;
pub mod write_protection;

pub use memory::{
    install_guard, map_named, map_shared, page_rights, populate, protect, remove_guard, remove_shared, set_rights,
};
pub use private_memory::{map_populated, map_zeroed, private_bytes, reserve_addresses, reserved_addresses, unmap};
pub use threads::{
    Processors, abort, alternate_stack, at_exit, at_fork, barrier_on_all_processors, join_thread, main_stack_mark,
    register_barrier, sleep_ns, stack_pointer, start_thread, start_thread_on, stop_process, thread_pointer,
    thread_runs, unix_ns, wait_for_any, watch_this_thread, watch_thread_ends, with_signals_blocked,
    without_cancellation, yield_processor,
};
pub use trace_descriptor::{
    close, file_identity, is_regular, is_removed, lock_file, move_descriptor_up, open_again, open_for_trace,
    print_error, read_at, truncate, write_all,
};

use core::ffi::CStr;
use core::ptr;
use core::sync::atomic::AtomicU32;

/// Runs `work` and puts `errno` back to what it was.
pub fn keeping_errno<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: the address is the calling thread's own and valid as long as it lives (errno(3)).
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let saved = unsafe { *errno };
    let result = without_cancellation(work);
    // SAFETY: as above.
    unsafe { *errno = saved };
    result
}

/// gettid(2).
pub fn gettid() -> u32 {
    if let Some(tid) = sandbox::tid() {
        return tid;
    }
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}

/// getpid(2).
pub fn getpid() -> u32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::syscall(libc::SYS_getpid) as u32 }
}

/// Whether a process with this pid runs, or may run. One that has ended and was not waited for yet does not.
pub fn process_runs(pid: u32) -> bool {
    if sandbox::is_entered() {
        return true;
    }
    // SAFETY: signal 0 is sent to nobody.
    let refused = unsafe { libc::kill(pid as libc::pid_t, 0) } != 0;
    // SAFETY: errno is the calling thread's own.
    let exists = !refused || unsafe { *libc::__errno_location() } != libc::ESRCH;
    exists && !is_zombie(pid)
}

/// The state in /proc/PID/stat (proc(5)), which follows the name in parentheses. Unknown counts as running.
fn is_zombie(pid: u32) -> bool {
    // "/proc/", ten digits, "/stat" and the end of the string.
    let mut path = *b"/proc/0000000000/stat\0";
    let mut digits = [0; 10];
    let (mut rest, mut first) = (pid, digits.len());
    while rest > 0 {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let count = digits.len() - first;
    path[6..6 + count].copy_from_slice(&digits[first..]);
    path[6 + count..6 + count + 6].copy_from_slice(b"/stat\0");
    let mut text = [0_u8; 128];
    // SAFETY: a valid C string, and a buffer of the length given (open(2), read(2), close(2)).
    let length = unsafe {
        let file = libc::open(path.as_ptr().cast(), libc::O_RDONLY | libc::O_CLOEXEC);
        if file < 0 {
            return false;
        }
        let length = libc::read(file, text.as_mut_ptr().cast(), text.len());
        libc::close(file);
        length
    };
    let text = &text[..usize::try_from(length).unwrap_or(0)];
    let state = text.iter().rposition(|&byte| byte == b')').and_then(|end| text.get(end + 2));
    matches!(state, Some(b'Z' | b'X'))
}

/// Waits on a futex that other processes share until it is woken, its value is not `expected`, or the time is over.
pub fn futex_wait(futex: &AtomicU32, expected: u32, timeout_ms: u32) {
    if sandbox::is_entered() {
        return sandbox::look_at(futex, expected, timeout_ms);
    }
    let timeout =
        libc::timespec { tv_sec: i64::from(timeout_ms / 1000), tv_nsec: i64::from(timeout_ms % 1000) * 1_000_000 };
    // SAFETY: the futex word and the timeout live for the whole call (futex(2), FUTEX_WAIT).
    unsafe { libc::syscall(libc::SYS_futex, futex.as_ptr(), libc::FUTEX_WAIT, expected, &raw const timeout) };
}

/// Wakes everyone who waits on a futex, in any process. From within a sandbox they are not woken: a recorder looks by itself.
pub fn futex_wake_all(futex: &AtomicU32) {
    if sandbox::is_entered() {
        return;
    }
    // SAFETY: the futex word lives for the whole call (futex(2), FUTEX_WAKE).
    unsafe { libc::syscall(libc::SYS_futex, futex.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

/// CLOCK_MONOTONIC in nanoseconds.
#[inline]
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to the local; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The same in whole milliseconds.
pub fn monotonic_ms() -> u64 {
    if sandbox::is_strict() { sandbox::waited_ms() } else { monotonic_ns() / 1_000_000 }
}

/// The time stamp counter.
#[inline]
pub fn time_stamp_counter() -> u64 {
    // SAFETY: every x86-64 processor has it; where the kernel forbids it the recorder does not choose this clock.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Maps a whole file for reading and writing, shared. `None` if it cannot be opened or is shorter than `bytes_min`.
pub fn map_file(path: &CStr, bytes_min: usize) -> Option<(*const u8, usize)> {
    // SAFETY: a valid C string; the descriptor is closed below. The number of a descriptor that the program might
    // expect to be the next free one is given back before the program runs on.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    if fd < 0 {
        return None;
    }
    // SAFETY: all zeros is a valid stat.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: an open descriptor and a local to write to.
    let known = unsafe { libc::fstat(fd, &raw mut stat) } == 0;
    let bytes = stat.st_size as usize;
    let base = if known && bytes >= bytes_min {
        // SAFETY: a new shared mapping at an address of the kernel's choice.
        unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0) }
    } else {
        libc::MAP_FAILED
    };
    // SAFETY: the descriptor is ours; mappings outlive it.
    unsafe { libc::close(fd) };
    (base != libc::MAP_FAILED).then_some((base as *const u8, bytes))
}

/// Undoes [`map_file`].
///
/// # Safety
/// Nobody refers to the mapping.
pub unsafe fn unmap_file(base: *const u8, bytes: usize) {
    // SAFETY: the caller gives it up.
    unsafe { libc::munmap(base as *mut _, bytes) };
}

/// Makes the kernel give a forked child zeros instead of these pages (madvise(2), MADV_WIPEONFORK).
pub fn wipe_on_fork(start: *const u8, bytes: usize) -> bool {
    // SAFETY: changes only what a child finds there; the pages are the tracer's own.
    unsafe { libc::madvise(start as *mut _, bytes, libc::MADV_WIPEONFORK) == 0 }
}

// SAFETY: the C library defines it with this type (environ(7)).
unsafe extern "C" {
    static mut environ: *const *const core::ffi::c_char;
}

/// The value of an environment variable, from the program's own list and without any lock. `None` before the C
/// library has set the list up.
pub fn environment(name: &str) -> Option<&'static CStr> {
    // SAFETY: read once; null before the C library's start.
    let mut entry = unsafe { environ };
    if entry.is_null() {
        return None;
    }
    loop {
        // SAFETY: a list that ends with a null pointer (environ(7)).
        let text = unsafe { *entry };
        if text.is_null() {
            return None;
        }
        // SAFETY: each entry is a C string that lives as long as the program leaves its environment alone; it is
        // read at once, before the program's own code runs or in a call that it made itself.
        let text = unsafe { CStr::from_ptr(text) };
        if let Some(rest) = text.to_bytes_with_nul().strip_prefix(name.as_bytes())
            && let Some(value) = rest.strip_prefix(b"=")
        {
            return CStr::from_bytes_with_nul(value).ok();
        }
        // SAFETY: not yet at the end of the list.
        entry = unsafe { entry.add(1) };
    }
}

/// Whether the environment can be read already.
pub fn environment_is_ready() -> bool {
    // SAFETY: a plain read of a pointer.
    unsafe { !environ.is_null() }
}

/// A page of x86-64.
pub const PAGE_BYTES: usize = 4096;

/// `bytes` rounded up to whole pages.
pub const fn whole_pages(bytes: usize) -> usize {
    bytes.next_multiple_of(PAGE_BYTES)
}

/// Gives the memory of private pages back to the kernel and leaves them mapped: they read as zeros (madvise(2),
/// MADV_DONTNEED). False where the kernel refuses, as it does for locked pages: then they are as they were.
///
/// # Safety
/// A mapping of the tracer's own, whose contents may become zeros at any moment.
pub unsafe fn give_pages_back(base: *const u8, bytes: usize) -> bool {
    if sandbox::is_entered() {
        return false;
    }
    // SAFETY: the caller's promise is the same.
    unsafe { libc::madvise(base as *mut _, bytes, libc::MADV_DONTNEED) == 0 }
}

/// Reads from a place in a file: how many bytes, fewer only at its end, or `errno`.
pub fn read_file_at(path: &CStr, offset: u64, buffer: &mut [u8]) -> Result<usize, i32> {
    let errno = || {
        // SAFETY: errno is the calling thread's own.
        unsafe { *libc::__errno_location() }
    };
    // SAFETY: a valid C string (open(2)).
    let file = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if file < 0 {
        return Err(errno());
    }
    let read = loop {
        // SAFETY: an open descriptor and a buffer of the length given (pread(2)).
        let read = unsafe { libc::pread(file, buffer.as_mut_ptr().cast(), buffer.len(), offset as libc::off_t) };
        if read >= 0 || errno() != libc::EINTR {
            break usize::try_from(read).map_err(|_| errno());
        }
    };
    // SAFETY: the descriptor is ours.
    unsafe { libc::close(file) };
    read
}
