//! What is done before a program gives up system calls: everything that hooks would ask the kernel for.

use super::process::PROCESS;
use super::{call_stack, marks};
use crate::sys;

/// Threads that get what they need to take whole stacks after that; more of them have one frame.
const THREADS: usize = 32;

/// See [`crate::sandbox_begins`].
pub fn begins(strict: bool) -> u32 {
    if !PROCESS.is_recording() || PROCESS.writes_itself() {
        return 0;
    }
    sys::keeping_errno(|| {
        call_stack::prepare(THREADS);
        marks::prepare();
    });
    let before = sys::sandbox::enter(strict);
    if strict {
        PROCESS.lose_clock();
    }
    before
}

/// See [`crate::sandbox_failed`].
pub fn failed(before: u32) {
    sys::sandbox::leave(before);
    if !sys::sandbox::is_strict() {
        PROCESS.have_clock();
    }
}
