//! What is due between the events of a replay, in the order in which it is done.

use pagetrace_format::TraceNanos;
use pagetrace_format::records::ProcessOrigin;

use crate::metadata::Metadata;
use crate::objects::PARTS;
use crate::results::{MomentRule, ShownMoment};

/// What is due at a time, and whether before or after the events of that very time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due {
    pub(super) time: TraceNanos,
    pub(super) action: Action,
}

/// In the order in which those of one time are done; events come after [`Action::Start`] and [`Action::Resume`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Action {
    /// A forked process takes over what its parent has.
    Start(usize),
    /// Recording is on again, an index into [`Metadata::gaps`].
    Resume(usize),
    /// A process enters a part of its life.
    EnterPart(usize, u8),
    Snapshot(usize),
    /// A moment of the history of a trace without snapshots.
    Picture,
    ShownMoment,
    /// Recording goes off, an index into [`Metadata::gaps`].
    Pause(usize),
    End(usize),
}

/// Everything that is due, in reverse order. `pictures` are moments of a history that are none of snapshots.
pub(super) fn due_list(metadata: &Metadata, shown: &ShownMoment, pictures: Option<Vec<TraceNanos>>) -> Vec<Due> {
    let mut due = Vec::new();
    for (index, info) in metadata.processes.iter().enumerate() {
        if info.process.origin == ProcessOrigin::Fork && info.seen {
            due.push(Due { time: info.process.start, action: Action::Start(index) });
        }
        due.push(Due { time: info.last, action: Action::End(index) });
        if info.seen {
            let (start, life_ns) = (info.process.start.0, info.last.0.saturating_sub(info.process.start.0));
            for part in 1..PARTS {
                let time = TraceNanos(start + life_ns / PARTS as u64 * part as u64);
                due.push(Due { time, action: Action::EnterPart(index, part as u8) });
            }
        }
    }
    for (index, gap) in metadata.gaps.iter().enumerate() {
        // Whoever was inside a hook as recording went off finishes its event, so both ends are looked at.
        if gap.start < gap.end {
            due.push(Due { time: gap.start, action: Action::Pause(index) });
        }
        due.push(Due { time: gap.end, action: Action::Resume(index) });
    }
    let snapshots = metadata.snapshots.iter().enumerate();
    due.extend(snapshots.map(|(index, it)| Due { time: it.time, action: Action::Snapshot(index) }));
    let pictures = pictures.into_iter().flatten().filter(|_| metadata.snapshots.is_empty());
    due.extend(pictures.map(|time| Due { time, action: Action::Picture }));
    if matches!(shown.rule, MomentRule::PeakRss | MomentRule::Asked) {
        due.push(Due { time: shown.time, action: Action::ShownMoment });
    }
    due.sort_unstable_by(|a, b| b.cmp(a));
    due
}
