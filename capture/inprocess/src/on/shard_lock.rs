//! A lock of eight bytes for the shards of a table: spins a moment, then sleeps in a futex. It does not allocate, keeps
//! `errno`, and can be set free in a forked child, where the threads that held it do not exist.
//!
//! Holders hold it for some tens of nanoseconds, or for one pass over a shard when that grows. A thread that holds one
//! must not take it again: hooks are inside a recursion guard, everybody else has to be in one, too.
//!
//! Freeing it is a plain store and a plain load, not an atomic exchange, which would be a third of a lookup's cost. So
//! the load may come before the store is to be seen, and one who lies down in that moment is not woken: it looks again
//! after a millisecond.

use core::hint;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::sys;

const FREE: u32 = 0;
const HELD: u32 = 1;

/// About a microsecond: many times what an uncontended holder needs.
const SPINS: u32 = 100;
const SLEEP_MS: u32 = 1;

/// See the file's header.
pub struct ShardLock {
    word: AtomicU32,
    sleepers: AtomicU32,
}

/// Frees the lock when dropped.
pub struct Held<'lock> {
    lock: &'lock ShardLock,
}

impl ShardLock {
    /// Free.
    pub const fn new() -> ShardLock {
        ShardLock { word: AtomicU32::new(FREE), sleepers: AtomicU32::new(0) }
    }

    /// Waits for the lock.
    #[inline]
    pub fn acquire(&self) -> Held<'_> {
        if !self.try_acquire() {
            self.acquire_contended();
        }
        Held { lock: self }
    }

    #[inline]
    fn try_acquire(&self) -> bool {
        self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[cold]
    fn acquire_contended(&self) {
        for _ in 0..SPINS {
            if !self.is_held() && self.try_acquire() {
                return;
            }
            hint::spin_loop();
        }
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while !self.try_acquire() {
            sys::keeping_errno(|| sys::futex_wait(&self.word, HELD, SLEEP_MS));
        }
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Frees the lock without the guard, which its holder has forgotten.
    #[inline]
    pub fn release(&self) {
        self.word.store(FREE, Ordering::Release);
        if self.sleepers.load(Ordering::Relaxed) != 0 {
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
        self.sleepers.store(0, Ordering::Relaxed);
    }
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        self.lock.release();
    }
}
