//! Events as packed words: written without allocation, inside the program that is traced.
//!
//! Every event starts with a word `w0`; all words are 64 bits, little-endian in a file:
//!
//! ```text
//! w0:  63            32 31      16 15      8 7       0
//!     | ticks since base | count    | function| kind    |
//!
//! time base     w0 · tick                    the base of the events that follow; comes first
//! page event    w0 · base address · pages
//! object alloc  w0 · address · size · extra (high 32) and stack (low 32)
//! object free   w0 · address
//! stack         w0 · stack id · `count` return addresses, innermost first
//! ```
//! `extra` is usable bytes beyond the size, capped at 2³²−1. Ticks become nanoseconds by the [`TickClock`] that a
//! packed chunk starts with; the buffers that a recorder drains leave that to the recorder.
//!
//! Example: `free(0x1000)` 5 ticks after the base is the two words `0x0000000500000005, 0x1000`.

use crate::checksum::crc32;
#[cfg(feature = "std")]
use crate::event::Event;
use crate::event::{EventKind, ObjectAlloc, ObjectFree, ObjectFunction, PageRun, kind_number as number};
use crate::header::{CHUNK_HEADER_BYTES, ChunkHeader, ChunkKind, Compression};
use crate::units::{Address, PageCount, StackId, StreamId, TraceNanos};

/// The kind of a time base, which is in packed words only.
const TIME_BASE: u8 = 7;
/// Words of the longest event that is not a stack.
pub const EVENT_WORDS_MAX: usize = 4;
/// Frames of the longest stack.
pub const STACK_FRAMES_MAX: usize = 255;

/// The words of a time base.
#[inline]
#[must_use]
pub const fn time_base(tick: u64) -> [u64; 2] {
    [TIME_BASE as u64, tick]
}

/// The words of an object that came to life.
#[inline]
#[must_use]
pub const fn object_alloc(ticks: u32, object: &ObjectAlloc) -> [u64; 4] {
    let extra = object.usable.saturating_sub(object.size);
    let extra = if extra > u32::MAX as u64 { u32::MAX as u64 } else { extra };
    let first = first_word(ticks, 0, object.function as u8, number::OBJECT_ALLOC);
    [first, object.address.0, object.size, extra << 32 | object.stack.0 as u64]
}

/// The words of an object that died.
#[inline]
#[must_use]
pub const fn object_free(ticks: u32, object: &ObjectFree) -> [u64; 2] {
    [first_word(ticks, 0, object.function as u8, number::OBJECT_FREE), object.address.0]
}

/// The words of a page event; `number` is one of [`number::PAGE_ALLOC`] and its like.
#[inline]
#[must_use]
pub const fn page_event(ticks: u32, number: u8, run: &PageRun) -> [u64; 3] {
    [first_word(ticks, 0, 0, number), run.base.0, run.pages.0]
}

/// The words before the return addresses of a stack of `frames` frames.
#[inline]
#[must_use]
pub const fn stack(frames: u16, id: StackId) -> [u64; 2] {
    [first_word(0, frames, 0, number::STACK), id.0 as u64]
}

#[inline]
const fn first_word(ticks: u32, count: u16, function: u8, kind: u8) -> u64 {
    (ticks as u64) << 32 | (count as u64) << 16 | (function as u64) << 8 | kind as u64
}

/// What a run of packed words says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackedItem<'w> {
    /// An event at a tick.
    Event(u64, EventKind),
    /// A stack: its id and its return addresses, innermost first.
    Stack(StackId, &'w [u64]),
}

/// Reads packed words.
#[derive(Clone, Copy, Debug, Default)]
pub struct PackedReader {
    base: Option<u64>,
}

/// Words that are no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl PackedReader {
    /// Takes one item from the front of `words` and steps over it; `None` when they are used up.
    ///
    /// # Errors
    /// [`Malformed`] for a kind that is unknown, a cut event, and an event before any time base.
    #[inline]
    pub fn next<'w>(&mut self, words: &mut &'w [u64]) -> Result<Option<PackedItem<'w>>, Malformed> {
        loop {
            let Some(&first) = words.first() else { return Ok(None) };
            let ticks = first >> 32;
            let function = ObjectFunction::from_number((first >> 8) as u8);
            let all = *words;
            let word = |index: usize| all.get(index).copied().ok_or(Malformed);
            let run = || Ok(PageRun { base: Address(word(1)?), pages: PageCount(word(2)?) });
            let (kind, length) = match first as u8 {
                TIME_BASE => {
                    self.base = Some(word(1)?);
                    *words = &all[2..];
                    continue;
                }
                number::STACK => {
                    let end = 2 + usize::from((first >> 16) as u16);
                    let frames = all.get(2..end).ok_or(Malformed)?;
                    let id = StackId(u32::try_from(word(1)?).map_err(|_| Malformed)?);
                    *words = &all[end..];
                    return Ok(Some(PackedItem::Stack(id, frames)));
                }
                number::PAGE_ALLOC => (EventKind::PageAlloc(run()?), 3),
                number::PAGE_FREE => (EventKind::PageFree(run()?), 3),
                number::PAGE_SCAVENGE => (EventKind::PageScavenge(run()?), 3),
                number::OBJECT_ALLOC => {
                    let (address, size, last) = (Address(word(1)?), word(2)?, word(3)?);
                    let usable = size.checked_add(last >> 32).ok_or(Malformed)?;
                    let stack = StackId(last as u32);
                    (EventKind::ObjectAlloc(ObjectAlloc { address, size, usable, stack, function }), 4)
                }
                number::OBJECT_FREE => (EventKind::ObjectFree(ObjectFree { address: Address(word(1)?), function }), 2),
                _ => return Err(Malformed),
            };
            *words = &all[length..];
            let tick = self.base.ok_or(Malformed)?.wrapping_add(ticks);
            return Ok(Some(PackedItem::Event(tick, kind)));
        }
    }
}

