//! The words of Go's page traces, little-endian, 64 bits each.
//!
//! ```text
//!          63         48 47          13 12       3   2    1 0
//! page     | time delta |  base >> 13  |  pages   |large|kind|    kind: 1 alloc, 2 free, 3 scavenge
//! large    | pages, when `large` is set and the field above is 0    |
//! sync     |          time >> 7                   |  0  |  0 |
//! P        |          P id, −1 for none           |  1  |  0 |
//! ```
//! A time delta is in units of 128 ns since the last sync of the same buffer; a sync's time is in them as well.
//!
//! Example: an allocation of 4 pages at `0xc000000000`, 256 ns after the sync, is `0x0002_00c0_0000_0021`.

use crate::event::{Event, EventKind, PageRun, kind_number};
use crate::units::{Address, PageCount, TraceNanos};

/// Bytes of a word.
pub const WORD_BYTES: usize = 8;
/// Words of the buffer that each P has in Go's runtime.
pub const BUFFER_WORDS: usize = 4096;
/// The time unit of the format is two to this many nanoseconds.
pub const TIME_SHIFT: u32 = 7;
/// The largest time delta, in time units.
pub const DELTA_MAX: u64 = u16::MAX as u64;
/// Page counts from here on take a word of their own.
pub const LARGE_FROM_PAGES: u64 = 1 << 10;

const BASE_MASK: u64 = 0x0000_ffff_ffff_e000;
const LARGE: u64 = 0b100;

/// The first word of anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// A P word: this P wrote what follows.
    Processor(i64),
    /// A time sync, nanoseconds.
    Sync(u64),
    /// A time sync whose time is beyond 64 bits of nanoseconds.
    BeyondTime,
    /// A page event.
    Page(PageWord),
}

/// The first word of a page event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageWord {
    word: u64,
    /// Whether the next word is the page count.
    pub large: bool,
}

/// The number at the front of `bytes`, `None` where they are fewer than a word has.
#[inline]
#[must_use]
pub fn number(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk::<WORD_BYTES>().map(|word| u64::from_le_bytes(*word))
}

/// The word at the front of `bytes`, `None` where they are fewer than a word has.
#[inline]
#[must_use]
pub fn read(bytes: &[u8]) -> Option<Word> {
    let word = number(bytes)?;
    let large = word & LARGE != 0;
    Some(match (word & 0b11, large) {
        // The id has 61 bits; the shift of a signed number keeps −1 what it is.
        (0, true) => Word::Processor(word as i64 >> 3),
        (0, false) if word >> 3 > u64::MAX >> TIME_SHIFT => Word::BeyondTime,
        (0, false) => Word::Sync(word >> 3 << TIME_SHIFT),
        _ => Word::Page(PageWord { word, large }),
    })
}

/// Whether a P word is at the front of `bytes`.
#[inline]
#[must_use]
pub fn is_processor(bytes: &[u8]) -> bool {
    matches!(read(bytes), Some(Word::Processor(_)))
}

/// A time sync as an event.
#[inline]
#[must_use]
pub fn sync_event(time: u64) -> Event {
    Event { time: TraceNanos(time), kind: EventKind::TimeSync }
}

impl PageWord {
    /// The event, given the time of the last sync and, for a large one, the page count. `None` where its time is
    /// beyond 64 bits.
    #[inline]
    #[must_use]
    pub fn event(self, time_base: u64, large: Option<u64>) -> Option<Event> {
        let time = TraceNanos(time_base.checked_add(self.word >> 48 << TIME_SHIFT)?);
        let pages = PageCount(large.unwrap_or(self.word >> 3 & (LARGE_FROM_PAGES - 1)));
        let run = PageRun { base: Address(self.word & BASE_MASK), pages };
        let kind = match (self.word & 0b11) as u8 {
            kind_number::PAGE_ALLOC => EventKind::PageAlloc(run),
            kind_number::PAGE_FREE => EventKind::PageFree(run),
            _ => EventKind::PageScavenge(run),
        };
        Some(Event { time, kind })
    }
}

/// The P word of a P, `None` for an id of more than 61 bits.
#[must_use]
pub fn processor(id: i64) -> Option<u64> {
    let word = (id as u64) << 3;
    (word as i64 >> 3 == id).then_some(word | LARGE)
}

/// The sync word of a time, rounded down to the time unit.
#[must_use]
pub fn sync(time: TraceNanos) -> u64 {
    time.0 >> TIME_SHIFT << 3
}

/// The words of a page event: one, or two where there are many pages. `None` for an address beyond 48 bits or inside a
/// page.
#[must_use]
pub fn page(delta: u16, number: u8, run: &PageRun) -> Option<(u64, Option<u64>)> {
    if run.base.0 & !BASE_MASK != 0 {
        return None;
    }
    let first = u64::from(delta) << 48 | run.base.0 | u64::from(number);
    Some(match run.pages.0 {
        pages if pages < LARGE_FROM_PAGES => (first | pages << 3, None),
        pages => (first | LARGE, Some(pages)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_documentation() {
        let run = PageRun { base: Address(0xc0_0000_0000), pages: PageCount(4) };
        let (word, more) = page(2, kind_number::PAGE_ALLOC, &run).expect("it fits");
        assert_eq!((word, more), (0x0002_00c0_0000_0021, None));
        let Some(Word::Page(read)) = read(&word.to_le_bytes()) else { panic!("not a page event") };
        assert_eq!(read.event(1 << 20, None).map(|event| event.time), Some(TraceNanos((1 << 20) + 256)));
    }

    #[test]
    fn the_p_that_is_none_comes_back() {
        for id in [-1, 0, 7, (1 << 60) - 1, -(1 << 60)] {
            let word = processor(id).expect("it fits");
            assert_eq!(read(&word.to_le_bytes()), Some(Word::Processor(id)));
        }
        assert_eq!(processor(1 << 60), None);
    }
}
