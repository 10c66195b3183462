//! The address spaces of all processes while the kernel's events go by.

use pagetrace_format::{KernelEvent, KernelEventKind, PageShift, ProcessId, Trace, TraceNanos};

use crate::address_space::AddressSpace;
use crate::kernel_timeline::KernelTimeline;
use crate::metadata::Metadata;
use crate::results::Defect;

/// Address spaces, and the events that are still to come.
#[derive(Debug)]
pub(crate) struct KernelStates<'t, 'b> {
    timeline: KernelTimeline<'t, 'b>,
    shift: PageShift,
    /// By index of the process; `None` before its first event.
    spaces: Vec<Option<AddressSpace>>,
}

impl<'t, 'b> KernelStates<'t, 'b> {
    pub(crate) fn new(trace: &'t Trace<'b>, metadata: &Metadata) -> KernelStates<'t, 'b> {
        let spaces = metadata.processes.iter().map(|_| None).collect();
        KernelStates { timeline: KernelTimeline::new(trace), shift: metadata.kernel_shift(trace), spaces }
    }

    /// When the next event is due, `None` after the last.
    pub(crate) fn next_time(&self) -> Option<TraceNanos> {
        self.timeline.next_time()
    }

    /// Takes over all events up to this time, and those of the time itself.
    pub(crate) fn run_until(&mut self, time: TraceNanos, metadata: &Metadata) {
        while self.next_time().is_some_and(|next| next <= time) {
            let Some((process, event)) = self.timeline.next() else { return };
            self.apply(process, &event, metadata);
        }
    }

    /// The address space of a process, `None` where no source of page events was active for it.
    pub(crate) fn space(&self, process: usize) -> Option<&AddressSpace> {
        self.spaces.get(process)?.as_ref()
    }

    /// What could not be read.
    pub(crate) fn into_defects(self) -> Vec<Defect> {
        self.timeline.into_defects()
    }

    fn apply(&mut self, process: ProcessId, event: &KernelEvent, metadata: &Metadata) {
        // Every process with a chunk has an index.
        let Some(index) = metadata.index(process) else { return };
        if let KernelEventKind::Fork { parent } = event.kind {
            let parent = metadata.index(parent).filter(|&parent| parent != index);
            let inherited = parent.and_then(|parent| self.spaces[parent].as_ref()).map(AddressSpace::forked);
            self.spaces[index] = inherited.or(self.spaces[index].take());
        }
        let shift = self.shift;
        let space = self.spaces[index].get_or_insert_with(|| AddressSpace::new(shift, metadata.machine.as_ref()));
        space.apply(event, metadata);
    }
}
