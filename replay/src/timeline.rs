//! Merges the streams of a trace by time: one open chunk per live stream, whatever the length of the trace.
//!
//! The stream with the smallest next time delivers its events until another one is due; at equal times the chunk that
//! comes first in the file goes first. Within a stream the order is that of the file, also where times go back.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashMap;
use pagetrace_format::{ChunkKind, Event, EventCursor, StreamId, Trace};

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

/// The stream that delivers, and when it has to give way.
#[derive(Debug)]
struct Current {
    stream: u32,
    open: OpenChunk,
    until: (u64, u32),
}

impl<'t, 'b> Timeline<'t, 'b> {
    /// Finds the chunks of each stream; reads no payload.
    #[must_use]
    pub fn new(trace: &'t Trace<'b>) -> Timeline<'t, 'b> {
        let mut streams: Vec<StreamChunks> = Vec::new();
        let mut slot_of: HashMap<StreamId, usize> = HashMap::new();
        for (index, chunk) in trace.chunks().iter().enumerate() {
            if !matches!(chunk.header.kind, ChunkKind::EVENTS | ChunkKind::PACKED_EVENTS) {
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
        if self.current.is_none() {
            self.take_turn();
        }
        let current = self.current.as_mut()?;
        let (stream, event) = (current.stream as usize, current.open.event);
        current.open.delivered += 1;
        match current.open.cursor.next_event() {
            Ok(Some(next)) => {
                current.open.event = next;
                if (next.time.0, current.open.chunk) > current.until {
                    self.give_way();
                }
            }
            other => self.finish_chunk(other.err().is_some()),
        }
        Some((stream, event))
    }

    /// Lets the stream that is due first deliver.
    #[cold]
    fn take_turn(&mut self) {
        while let Some(Reverse(due)) = self.waiting.pop() {
            let stream = &mut self.streams[due.stream as usize];
            let open = match stream.open.take() {
                Some(open) if open.chunk == due.chunk => open,
                spare => {
                    let Some(open) = self.open_chunk(due, spare.map(|open| open.cursor)) else { continue };
                    let now = Due { time: open.event.time.0, ..due };
                    // A chunk whose times go back starts later than its header's first time says.
                    if self.waiting.peek().is_some_and(|Reverse(other)| now > *other) {
                        self.streams[due.stream as usize].open = Some(open);
                        self.waiting.push(Reverse(now));
                        continue;
                    }
                    open
                }
            };
            let until = self.waiting.peek().map_or((u64::MAX, u32::MAX), |Reverse(other)| (other.time, other.chunk));
            self.current = Some(Current { stream: due.stream, open, until });
            return;
        }
    }

    /// The other stream is due: the current one waits with its chunk open.
    fn give_way(&mut self) {
        if let Some(Current { stream, open, .. }) = self.current.take() {
            self.waiting.push(Reverse(Due { time: open.event.time.0, chunk: open.chunk, stream }));
            self.streams[stream as usize].open = Some(open);
        }
    }

    #[cold]
    fn finish_chunk(&mut self, damaged: bool) {
        let Some(Current { stream, open, .. }) = self.current.take() else { return };
        if damaged {
            self.report(open.chunk, open.delivered, DefectKind::DamagedEvents);
        }
        let more = self.streams[stream as usize].next < self.streams[stream as usize].chunks.len();
        self.streams[stream as usize].open = more.then_some(open);
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

    /// Opens a chunk in the memory of the stream's last one. A damaged or empty one is stepped over.
    fn open_chunk(&mut self, due: Due, spare: Option<EventCursor>) -> Option<OpenChunk> {
        let chunk = &self.trace.chunks()[due.chunk as usize];
        let opened = match spare {
            Some(mut cursor) => self.trace.events_into(chunk, &mut cursor).map(|()| cursor),
            None => self.trace.events(chunk),
        };
        let first = opened.and_then(|mut cursor| Ok(cursor.next_event()?.map(|event| (cursor, event))));
        match first {
            Ok(Some((cursor, event))) => return Some(OpenChunk { cursor, chunk: due.chunk, event, delivered: 0 }),
            Ok(None) => {}
            Err(_) => self.report(due.chunk, 0, DefectKind::DamagedEvents),
        }
        self.wait_for_next_chunk(due.stream);
        None
    }

    fn report(&mut self, chunk: u32, delivered: u32, kind: DefectKind) {
        let chunk = &self.trace.chunks()[chunk as usize];
        let events_lost = u64::from(chunk.header.count.saturating_sub(delivered));
        self.defects.push(Defect { offset: chunk.payload_offset, kind, events_lost });
    }
}
