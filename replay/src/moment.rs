//! Which moment is shown.

use pagetrace_format::{Trace, TraceNanos};

use crate::analyses::peak::RssPeak;
use crate::checkpoint::Dropped;
use crate::error::ReplayError;
use crate::metadata::Metadata;
use crate::results::{MomentRule, ShownMoment};

/// The moment whose state is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Moment {
    /// Where most memory was resident, or in use in traces without snapshots.
    #[default]
    Peak,
    /// Each process's own end.
    End,
    /// So long after the start of the trace.
    At(TraceNanos),
}

/// When a trace begins and ends.
pub(crate) struct TraceSpan {
    pub(crate) start: TraceNanos,
    pub(crate) last: TraceNanos,
}

impl TraceSpan {
    pub(crate) fn of(trace: &Trace<'_>, metadata: &Metadata) -> TraceSpan {
        let first = metadata.processes.iter().filter(|info| info.process.start.0 != 0).map(|info| info.process.start);
        let chunks = trace.chunks().iter().map(|chunk| chunk.header.first).filter(|first| first.0 != 0);
        let start = match trace.header().start {
            TraceNanos(0) => first.chain(chunks).min().unwrap_or_default(),
            known => known,
        };
        let last = metadata.processes.iter().map(|info| info.last).chain(metadata.end.map(|end| end.time)).max();
        TraceSpan { start, last: last.unwrap_or(start).max(start) }
    }
}

/// What that moment is in a trace.
///
/// # Errors
/// Where it lies outside of it.
pub(crate) fn shown_moment(
    at: Moment,
    rss_peak: Option<RssPeak>,
    span: &TraceSpan,
    dropped: Option<Dropped>,
) -> Result<ShownMoment, ReplayError> {
    Ok(match at {
        Moment::End => ShownMoment { rule: MomentRule::EachEnd, time: span.last },
        Moment::Peak => match rss_peak {
            Some(RssPeak { time, .. }) => ShownMoment { rule: MomentRule::PeakRss, time },
            None => ShownMoment { rule: MomentRule::PeakPages, time: span.last },
        },
        Moment::At(asked) => {
            let lasts_ns = span.last.0 - span.start.0;
            if asked.0 > lasts_ns {
                return Err(ReplayError::MomentOutside { asked_ns: asked.0, lasts_ns });
            }
            let kept_from_ns = dropped.map_or(0, |dropped| dropped.before.0.saturating_sub(span.start.0));
            if asked.0 < kept_from_ns {
                return Err(ReplayError::MomentDropped { asked_ns: asked.0, kept_from_ns });
            }
            ShownMoment { rule: MomentRule::Asked, time: TraceNanos(span.start.0 + asked.0) }
        }
    })
}
