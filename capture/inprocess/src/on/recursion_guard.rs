//! Proof that the tracer is not already at work in this thread.

use core::sync::atomic::{Ordering, compiler_fence};

use super::call_stack;
use super::process::PROCESS;
use super::thread_state::{self, ThreadState, busy};
use crate::sys;

/// Held while an event is written. A signal handler that allocates meanwhile gets none, and its event is counted as
/// lost: what it interrupted is half written.
pub struct RecursionGuard {
    thread: &'static ThreadState,
}

impl RecursionGuard {
    /// The guard of this thread, `None` and one event counted as lost if it is taken.
    #[inline]
    pub fn enter() -> Option<RecursionGuard> {
        let thread = thread_state::current();
        let here = sys::stack_pointer();
        if thread.busy.get() != 0 && !was_left(thread, here) {
            return None;
        }
        thread.busy.set(here);
        // The handler runs in this very thread, so the order of the compiler is the only one that matters.
        compiler_fence(Ordering::SeqCst);
        Some(RecursionGuard { thread })
    }

    /// The thread it belongs to.
    #[inline]
    pub fn thread(&self) -> &'static ThreadState {
        self.thread
    }
}

impl Drop for RecursionGuard {
    #[inline]
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        self.thread.busy.set(0);
    }
}

/// Whether the hook that is at work in this thread is there no more: a signal handler has jumped out of it, as siglongjmp(3)
/// does. A handler that has interrupted it is further down the stack. On another stack that cannot be told, and the one for
/// signals may be a part of the thread's own. In a sandbox the kernel cannot be asked for that.
#[cold]
#[inline(never)]
fn was_left(thread: &ThreadState, here: usize) -> bool {
    let at = thread.busy.get();
    if at & busy::BITS != 0 {
        return false;
    }
    let (low, high) = thread.stack.get();
    // What it has locked of the live table is locked for good: another hook would wait for that.
    let left = !PROCESS.has_table()
        && low < at
        && at <= here
        && here < high
        && !sys::sandbox::is_entered()
        && sys::keeping_errno(sys::alternate_stack).is_none();
    if left {
        call_stack::forget_last_walk(thread);
    } else {
        count_lost();
    }
    left
}

/// Counts an event that came while a hook was at work.
#[cold]
pub fn count_lost() {
    if let Some(slot) = PROCESS.slot() {
        slot.lost_reentered.fetch_add(1, Ordering::Relaxed);
    }
}