/// Turns ticks into nanoseconds: `base_ns + (tick − base_tick) × mult / 2^shift`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TickClock {
    /// A tick…
    pub base_tick: u64,
    /// …and the time it stands for.
    pub base: TraceNanos,
    /// Nanoseconds a tick, times 2^`shift`.
    pub mult: u32,
    /// Binary fraction digits of `mult`, at most 63.
    pub shift: u32,
}

impl TickClock {
    /// A clock whose ticks are nanoseconds of `CLOCK_MONOTONIC`.
    pub const NANOSECONDS: TickClock = TickClock { base_tick: 0, base: TraceNanos(0), mult: 1, shift: 0 };

    /// The time of a tick, also of one before the base.
    #[must_use]
    pub const fn time_of(&self, tick: u64) -> TraceNanos {
        let ticks = tick.wrapping_sub(self.base_tick) as i64 as i128;
        let nanos = (ticks * self.mult as i128) >> (self.shift & 63);
        TraceNanos(self.base.0.wrapping_add(nanos as u64))
    }
}

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
    pub fn new(memory: &'m mut [u8], clock: TickClock) -> Option<PackedChunk<'m>> {
        let used = CHUNK_HEADER_BYTES + CLOCK_BYTES;
        if memory.len() < used + 8 * (2 + EVENT_WORDS_MAX) {
            return None;
        }
        let fields = &mut memory[CHUNK_HEADER_BYTES..used];
        fields[..8].copy_from_slice(&clock.base_tick.to_le_bytes());
        fields[8..16].copy_from_slice(&clock.base.0.to_le_bytes());
        fields[16..20].copy_from_slice(&clock.mult.to_le_bytes());
        fields[20..24].copy_from_slice(&clock.shift.to_le_bytes());
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
            EventKind::PageAlloc(run) => self.put(&page_event(ticks, number::PAGE_ALLOC, run)),
            EventKind::PageFree(run) => self.put(&page_event(ticks, number::PAGE_FREE, run)),
            EventKind::PageScavenge(run) => self.put(&page_event(ticks, number::PAGE_SCAVENGE, run)),
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
        let payload = &self.memory[CHUNK_HEADER_BYTES..self.used];
        let header = ChunkHeader {
            kind: ChunkKind::PACKED_EVENTS,
            compression: Compression::None,
            stream,
            count: self.count,
            first: self.clock.time_of(self.first.min(self.last)),
            last: self.clock.time_of(self.last),
            stored_bytes: payload.len() as u32,
            raw_bytes: payload.len() as u32,
            payload_crc: crc32(payload),
        };
        self.memory[..CHUNK_HEADER_BYTES].copy_from_slice(&header.encode());
        &self.memory[..self.used]
    }

    fn put(&mut self, words: &[u64]) {
        for word in words {
            self.memory[self.used..self.used + 8].copy_from_slice(&word.to_le_bytes());
            self.used += 8;
        }
    }
}

/// Where the next event of a packed chunk's payload is.
#[cfg(feature = "std")]
#[derive(Clone, Debug, Default)]
pub(crate) struct PackedEvents {
    clock: Option<TickClock>,
    words: Vec<u64>,
    at: usize,
    reader: PackedReader,
}

#[cfg(feature = "std")]
impl PackedEvents {
    pub(crate) fn open(payload: &[u8]) -> Option<PackedEvents> {
        let (fields, words) = payload.split_at_checked(CLOCK_BYTES)?;
        let long = |offset: usize| u64::from_le_bytes(fields[offset..offset + 8].try_into().unwrap_or_default());
        let clock = TickClock {
            base_tick: long(0),
            base: TraceNanos(long(8)),
            mult: long(16) as u32,
            shift: (long(16) >> 32) as u32,
        };
        let words = words.chunks(8).map(|word| word.try_into().map(u64::from_le_bytes)).collect::<Result<Vec<_>, _>>();
        Some(PackedEvents { clock: Some(clock), words: words.ok()?, at: 0, reader: PackedReader::default() })
    }

    pub(crate) fn next(&mut self, _payload: &[u8]) -> Result<Option<Event>, Malformed> {
        let clock = self.clock.ok_or(Malformed)?;
        loop {
            let mut rest = &self.words[self.at..];
            let item = self.reader.next(&mut rest);
            let at = self.words.len() - rest.len();
            match item {
                Ok(Some(PackedItem::Event(tick, kind))) => {
                    self.at = at;
                    return Ok(Some(Event { time: clock.time_of(tick), kind }));
                }
                Ok(Some(PackedItem::Stack(..))) => self.at = at,
                Ok(None) => return Ok(None),
                Err(malformed) => {
                    self.at = self.words.len();
                    return Err(malformed);
                }
            }
        }
    }
}
