//! The clock that the tracer's hooks read, on its own.

/// The time stamp counter.
#[inline(always)]
pub fn time_stamp_counter() -> u64 {
    // SAFETY: every x86-64 processor has it, and Linux allows programs to read it.
    unsafe { core::arch::x86_64::_rdtsc() }
}
