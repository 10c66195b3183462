//! A value that one thread has at a time, under a lock for what happens rarely.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, Ordering};

use super::switch_lock::SwitchLock;

/// The value, and who has it.
pub struct Locked<T> {
    word: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached under the lock alone, by `with`, or by the single thread of a new process.
unsafe impl<T> Sync for Locked<T> {}

impl<T> Locked<T> {
    pub const fn new(value: T) -> Locked<T> {
        Locked { word: AtomicU32::new(0), value: UnsafeCell::new(value) }
    }

    /// Waits for the value and works with it. `None` if this very thread has it.
    pub fn with<R>(&'static self, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        let _lock = SwitchLock::take(&self.word)?;
        // SAFETY: the lock is held until after the work.
        Some(work(unsafe { &mut *self.value.get() }))
    }

    /// Takes the lock for a fork: the child finds the value whole. False if this very thread has it.
    pub fn hold(&'static self) -> bool {
        SwitchLock::take(&self.word).map(core::mem::forget).is_some()
    }

    /// Gives back what [`Locked::hold`] has taken, also in the child, where the thread has another number.
    pub fn let_go(&self) {
        self.word.store(0, Ordering::Release);
    }
}
