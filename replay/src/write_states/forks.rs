//! What a process writes while children that it has forked live: the kernel copies each such page for it.

use std::ops::Range;

use pagetrace_format::access::WriteEpoch;
use pagetrace_format::records::ProcessOrigin;
use pagetrace_format::{ProcessId, TraceNanos};

use crate::intervals::Intervals;
use crate::metadata::{Metadata, ProcessInfo};
use crate::page_writes::ForkCopies;

/// Children that are followed at a time. A server that forks one a request would need as many sets of pages.
pub(super) const OPEN_MAX: usize = 8;
/// Children that are told of.
pub(super) const TOLD_MAX: usize = 256;

/// The children of one process.
#[derive(Clone, Debug)]
pub(crate) struct Forks {
    /// Those that have not begun by the epochs so far, the next one last.
    pub(super) to_come: Vec<(TraceNanos, TraceNanos, ProcessId)>,
    pub(super) open: Vec<Open>,
    pub(super) told: Vec<ForkCopies>,
}

/// A child that lives.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) child: ProcessId,
    pub(super) lived: (TraceNanos, TraceNanos),
    pub(super) pages: Intervals,
    /// Written in the epoch of the fork, before or after it.
    pub(super) unclear: Intervals,
}

impl Forks {
    pub(crate) fn of(parent: ProcessId, metadata: &Metadata) -> Forks {
        let children = metadata
            .processes
            .iter()
            .filter(|info| info.process.origin == ProcessOrigin::Fork && info.process.parent == Some(parent));
        // One that is not known to have ended lives on.
        let end = |info: &ProcessInfo| info.end.map_or(TraceNanos(u64::MAX), |end| end.time);
        let lived = children.map(|info| (info.process.start, end(info), info.process.id));
        let mut to_come: Vec<_> = lived.filter(|(start, end, _)| start < end).collect();
        to_come.sort_unstable_by(|a, b| b.cmp(a));
        Forks { to_come, open: Vec::new(), told: Vec::new() }
    }

    /// What follows was written in this epoch.
    pub(crate) fn epoch(&mut self, epoch: &WriteEpoch) {
        let (told, open) = (&mut self.told, &mut self.open);
        open.retain_mut(|it| {
            let lives = it.lived.1 > epoch.begin;
            if !lives && told.len() < TOLD_MAX {
                told.push(it.copies());
            }
            lives
        });
        while let Some((start, end, child)) = self.to_come.pop_if(|(start, ..)| *start < epoch.end) {
            if open.len() < OPEN_MAX && end > epoch.begin {
                let (pages, unclear) = (Intervals::default(), Intervals::default());
                open.push(Open { child, lived: (start, end), pages, unclear });
            }
        }
    }

    /// Pages were written in the epoch, first at this time where that is known.
    pub(crate) fn written(&mut self, epoch: &WriteEpoch, pages: &Range<u64>, time: Option<TraceNanos>) {
        for it in &mut self.open {
            let (start, end) = it.lived;
            match time {
                Some(time) if time < start || time > end => it.unclear_before(epoch, pages),
                None if epoch.begin < start || epoch.end > end => it.unclear.insert(pages.clone()),
                _ => it.pages.insert(pages.clone()),
            }
        }
    }

    /// What is known of all children, those that live on until `end`.
    pub(crate) fn finish(mut self, end: TraceNanos) -> Vec<ForkCopies> {
        let room = TOLD_MAX - self.told.len().min(TOLD_MAX);
        self.told.extend(self.open.iter().take(room).map(Open::copies));
        for it in &mut self.told {
            it.lived.1 = it.lived.1.min(end.max(it.lived.0));
        }
        self.told.sort_unstable_by_key(|it| (it.lived.0, it.child));
        self.told
    }
}

impl Open {
    /// Pages that were written first before the fork may have been written again after it in the same epoch.
    fn unclear_before(&mut self, epoch: &WriteEpoch, pages: &Range<u64>) {
        if epoch.begin < self.lived.0 && self.lived.0 < epoch.end {
            self.unclear.insert(pages.clone());
        }
    }

    fn copies(&self) -> ForkCopies {
        ForkCopies {
            child: self.child,
            lived: self.lived,
            pages: self.pages.count(),
            unclear_pages: self.unclear.difference(&self.pages).count(),
        }
    }
}
