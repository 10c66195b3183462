//! Merges the streams of a trace by time: one open chunk per live stream, whatever the length of the trace.
//!
//! The stream with the smallest next time delivers its events until another one is due; at equal times the chunk that
//! comes first in the file goes first. Within a stream the order is that of the file, also where times go back.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashMap;
use pagetrace_format::{Event, EventBatch, ObjectId, StreamId, Trace};

use crate::merged_event::MergedEvent;
use crate::open_chunk::OpenChunk;
use crate::results::{Defect, DefectKind};

/// The events of a trace in the order in which they happened.
#[derive(Debug)]
pub struct Timeline<'t, 'b> {
    trace: &'t Trace<'b>,
    streams: Vec<StreamChunks>,
    waiting: BinaryHeap<Reverse<Due>>,
    current: Option<Current>,
    defects: Vec<Defect>,
}

#[derive(Debug)]
struct StreamChunks {
    id: StreamId,
    chunks: Vec<u32>,
    next: usize,
    open: Option<OpenChunk>,
}

/// When a stream is due: a time, and the chunk for the order at equal times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    time: u64,
    chunk: u32,
    stream: u32,
}

/// The stream that delivers, with its chunk open, and when it has to give way.
#[derive(Clone, Copy, Debug)]
struct Current {
    stream: u32,
    until: (u64, u32),
}

impl<'t, 'b> Timeline<'t, 'b> {
    /// Finds the chunks of each stream; reads no payload.
    #[must_use]
    pub fn new(trace: &'t Trace<'b>) -> Timeline<'t, 'b> {
        let mut streams: Vec<StreamChunks> = Vec::new();
        let mut slot_of: HashMap<StreamId, usize> = HashMap::new();
        for (index, chunk) in trace.chunks().iter().enumerate() {
            if !chunk.header.kind.has_events() {
                continue;
            }
            let id = chunk.header.stream;
            let slot = *slot_of.entry(id).or_insert_with(|| {
                streams.push(StreamChunks { id, chunks: Vec::new(), next: 0, open: None });
                streams.len() - 1
            });
            streams[slot].chunks.push(index as u32);
        }
        let mut timeline = Timeline { trace, streams, waiting: BinaryHeap::new(), current: None, defects: Vec::new() };
        for stream in 0..timeline.streams.len() {
            timeline.wait_for_next_chunk(stream as u32);
        }
        timeline
    }

    /// The streams, by the slots that [`Timeline::next`] gives.
    pub fn streams(&self) -> impl Iterator<Item = StreamId> {
        self.streams.iter().map(|stream| stream.id)
    }

    /// What could not be read so far.
    #[must_use]
    pub fn into_defects(self) -> Vec<Defect> {
        self.defects
    }

    /// The next event and the slot of its stream, `None` after the last.
    #[expect(clippy::should_implement_trait, reason = "a loop over it has to look at the timeline in between")]
    pub fn next(&mut self) -> Option<(usize, Event)> {
        self.next_with_id().map(|(slot, event, _)| (slot, event))
    }

    /// As [`Timeline::next`], with the id of the object where the trace has one.
    pub fn next_with_id(&mut self) -> Option<(usize, Event, Option<ObjectId>)> {
        let Current { stream, until } = self.turn()?;
        let open = self.streams[stream as usize].open.as_mut()?;
        let (event, id) = (open.decoded.event(open.at), open.decoded.object_id(open.at));
        open.at += 1;
        open.delivered += 1;
        self.settle(stream, until);
        Some((stream as usize, event, id))
    }

    /// Appends the next events, until there are `max` of them or no more. Each gets the owner of its stream's slot.
    pub(crate) fn fill(&mut self, merged: &mut Vec<MergedEvent>, max: usize, owners: &[u32]) {
        while merged.len() < max
            && let Some(Current { stream, until }) = self.turn()
            && let Some(open) = &mut self.streams[stream as usize].open
        {
            let process = owners.get(stream as usize).copied().unwrap_or(0);
            open.deliver(until, max - merged.len(), |time, columns, index| {
                merged.push(MergedEvent {
                    time,
                    address: columns.addresses[index],
                    size: columns.sizes[index],
                    usable: columns.usable[index],
                    stack: columns.stacks[index],
                    process,
                    stream,
                    kind: columns.kinds[index] & 0xf,
                });
            });
            self.settle(stream, until);
        }
    }

