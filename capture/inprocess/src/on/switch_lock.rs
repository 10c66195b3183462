//! A lock for what happens rarely: switching a recording, writing its file.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::sys;

/// Holds the lock until it is dropped.
#[must_use = "dropping it gives the lock back"]
pub struct SwitchLock {
    word: &'static AtomicU32,
}

impl SwitchLock {
    /// Waits for the lock. `None` if this very thread holds it: a signal handler, or the tracer within itself.
    pub fn take(word: &'static AtomicU32) -> Option<SwitchLock> {
        let tid = sys::gettid();
        loop {
            match word.compare_exchange(0, tid, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(SwitchLock { word }),
                Err(holder) if holder == tid => return None,
                Err(_) => sys::keeping_errno(sys::yield_processor),
            }
        }
    }

    /// Takes the lock if nobody has it.
    pub fn try_take(word: &'static AtomicU32) -> Option<SwitchLock> {
        word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).ok().map(|_| SwitchLock { word })
    }
}

impl Drop for SwitchLock {
    fn drop(&mut self) {
        self.word.store(0, Ordering::Release);
    }
}
