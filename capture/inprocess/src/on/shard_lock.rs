//! A lock of four bytes for the shards of a table: spins a moment, then sleeps in a futex. It does not allocate, keeps
//! `errno`, and can be set free in a forked child, where the threads that held it do not exist.
//!
//! Holders hold it for some tens of nanoseconds, or for one system call when a shard grows. A thread that holds one
//! must not take it again: hooks are inside a recursion guard, everybody else has to be in one, too.

use core::hint;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::sys;

const FREE: u32 = 0;
const HELD: u32 = 1;
/// Held, and somebody may sleep.
const AWAITED: u32 = 2;

/// About a microsecond: many times what an uncontended holder needs.
const SPINS: u32 = 100;
/// A sleeper is always woken; this only bounds what a program that overwrites the word could do to itself.
const SLEEP_MS: u32 = 100;

/// See the file's header.
pub struct ShardLock {
    word: AtomicU32,
}

/// Frees the lock when dropped.
pub struct Held<'lock> {
    lock: &'lock ShardLock,
}

impl ShardLock {
    /// Free.
    pub const fn new() -> ShardLock {
        ShardLock { word: AtomicU32::new(FREE) }
    }

    /// Waits for the lock.
    #[inline]
    pub fn acquire(&self) -> Held<'_> {
        if self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.acquire_contended();
        }
        Held { lock: self }
    }

    #[cold]
    fn acquire_contended(&self) {
        for _ in 0..SPINS {
            if self.word.load(Ordering::Relaxed) == FREE
                && self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return;
            }
            hint::spin_loop();
        }
        // Others may sleep as well, so whoever gets it from here on has to wake somebody when done.
        while self.word.swap(AWAITED, Ordering::Acquire) != FREE {
            sys::keeping_errno(|| sys::futex_wait(&self.word, AWAITED, SLEEP_MS));
        }
    }

    /// Frees the lock without the guard, which its holder has forgotten.
    #[inline]
    pub fn release(&self) {
        if self.word.swap(FREE, Ordering::Release) == AWAITED {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        sys::keeping_errno(|| sys::futex_wake_all(&self.word));
    }

    /// Whether anybody holds it at this moment.
    pub fn is_held(&self) -> bool {
        self.word.load(Ordering::Relaxed) != FREE
    }

    /// In a forked child: frees the lock. Those who held it or slept for it are not in the child.
    pub fn set_free_in_child(&self) {
        self.word.store(FREE, Ordering::Relaxed);
    }
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        self.lock.release();
    }
}
