//! What is done before a program gives up system calls: everything that hooks would ask the kernel for.

use super::process::PROCESS;
use super::{call_stack, marks};
use crate::sys;

/// Threads that get what they need to take whole stacks after that; more of them have one frame.
const THREADS: usize = 32;

/// See [`crate::sandbox_begins`].
pub fn begins(strict: bool) -> u64 {
    // A child that was forked behind the C library's back joins now, while it may.
    let recording = super::is_recording();
    if PROCESS.writes_itself() {
        return 0;
    }
    if recording {
        sys::keeping_errno(|| {
            call_stack::prepare(THREADS);
            marks::prepare();
        });
    }
    let entered = sys::keeping_errno(|| sys::sandbox::enter(strict));
    if strict {
        PROCESS.lose_clock();
    }
    entered
}

/// See [`crate::sandbox_failed`].
pub fn failed(entered: u64) {
    sys::sandbox::leave(entered);
    if !sys::sandbox::is_strict() {
        PROCESS.have_clock();
    }
}
