//! The buffer that a P has in Go's runtime: collects the words of page events and takes time syncs where needed.

use super::words::{self, BUFFER_WORDS, DELTA_MAX, TIME_SHIFT, WORD_BYTES};
use crate::event::{EventKind, PageRun, kind_number};
use crate::units::TraceNanos;

/// Where a buffer stands: everything but its memory, which its owner passes in.
#[derive(Clone, Copy, Debug)]
pub struct GoBufferState {
    processor: i64,
    time_base: TraceNanos,
    words_used: usize,
}

/// Why an event was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// The buffer is full: once it has been written out and cleared the event fits.
    Full,
    /// The id of the P does not fit 61 bits.
    Processor,
    /// The address is beyond 48 bits or inside a page.
    Address,
}

impl GoBufferState {
    pub const fn new(processor: i64) -> GoBufferState {
        GoBufferState { processor, time_base: TraceNanos(0), words_used: 0 }
    }

    /// Bytes of the memory that are to be written out.
    pub const fn bytes_used(&self) -> usize {
        self.words_used * WORD_BYTES
    }

    /// Begins again in front. The time goes on from where it was.
    #[cfg(feature = "std")]
    pub const fn clear(&mut self) {
        self.words_used = 0;
    }

    /// Appends an event. Where the buffer is full a sync may have been appended, as Go's runtime does.
    pub fn push(&mut self, memory: &mut [u8], time: TraceNanos, number: u8, run: &PageRun) -> Result<(), NotTaken> {
        let processor = words::processor(self.processor).ok_or(NotTaken::Processor)?;
        let room = (memory.len() / WORD_BYTES).min(BUFFER_WORDS);
        // Go's runtime never lets a time go back within a buffer.
        let time = time.max(self.time_base);
        let since_base = (time.0 - self.time_base.0) >> TIME_SHIFT;
        let syncs = self.words_used == 0 || since_base > DELTA_MAX;
        let delta = if syncs { 0 } else { since_base as u16 };
        let (first, second) = words::page(delta, number, run).ok_or(NotTaken::Address)?;
        let starts = self.words_used == 0;
        let words_before = usize::from(starts) + usize::from(syncs);
        if self.words_used + words_before > room {
            return Err(NotTaken::Full);
        }
        if starts {
            if room < words_before + 1 + usize::from(second.is_some()) {
                return Err(NotTaken::Full);
            }
            self.put(memory, processor);
        }
        if syncs {
            self.time_base = time;
            self.put(memory, words::sync(time));
        }
        if self.words_used + 1 + usize::from(second.is_some()) > room {
            return Err(NotTaken::Full);
        }
        self.put(memory, first);
        second.into_iter().for_each(|pages| self.put(memory, pages));
        Ok(())
    }

    fn put(&mut self, memory: &mut [u8], word: u64) {
        let start = self.bytes_used();
        memory[start..start + WORD_BYTES].copy_from_slice(&word.to_le_bytes());
        self.words_used += 1;
    }
}

/// The number and the pages of a page event, `None` for another.
pub fn page_event(kind: &EventKind) -> Option<(u8, &PageRun)> {
    match kind {
        EventKind::PageAlloc(run) => Some((kind_number::PAGE_ALLOC, run)),
        EventKind::PageFree(run) => Some((kind_number::PAGE_FREE, run)),
        EventKind::PageScavenge(run) => Some((kind_number::PAGE_SCAVENGE, run)),
        EventKind::ObjectAlloc(_) | EventKind::ObjectFree(_) | EventKind::TimeSync => None,
    }
}

/// One buffer of a page trace of Go, in memory that the caller owns. At most [`BUFFER_WORDS`] words of it are used.
///
/// ```
/// use pagetrace_format::go_page_trace::GoBuffer;
/// use pagetrace_format::{Address, EventKind, PageCount, PageRun, TraceNanos};
/// let mut memory = [0; 64];
/// let mut buffer = GoBuffer::new(&mut memory, 2);
/// let run = PageRun { base: Address(0xc0_0000_0000), pages: PageCount(4) };
/// assert!(buffer.push(TraceNanos(581_099_279_488), &EventKind::PageAlloc(run)));
/// assert_eq!(buffer.finish()[..8], [0x14, 0, 0, 0, 0, 0, 0, 0]);
/// ```
#[derive(Debug)]
pub struct GoBuffer<'m> {
    memory: &'m mut [u8],
    state: GoBufferState,
}

impl<'m> GoBuffer<'m> {
    /// An empty buffer of this P; −1 stands for none.
    #[must_use]
    pub fn new(memory: &'m mut [u8], processor: i64) -> GoBuffer<'m> {
        GoBuffer { memory, state: GoBufferState::new(processor) }
    }

    /// Appends an event of pages of 8 KiB; others have no place here and are passed over. `false` where the event does
    /// not fit: the buffer is to be finished and a new one begun. If an empty one does not take it, the format does
    /// not: its address is beyond 48 bits or inside a page.
    #[must_use]
    pub fn push(&mut self, time: TraceNanos, kind: &EventKind) -> bool {
        match page_event(kind) {
            Some((number, run)) => self.state.push(self.memory, time, number, run).is_ok(),
            None => true,
        }
    }

    /// Whether it holds no event.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state.bytes_used() == 0
    }

    /// The bytes to write out.
    #[must_use]
    pub fn finish(self) -> &'m [u8] {
        &self.memory[..self.state.bytes_used()]
    }
}
