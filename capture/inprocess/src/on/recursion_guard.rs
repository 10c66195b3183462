//! Proof that the tracer is not already at work in this thread.

use core::sync::atomic::{Ordering, compiler_fence};

use super::process::PROCESS;
use super::thread_state::{self, ThreadState};

/// Held while an event is written. A signal handler that allocates meanwhile gets none, and its event is counted as
/// lost: what it interrupted is half written.
pub struct RecursionGuard {
    thread: &'static ThreadState,
}

impl RecursionGuard {
    /// Marks a thread whose events are of no interest.
    pub const NEVER: u32 = 2;

    /// The guard of this thread, `None` and one event counted as lost if it is taken.
    #[inline]
    pub fn enter() -> Option<RecursionGuard> {
        let thread = thread_state::current();
        if thread.busy.get() != 0 {
            if thread.busy.get() == 1 {
                count_lost();
            }
            return None;
        }
        thread.busy.set(1);
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

/// Counts an event that came while a hook was at work.
#[cold]
pub fn count_lost() {
    if let Some(slot) = PROCESS.slot() {
        slot.lost_reentered.fetch_add(1, Ordering::Relaxed);
    }
}
