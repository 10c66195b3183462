//! Numbers for objects, unique among all processes of a recording. A thread takes many at a time.

use core::sync::atomic::Ordering;

use super::process::PROCESS;
use super::recursion_guard::RecursionGuard;
use super::thread_state::{self, busy};

/// Ids that a thread takes at a time.
const BATCH: u64 = 256;

/// The next id; 0 without a session.
#[inline]
pub fn next(guard: &RecursionGuard) -> u64 {
    let ids = &guard.thread().object_ids;
    let (next, end) = ids.get();
    if next < end {
        ids.set((next + 1, end));
        return next;
    }
    take_batch(guard)
}

/// Makes every hook in the calling thread do nothing from now on.
pub fn never_trace_this_thread() {
    thread_state::current().busy.set(busy::NEVER);
}

#[cold]
fn take_batch(guard: &RecursionGuard) -> u64 {
    let Some(session) = PROCESS.session() else { return 0 };
    let first = session.header().object_id.0.fetch_add(BATCH, Ordering::Relaxed) + 1;
    guard.thread().object_ids.set((first + 1, first + BATCH));
    first
}
