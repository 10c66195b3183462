//! The events of all streams of a trace in one order: by time, then by place in the file. One cursor a stream is
//! open at a time, so memory follows the number of streams that live at once.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use pagetrace_format::{ChunkKind, Event, EventCursor, StreamId, Trace};

/// Walks the events of a trace.
pub struct MergedEvents<'t, 'a> {
    trace: &'t Trace<'a>,
    streams: Vec<StreamEvents>,
    /// The stream with the earliest next event first: its time, the place of its chunk, its index.
    heap: BinaryHeap<Reverse<(u64, usize, usize)>>,
    damaged_chunks: u64,
}

struct StreamEvents {
    id: StreamId,
    /// Places of the chunks not opened yet.
    chunks: VecDeque<usize>,
    open: Option<(usize, EventCursor)>,
    next: Option<Event>,
}

impl<'t, 'a> MergedEvents<'t, 'a> {
    /// Starts before the first event.
    pub fn new(trace: &'t Trace<'a>) -> MergedEvents<'t, 'a> {
        let mut chunks: BTreeMap<StreamId, VecDeque<usize>> = BTreeMap::new();
        for (place, chunk) in trace.chunks().iter().enumerate() {
            if matches!(chunk.header.kind, ChunkKind::EVENTS | ChunkKind::PACKED_EVENTS) {
                chunks.entry(chunk.header.stream).or_default().push_back(place);
            }
        }
        let streams = chunks.into_iter().map(|(id, chunks)| StreamEvents { id, chunks, open: None, next: None });
        let mut merged = MergedEvents { trace, streams: streams.collect(), heap: BinaryHeap::new(), damaged_chunks: 0 };
        (0..merged.streams.len()).for_each(|index| merged.wait_for_chunk(index));
        merged
    }

    /// The next event and its stream, `None` after the last. Damaged chunks are left out and counted.
    pub fn next_event(&mut self) -> Option<(StreamId, Event)> {
        loop {
            let Reverse((_, _, index)) = self.heap.pop()?;
            let event = self.streams[index].next.take();
            self.advance(index);
            if let Some(event) = event {
                return Some((self.streams[index].id, event));
            }
        }
    }

    /// How many chunks were damaged, wholly or from some event on.
    pub fn damaged_chunks(&self) -> u64 {
        self.damaged_chunks
    }

    /// Puts a stream whose chunk is used up in the queue, at the time its next chunk starts.
    fn wait_for_chunk(&mut self, index: usize) {
        if let Some(&place) = self.streams[index].chunks.front() {
            self.heap.push(Reverse((self.trace.chunks()[place].header.first.0, place, index)));
        }
    }

    /// Reads the next event of the open chunk, opening the chunk that was waited for if none is.
    fn advance(&mut self, index: usize) {
        let stream = &mut self.streams[index];
        if stream.open.is_none() {
            let Some(place) = stream.chunks.pop_front() else { return };
            match self.trace.events(&self.trace.chunks()[place]) {
                Ok(cursor) => stream.open = Some((place, cursor)),
                Err(_) => {
                    self.damaged_chunks += 1;
                    return self.wait_for_chunk(index);
                }
            }
        }
        let Some((place, cursor)) = &mut stream.open else { return };
        match cursor.next_event() {
            Ok(Some(event)) => {
                stream.next = Some(event);
                self.heap.push(Reverse((event.time.0, *place, index)));
            }
            ended => {
                self.damaged_chunks += u64::from(ended.is_err());
                stream.open = None;
                self.wait_for_chunk(index);
            }
        }
    }
}
