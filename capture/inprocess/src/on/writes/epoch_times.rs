//! When epochs were: the last ones, for whoever asks of a page.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::page_writes::{Interval, MonotonicNanos};
use crate::sys;

/// Epochs that are kept.
const KEPT: usize = 1 << 16;

/// Begin and end of each.
pub struct EpochTimes {
    times: AtomicPtr<[AtomicU64; 2]>,
    start: AtomicU64,
    last: AtomicU64,
}

impl EpochTimes {
    pub const fn new() -> EpochTimes {
        EpochTimes { times: AtomicPtr::new(ptr::null_mut()), start: AtomicU64::new(0), last: AtomicU64::new(0) }
    }

    /// Makes room, once.
    pub fn make(&self) -> bool {
        if self.times.load(Ordering::Acquire).is_null() {
            // SAFETY: anywhere.
            let memory = unsafe { sys::map_zeroed(ptr::null(), KEPT * size_of::<[AtomicU64; 2]>()) };
            let Some(memory) = memory else { return false };
            self.times.store(memory.cast_mut().cast(), Ordering::Release);
        }
        true
    }

    /// When the tracking began.
    pub fn set_start(&self, time: u64) {
        self.start.store(time, Ordering::Release);
        self.last.store(0, Ordering::Release);
    }

    /// Notes an epoch.
    pub fn note(&self, epoch: u32, begin: u64, end: u64) {
        if let Some([from, to]) = self.place(epoch) {
            from.store(begin, Ordering::Relaxed);
            to.store(end, Ordering::Relaxed);
            self.last.store(epoch.into(), Ordering::Release);
        }
    }

    /// When an epoch was. Of one that is not kept any more: between the start and the first that is.
    pub fn get(&self, epoch: u32) -> Option<Interval> {
        let last = self.last.load(Ordering::Acquire);
        let place = |epoch| self.place(epoch).map(|times| times.each_ref().map(|time| time.load(Ordering::Relaxed)));
        if u64::from(epoch) + (KEPT as u64) / 2 <= last {
            // Half of the places are kept in reserve, so that none is written over while it is read.
            let [first, _] = place((last + 1 - KEPT as u64 / 2) as u32)?;
            let begin = self.start.load(Ordering::Relaxed);
            return Some(Interval { begin: MonotonicNanos(begin), end: MonotonicNanos(first) });
        }
        let [begin, end] = place(epoch)?;
        (end != 0).then_some(Interval { begin: MonotonicNanos(begin), end: MonotonicNanos(end) })
    }

    fn place(&self, epoch: u32) -> Option<&[AtomicU64; 2]> {
        let times = self.times.load(Ordering::Acquire);
        if times.is_null() {
            return None;
        }
        // SAFETY: as many are mapped, for good.
        Some(unsafe { &*times.add(epoch as usize % KEPT) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_epochs_are_known_to_be_old() {
        let times = EpochTimes::new();
        assert!(times.get(1).is_none() && times.make() && times.get(1).is_none());
        times.set_start(5);
        (1..=40_000).for_each(|epoch| times.note(epoch, u64::from(epoch) * 10, u64::from(epoch) * 10 + 11));
        let check = |epoch, begin, end| {
            let expected = Interval { begin: MonotonicNanos(begin), end: MonotonicNanos(end) };
            assert_eq!(times.get(epoch), Some(expected), "{epoch}");
        };
        check(40_000, 400_000, 400_011);
        check(40_000 - KEPT as u32 / 2 + 1, 72_330, 72_341);
        check(7, 5, 72_330);
    }
}
