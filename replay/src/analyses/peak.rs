//! Which moment is the peak of a trace with snapshots.

use hashbrown::HashMap;
use pagetrace_format::TraceNanos;

use crate::metadata::Metadata;

/// A moment whose RSS comes so close to the largest, one part in so many, is near the peak.
const NEAR: u64 = 50;

/// The largest RSS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RssPeak {
    /// The first moment of it.
    pub(crate) time: TraceNanos,
    /// When RSS came within 2 % of it first, if that was before. An allocator that gives nothing back leaves a plateau,
    /// with the exit at its end a few pages above the rest; what the memory was needed for is to be seen where it begins.
    pub(crate) near_since: Option<TraceNanos>,
}

/// The first snapshot at which the RSS of the running processes, each by its latest snapshot, is largest in sum. `None`
/// without any figure of RSS.
pub(crate) fn peak_of_rss(metadata: &Metadata) -> Option<RssPeak> {
    let mut rss_of: HashMap<usize, u64> = HashMap::new();
    let mut ends: Vec<(TraceNanos, usize)> =
        metadata.processes.iter().enumerate().map(|(index, info)| (info.last, index)).collect();
    ends.sort_unstable();
    let mut ends = ends.into_iter().peekable();
    let mut sum = 0_u64;
    let mut sums: Vec<(u64, TraceNanos)> = Vec::new();
    for snapshot in &metadata.snapshots {
        let (Some(rss), Some(index)) = (snapshot.rss, metadata.index(snapshot.process)) else { continue };
        while let Some((_, ended)) = ends.next_if(|(end, _)| *end < snapshot.time) {
            sum = sum.saturating_sub(rss_of.remove(&ended).unwrap_or(0));
        }
        sum = sum.saturating_sub(rss_of.insert(index, rss).unwrap_or(0)).saturating_add(rss);
        sums.push((sum, snapshot.time));
    }
    let largest = sums.iter().map(|&(sum, _)| sum).max()?;
    let first_from = |least: u64| sums.iter().find(|&&(sum, _)| sum >= least).map(|&(_, time)| time);
    let time = first_from(largest)?;
    Some(RssPeak { time, near_since: first_from(largest - largest / NEAR).filter(|&since| since < time) })
}
