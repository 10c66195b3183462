//! Merges what is one series a process by time: what the kernel said of it, and who accessed its memory. One chunk of each
//! process is open, whatever the length of the trace.
//!
//! Within a process the order is that of the file. At equal times the chunk that comes first in the file goes first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use hashbrown::HashMap;
use pagetrace_format::access::AccessCursor;
use pagetrace_format::kernel_columns::KernelCursor;
use pagetrace_format::{Access, Chunk, ChunkKind, FormatError, KernelEvent, PageShift, ProcessId, Trace, TraceNanos};

use crate::results::{Defect, DefectKind};

/// The kernel events of a trace in the order in which they took effect.
pub type KernelTimeline<'t, 'b> = ProcessTimeline<'t, 'b, KernelEvents>;

/// The accesses of a trace, each at the time at which it was known: all of an epoch at its end.
pub type AccessTimeline<'t, 'b> = ProcessTimeline<'t, 'b, Accesses>;

/// A kind of chunks of which each process has a series.
pub trait Series: Sized {
    /// What is in them.
    type Item: Copy + std::fmt::Debug;

    /// The kind of the chunks.
    const KIND: ChunkKind;

    /// Opens a chunk.
    ///
    /// # Errors
    /// Where it is damaged.
    fn open(trace: &Trace<'_>, chunk: &Chunk) -> Result<Self, FormatError>;

    /// The next item and its time, `None` after the last.
    ///
    /// # Errors
    /// Where the rest is damaged.
    fn next_item(&mut self) -> Result<Option<(TraceNanos, Self::Item)>, FormatError>;
}

/// Chunks of what the kernel said.
#[derive(Debug)]
pub struct KernelEvents(KernelCursor);

impl Series for KernelEvents {
    type Item = KernelEvent;

    const KIND: ChunkKind = ChunkKind::KERNEL_EVENTS;

    fn open(trace: &Trace<'_>, chunk: &Chunk) -> Result<KernelEvents, FormatError> {
        trace.kernel_events(chunk).map(KernelEvents)
    }

    fn next_item(&mut self) -> Result<Option<(TraceNanos, KernelEvent)>, FormatError> {
        Ok(self.0.next_event()?.map(|event| (event.time, event)))
    }
}

/// Chunks of accesses.
#[derive(Debug)]
pub struct Accesses {
    cursor: AccessCursor,
    time: TraceNanos,
}

impl Series for Accesses {
    /// With the size of the pages.
    type Item = (PageShift, Access);

    const KIND: ChunkKind = ChunkKind::ACCESSES;

    fn open(trace: &Trace<'_>, chunk: &Chunk) -> Result<Accesses, FormatError> {
        Ok(Accesses { cursor: trace.accesses(chunk)?, time: chunk.header.first })
    }

    fn next_item(&mut self) -> Result<Option<(TraceNanos, Self::Item)>, FormatError> {
        let Some(access) = self.cursor.next_access()? else { return Ok(None) };
        self.time = match access {
            Access::Epoch(epoch) => epoch.end,
            Access::Watched(access) => access.time,
            _ => self.time,
        };
        Ok(Some((self.time, (self.cursor.page_shift(), access))))
    }
}

/// The chunks of one kind of all processes, their items in the order of time.
#[derive(Debug)]
pub struct ProcessTimeline<'t, 'b, S: Series> {
    trace: &'t Trace<'b>,
    processes: Vec<ProcessChunks<S>>,
    waiting: BinaryHeap<Reverse<Due>>,
    defects: Vec<Defect>,
}

#[derive(Debug)]
struct ProcessChunks<S: Series> {
    id: ProcessId,
    chunks: Vec<u32>,
    next: usize,
    open: Option<OpenChunk<S>>,
}

#[derive(Debug)]
struct OpenChunk<S: Series> {
    series: S,
    chunk: u32,
    /// The item that is due, read ahead.
    item: S::Item,
    delivered: u32,
}

/// When a process is due: a time, and the chunk for the order at equal times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    time: TraceNanos,
    chunk: u32,
    slot: u32,
}

impl<'t, 'b, S: Series> ProcessTimeline<'t, 'b, S> {
    /// Finds the chunks of each process and reads the first item of each.
    #[must_use]
    pub fn new(trace: &'t Trace<'b>) -> ProcessTimeline<'t, 'b, S> {
        let mut processes: Vec<ProcessChunks<S>> = Vec::new();
        let mut slot_of: HashMap<ProcessId, usize> = HashMap::new();
        for (index, chunk) in trace.chunks().iter().enumerate() {
            if chunk.header.kind != S::KIND {
                continue;
            }
            let id = ProcessId(chunk.header.stream.0);
            let slot = *slot_of.entry(id).or_insert_with(|| {
                processes.push(ProcessChunks { id, chunks: Vec::new(), next: 0, open: None });
                processes.len() - 1
            });
            processes[slot].chunks.push(index as u32);
        }
        let mut timeline = ProcessTimeline { trace, processes, waiting: BinaryHeap::new(), defects: Vec::new() };
        for slot in 0..timeline.processes.len() as u32 {
            if let Some(due) = timeline.next_chunk(slot) {
                timeline.waiting.push(Reverse(due));
            }
        }
        timeline
    }

    /// Without any chunk.
    pub(crate) fn empty(trace: &'t Trace<'b>) -> ProcessTimeline<'t, 'b, S> {
        ProcessTimeline { trace, processes: Vec::new(), waiting: BinaryHeap::new(), defects: Vec::new() }
    }

    /// The time of the item that [`ProcessTimeline::next`] gives, `None` after the last.
    #[must_use]
    pub fn next_time(&self) -> Option<TraceNanos> {
        self.waiting.peek().map(|Reverse(due)| due.time)
    }

    /// The next item and its process, `None` after the last.
    #[expect(clippy::should_implement_trait, reason = "a loop over it has to look at the timeline in between")]
    pub fn next(&mut self) -> Option<(ProcessId, S::Item)> {
        let Reverse(due) = *self.waiting.peek()?;
        let process = &mut self.processes[due.slot as usize];
        let id = process.id;
        // A chunk that waits is open.
        let open = process.open.as_mut()?;
        let item = open.item;
        open.delivered += 1;
        let next = match open.series.next_item() {
            Ok(Some((time, next))) => {
                open.item = next;
                Some(Due { time, ..due })
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
        Some((id, item))
    }

    /// What could not be read so far.
    #[must_use]
    pub fn into_defects(self) -> Vec<Defect> {
        self.defects
    }

    /// Opens the next chunk of a process that has an item. A damaged or empty chunk is stepped over.
    fn next_chunk(&mut self, slot: u32) -> Option<Due> {
        loop {
            let process = &mut self.processes[slot as usize];
            process.open = None;
            let chunk = *process.chunks.get(process.next)?;
            process.next += 1;
            let opened = S::open(self.trace, &self.trace.chunks()[chunk as usize]);
            match opened.and_then(|mut series| Ok(series.next_item()?.map(|item| (series, item)))) {
                Ok(Some((series, (time, item)))) => {
                    process.open = Some(OpenChunk { series, chunk, item, delivered: 0 });
                    return Some(Due { time, chunk, slot });
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
