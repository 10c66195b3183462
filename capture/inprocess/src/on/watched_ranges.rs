//! Which ranges are watched access by access: the tracking of writes leaves them alone, since a mapping can be registered
//! with one userfaultfd only.

use core::sync::atomic::{AtomicUsize, Ordering};

/// Most ranges that are watched at a time.
pub const WATCHES_MAX: usize = 16;

static RANGES: [[AtomicUsize; 2]; WATCHES_MAX] = [const { [const { AtomicUsize::new(0) }; 2] }; WATCHES_MAX];

/// A copy of the list.
pub struct WatchedRanges {
    ranges: [(usize, usize); WATCHES_MAX],
}

impl WatchedRanges {
    /// Those of now.
    pub fn now() -> WatchedRanges {
        let mut ranges = [(0, 0); WATCHES_MAX];
        for (to, [start, end]) in ranges.iter_mut().zip(&RANGES) {
            *to = (start.load(Ordering::Acquire), end.load(Ordering::Acquire));
        }
        WatchedRanges { ranges }
    }

    /// Addresses; empty ranges are none.
    pub fn as_slice(&self) -> &[(usize, usize)] {
        &self.ranges
    }
}

/// Puts a range into the list, or an empty one in its place.
pub fn set(index: usize, (start, end): (usize, usize)) {
    let [from, to] = &RANGES[index];
    to.store(0, Ordering::Release);
    from.store(start, Ordering::Release);
    to.store(end, Ordering::Release);
}
