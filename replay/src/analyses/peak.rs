//! Which moment is the peak of a trace with snapshots.

use hashbrown::HashMap;
use pagetrace_format::TraceNanos;

use crate::checkpoint::ProcessCheckpoint;
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
/// without any figure of RSS. Where events were dropped it is the largest of what was kept.
pub(crate) fn peak_of_rss(metadata: &Metadata) -> Option<RssPeak> {
    let ends = metadata.processes.iter().enumerate().map(|(index, info)| (info.last, index)).collect();
    let RssSums { kept_from, sums, .. } = RssSums::until(metadata, ends, TraceNanos(u64::MAX));
    let kept = || sums.iter().filter(|&&(_, time)| time >= kept_from);
    let largest = kept().map(|&(sum, _)| sum).max()?;
    let (_, time) = *kept().find(|&&(sum, _)| sum >= largest)?;
    let near = sums.iter().find(|&&(sum, _)| sum >= largest - largest / NEAR);
    Some(RssPeak { time, near_since: near.map(|&(_, since)| since).filter(|&since| since < time) })
}

/// The sum of the RSS of the running processes over time.
pub(crate) struct RssSums {
    kept_from: TraceNanos,
    /// After each snapshot. Of what was dropped those larger than all before.
    pub(crate) sums: Vec<(u64, TraceNanos)>,
    /// By process that runs: its latest.
    pub(crate) rss_of: HashMap<usize, u64>,
}

impl RssSums {
    /// From the snapshots before `until`. `ends` are the times from which on processes count no more.
    pub(crate) fn until(metadata: &Metadata, mut ends: Vec<(TraceNanos, usize)>, until: TraceNanos) -> RssSums {
        let mut rss_of: HashMap<usize, u64> = HashMap::new();
        let (mut sums, mut kept_from) = (Vec::new(), TraceNanos(0));
        if let Some(checkpoint) = &metadata.checkpoint {
            kept_from = checkpoint.time;
            sums.extend(checkpoint.rss_marks());
            for (process, before) in ProcessCheckpoint::all(checkpoint) {
                rss_of.extend(metadata.index(process).zip(before.rss));
            }
        }
        let mut sum: u64 = rss_of.values().fold(0, |all, &rss| all.saturating_add(rss));
        ends.sort_unstable();
        let mut ends = ends.into_iter().peekable();
        for snapshot in metadata.snapshots.iter().filter(|snapshot| snapshot.time < until) {
            let (Some(rss), Some(index)) = (snapshot.rss, metadata.index(snapshot.process)) else { continue };
            while let Some((_, ended)) = ends.next_if(|(end, _)| *end < snapshot.time) {
                sum = sum.saturating_sub(rss_of.remove(&ended).unwrap_or(0));
            }
            sum = sum.saturating_sub(rss_of.insert(index, rss).unwrap_or(0)).saturating_add(rss);
            sums.push((sum, snapshot.time));
        }
        RssSums { kept_from, sums, rss_of }
    }
}
