//! Chunks of packed events, built in memory that the caller owns.

use core::num::NonZeroU16;

use super::{
    EVENT_WORDS_MAX, PackedItem, PackedReader, TickClock, object_alloc, object_free, page_event, short_page_event,
    time_base,
};
use crate::checksum::crc32;
use crate::event::{EventKind, PageRun, kind_number as number};
use crate::header::{CHUNK_HEADER_BYTES, ChunkHeader, ChunkKind, Compression, PAYLOAD_BYTES_MAX};
use crate::units::{StreamId, TraceNanos};

/// Bytes of the clock in front of the words of a packed chunk.
pub const CLOCK_BYTES: usize = 24;

/// Builds one chunk of packed events in memory that the caller owns.
///
/// ```
/// use pagetrace_format::encode::{PackedChunk, TickClock};
/// use pagetrace_format::{Address, EventKind, PageCount, PageRun, StreamId};
/// let mut memory = [0; 256];
/// let mut chunk = PackedChunk::new(&mut memory, TickClock::NANOSECONDS).unwrap();
/// let run = PageRun { base: Address(0x10000), pages: PageCount(4) };
/// assert!(chunk.push(17, &EventKind::PageAlloc(run)));
/// let bytes = chunk.finish(StreamId(1));
/// assert_eq!(&bytes[..4], b"PGCK");
/// ```
#[derive(Debug)]
pub struct PackedChunk<'m> {
    memory: &'m mut [u8],
    clock: TickClock,
    used: usize,
    base: u64,
    count: u32,
    first: u64,
    last: u64,
}

impl<'m> PackedChunk<'m> {
    /// Starts a chunk. `None` where the memory does not hold a header, a clock and one event.
    #[must_use]
    pub fn new(memory: &'m mut [u8], clock: TickClock) -> Option<PackedChunk<'m>> {
        let used = CHUNK_HEADER_BYTES + CLOCK_BYTES;
        if memory.len() < used + 8 * (2 + EVENT_WORDS_MAX) {
            return None;
        }
        memory[CHUNK_HEADER_BYTES..used].copy_from_slice(&clock_bytes(&clock));
        Some(PackedChunk { memory, clock, used, base: 0, count: 0, first: u64::MAX, last: 0 })
    }

    /// Appends an event. `false`, and nothing appended, when the memory is full.
    #[must_use]
    pub fn push(&mut self, tick: u64, kind: &EventKind) -> bool {
        if self.memory.len() - self.used < 8 * (2 + EVENT_WORDS_MAX) {
            return false;
        }
        let since_base = tick.checked_sub(self.base).and_then(|ticks| u32::try_from(ticks).ok());
        let ticks = match since_base {
            Some(ticks) if self.count > 0 => ticks,
            _ => {
                self.base = tick;
                self.put(&time_base(tick));
                0
            }
        };
        match kind {
            EventKind::PageAlloc(run) => self.put_run(ticks, number::PAGE_ALLOC, run),
            EventKind::PageFree(run) => self.put_run(ticks, number::PAGE_FREE, run),
            EventKind::PageScavenge(run) => self.put_run(ticks, number::PAGE_SCAVENGE, run),
            EventKind::ObjectAlloc(object) => self.put(&object_alloc(ticks, object)),
            EventKind::ObjectFree(object) => self.put(&object_free(ticks, object)),
            EventKind::TimeSync => return true,
        }
        self.count += 1;
        self.first = self.first.min(tick);
        self.last = self.last.max(tick);
        true
    }

    /// Writes the header in front and gives the whole chunk.
    #[must_use]
    pub fn finish(self, stream: StreamId) -> &'m [u8] {
        let PackedChunk { memory, clock, used, count, first, last, .. } = self;
        finish(memory, used, stream, count, (clock.time_of(first.min(last)), clock.time_of(last)))
    }

    fn put_run(&mut self, ticks: u32, number: u8, run: &PageRun) {
        match u16::try_from(run.pages.0).ok().and_then(NonZeroU16::new) {
            Some(pages) => self.put(&short_page_event(ticks, number, run.base, pages)),
            None => self.put(&page_event(ticks, number, run)),
        }
    }

    fn put(&mut self, words: &[u64]) {
        for word in words {
            self.memory[self.used..self.used + 8].copy_from_slice(&word.to_le_bytes());
            self.used += 8;
        }
    }
}

