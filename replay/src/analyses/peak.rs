//! Which moment is the peak of a trace with snapshots.

use hashbrown::HashMap;
use pagetrace_format::TraceNanos;

use crate::metadata::Metadata;

/// A moment whose RSS comes so close to the largest, one part in so many, is at the peak too.
const PLATEAU: u64 = 50;

/// The time of the first snapshot at which the RSS of the running processes, each by its latest snapshot, is largest
/// in sum, within 2 %. `None` without any figure of RSS.
///
/// An allocator that gives nothing back leaves a plateau, with the exit at its end a few pages above the rest. What
/// the memory was needed for is to be seen where the plateau begins.
pub(crate) fn peak_of_rss(metadata: &Metadata) -> Option<TraceNanos> {
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
    sums.iter().find(|&&(sum, _)| sum >= largest - largest / PLATEAU).map(|&(_, time)| time)
}
