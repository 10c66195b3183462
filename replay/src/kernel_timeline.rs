//! Merges what the kernel said of all processes by time: one open chunk a process, whatever the length of the trace.
//!
//! Within a process the order is that of the file. At equal times the chunk that comes first in the file goes first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use hashbrown::HashMap;
use pagetrace_format::kernel_columns::KernelCursor;
use pagetrace_format::{ChunkKind, KernelEvent, ProcessId, Trace, TraceNanos};

use crate::results::{Defect, DefectKind};

/// The kernel events of a trace in the order in which they took effect.
#[derive(Debug)]
pub struct KernelTimeline<'t, 'b> {
    trace: &'t Trace<'b>,
    processes: Vec<ProcessChunks>,
    waiting: BinaryHeap<Reverse<Due>>,
    defects: Vec<Defect>,
}

#[derive(Debug)]
struct ProcessChunks {
    id: ProcessId,
    chunks: Vec<u32>,
    next: usize,
    open: Option<OpenChunk>,
}

#[derive(Debug)]
struct OpenChunk {
    cursor: KernelCursor,
    chunk: u32,
    /// The event that is due, read ahead.
    event: KernelEvent,
    delivered: u32,
}

/// When a process is due: a time, and the chunk for the order at equal times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    time: TraceNanos,
    chunk: u32,
    slot: u32,
}

impl<'t, 'b> KernelTimeline<'t, 'b> {
    /// Finds the chunks of each process and reads the first event of each.
    #[must_use]
    pub fn new(trace: &'t Trace<'b>) -> KernelTimeline<'t, 'b> {
        let mut processes: Vec<ProcessChunks> = Vec::new();
        let mut slot_of: HashMap<ProcessId, usize> = HashMap::new();
        for (index, chunk) in trace.chunks().iter().enumerate() {
            if chunk.header.kind != ChunkKind::KERNEL_EVENTS {
                continue;
            }
            let id = ProcessId(chunk.header.stream.0);
            let slot = *slot_of.entry(id).or_insert_with(|| {
                processes.push(ProcessChunks { id, chunks: Vec::new(), next: 0, open: None });
                processes.len() - 1
            });
            processes[slot].chunks.push(index as u32);
        }
        let mut timeline = KernelTimeline { trace, processes, waiting: BinaryHeap::new(), defects: Vec::new() };
        for slot in 0..timeline.processes.len() as u32 {
            if let Some(due) = timeline.next_chunk(slot) {
                timeline.waiting.push(Reverse(due));
            }
        }
        timeline
    }

    /// The time of the event that [`KernelTimeline::next`] gives, `None` after the last.
    #[must_use]
    pub fn next_time(&self) -> Option<TraceNanos> {
        self.waiting.peek().map(|Reverse(due)| due.time)
    }

    /// The next event and its process, `None` after the last.
    #[expect(clippy::should_implement_trait, reason = "a loop over it has to look at the timeline in between")]
    pub fn next(&mut self) -> Option<(ProcessId, KernelEvent)> {
        let Reverse(due) = *self.waiting.peek()?;
        let process = &mut self.processes[due.slot as usize];
        let id = process.id;
        // A chunk that waits is open.
        let open = process.open.as_mut()?;
        let event = open.event;
        open.delivered += 1;
        let next = match open.cursor.next_event() {
            Ok(Some(next)) => {
                open.event = next;
                Some(Due { time: next.time, ..due })
            }
            other => {
                if other.is_err() {
                    self.report(due.chunk, due.slot);
                }
                self.next_chunk(due.slot)
            }
        };
        if let Some(mut first) = self.waiting.peek_mut() {
            match next {
                Some(next) => *first = Reverse(next),
                None => drop(PeekMut::pop(first)),
            }
        }
        Some((id, event))
    }

    /// What could not be read so far.
    #[must_use]
    pub fn into_defects(self) -> Vec<Defect> {
        self.defects
    }

    /// Opens the next chunk of a process that has an event. A damaged or empty chunk is stepped over.
    fn next_chunk(&mut self, slot: u32) -> Option<Due> {
        loop {
            let process = &mut self.processes[slot as usize];
            process.open = None;
            let chunk = *process.chunks.get(process.next)?;
            process.next += 1;
            let opened = self.trace.kernel_events(&self.trace.chunks()[chunk as usize]);
            match opened.and_then(|mut cursor| Ok(cursor.next_event()?.map(|event| (cursor, event)))) {
                Ok(Some((cursor, event))) => {
                    process.open = Some(OpenChunk { cursor, chunk, event, delivered: 0 });
                    return Some(Due { time: event.time, chunk, slot });
                }
                Ok(None) => {}
                Err(_) => self.report(chunk, slot),
            }
        }
    }

    fn report(&mut self, chunk: u32, slot: u32) {
        let open = self.processes[slot as usize].open.as_ref().filter(|open| open.chunk == chunk);
        let chunk = &self.trace.chunks()[chunk as usize];
        let events_lost = u64::from(chunk.header.count.saturating_sub(open.map_or(0, |open| open.delivered)));
        self.defects.push(Defect { offset: chunk.payload_offset, kind: DefectKind::DamagedEvents, events_lost });
    }
}