/// Builds one chunk of packed events from words as they are in a block, in memory that the caller owns.
///
/// ```
/// use pagetrace_format::encode::{PackedWordsChunk, TickClock, object_free, time_base};
/// use pagetrace_format::{Address, ObjectFree, ObjectFunction, StreamId};
/// let free = ObjectFree { address: Address(0x1000), function: ObjectFunction::Plain };
/// let words = [time_base(12), object_free(5, &free)].concat();
/// let mut memory = [0; 256];
/// let chunk = PackedWordsChunk::new(&mut memory, TickClock::NANOSECONDS, &words).unwrap();
/// assert_eq!((chunk.events(), chunk.words(), chunk.is_malformed()), (1, 4, false));
/// assert_eq!(&chunk.finish(StreamId(1))[..4], b"PGCK");
/// ```
#[derive(Debug)]
pub struct PackedWordsChunk<'m> {
    memory: &'m mut [u8],
    clock: TickClock,
    words: usize,
    malformed: bool,
    count: u32,
    first: u64,
    last: u64,
}

impl<'m> PackedWordsChunk<'m> {
    /// Copies `words`, which start with a time base, up to the first that is no event. `None` where the memory does
    /// not hold all of them behind a header and a clock, or a chunk may not.
    #[must_use]
    pub fn new(memory: &'m mut [u8], clock: TickClock, words: &[u64]) -> Option<PackedWordsChunk<'m>> {
        let payload_bytes = words.len().checked_mul(8)?.checked_add(CLOCK_BYTES)?;
        if payload_bytes > PAYLOAD_BYTES_MAX {
            return None;
        }
        let (clock_place, words_place) =
            memory.get_mut(CHUNK_HEADER_BYTES..CHUNK_HEADER_BYTES + payload_bytes)?.split_at_mut(CLOCK_BYTES);
        clock_place.copy_from_slice(&clock_bytes(&clock));
        let mut reader = PackedReader::default();
        let mut rest = words;
        let (mut count, mut first, mut last) = (0, u64::MAX, 0);
        let malformed = loop {
            match reader.next(&mut rest) {
                Ok(Some(PackedItem::Event(tick, _))) => {
                    count += 1;
                    first = first.min(tick);
                    last = last.max(tick);
                }
                Ok(Some(PackedItem::Stack(..))) => {}
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        let taken = &words[..words.len() - rest.len()];
        for (place, word) in words_place.chunks_exact_mut(8).zip(taken) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        Some(PackedWordsChunk { memory, clock, words: taken.len(), malformed, count, first, last })
    }

    /// How many events it holds; stacks are none.
    #[must_use]
    pub fn events(&self) -> u32 {
        self.count
    }

    /// How many of the words it holds: all, or those in front of one that is no event.
    #[must_use]
    pub fn words(&self) -> usize {
        self.words
    }

    /// Whether words were left out, as they are no event.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        self.malformed
    }

    /// Writes the header in front and gives the whole chunk.
    #[must_use]
    pub fn finish(self, stream: StreamId) -> &'m [u8] {
        let PackedWordsChunk { memory, clock, words, count, first, last, .. } = self;
        let used = CHUNK_HEADER_BYTES + CLOCK_BYTES + 8 * words;
        finish(memory, used, stream, count, (clock.time_of(first.min(last)), clock.time_of(last)))
    }
}

fn clock_bytes(clock: &TickClock) -> [u8; CLOCK_BYTES] {
    let mut bytes = [0; CLOCK_BYTES];
    bytes[..8].copy_from_slice(&clock.base_tick.to_le_bytes());
    bytes[8..16].copy_from_slice(&clock.base.0.to_le_bytes());
    bytes[16..20].copy_from_slice(&clock.mult.to_le_bytes());
    bytes[20..24].copy_from_slice(&clock.shift.to_le_bytes());
    bytes
}

fn finish(
    memory: &mut [u8],
    used: usize,
    stream: StreamId,
    count: u32,
    (first, last): (TraceNanos, TraceNanos),
) -> &[u8] {
    let payload = &memory[CHUNK_HEADER_BYTES..used];
    let header = ChunkHeader {
        kind: ChunkKind::PACKED_EVENTS,
        compression: Compression::None,
        stream,
        count,
        first,
        last,
        stored_bytes: payload.len() as u32,
        raw_bytes: payload.len() as u32,
        payload_crc: crc32(payload),
    };
    memory[..CHUNK_HEADER_BYTES].copy_from_slice(&header.encode());
    &memory[..used]
}
