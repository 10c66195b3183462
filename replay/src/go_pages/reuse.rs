//! Counts of returned pages that were used again, by time and by distance.

use super::results::{Reuse, ReuseShare};

/// Bounds of the time between return and use, nanoseconds.
const TIMES_NS: [u64; 6] = [100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000, 10_000_000_000];
/// Bounds of the pages allocated in between: half a megabyte of Go's pages and so on.
const DISTANCES: [u64; 6] = [64, 512, 4096, 32_768, 262_144, 2_097_152];

/// The counts so far.
#[derive(Debug, Default)]
pub struct ReuseCounts {
    by_time: [u64; TIMES_NS.len() + 1],
    by_distance: [u64; DISTANCES.len() + 1],
    pub of_kept_pages: u64,
}

impl ReuseCounts {
    pub fn count(&mut self, after_ns: u64, distance: u64) {
        self.by_time[TIMES_NS.partition_point(|bound| after_ns > *bound)] += 1;
        self.by_distance[DISTANCES.partition_point(|bound| distance > *bound)] += 1;
    }

    pub fn reused(&self) -> u64 {
        self.by_time.iter().sum()
    }

    pub fn finish(&self, not_reused: u64) -> Reuse {
        let shares = |bounds: &[u64], counts: &[u64]| {
            let bounds = bounds.iter().copied().map(Some).chain([None]);
            bounds.zip(counts).map(|(up_to, &pages)| ReuseShare { up_to, pages }).collect()
        };
        Reuse {
            reused: self.reused(),
            not_reused,
            of_kept_pages: self.of_kept_pages,
            by_time: shares(&TIMES_NS, &self.by_time),
            by_distance: shares(&DISTANCES, &self.by_distance),
        }
    }
}
