//! What each of Go's Ps did over time: counts in buckets whose width doubles when there are too many of them.

use hashbrown::HashMap;
use pagetrace_format::TraceNanos;

/// Buckets of a lane before their width doubles.
const BUCKETS_MAX: usize = 256;
/// Width of a bucket at first: some 65 µs.
const FIRST_SHIFT: u32 = 16;
/// Ps with a lane of their own; damage names more.
const LANES_MAX: usize = 1024;
/// The lane of all further Ps.
const FURTHER: i64 = i64::MAX;

/// Events and pages of a P in a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ActivityCounts {
    pub page_allocs: u64,
    pub page_frees: u64,
    pub page_scavenges: u64,
    pub pages_allocated: u64,
    pub pages_freed: u64,
    pub pages_scavenged: u64,
    pub object_allocs: u64,
    pub object_frees: u64,
}

impl ActivityCounts {
    /// All events.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.page_allocs + self.page_frees + self.page_scavenges + self.object_allocs + self.object_frees
    }

    fn add(&mut self, other: &ActivityCounts) {
        self.page_allocs += other.page_allocs;
        self.page_frees += other.page_frees;
        self.page_scavenges += other.page_scavenges;
        self.pages_allocated = self.pages_allocated.saturating_add(other.pages_allocated);
        self.pages_freed = self.pages_freed.saturating_add(other.pages_freed);
        self.pages_scavenged = self.pages_scavenged.saturating_add(other.pages_scavenged);
        self.object_allocs += other.object_allocs;
        self.object_frees += other.object_frees;
    }
}

/// A P's activity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActivityLane {
    /// The P, −1 for events without one.
    pub processor: i64,
    /// In the whole trace.
    pub total: ActivityCounts,
    /// In each bucket from the start on; those behind the last are empty.
    pub buckets: Vec<ActivityCounts>,
}

/// All Ps.
#[derive(Clone, Debug)]
pub struct ActivityLanes {
    start: TraceNanos,
    shift: u32,
    lanes: Vec<ActivityLane>,
    place_of: HashMap<i64, usize>,
    last: (i64, usize),
}

impl ActivityLanes {
    pub(crate) fn new(start: TraceNanos) -> ActivityLanes {
        let last = (i64::MIN, 0);
        ActivityLanes { start, shift: FIRST_SHIFT, lanes: Vec::new(), place_of: HashMap::new(), last }
    }

    /// Width of a bucket.
    #[must_use]
    pub fn bucket_ns(&self) -> u64 {
        1 << self.shift
    }

    /// The lanes by P.
    #[must_use]
    pub fn lanes(&self) -> &[ActivityLane] {
        &self.lanes
    }

    /// Counts at a time before which no event of the trace is.
    #[inline]
    pub(crate) fn count(&mut self, processor: i64, time: TraceNanos, count: impl Fn(&mut ActivityCounts)) {
        let place = if self.last.0 == processor { self.last.1 } else { self.find(processor) };
        let since = time.0.saturating_sub(self.start.0);
        let mut bucket = since >> self.shift;
        while bucket >= BUCKETS_MAX as u64 {
            self.halve();
            bucket = since >> self.shift;
        }
        let lane = &mut self.lanes[place];
        count(&mut lane.total);
        let bucket = bucket as usize;
        if lane.buckets.len() <= bucket {
            lane.buckets.resize(bucket + 1, ActivityCounts::default());
        }
        count(&mut lane.buckets[bucket]);
    }

    /// In order of the Ps, those without one first.
    pub(crate) fn sort(&mut self) {
        self.lanes.sort_by_key(|lane| lane.processor);
        self.place_of = self.lanes.iter().enumerate().map(|(place, lane)| (lane.processor, place)).collect();
        self.last = (i64::MIN, 0);
    }

    #[cold]
    fn find(&mut self, processor: i64) -> usize {
        let known = self.place_of.contains_key(&processor);
        let key = if known || self.lanes.len() < LANES_MAX { processor } else { FURTHER };
        let lanes = &mut self.lanes;
        let place = *self.place_of.entry(key).or_insert_with(|| {
            lanes.push(ActivityLane { processor: key, total: ActivityCounts::default(), buckets: Vec::new() });
            lanes.len() - 1
        });
        self.last = (processor, place);
        place
    }

    #[cold]
    fn halve(&mut self) {
        self.shift += 1;
        for lane in &mut self.lanes {
            let merged = lane.buckets.chunks(2).map(|pair| {
                let mut sum = pair[0];
                pair[1..].iter().for_each(|other| sum.add(other));
                sum
            });
            lane.buckets = merged.collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_grow_wider_and_lose_nothing() {
        let mut lanes = ActivityLanes::new(TraceNanos(1000));
        for step in 0..10_000_u64 {
            lanes.count((step % 3) as i64 - 1, TraceNanos(1000 + step * 100_000), |counts| counts.page_allocs += 1);
        }
        lanes.sort();
        assert_eq!(lanes.lanes().iter().map(|lane| lane.processor).collect::<Vec<_>>(), [-1, 0, 1]);
        for lane in lanes.lanes() {
            let buckets: u64 = lane.buckets.iter().map(|bucket| bucket.page_allocs).sum();
            assert_eq!(buckets, lane.total.page_allocs);
            assert!(lane.buckets.len() <= BUCKETS_MAX && lane.buckets.len() as u64 * lanes.bucket_ns() >= 999_000_000);
        }
        assert_eq!(lanes.lanes().iter().map(|lane| lane.total.events()).sum::<u64>(), 10_000);
    }

    #[test]
    fn endless_ps_and_far_times_take_no_endless_memory() {
        let mut lanes = ActivityLanes::new(TraceNanos(0));
        for processor in 0..5000 {
            lanes.count(processor, TraceNanos(u64::MAX), |counts| counts.object_allocs += 1);
        }
        assert_eq!(lanes.lanes().len(), LANES_MAX + 1);
        assert_eq!(lanes.lanes().iter().map(|lane| lane.total.object_allocs).sum::<u64>(), 5000);
    }
}
