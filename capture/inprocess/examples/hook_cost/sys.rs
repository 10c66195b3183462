//! Clocks: the one that the tracer's hooks read, on its own, and the processor time of a thread.

use std::time::Duration;

/// The time stamp counter.
#[inline(always)]
pub fn time_stamp_counter() -> u64 {
    // SAFETY: every x86-64 processor has it, and Linux allows programs to read it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// What the calling thread has used of processors (clock_gettime(2), CLOCK_THREAD_CPUTIME_ID).
pub fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to the local; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
