//! Events as packed words: written without allocation, inside the program that is traced.
//!
//! Every event starts with a word `w0`; all words are 64 bits, little-endian in a file:
//!
//! ```text
//! w0:  63            32 31      16 15      8 7       0
//!     | ticks since base | count    | function| kind    |
//!
//! time base     w0 · tick                    the base of the events that follow; comes first
//! page event    w0 · base address · pages; or, with 1 to 65535 pages in `count`, w0 · base address
//! object alloc  w0 · address · size · extra (high 32) and stack (low 32)
//! object free   w0 · address
//! stack         w0 · stack id · `count` return addresses, innermost first; `function` is how far it reaches
//! ```
//! `extra` is usable bytes beyond the size, capped at 2³²−1. Ticks become nanoseconds by the [`TickClock`] that a
//! packed chunk starts with; the buffers that a recorder drains leave that to the recorder.
//!
//! Example: `free(0x1000)` 5 ticks after the base is the two words `0x0000000500000005, 0x1000`.

mod packed_chunk;
#[cfg(feature = "std")]
mod packed_events;

pub use packed_chunk::{CLOCK_BYTES, PackedChunk, PackedWordsChunk};
#[cfg(feature = "std")]
pub(crate) use packed_events::PackedEvents;

use core::num::NonZeroU16;

use crate::event::{EventKind, ObjectAlloc, ObjectFree, ObjectFunction, PageRun, kind_number as number};
use crate::records::StackEnd;
use crate::units::{Address, ObjectId, PageCount, StackId, TraceNanos};

/// Words of the longest event that is not a stack.
pub const EVENT_WORDS_MAX: usize = 5;
/// Frames of the longest stack.
pub const STACK_FRAMES_MAX: usize = 255;

/// The words of a time base.
#[inline]
#[must_use]
pub const fn time_base(tick: u64) -> [u64; 2] {
    [number::TIME_BASE as u64, tick]
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

/// The words of an object that came to life and has an id.
#[inline]
#[must_use]
pub const fn object_alloc_with_id(ticks: u32, object: &ObjectAlloc, id: ObjectId) -> [u64; 5] {
    let [_, address, size, last] = object_alloc(ticks, object);
    [first_word(ticks, 0, object.function as u8, number::OBJECT_ALLOC_WITH_ID), address, size, last, id.0]
}

/// The words of an object that died.
#[inline]
#[must_use]
pub const fn object_free(ticks: u32, object: &ObjectFree) -> [u64; 2] {
    [first_word(ticks, 0, object.function as u8, number::OBJECT_FREE), object.address.0]
}

/// The words of an object that died and has an id.
#[inline]
#[must_use]
pub const fn object_free_with_id(ticks: u32, object: &ObjectFree, id: ObjectId) -> [u64; 3] {
    [first_word(ticks, 0, object.function as u8, number::OBJECT_FREE_WITH_ID), object.address.0, id.0]
}

/// The words of a page event of 1 to 65535 pages; `number` is one of [`number::PAGE_ALLOC`] and its like.
#[inline]
#[must_use]
pub const fn short_page_event(ticks: u32, number: u8, base: Address, pages: NonZeroU16) -> [u64; 2] {
    [first_word(ticks, pages.get(), 0, number), base.0]
}

/// The words of a page event of any number of pages.
#[inline]
#[must_use]
pub const fn page_event(ticks: u32, number: u8, run: &PageRun) -> [u64; 3] {
    [first_word(ticks, 0, 0, number), run.base.0, run.pages.0]
}

/// The words before the return addresses of a stack of `frames` frames.
#[inline]
#[must_use]
pub const fn stack(frames: u16, id: StackId, end: StackEnd) -> [u64; 2] {
    [first_word(0, frames, end as u8, number::STACK), id.0 as u64]
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
    /// A stack: its id, its return addresses, innermost first, and how far it reaches.
    Stack(StackId, &'w [u64], StackEnd),
}

/// Reads packed words.
#[derive(Clone, Copy, Debug, Default)]
pub struct PackedReader {
    base: Option<u64>,
    /// Zero for none.
    object_id: u64,
}

/// Words that are no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl PackedReader {
    /// The tick that events are counted from: of the last time base that was read.
    #[inline]
    #[must_use]
    pub const fn base(&self) -> Option<u64> {
        self.base
    }

    /// The id of the object of the item that was read last, where its words give one.
    #[inline]
    #[must_use]
    pub const fn object_id(&self) -> Option<ObjectId> {
        if self.object_id == 0 { None } else { Some(ObjectId(self.object_id)) }
    }

    /// Takes one item from the front of `words` and steps over it; `None` when they are used up.
    ///
    /// # Errors
    /// [`Malformed`] for a kind that is unknown, a cut event, and an event before any time base. `words` then starts with
    /// what is malformed.
    #[inline]
    pub fn next<'w>(&mut self, words: &mut &'w [u64]) -> Result<Option<PackedItem<'w>>, Malformed> {
        self.object_id = 0;
        loop {
            let Some(&first) = words.first() else { return Ok(None) };
            let ticks = first >> 32;
            let function = ObjectFunction::from_number((first >> 8) as u8);
            let all = *words;
            let word = |index: usize| all.get(index).copied().ok_or(Malformed);
            let (run_length, short_pages) = match (first >> 16) as u16 {
                0 => (3, None),
                pages => (2, Some(u64::from(pages))),
            };
            let run = || {
                let pages = PageCount(short_pages.map_or_else(|| word(2), Ok)?);
                Ok(PageRun { base: Address(word(1)?), pages })
            };
            let alloc = || {
                let (address, size, last) = (Address(word(1)?), word(2)?, word(3)?);
                let usable = size.checked_add(last >> 32).ok_or(Malformed)?;
                let stack = StackId(last as u32);
                Ok(EventKind::ObjectAlloc(ObjectAlloc { address, size, usable, stack, function }))
            };
            let free = || Ok(EventKind::ObjectFree(ObjectFree { address: Address(word(1)?), function }));
            let (kind, length) = match first as u8 {
                number::TIME_BASE => {
                    self.base = Some(word(1)?);
                    *words = &all[2..];
                    continue;
                }
                number::STACK => {
                    let end = 2 + usize::from((first >> 16) as u16);
                    let frames = all.get(2..end).ok_or(Malformed)?;
                    let id = StackId(u32::try_from(word(1)?).map_err(|_| Malformed)?);
                    *words = &all[end..];
                    return Ok(Some(PackedItem::Stack(id, frames, StackEnd::from_number((first >> 8) as u8))));
                }
                number::PAGE_ALLOC => (EventKind::PageAlloc(run()?), run_length),
                number::PAGE_FREE => (EventKind::PageFree(run()?), run_length),
                number::PAGE_SCAVENGE => (EventKind::PageScavenge(run()?), run_length),
                number::OBJECT_ALLOC => (alloc()?, 4),
                number::OBJECT_FREE => (free()?, 2),
                number::OBJECT_ALLOC_WITH_ID => {
                    self.object_id = word(4)?;
                    (alloc()?, 5)
                }
                number::OBJECT_FREE_WITH_ID => {
                    self.object_id = word(2)?;
                    (free()?, 3)
                }
                _ => return Err(Malformed),
            };
            let tick = self.base.ok_or(Malformed)?.wrapping_add(ticks);
            *words = &all[length..];
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
