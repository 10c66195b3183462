//! Who wrote to the pages of all processes while accesses go by, and what is kept of it.

mod checkpoint;
mod contention;
mod forks;
mod last_writes;
mod process_writes;

use pagetrace_format::{Trace, TraceNanos};

use crate::intervals::Intervals;
use crate::metadata::Metadata;
use crate::page_writes::PageWrites;
use crate::process_state::ProcessState;
use crate::process_timeline::AccessTimeline;
use crate::results::Defect;

pub(crate) use process_writes::{ProcessWrites, frames_of_write};

/// Written pages, and the accesses that are still to come.
#[derive(Debug)]
pub(crate) struct WriteStates<'t, 'b> {
    timeline: AccessTimeline<'t, 'b>,
    /// By index of the process; `None` where no writes of it were tracked.
    processes: Vec<Option<ProcessWrites>>,
}

impl<'t, 'b> WriteStates<'t, 'b> {
    pub(crate) fn new(trace: &'t Trace<'b>, metadata: &Metadata) -> WriteStates<'t, 'b> {
        WriteStates { timeline: AccessTimeline::new(trace), ..WriteStates::idle(trace, metadata) }
    }

    /// Follows no accesses.
    pub(crate) fn idle(trace: &'t Trace<'b>, metadata: &Metadata) -> WriteStates<'t, 'b> {
        let processes = metadata.processes.iter().map(|_| None).collect();
        WriteStates { timeline: AccessTimeline::empty(trace), processes }
    }

    /// Takes over what was known up to this time, and at the time itself.
    pub(crate) fn run_until(&mut self, time: TraceNanos, metadata: &Metadata) {
        while self.timeline.next_time().is_some_and(|next| next <= time) {
            let Some((process, (shift, access))) = self.timeline.next() else { return };
            // Every process with a chunk has an index.
            let Some(index) = metadata.index(process) else { continue };
            let writes = self.processes[index].get_or_insert_with(|| ProcessWrites::new(index, shift, metadata));
            writes.apply(shift, &access);
        }
    }

    /// What is known of a process whose writes were tracked.
    pub(crate) fn of(&self, process: usize) -> Option<&ProcessWrites> {
        self.processes[process].as_ref()
    }

    /// The shown moment is now, for a process that it has not been yet. `resident` are its anonymous pages, where known.
    pub(crate) fn capture(
        &mut self,
        process: usize,
        now: TraceNanos,
        resident: Option<&Intervals>,
        state: Option<&ProcessState>,
    ) {
        if let Some(writes) = &mut self.processes[process] {
            writes.capture(now, resident, state);
        }
    }

    /// What was found of each process whose writes were tracked, and what could not be read.
    pub(crate) fn finish(self, metadata: &Metadata) -> (Vec<Option<PageWrites>>, Vec<Defect>) {
        let found = self.processes.into_iter().map(|writes| writes.map(|writes| writes.finish(metadata))).collect();
        (found, self.timeline.into_defects())
    }
}
