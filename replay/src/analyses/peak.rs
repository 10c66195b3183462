//! Which moment is the peak of a trace with snapshots.

use hashbrown::HashMap;
use pagetrace_format::TraceNanos;

use crate::metadata::Metadata;

/// The time of the first snapshot at which the RSS of the running processes, each by its latest snapshot, is largest
/// in sum. `None` without any figure of RSS.
pub(crate) fn peak_of_rss(metadata: &Metadata) -> Option<TraceNanos> {
    let mut rss_of: HashMap<usize, u64> = HashMap::new();
    let mut ends: Vec<(TraceNanos, usize)> =
        metadata.processes.iter().enumerate().map(|(index, info)| (info.last, index)).collect();
    ends.sort_unstable();
    let mut ends = ends.into_iter().peekable();
    let mut sum = 0_u64;
    let mut peak: Option<(u64, TraceNanos)> = None;
    for snapshot in &metadata.snapshots {
        let (Some(rss), Some(index)) = (snapshot.rss, metadata.index(snapshot.process)) else { continue };
        while let Some((_, ended)) = ends.next_if(|(end, _)| *end < snapshot.time) {
            sum = sum.saturating_sub(rss_of.remove(&ended).unwrap_or(0));
        }
        sum = sum.saturating_sub(rss_of.insert(index, rss).unwrap_or(0)).saturating_add(rss);
        if peak.is_none_or(|(most, _)| sum > most) {
            peak = Some((sum, snapshot.time));
        }
    }
    peak.map(|(_, time)| time)
}
