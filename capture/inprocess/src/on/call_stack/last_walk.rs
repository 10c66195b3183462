//! What a thread's last walk found, so that the next one follows only what is new: most stacks differ from the last one in
//! a few innermost frames.
//!
//! Of each frame it keeps the registers, and where they were read in the stack. A walk that comes to the same registers,
//! with the same words in all places that were read from there on, leads to the same frames: it would read nothing
//! else. So comparing the words is as good as walking, and costs a fraction, since no word's address depends on another.
//!
//! ```text
//! frame:  0                outer              inner              FRAMES
//!         | outermost … ───▶ |       gap        | ───▶ … innermost |
//! ```
//! A walk fills the inner part from its end. What the next one may still use of it goes to the outer part first, where
//! it stays as long as it is of use: a frame is copied once at the most. Only then is found out what is of use in the
//! outer part alone: hashes, and which frame pointers matter.
//!
//! All is in atomics, used by one thread without order, since who gives the memory back is another. A walk says that it is
//! at work and then looks whether the record is closed, who closes it makes every processor pass a fence and then looks
//! whether a walk is at work, as with buffers ([`crate::on::marks`]): the addresses in it are always the walker's own.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, compiler_fence};

use pagetrace_format::encode::STACK_FRAMES_MAX;
use pagetrace_format::records::StackEnd;

use super::known_stacks::{KnownStacks, Places, WORDS_MAX};
use super::stack_hash::mixed;

/// Frames of a walk at the most.
pub const FRAMES_MAX: usize = STACK_FRAMES_MAX;
pub const FRAMES: usize = FRAMES_MAX + 1;

/// A thread's record.
#[repr(C)]
pub struct LastWalk {
    pub(super) next: AtomicPtr<LastWalk>,
    pub(super) taken: AtomicU32,
    pub(super) end: AtomicU32,
    pub(super) epoch: AtomicU64,
    /// One past the highest address of the stack.
    high: AtomicUsize,
    /// 1 during a walk.
    pub(super) at_work: AtomicU32,
    /// 1 while the memory is given back.
    pub(super) closed: AtomicU32,
    pub(super) walks: AtomicUsize,
    /// The hash of the last stack.
    pub(super) hash: AtomicU64,
    /// The epoch of the stacks that are known.
    known_epoch: AtomicU64,
    /// Where the parts end and begin.
    pub(super) outer: AtomicUsize,
    pub(super) inner: AtomicUsize,
    pub(super) frame: [Frame; FRAMES],
    pub(super) further: [Further; FRAMES],
    pub(super) known: KnownStacks,
}

/// Registers at a frame, and where they came from: what every walk looks at.
#[repr(C, align(32))]
pub struct Frame {
    pub stack_pointer: AtomicUsize,
    /// Below the stack pointer, but for the innermost frame's.
    pub return_address: AtomicUsize,
    frame_pointer: AtomicUsize,
    /// Where the frame pointer was read, 0 if it is the one of the frame within, and in the outer part also if nothing
    /// needs it; and bits of [`flag`].
    pub source: AtomicUsize,
}

/// What else there is to a frame.
#[repr(C)]
pub struct Further {
    /// Where the stack pointer was read, with [`flag::STACK_POINTER_READ`].
    pub stack_pointer_source: AtomicUsize,
    /// In the outer part: of the addresses from the outermost frame to this one, and how far that reaches.
    hash: AtomicU64,
}

/// Above all addresses.
pub mod flag {
    /// The frame pointer is needed to go on from this frame.
    pub const USES_FRAME_POINTER: usize = 1 << 63;
    /// It is needed here or further out, before another is read.
    pub const NEEDS_FRAME_POINTER: usize = 1 << 62;
    /// The stack pointer was read in the stack.
    pub const STACK_POINTER_READ: usize = 1 << 61;
    /// The bits of an address.
    pub const ADDRESS: usize = (1 << 48) - 1;
}

/// Registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// Where the function goes on.
    pub return_address: usize,
    pub stack_pointer: usize,
    pub frame_pointer: usize,
}

/// Where registers were read in the stack, zeros if they were not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sources {
    pub frame_pointer: usize,
    pub stack_pointer: usize,
}

impl LastWalk {
    /// Begins a walk on a stack that ends at `high`, and forgets everything if that is another one or of another epoch.
    /// Whether the record can be used.
    #[inline(always)]
    pub fn open(&self, epoch: u64, high: usize) -> bool {
        self.at_work.store(1, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        if self.closed.load(Ordering::Acquire) != 0 {
            self.close();
            return false;
        }
        if self.epoch.load(Ordering::Relaxed) != epoch || self.high.load(Ordering::Relaxed) != high {
            self.begin_anew(epoch, high);
        }
        true
    }

    #[cold]
    fn begin_anew(&self, epoch: u64, high: usize) {
        self.forget();
        // Known stacks say themselves how far they reach.
        if self.known_epoch.swap(epoch, Ordering::Relaxed) != epoch {
            self.known.forget();
        }
        self.epoch.store(epoch, Ordering::Relaxed);
        self.high.store(high, Ordering::Relaxed);
    }

    /// Ends it.
    #[inline(always)]
    pub fn close(&self) {
        compiler_fence(Ordering::SeqCst);
        self.at_work.store(0, Ordering::Release);
    }

    /// Forgets everything.
    pub fn forget(&self) {
        self.is_not_for_next();
        self.outer.store(0, Ordering::Relaxed);
        self.inner.store(FRAMES, Ordering::Relaxed);
    }

    /// Makes the next walk begin anew.
    pub fn is_not_for_next(&self) {
        self.epoch.store(0, Ordering::Relaxed);
    }

    /// A frame, counted from the outermost.
    fn at(&self, index: usize) -> &Frame {
        &self.frame[self.place_of(index)]
    }

    fn further_at(&self, index: usize) -> &Further {
        &self.further[self.place_of(index)]
    }

    fn place_of(&self, index: usize) -> usize {
        let (outer, inner) = self.parts();
        if index < outer { index } else { (inner - outer + index) % FRAMES }
    }

    /// Where the outer part ends and the inner one begins.
    fn parts(&self) -> (usize, usize) {
        (self.outer.load(Ordering::Relaxed), self.inner.load(Ordering::Relaxed))
    }

    /// Leaves what of the outer part leads on as it did, the stack from `low` up being as it is. How many frames.
    #[inline(always)]
    pub fn keep_outer(&self, low: usize) -> usize {
        let kept = self.unchanged(&self.frame[..self.outer.load(Ordering::Relaxed) % FRAMES], low);
        self.outer.store(kept, Ordering::Relaxed);
        self.inner.store(FRAMES, Ordering::Relaxed);
        kept
    }

    /// The same of both parts, all in the outer one from then on.
    #[cold]
    #[inline(never)]
    pub fn keep_all(&self, low: usize) -> usize {
        let (outer, inner) = self.parts();
        let mut kept = self.unchanged(&self.frame[..outer % FRAMES], low);
        if kept == outer {
            let inner_kept = self.unchanged(&self.frame[inner..], low);
            // The innermost frame of the outer part was reached from the first of the inner one.
            if inner_kept > 0 && (outer == 0 || self.is_unchanged(&self.frame[outer - 1])) {
                kept += inner_kept;
                self.keep_more(outer, inner, kept);
            }
        }
        self.outer.store(kept, Ordering::Relaxed);
        self.inner.store(FRAMES, Ordering::Relaxed);
        kept
    }

    /// How many frames, the outermost first, lead on as they did, the stack from `low` up being as it is.
    #[inline(always)]
    fn unchanged(&self, frames: &[Frame], low: usize) -> usize {
        // All that was read to come to a frame further out lies above this one's stack pointer.
        let mut count = frames.len();
        while count > 0 && frames[count - 1].stack_pointer.load(Ordering::Relaxed) < low {
            count -= 1;
        }
        // What a frame was reached by says nothing of what it leads to.
        let Some(reads) = count.checked_sub(1) else { return 0 };
        let mut rest = frames[..reads].iter();
        while let Some(frame) = rest.next() {
            if !self.is_unchanged(frame) {
                return reads - rest.len();
            }
        }
        count
    }

    /// Whether the words from which a frame's registers were read are what they were.
    #[inline(always)]
    fn is_unchanged(&self, frame: &Frame) -> bool {
        let return_address_at = frame.stack_pointer.load(Ordering::Relaxed).wrapping_sub(size_of::<usize>());
        if !is_at(return_address_at, &frame.return_address) {
            return false;
        }
        let source = frame.source.load(Ordering::Relaxed) & (flag::ADDRESS | flag::STACK_POINTER_READ);
        if source == 0 {
            return true;
        }
        if source > flag::ADDRESS {
            return self.is_unchanged_with_stack_pointer(frame);
        }
        is_at(source, &frame.frame_pointer)
    }

    #[cold]
    fn is_unchanged_with_stack_pointer(&self, frame: &Frame) -> bool {
        let frame_pointer = frame.source.load(Ordering::Relaxed) & flag::ADDRESS;
        let index = (ptr::from_ref(frame).addr() - self.frame.as_ptr().addr()) / size_of::<Frame>();
        (frame_pointer == 0 || is_at(frame_pointer, &frame.frame_pointer))
            && is_at(self.further[index % FRAMES].stack_pointer_source.load(Ordering::Relaxed), &frame.stack_pointer)
    }

    fn keep_more(&self, outer: usize, inner: usize, kept: usize) {
        let mut hash = self.hash_before(outer);
        let mut outside = outer.checked_sub(1).map_or(0, |last| self.frame[last].source.load(Ordering::Relaxed));
        for (index, from) in (outer..kept).zip(inner..FRAMES) {
            let (frame, source_of) = (&self.frame[from], &self.further[from].stack_pointer_source);
            let return_address = frame.return_address.load(Ordering::Relaxed);
            hash = hash.wrapping_add(mixed(index, return_address as u64));
            let inherits = outside & flag::ADDRESS == 0 && outside & flag::NEEDS_FRAME_POINTER != 0;
            let mut source = frame.source.load(Ordering::Relaxed);
            if inherits || source & flag::USES_FRAME_POINTER != 0 {
                source |= flag::NEEDS_FRAME_POINTER;
            } else {
                source &= !flag::ADDRESS;
            }
            outside = source;
            let to = &self.frame[index];
            to.return_address.store(return_address, Ordering::Relaxed);
            to.stack_pointer.store(frame.stack_pointer.load(Ordering::Relaxed), Ordering::Relaxed);
            to.frame_pointer.store(frame.frame_pointer.load(Ordering::Relaxed), Ordering::Relaxed);
            to.source.store(source, Ordering::Relaxed);
            let further = &self.further[index];
            further.stack_pointer_source.store(source_of.load(Ordering::Relaxed), Ordering::Relaxed);
            further.hash.store(hash, Ordering::Relaxed);
        }
    }

    /// The hash of the outermost `frames` frames, all in the outer part.
    #[inline(always)]
    pub fn hash_before(&self, frames: usize) -> u64 {
        match frames.checked_sub(1) {
            Some(last) => self.further[last % FRAMES].hash.load(Ordering::Relaxed),
            None => mixed(FRAMES_MAX, u64::from(self.end.load(Ordering::Relaxed)) + 1),
        }
    }

    /// The return address at a frame, counted from the outermost.
    pub fn return_address(&self, frame: usize) -> u64 {
        self.at(frame).return_address.load(Ordering::Relaxed) as u64
    }

    /// The hash of the last stack: of its addresses and how far it reaches. The upper half is the better one.
    #[inline(always)]
    pub fn hash(&self) -> u64 {
        self.hash.load(Ordering::Relaxed)
    }

    /// The registers that the last walk began with, and where it read. `None` where it is of no use, or reads too far away
    /// or too much.
    #[cold]
    pub fn places(&self) -> Option<(Registers, Places)> {
        let frames = self.frames();
        let innermost = self.at(frames.checked_sub(1)?);
        if self.epoch.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let registers = innermost.registers();
        let mut places = Places { place: [0; WORDS_MAX], count: 0, needs_frame_pointer: false };
        // Of the frame further out: whether its frame pointer is the one of the frame within, and needed.
        let mut inherits = false;
        for index in 0..frames {
            let (frame, source) = (self.at(index), self.at(index).source.load(Ordering::Relaxed));
            let is_outer = index < self.outer.load(Ordering::Relaxed);
            let own = if is_outer { flag::NEEDS_FRAME_POINTER } else { flag::USES_FRAME_POINTER };
            let needs = source & own != 0 || inherits && !is_outer;
            if index + 1 == frames {
                places.needs_frame_pointer = needs;
                break;
            }
            let (stack_pointer, read_at) = (frame.stack_pointer.load(Ordering::Relaxed), source & flag::ADDRESS);
            places.add(registers, stack_pointer.wrapping_sub(size_of::<usize>()))?;
            if needs && read_at != 0 {
                places.add(registers, read_at)?;
            }
            if source & flag::STACK_POINTER_READ != 0 {
                places.add(registers, self.further_at(index).stack_pointer_source.load(Ordering::Relaxed))?;
            }
            inherits = needs && read_at == 0;
        }
        Some((registers, places))
    }

    /// How many frames the last stack has.
    pub fn frames(&self) -> usize {
        let (outer, inner) = self.parts();
        outer + FRAMES - inner
    }

    /// How far its outermost frame reaches.
    pub fn end(&self) -> StackEnd {
        StackEnd::from_number(self.end.load(Ordering::Relaxed) as u8)
    }
}

/// Whether the stack holds this word.
#[inline(always)]
fn is_at(address: usize, word: &AtomicUsize) -> bool {
    // SAFETY: a word that was read before, of the thread's own stack between its present stack pointer and its end
    // (`LastWalk::unchanged`), where all memory is readable (the contract of `thread_started`).
    let now = unsafe { ptr::with_exposed_provenance::<usize>(address).read() };
    now == word.load(Ordering::Relaxed)
}

impl Frame {
    fn registers(&self) -> Registers {
        Registers {
            return_address: self.return_address.load(Ordering::Relaxed),
            stack_pointer: self.stack_pointer.load(Ordering::Relaxed),
            frame_pointer: self.frame_pointer.load(Ordering::Relaxed),
        }
    }

    /// Sets the registers, of which the frame pointer was read at `source`, 0 for nowhere.
    #[inline(always)]
    pub fn set(&self, registers: Registers, source: usize, uses_frame_pointer: bool) {
        self.store(registers, if uses_frame_pointer { source | flag::USES_FRAME_POINTER } else { source });
    }

    #[inline(always)]
    pub fn store(&self, registers: Registers, source: usize) {
        self.stack_pointer.store(registers.stack_pointer, Ordering::Relaxed);
        self.return_address.store(registers.return_address, Ordering::Relaxed);
        self.frame_pointer.store(registers.frame_pointer, Ordering::Relaxed);
        self.source.store(source, Ordering::Relaxed);
    }

    /// Whether a walk that has come to these registers goes on as it did from this frame.
    #[inline(always)]
    pub fn leads_on_as(&self, registers: Registers) -> bool {
        self.stack_pointer.load(Ordering::Relaxed) == registers.stack_pointer
            && self.return_address.load(Ordering::Relaxed) == registers.return_address
            && (self.frame_pointer.load(Ordering::Relaxed) == registers.frame_pointer
                || self.source.load(Ordering::Relaxed) & flag::NEEDS_FRAME_POINTER == 0)
    }
}