    /// Whose turn it is.
    #[inline]
    fn turn(&mut self) -> Option<Current> {
        if self.current.is_none() {
            self.take_turn();
        }
        self.current
    }

    /// After events of the current stream: decodes more of it, or ends its turn.
    #[inline]
    fn settle(&mut self, stream: u32, until: (u64, u32)) {
        let Some(open) = &mut self.streams[stream as usize].open else { return };
        if open.at == open.decoded.len() && !open.decode() {
            let damaged = open.damaged;
            return self.finish_chunk(stream, damaged);
        }
        let time = open.next_time();
        if (time, open.chunk) > until {
            let due = Due { time, chunk: open.chunk, stream };
            self.give_way(due);
        }
    }

    /// Lets the stream that is due first deliver.
    #[cold]
    fn take_turn(&mut self) {
        while let Some(Reverse(due)) = self.waiting.pop() {
            let now = match &self.streams[due.stream as usize].open {
                Some(open) if open.chunk == due.chunk => due,
                _ => match self.open_chunk(due) {
                    Some(time) => Due { time, ..due },
                    None => continue,
                },
            };
            // A chunk whose times go back starts later than its header's first time says.
            if self.waiting.peek().is_some_and(|Reverse(other)| now > *other) {
                self.waiting.push(Reverse(now));
                continue;
            }
            self.deliver(due.stream);
            return;
        }
    }

    fn deliver(&mut self, stream: u32) {
        let until = self.waiting.peek().map_or((u64::MAX, u32::MAX), |Reverse(other)| (other.time, other.chunk));
        self.current = Some(Current { stream, until });
    }

    /// Another stream is due: the current one waits with its chunk open.
    #[inline]
    fn give_way(&mut self, due: Due) {
        self.current = None;
        let Some(mut first) = self.waiting.peek_mut() else { return };
        let Reverse(next) = std::mem::replace(&mut *first, Reverse(due));
        drop(first);
        if self.streams[next.stream as usize].open.as_ref().is_some_and(|open| open.chunk == next.chunk) {
            self.deliver(next.stream);
        } else {
            self.waiting.push(Reverse(next));
        }
    }

    #[cold]
    fn finish_chunk(&mut self, stream: u32, damaged: bool) {
        self.current = None;
        let chunks = &mut self.streams[stream as usize];
        let more = chunks.next < chunks.chunks.len();
        if damaged && let Some(open) = &chunks.open {
            let (chunk, delivered) = (open.chunk, open.delivered);
            self.report(chunk, delivered);
        }
        if !more {
            self.streams[stream as usize].open = None;
        }
        self.wait_for_next_chunk(stream);
    }

    /// Puts a stream into the queue with its next chunk, unopened.
    fn wait_for_next_chunk(&mut self, stream: u32) {
        let chunks = &mut self.streams[stream as usize];
        if let Some(&chunk) = chunks.chunks.get(chunks.next) {
            chunks.next += 1;
            let time = self.trace.chunks()[chunk as usize].header.first.0;
            self.waiting.push(Reverse(Due { time, chunk, stream }));
        }
    }

    /// Opens a chunk in the memory of the stream's last one and gives the time of its first event. A damaged or empty
    /// chunk is stepped over.
    fn open_chunk(&mut self, due: Due) -> Option<u64> {
        let chunk = &self.trace.chunks()[due.chunk as usize];
        let spare = self.streams[due.stream as usize].open.take();
        let opened = match spare {
            Some(OpenChunk { mut cursor, decoded, .. }) => {
                self.trace.events_into(chunk, &mut cursor).map(|()| (cursor, decoded))
            }
            None => self.trace.events(chunk).map(|cursor| (cursor, EventBatch::new())),
        };
        match opened.and_then(|(cursor, decoded)| OpenChunk::open(cursor, due.chunk, decoded)) {
            Ok(Some(open)) => {
                let time = open.next_time();
                self.streams[due.stream as usize].open = Some(open);
                return Some(time);
            }
            Ok(None) => {}
            Err(_) => self.report(due.chunk, 0),
        }
        self.wait_for_next_chunk(due.stream);
        None
    }

    fn report(&mut self, chunk: u32, delivered: u32) {
        let chunk = &self.trace.chunks()[chunk as usize];
        let events_lost = u64::from(chunk.header.count.saturating_sub(delivered));
        self.defects.push(Defect { offset: chunk.payload_offset, kind: DefectKind::DamagedEvents, events_lost });
    }
}
