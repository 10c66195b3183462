//! All watched ranges, and when their pages are to be armed next.

use core::sync::atomic::Ordering;

use super::super::watched_ranges::WATCHES_MAX;
use super::mechanism::Mechanism;
use super::watched_range::{EARLY_PARTS, Seen, WatchedRange};
use super::{SLOTS, Slot, slot};
use crate::sys;

/// Something is looked at least so often.
pub const NAP_NS_MAX: u64 = 5_000_000;
/// Pages that wait to be armed early.
const EARLY: usize = 64;
/// Ranges given back that are remembered.
const GIVEN_BACK: usize = 64;

/// The ranges, each in the place of its slot.
pub struct Arming {
    pub ranges: [WatchedRange; WATCHES_MAX],
    next: [u64; WATCHES_MAX],
    /// Addresses, each with its time; 0 for a free place.
    early: [(usize, u64); EARLY],
    /// The last ranges that the program was about to give back: first address, one past the last, and when. Also those of watches
    /// that have ended: the thread may still be about to.
    given_back: [(usize, usize, u64); GIVEN_BACK],
    given_back_next: usize,
    pub paused: bool,
}

impl Arming {
    pub const fn new() -> Arming {
        Arming {
            ranges: [const { WatchedRange::new() }; WATCHES_MAX],
            next: [0; WATCHES_MAX],
            early: [(0, 0); EARLY],
            given_back: [(0, 0, 0); GIVEN_BACK],
            given_back_next: 0,
            paused: false,
        }
    }

    /// Takes the range of a slot over, and arms it.
    pub fn begin(&mut self, by: &Mechanism, index: usize, slot: &Slot) {
        let (start, end) = slot.range();
        match self.ranges[index].begin(by, start, end) {
            Ok(()) => {
                self.next[index] = 0;
                // With no room for older ones it may be any page.
                let oldest = self.given_back[self.given_back_next % GIVEN_BACK].2;
                if oldest != 0 {
                    self.ranges[index].was_given_back(start, end, oldest);
                }
                for (from, to, time) in self.given_back {
                    self.ranges[index].was_given_back(from, to, time);
                }
                // Armed before whoever waits for this goes on.
                self.arm_what_is_due(by, sys::monotonic_ns());
                slot.state.store(slot::ACTIVE, Ordering::Release);
            }
            Err(errno) => {
                slot.error.store(errno, Ordering::Relaxed);
                slot.state.store(slot::FAILED, Ordering::Release);
            }
        }
    }

    /// The program is about to give a range back.
    pub fn note_given_back(&mut self, from: usize, to: usize) {
        self.given_back[self.given_back_next % GIVEN_BACK] = (from, to, sys::monotonic_ns());
        self.given_back_next += 1;
    }

    /// Arms what is due; when the next is.
    pub fn arm_what_is_due(&mut self, by: &Mechanism, now: u64) -> u64 {
        let mut next = now + NAP_NS_MAX;
        if self.paused {
            return next;
        }
        for (index, slot) in SLOTS.iter().enumerate() {
            if !matches!(slot.state.load(Ordering::Acquire), slot::ACTIVE | slot::WANTED) {
                continue;
            }
            if now >= self.next[index] {
                self.ranges[index].arm(by);
                slot.periods.fetch_add(1, Ordering::Relaxed);
                self.next[index] = now + slot.period_ns.load(Ordering::Relaxed);
            }
            next = next.min(self.next[index]);
        }
        for place in 0..EARLY {
            let (address, time) = self.early[place];
            if address == 0 {
                continue;
            }
            if now < time {
                next = next.min(time);
                continue;
            }
            self.early[place] = (0, 0);
            if let Some(index) = self.find(address) {
                self.ranges[index].arm_early(by, address);
            }
        }
        next
    }

    /// Which range an address lies in.
    pub fn find(&self, address: usize) -> Option<usize> {
        self.ranges.iter().position(|range| range.holds(address))
    }

    /// Lets an access go on, and has its page armed again soon if somebody else may come.
    pub fn resolve(&mut self, by: &Mechanism, index: usize, address: usize, write: bool, seen: &Seen) {
        self.ranges[index].resolve(by, address, write);
        if seen.early
            && let Some(place) = self.early.iter_mut().find(|place| place.0 == 0)
        {
            let period = SLOTS[index].period_ns.load(Ordering::Relaxed);
            *place = (address, sys::monotonic_ns() + period / EARLY_PARTS);
        }
    }
}
