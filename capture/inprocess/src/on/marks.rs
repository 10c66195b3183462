//! Marks by which hooks say that they are at work, so that whoever switches recording off can wait for them.
//!
//! A mark is the buffer's own: nobody else ever writes to it while the buffer has it. In the header of a block it would
//! not do, since blocks change hands: a hook that was late for its epoch would take back the mark of the block's next
//! owner. `format/tests/loom/switching.rs` shows both.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering, compiler_fence, fence};

use super::process::PROCESS;
use crate::sys;

/// A mark, alone on its cache line. Never unmapped.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Mark {
    at_work: AtomicU32,
    taken: AtomicU32,
    next: AtomicPtr<Mark>,
}

static FIRST: AtomicPtr<Mark> = AtomicPtr::new(ptr::null_mut());

/// Marks that are mapped at a time.
const MARKS: usize = 64;

impl Mark {
    /// Marks, and looks whether it is still this epoch. The marker has the mark alone, and is not at work with it.
    ///
    /// Only the compiler is kept from changing the order: who begins another epoch pays for the processor's.
    #[inline]
    pub fn begin(&'static self, epoch: u32) -> bool {
        self.at_work.store(1, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        let still = PROCESS.active() == epoch;
        if !still {
            self.end();
        }
        still
    }

    /// Takes the mark back.
    #[inline]
    pub fn end(&self) {
        compiler_fence(Ordering::SeqCst);
        self.at_work.store(0, Ordering::Release);
    }

    /// Leaves it to another buffer.
    pub fn leave(&self) {
        self.taken.store(0, Ordering::Release);
    }
}

/// Makes some for threads to come.
pub fn prepare() {
    map_more();
}

/// A mark for a buffer: one that another has left, or a new one. `None` without memory.
#[cold]
pub fn take() -> Option<&'static Mark> {
    let free = |mark: &&Mark| {
        mark.taken.load(Ordering::Relaxed) == 0
            && mark.taken.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    };
    all().find(free).or_else(|| {
        map_more();
        all().find(free)
    })
}

/// Waits until no hook of this process is at work in an epoch before the present one, for so long at the most. Whether
/// that came to be.
pub fn wait_until_quiet(patience_ms: u64) -> bool {
    sys::barrier_on_all_processors();
    fence(Ordering::SeqCst);
    let start = sys::monotonic_ms();
    all().all(|mark| {
        loop {
            if mark.at_work.load(Ordering::Acquire) == 0 {
                return true;
            }
            if sys::monotonic_ms() - start >= patience_ms {
                return false;
            }
            sys::yield_processor();
        }
    })
}

/// In a forked child, before its first hook: those who were at work are not there.
pub fn forget_in_child() {
    all().for_each(|mark| mark.at_work.store(0, Ordering::Relaxed));
}

fn all() -> impl Iterator<Item = &'static Mark> {
    let mut next = FIRST.load(Ordering::Acquire);
    core::iter::from_fn(move || {
        // SAFETY: null, or a mark in memory that is never unmapped and whose fields are atomic.
        let mark = unsafe { next.as_ref() }?;
        next = mark.next.load(Ordering::Acquire);
        Some(mark)
    })
}

fn map_more() {
    let bytes = MARKS * size_of::<Mark>();
    // SAFETY: anywhere.
    let Some(memory) = (unsafe { sys::map_zeroed(ptr::null(), bytes) }) else { return };
    let marks = memory.cast_mut().cast::<Mark>();
    for index in 0..MARKS {
        let mark = marks.wrapping_add(index);
        let mut first = FIRST.load(Ordering::Relaxed);
        loop {
            // SAFETY: within the new mapping, aligned as mappings are; all-zero is a mark that nobody has.
            unsafe { (*mark).next.store(first, Ordering::Relaxed) };
            match FIRST.compare_exchange(first, mark, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => break,
                Err(other) => first = other,
            }
        }
    }
}
