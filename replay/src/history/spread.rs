//! Which moments are looked at: as many as the work allows, spread over the time.

use pagetrace_format::TraceNanos;

use super::HistoryLimits;

/// An account of work that grows with the time of the recording, so that its end gets as much as its start.
#[derive(Clone, Debug)]
pub(crate) struct Spread {
    start: u64,
    lasts_ns: u64,
    work: u64,
    spent: u64,
    moments: u64,
}

impl Spread {
    pub(crate) fn new(limits: &HistoryLimits, events: u64, start: TraceNanos, last: TraceNanos) -> Spread {
        let work = limits.work.saturating_add(events / limits.events_for_work.max(1));
        let lasts_ns = last.0.saturating_sub(start.0).max(1);
        Spread { start: start.0, lasts_ns, work, spent: 0, moments: limits.moments as u64 }
    }

    /// Whether a moment that takes this work is looked at, when so many of its process were before.
    pub(crate) fn takes(&mut self, time: TraceNanos, work: u64, before: usize) -> bool {
        let passed = |whole: u64| {
            let part = u128::from(whole) * u128::from(time.0.saturating_sub(self.start)) / u128::from(self.lasts_ns);
            u64::try_from(part).unwrap_or(u64::MAX)
        };
        // A quarter may be spent at once: recordings begin with growth, which is what is to be seen.
        let (earned, due) = (self.work / 4 + passed(self.work), self.moments / 4 + passed(self.moments));
        let takes = self.spent.saturating_add(work) <= earned && (before as u64) <= due;
        self.spent += if takes { work } else { 0 };
        takes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_spread_over_the_time() {
        let limits = HistoryLimits { moments: 20, work: 1000, events_for_work: 1, bytes: 0 };
        let mut spread = Spread::new(&limits, 0, TraceNanos(0), TraceNanos(1000));
        let mut taken = Vec::new();
        for time in 0..1000 {
            if spread.takes(TraceNanos(time), 10, taken.len()) {
                taken.push(time);
            }
        }
        assert_eq!(taken.len(), 25);
        assert!(taken.iter().filter(|time| **time >= 500).count() >= 9, "{taken:?}");
        // What is too much for the rest is left out, and what is not still comes.
        let mut spread = Spread::new(&limits, 0, TraceNanos(0), TraceNanos(1000));
        assert!(!spread.takes(TraceNanos(1), 2000, 0));
        assert!(spread.takes(TraceNanos(2), 100, 0));
    }
}
