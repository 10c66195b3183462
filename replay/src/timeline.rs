//! Merges the streams of a trace by time: one open chunk per live stream, whatever the length of the trace.
//!
//! The stream with the smallest next time delivers its events until another one is due; at equal times the chunk that
//! comes first in the file goes first. Within a stream the order is that of the file, also where times go back.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashMap;
use pagetrace_format::{Event, EventCursor, ObjectId, StreamId, Trace};

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

#[derive(Debug)]
struct OpenChunk {
    cursor: EventCursor,
    chunk: u32,
    /// The event that is due, read ahead.
    event: Event,
    delivered: u32,
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
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "a loop over it has to look at the timeline in between")]
    pub fn next(&mut self) -> Option<(usize, Event)> {
        self.next_with_id().map(|(slot, event, _)| (slot, event))
    }

    /// As [`Timeline::next`], with the id of the object where the trace has one.
    #[inline]
    pub fn next_with_id(&mut self) -> Option<(usize, Event, Option<ObjectId>)> {
        if self.current.is_none() {
            self.take_turn();
        }
        let Current { stream, until } = self.current?;
        let open = self.streams[stream as usize].open.as_mut()?;
        let event = open.event;
        // The event was the last that the cursor read.
        let id = open.cursor.object_id();
        open.delivered += 1;
        match open.cursor.next_event() {
            Ok(Some(next)) => {
                open.event = next;
                if (next.time.0, open.chunk) > until {
                    let due = Due { time: next.time.0, chunk: open.chunk, stream };
                    self.give_way(due);
                }
            }
            other => self.finish_chunk(stream, other.is_err()),
        }
        Some((stream as usize, event, id))
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
            Some(OpenChunk { mut cursor, .. }) => self.trace.events_into(chunk, &mut cursor).map(|()| cursor),
            None => self.trace.events(chunk),
        };
        let first = opened.and_then(|mut cursor| Ok(cursor.next_event()?.map(|event| (cursor, event))));
        match first {
            Ok(Some((cursor, event))) => {
                let open = OpenChunk { cursor, chunk: due.chunk, event, delivered: 0 };
                self.streams[due.stream as usize].open = Some(open);
                return Some(event.time.0);
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
