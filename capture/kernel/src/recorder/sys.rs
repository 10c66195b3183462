//! The system calls of the recorder's side of a session.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Once;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use pagetrace_format::session::{Session, SessionLayout};
use rustix::mm::{MapFlags, ProtFlags};

/// Maps a session's file for as long as this process lives.
pub fn map_session(file: &File, layout: SessionLayout) -> std::io::Result<Session> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let base = unsafe {
        rustix::mm::mmap(std::ptr::null_mut(), layout.total_bytes(), protection, MapFlags::SHARED, file.as_fd(), 0)?
    };
    // SAFETY: just mapped at this length, page aligned, and never unmapped; only this process truncates the file, and
    // never does.
    Ok(unsafe { Session::new(base.cast(), layout) })
}

/// Has the C library keep memory that was freed. Chunks and snapshots take some megabytes for a moment, again and again: by itself
/// it gives them back to the kernel each time, or not, as they happen to lie, and then each page is a fault when it comes back.
pub fn keep_freed_memory() {
    const KEPT_BYTES: i32 = 32 << 20;
    /// What is larger is mapped for itself, and can grow without being copied.
    const MAPPED_BYTES: i32 = 4 << 20;
    static SAID: Once = Once::new();
    #[cfg(target_env = "gnu")]
    SAID.call_once(|| {
        for (parameter, bytes) in [(libc::M_TRIM_THRESHOLD, KEPT_BYTES), (libc::M_MMAP_THRESHOLD, MAPPED_BYTES)] {
            // SAFETY: changes when memory is given back and nothing else (mallopt(3)).
            unsafe { libc::mallopt(parameter, bytes) };
        }
    });
}

/// Waits until the futex is woken, its value is not `expected`, or the time is over (futex(2)).
pub fn futex_wait(futex: &AtomicU32, expected: u32, timeout: Duration) {
    let timeout = libc::timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
    // SAFETY: the futex word and the timeout live for the whole call.
    unsafe { libc::syscall(libc::SYS_futex, futex.as_ptr(), libc::FUTEX_WAIT, expected, &raw const timeout) };
}

/// Wakes everyone who waits on the futex, in any process.
pub fn futex_wake_all(futex: &AtomicU32) {
    // SAFETY: the futex word lives for the whole call.
    unsafe { libc::syscall(libc::SYS_futex, futex.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

/// The time stamp counter, read after everything before it.
pub fn time_stamp_counter() -> u64 {
    // SAFETY: every x86-64 processor has both instructions.
    unsafe {
        std::arch::x86_64::_mm_lfence();
        std::arch::x86_64::_rdtsc()
    }
}
