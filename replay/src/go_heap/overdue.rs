//! Frees that must have happened and whose events are still to come.
//!
//! The runtime makes the times of a thread's events differ by a clock unit at least, 64 ns. A sweep writes thousands of
//! frees faster than that, so their times run ahead of the clock, by some hundred microseconds, until the thread's next
//! batch. An allocation in what was freed may so come before the free: what is there was freed, and the free that comes
//! later is that one, not one of the new object.

use hashbrown::HashMap;
use pagetrace_format::{Address, TraceNanos};

/// A batch holds at most 64 KiB of events of 3 bytes and more, so that times run ahead by less than this.
const LATE_NS_MAX: u64 = 2_000_000;
/// Entries before those that are too old are looked for.
const FIRST_PURGE: usize = 1024;

/// Frees that are owed, by the address that they will name.
#[derive(Debug)]
pub struct Overdue {
    frees: HashMap<Address, Owed>,
    purge_at: usize,
    never_came: u64,
}

#[derive(Clone, Copy, Debug)]
struct Owed {
    since: TraceNanos,
    frees: u64,
}

impl Overdue {
    pub fn new() -> Overdue {
        Overdue { frees: HashMap::new(), purge_at: FIRST_PURGE, never_came: 0 }
    }

    /// What was at an address is gone at this time.
    pub fn owe(&mut self, address: Address, time: TraceNanos) {
        let owed = self.frees.entry(address).or_insert(Owed { since: time, frees: 0 });
        owed.since = time;
        owed.frees += 1;
        if self.frees.len() >= self.purge_at {
            let never_came = &mut self.never_came;
            self.frees.retain(|_, owed| {
                let in_time = owed.is_in_time(time);
                *never_came += if in_time { 0 } else { owed.frees };
                in_time
            });
            self.purge_at = FIRST_PURGE + 2 * self.frees.len();
        }
    }

    /// Whether a free is one that was owed.
    #[inline]
    pub fn pay(&mut self, address: Address, time: TraceNanos) -> bool {
        !self.frees.is_empty() && self.find(address, time)
    }

    fn find(&mut self, address: Address, time: TraceNanos) -> bool {
        let Some(owed) = self.frees.get_mut(&address) else { return false };
        let in_time = owed.is_in_time(time);
        if in_time && owed.frees > 1 {
            owed.frees -= 1;
            return true;
        }
        if !in_time {
            self.never_came += owed.frees;
        }
        self.frees.remove(&address);
        in_time
    }

    /// Frees that did not come in time, at the end of the trace.
    pub fn never_came(&self) -> u64 {
        self.never_came + self.frees.values().map(|owed| owed.frees).sum::<u64>()
    }
}

impl Owed {
    fn is_in_time(&self, time: TraceNanos) -> bool {
        time.0.saturating_sub(self.since.0) <= LATE_NS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frees_are_taken_once_and_in_time() {
        let mut overdue = Overdue::new();
        let (place, other) = (Address(64), Address(128));
        overdue.owe(place, TraceNanos(100));
        overdue.owe(place, TraceNanos(200));
        overdue.owe(other, TraceNanos(200));
        assert!(!overdue.pay(Address(0), TraceNanos(300)));
        assert!(overdue.pay(place, TraceNanos(300)));
        assert!(overdue.pay(place, TraceNanos(400)));
        assert!(!overdue.pay(place, TraceNanos(500)));
        assert!(!overdue.pay(other, TraceNanos(10_000_000)), "too late to be that one");
        assert_eq!(overdue.never_came(), 1);
    }

    #[test]
    fn what_never_comes_takes_no_endless_memory() {
        let mut overdue = Overdue::new();
        for step in 0..100_000 {
            overdue.owe(Address(step * 8), TraceNanos(step * 10_000));
        }
        assert!(overdue.frees.len() < 2 * FIRST_PURGE, "{}", overdue.frees.len());
        assert_eq!(overdue.never_came(), 100_000);
    }
}
