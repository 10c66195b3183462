//! A walk over a thread's stack, from the innermost frame to one that the last walk has met too, or to the end.

use core::slice;
use core::sync::atomic::Ordering;

use pagetrace_format::records::StackEnd;

use super::last_walk::{FRAMES, Frame, LastWalk, Registers, Sources, flag};
use super::stack_hash::FACTORS;

/// One in so many walks looks at all frames of the last one.
const LOOKS_AT_ALL: usize = 16;

/// A walk that is going on.
pub struct Walk {
    record: &'static LastWalk,
    /// Frames of the last walk, the outermost, that it may lead to.
    known: usize,
    /// The stack pointer of the innermost of them.
    meets_at: usize,
    /// Where the inner part begins.
    inner: usize,
    /// Whether the next one may use it.
    keeps: bool,
}

/// Together with the last walk's there are too many frames.
pub struct TooMany;

impl Walk {
    /// Begins one with a stack pointer.
    ///
    /// Mostly it may lead to the outer part only, which shrinks as soon as it changes: where the innermost frames are others
    /// each time, it costs more to find out how many of them are the same than to walk, since no processor can foresee it.
    /// Now and then all frames are looked at, so that the outer part grows.
    #[inline(always)]
    pub fn begin(record: &'static LastWalk, stack_pointer: usize) -> Walk {
        let walks = record.walks.load(Ordering::Relaxed).wrapping_add(1);
        record.walks.store(walks, Ordering::Relaxed);
        let known = if walks.is_multiple_of(LOOKS_AT_ALL) {
            record.keep_all(stack_pointer)
        } else {
            record.keep_outer(stack_pointer)
        };
        Walk::to_known(record, known)
    }

    /// Begins again, with nothing that is known.
    pub fn begin_anew(&mut self) {
        *self = Walk::to_known(self.record, 0);
    }

    #[inline(always)]
    fn to_known(record: &'static LastWalk, known: usize) -> Walk {
        let mut walk = Walk { record, known, meets_at: 0, inner: FRAMES, keeps: true };
        walk.look_out();
        walk
    }

    #[inline(always)]
    fn look_out(&mut self) {
        let innermost = self.known.checked_sub(1).map(|last| &self.record.frame[last % FRAMES]);
        self.meets_at = innermost.map_or(usize::MAX, |frame| frame.stack_pointer.load(Ordering::Relaxed));
    }

    /// The next walk cannot be compared with it.
    pub fn is_not_for_next(&mut self) {
        self.keeps = false;
    }

    /// Whether there are frames of the last one that it may lead to.
    pub fn has_known(&self) -> bool {
        self.known > 0
    }

    /// Whether it has come to a frame of the last one. `sources` is where these registers were read.
    #[inline(always)]
    pub fn has_met(&mut self, registers: Registers, sources: Sources) -> bool {
        registers.stack_pointer >= self.meets_at && self.meets(registers, sources)
    }

    #[inline]
    fn meets(&mut self, registers: Registers, sources: Sources) -> bool {
        while registers.stack_pointer > self.meets_at {
            self.known -= 1;
            self.look_out();
        }
        if registers.stack_pointer != self.meets_at {
            return false;
        }
        let frame = &self.record.frame[(self.known - 1) % FRAMES];
        let met = frame.leads_on_as(registers);
        if met {
            let flags = frame.source.load(Ordering::Relaxed) & (flag::USES_FRAME_POINTER | flag::NEEDS_FRAME_POINTER);
            self.set_registers((self.known - 1) % FRAMES, registers, sources, flags);
        }
        met
    }

    /// Adds a frame, whose registers were read in `sources`.
    #[inline(always)]
    pub fn add_frame(
        &mut self,
        registers: Registers,
        sources: Sources,
        uses_frame_pointer: bool,
    ) -> Result<(), TooMany> {
        if self.inner <= self.known + 1 {
            return Err(TooMany);
        }
        self.inner = (self.inner - 1) % FRAMES;
        let flags = if uses_frame_pointer { flag::USES_FRAME_POINTER } else { 0 };
        self.set_registers(self.inner, registers, sources, flags);
        Ok(())
    }

    fn set_registers(&self, index: usize, registers: Registers, sources: Sources, flags: usize) {
        let mut source = sources.frame_pointer | flags;
        if sources.stack_pointer != 0 {
            self.record.further[index].stack_pointer_source.store(sources.stack_pointer, Ordering::Relaxed);
            source |= flag::STACK_POINTER_READ;
        }
        self.record.frame[index].store(registers, source);
    }

    /// Below this stack pointer it meets no frame that is known.
    #[inline(always)]
    pub fn meets_at(&self) -> usize {
        self.meets_at
    }

    /// Where frames can be added, from the end.
    #[inline(always)]
    pub fn room(&self) -> slice::Iter<'static, Frame> {
        self.record.frame.get(self.known + 1..self.inner).unwrap_or_default().iter()
    }

    /// All of the room is used but for so many frames at its beginning.
    #[inline(always)]
    pub fn leave_room(&mut self, frames: usize) {
        self.inner = self.known + 1 + frames;
    }

    /// Ends it, at a frame of the last walk or where the stack ends.
    #[inline(always)]
    pub fn finish(self, end: Option<StackEnd>) {
        let Walk { record, known, inner, keeps, .. } = self;
        if !keeps {
            record.is_not_for_next();
        }
        let kept = match end {
            Some(end) => {
                record.end.store(end as u32, Ordering::Relaxed);
                0
            }
            None => known,
        };
        record.outer.store(kept, Ordering::Relaxed);
        record.inner.store(inner, Ordering::Relaxed);
        let mut hash = record.hash_before(kept);
        for (frame, factor) in record.frame[inner.min(FRAMES)..].iter().zip(&FACTORS[kept % FRAMES..]) {
            let address = frame.return_address.load(Ordering::Relaxed) as u64;
            hash = hash.wrapping_add(address.wrapping_mul(*factor));
        }
        record.hash.store(hash, Ordering::Relaxed);
    }
}
