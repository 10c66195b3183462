//! The address spaces of all processes while the kernel's events go by, and what is kept of them.

mod checkpoint;

use std::cmp::Reverse;

use pagetrace_format::records::StackEnd;
use pagetrace_format::{
    Address, KernelEvent, KernelEventKind, PageShift, ProcessId, Snapshot, StackId, Trace, TraceNanos,
};

use crate::address_space::{AddressSpace, TouchCause, TouchSite};
use crate::analyses::agreement::AgreementTally;
use crate::copies::Copies;
use crate::metadata::Metadata;
use crate::page_events::{FaultCounts, FirstTouch, PageEvents};
use crate::process_timeline::KernelTimeline;
use crate::results::{Defect, Frame};

/// Address spaces, and the events that are still to come.
#[derive(Debug)]
pub(crate) struct KernelStates<'t, 'b> {
    timeline: KernelTimeline<'t, 'b>,
    shift: PageShift,
    /// By index of the process.
    processes: Vec<KernelProcess>,
    copies: Copies,
}

#[derive(Debug, Default)]
struct KernelProcess {
    /// `None` before the first event and after the end.
    space: Option<AddressSpace>,
    tally: AgreementTally,
    /// First touches at the shown moment, once taken down.
    shown: Option<Vec<(TouchSite, u64)>>,
    result: Option<PageEvents>,
}

impl<'t, 'b> KernelStates<'t, 'b> {
    pub(crate) fn new(trace: &'t Trace<'b>, metadata: &Metadata) -> KernelStates<'t, 'b> {
        KernelStates { timeline: KernelTimeline::new(trace), ..KernelStates::idle(trace, metadata) }
    }

    /// Follows none of the kernel's events.
    pub(crate) fn idle(trace: &'t Trace<'b>, metadata: &Metadata) -> KernelStates<'t, 'b> {
        let processes = metadata.processes.iter().map(|_| KernelProcess::default()).collect();
        let (timeline, shift) = (KernelTimeline::empty(trace), metadata.kernel_shift(trace));
        KernelStates { timeline, shift, processes, copies: Copies::new(metadata) }
    }

    /// When the next event is due; the end of time after the last.
    pub(crate) fn next_time(&self) -> TraceNanos {
        self.timeline.next_time().unwrap_or(TraceNanos(u64::MAX))
    }

    /// Takes over all events up to this time, and those of the time itself.
    pub(crate) fn run_until(&mut self, time: TraceNanos, metadata: &Metadata) {
        while self.timeline.next_time().is_some_and(|next| next <= time) {
            let Some((process, event)) = self.timeline.next() else { return };
            self.apply(process, &event, metadata);
        }
    }

    /// The address space of a process, `None` where no source of page events was active for it.
    pub(crate) fn space(&self, process: usize) -> Option<&AddressSpace> {
        self.processes.get(process)?.space.as_ref()
    }

    /// The recording attached to a process now: from what it has the prediction goes on.
    pub(crate) fn attach(&mut self, process: usize, snapshot: &Snapshot, metadata: &Metadata) {
        if snapshot.page_bytes != self.shift.bytes() || !metadata.has_page_events() {
            return;
        }
        let KernelProcess { space, tally, .. } = &mut self.processes[process];
        let found = AddressSpace::attached(self.shift, snapshot, metadata);
        tally.begin(snapshot, &found);
        *space = Some(found);
    }

    /// Compares the prediction with a snapshot of now.
    pub(crate) fn compare(&mut self, process: usize, snapshot: &Snapshot) {
        let KernelProcess { space, tally, .. } = &mut self.processes[process];
        if let Some(space) = space {
            tally.add(snapshot, space, self.shift);
        }
    }

    /// The shown moment is now.
    pub(crate) fn capture(&mut self) {
        self.processes.iter_mut().for_each(KernelProcess::capture);
    }

    /// A process ends: its pages go.
    pub(crate) fn end(&mut self, process: usize, metadata: &Metadata) {
        let id = metadata.processes[process].process.id;
        self.copies.give_back(process);
        self.processes[process].end(id, self.shift, metadata);
    }

    /// What was found of each process that had page events and has ended, and what could not be read.
    pub(crate) fn finish(self) -> (Vec<Option<PageEvents>>, Vec<Defect>) {
        let mut defects = self.timeline.into_defects();
        defects.extend(self.copies.defect());
        (self.processes.into_iter().map(|process| process.result).collect(), defects)
    }

    fn apply(&mut self, process: ProcessId, event: &KernelEvent, metadata: &Metadata) {
        // Every process with a chunk has an index.
        let Some(index) = metadata.index(process) else { return };
        if let KernelEventKind::Fork { parent } = event.kind {
            let parent = metadata.index(parent).filter(|&parent| parent != index);
            if let Some(parent) = parent.and_then(|parent| self.processes[parent].space.as_ref())
                && self.copies.take(index, parent.heap_bytes())
            {
                self.processes[index].space = Some(parent.forked());
            }
        }
        let shift = self.shift;
        let space = &mut self.processes[index].space;
        space.get_or_insert_with(|| AddressSpace::new(shift, metadata.machine.as_ref())).apply(event, metadata);
    }
}

impl KernelProcess {
    fn capture(&mut self) {
        let touches = |space: &AddressSpace| space.pages_by_site().collect();
        self.shown.get_or_insert_with(|| self.space.as_ref().map(touches).unwrap_or_default());
    }

    /// A damaged trace may have events behind the end: they are not counted.
    fn end(&mut self, id: ProcessId, shift: PageShift, metadata: &Metadata) {
        self.capture();
        let Some(space) = self.space.take() else { return };
        let touched = self.shown.take().unwrap_or_default();
        let counts = space.counts();
        let mut faults = FaultCounts {
            instruction_only: counts.instruction_only,
            unknown: counts.unknown,
            ..FaultCounts::default()
        };
        for (&stack, count) in &counts.by_stack {
            match metadata.stack_end(id, stack) {
                StackEnd::ThreadStart => faults.full += count,
                _ => faults.cut += count,
            }
        }
        let mut first_touches: Vec<FirstTouch> = touched
            .into_iter()
            .map(|(site, pages)| FirstTouch { site, frames: frames_of(&site, id, metadata), pages })
            .collect();
        first_touches.sort_unstable_by_key(|touch| (Reverse(touch.pages), touch.site));
        self.result.get_or_insert(PageEvents {
            agreement: std::mem::take(&mut self.tally).finish(),
            faults,
            calls: counts.calls.iter().map(|(call, &count)| (call.name(), count)).collect(),
            first_touches,
            page_bytes: shift.bytes(),
        });
    }
}

/// The frames of a site, or else its instruction. A parent's stacks are not those of a child: of what was touched before
/// a fork the instruction is left. Instructions of the kernel are none of the program's.
pub(crate) fn frames_of(site: &TouchSite, id: ProcessId, metadata: &Metadata) -> Vec<Frame> {
    let frames = if site.stack == StackId::UNKNOWN { Vec::new() } else { metadata.frames(id, site.stack) };
    if !frames.is_empty() || site.instruction.0 == 0 || site.cause != TouchCause::Fault {
        return frames;
    }
    // Frames are return addresses, which lie behind what they are about.
    let address = Address(site.instruction.0.saturating_add(1));
    vec![Frame { address, module: metadata.module_of(id, address) }]
}
