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
//! it stays as long as it is of use: a frame is copied once at the most.
//!
//! All is in atomics, used by one thread without order: the memory may be given back, that is zeroed, at any moment.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use pagetrace_format::encode::STACK_FRAMES_MAX;
use pagetrace_format::records::StackEnd;

use crate::on::thread_state::ThreadState;
use crate::sys;

/// Frames of a walk at the most.
pub const FRAMES_MAX: usize = STACK_FRAMES_MAX;
const FRAMES: usize = FRAMES_MAX + 1;
/// One in so many walks looks at all frames of the last one.
const LOOKS_AT_ALL: usize = 16;

/// A thread's record.
#[repr(C)]
pub struct LastWalk {
    next: AtomicPtr<LastWalk>,
    taken: AtomicU32,
    end: AtomicU32,
    epoch: AtomicU64,
    /// One past the highest address of the stack.
    high: AtomicUsize,
    walks: AtomicUsize,
    /// The hash of the last stack that was given a number, and that.
    numbered: AtomicU64,
    number: AtomicU64,
    /// Where the parts end and begin.
    outer: AtomicUsize,
    inner: AtomicUsize,
    frame: [Frame; FRAMES],
}

/// Registers at a frame, and where they came from.
#[repr(C, align(64))]
struct Frame {
    /// Below the stack pointer, but for the innermost frame's.
    return_address: AtomicUsize,
    stack_pointer: AtomicUsize,
    frame_pointer: AtomicUsize,
    /// Where the frame pointer was read, 0 if it is the one of the frame within; and bits of [`flag`].
    source: AtomicUsize,
    /// Where the stack pointer was read, with [`flag::STACK_POINTER_READ`].
    stack_pointer_source: AtomicUsize,
    /// Of the addresses from the outermost frame to this one, and how far that reaches.
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

static FIRST: AtomicPtr<LastWalk> = AtomicPtr::new(ptr::null_mut());

const BYTES: usize = size_of::<LastWalk>();

/// This thread's record. `None` without memory for one.
#[inline(always)]
pub fn of(thread: &ThreadState) -> Option<&'static LastWalk> {
    // SAFETY: null, or a record, which is never unmapped.
    let known = unsafe { thread.last_walk.get().as_ref() };
    known.or_else(|| take(thread))
}

/// The thread ends: the record goes to the next that needs one.
pub fn leave(thread: &ThreadState) {
    // SAFETY: as above.
    if let Some(record) = unsafe { thread.last_walk.replace(ptr::null()).as_ref() } {
        record.forget();
        record.taken.store(0, Ordering::Release);
    }
}

/// Gives the memory of all records back, but for each one's first page.
pub fn release() {
    for record in all() {
        let behind_first = ptr::from_ref(record).cast::<u8>().wrapping_add(sys::PAGE_BYTES);
        // SAFETY: the tracer's own mapping of atomics, of which zeros are frames that nothing leads to.
        unsafe { sys::give_pages_back(behind_first, sys::whole_pages(BYTES) - sys::PAGE_BYTES) };
    }
}

#[cold]
fn take(thread: &ThreadState) -> Option<&'static LastWalk> {
    let free = |record: &&LastWalk| {
        record.taken.load(Ordering::Relaxed) == 0
            && record.taken.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    };
    let record = all().find(free).or_else(|| sys::keeping_errno(make))?;
    thread.last_walk.set(record);
    Some(record)
}

fn all() -> impl Iterator<Item = &'static LastWalk> {
    let mut next = FIRST.load(Ordering::Acquire);
    core::iter::from_fn(move || {
        // SAFETY: null, or a record in memory that is never unmapped and whose fields are atomic.
        let record = unsafe { next.as_ref() }?;
        next = record.next.load(Ordering::Acquire);
        Some(record)
    })
}

fn make() -> Option<&'static LastWalk> {
    // SAFETY: anywhere.
    let memory = unsafe { sys::map_zeroed(ptr::null(), BYTES) }?;
    let record = memory.cast_mut().cast::<LastWalk>();
    // SAFETY: a new mapping, aligned as mappings are; all-zero is an empty record, and it is never unmapped.
    let made = unsafe { &*record };
    made.taken.store(1, Ordering::Relaxed);
    made.forget();
    let mut first = FIRST.load(Ordering::Relaxed);
    loop {
        made.next.store(first, Ordering::Relaxed);
        match FIRST.compare_exchange(first, record, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return Some(made),
            Err(other) => first = other,
        }
    }
}

impl LastWalk {
    /// Forgets everything if that is of another epoch, or of another stack.
    #[inline(always)]
    pub fn keep_only(&self, epoch: u64, high: usize) {
        if self.epoch.load(Ordering::Relaxed) != epoch || self.high.load(Ordering::Relaxed) != high {
            self.forget();
            self.epoch.store(epoch, Ordering::Relaxed);
            self.high.store(high, Ordering::Relaxed);
        }
    }

    /// Forgets everything.
    pub fn forget(&self) {
        self.is_not_for_next();
        self.outer.store(0, Ordering::Relaxed);
        self.inner.store(FRAMES, Ordering::Relaxed);
        self.number.store(0, Ordering::Relaxed);
    }

    /// Makes the next walk begin anew.
    pub fn is_not_for_next(&self) {
        self.epoch.store(0, Ordering::Relaxed);
    }

    /// A frame, counted from the outermost.
    #[inline(always)]
    fn at(&self, index: usize) -> &Frame {
        let (outer, inner) = self.parts();
        let index = if index < outer { index } else { inner - outer + index };
        &self.frame[index.min(FRAMES - 1)]
    }

    #[inline(always)]
    fn parts(&self) -> (usize, usize) {
        let outer = self.outer.load(Ordering::Relaxed).min(FRAMES);
        (outer, self.inner.load(Ordering::Relaxed).clamp(outer, FRAMES))
    }

    /// How many of the first `frames` frames, the outermost first, lead on as they did, the stack from `low` up being as it
    /// is.
    #[inline(always)]
    fn unchanged(&self, frames: usize, low: usize) -> usize {
        let last = self.high.load(Ordering::Relaxed).checked_sub(size_of::<usize>());
        // At the very end of the stack there is no word to compare.
        let Some(reach) = last.and_then(|last| last.checked_sub(low)) else { return 0 };
        let (outer, inner) = self.parts();
        // What a frame was reached by says nothing of what it leads to.
        let Some(reads) = frames.checked_sub(1) else { return 0 };
        let read = self.frame[..outer].iter().chain(&self.frame[inner..]).take(reads);
        1 + read.take_while(|frame| frame.is_unchanged(low, reach)).count()
    }

    /// Leaves the outermost `kept` frames, all of them in the outer part.
    #[inline(always)]
    fn keep(&self, kept: usize) {
        let (outer, inner) = self.parts();
        for index in outer..kept {
            self.frame[index].copy_from(&self.frame[(inner - outer + index).min(FRAMES - 1)]);
        }
        self.outer.store(kept, Ordering::Relaxed);
        self.inner.store(FRAMES, Ordering::Relaxed);
    }

    /// The return address at a frame, counted from the outermost.
    pub fn return_address(&self, frame: usize) -> u64 {
        self.at(frame).return_address.load(Ordering::Relaxed) as u64
    }

    /// The hash of a stack that ends with this frame.
    #[inline(always)]
    pub fn hash(&self, frame: usize) -> u64 {
        self.at(frame).hash.load(Ordering::Relaxed)
    }

    /// The number of the stack with this hash, 0 for unknown.
    #[inline(always)]
    pub fn id(&self, hash: u64) -> u32 {
        if self.numbered.load(Ordering::Relaxed) == hash { self.number.load(Ordering::Relaxed) as u32 } else { 0 }
    }

    /// Notes it.
    #[inline(always)]
    pub fn set_id(&self, hash: u64, id: u32) {
        self.numbered.store(hash, Ordering::Relaxed);
        self.number.store(u64::from(id), Ordering::Relaxed);
    }

    /// How far its outermost frame reaches.
    pub fn end(&self) -> StackEnd {
        StackEnd::from_number(self.end.load(Ordering::Relaxed) as u8)
    }
}

impl Frame {
    /// Whether the words from which its registers were read are what they were.
    #[inline(always)]
    fn is_unchanged(&self, low: usize, reach: usize) -> bool {
        let stack_pointer = self.stack_pointer.load(Ordering::Relaxed);
        let source = self.source.load(Ordering::Relaxed);
        let is = |address: usize, word: &AtomicUsize| {
            address.wrapping_sub(low) <= reach
                // SAFETY: a word of the thread's own stack between its stack pointer and its end, where all memory is
                // readable (the contract of `thread_started`). Aligned, since it was read before.
                && unsafe { ptr::with_exposed_provenance::<usize>(address).read() } == word.load(Ordering::Relaxed)
        };
        if !is(stack_pointer.wrapping_sub(size_of::<usize>()), &self.return_address) {
            return false;
        }
        let frame_pointer = source & flag::ADDRESS;
        if frame_pointer != 0 && !is(frame_pointer, &self.frame_pointer) {
            return false;
        }
        source & flag::STACK_POINTER_READ == 0
            || is(self.stack_pointer_source.load(Ordering::Relaxed), &self.stack_pointer)
    }

    /// Whether a walk that has come to these registers goes on as it did from this frame.
    #[inline(always)]
    fn leads_on_as(&self, registers: Registers) -> bool {
        self.stack_pointer.load(Ordering::Relaxed) == registers.stack_pointer
            && self.return_address.load(Ordering::Relaxed) == registers.return_address
            && (self.frame_pointer.load(Ordering::Relaxed) == registers.frame_pointer
                || self.source.load(Ordering::Relaxed) & flag::NEEDS_FRAME_POINTER == 0)
    }

    #[inline(always)]
    fn set_source(&self, registers: Registers, sources: Sources, flags: usize) {
        let read = if sources.stack_pointer == 0 {
            0
        } else {
            self.stack_pointer_source.store(sources.stack_pointer, Ordering::Relaxed);
            flag::STACK_POINTER_READ
        };
        self.frame_pointer.store(registers.frame_pointer, Ordering::Relaxed);
        self.source.store(sources.frame_pointer & flag::ADDRESS | read | flags, Ordering::Relaxed);
    }

    fn copy_from(&self, from: &Frame) {
        let words = |frame: &Frame| frame.stack_pointer_source.load(Ordering::Relaxed);
        self.return_address.store(from.return_address.load(Ordering::Relaxed), Ordering::Relaxed);
        self.stack_pointer.store(from.stack_pointer.load(Ordering::Relaxed), Ordering::Relaxed);
        self.frame_pointer.store(from.frame_pointer.load(Ordering::Relaxed), Ordering::Relaxed);
        self.source.store(from.source.load(Ordering::Relaxed), Ordering::Relaxed);
        self.stack_pointer_source.store(words(from), Ordering::Relaxed);
        self.hash.store(from.hash.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// A walk that is going on.
pub struct Walk {
    record: &'static LastWalk,
    /// Frames of the last walk, the outermost, that it may lead to.
    known: usize,
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
        let (outer, inner) = record.parts();
        let frames = if walks.is_multiple_of(LOOKS_AT_ALL) { outer + FRAMES - inner } else { outer };
        let unchanged = record.unchanged(frames, stack_pointer);
        record.keep(unchanged);
        Walk { record, known: unchanged, inner: FRAMES, keeps: true }
    }

    /// Begins one that leads to nothing that is known.
    pub fn begin_anew(record: &'static LastWalk) -> Walk {
        Walk { record, known: 0, inner: FRAMES, keeps: true }
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
        while let Some(frame) = self.known.checked_sub(1).map(|last| &self.record.frame[last]) {
            if frame.stack_pointer.load(Ordering::Relaxed) >= registers.stack_pointer {
                let met = frame.leads_on_as(registers);
                if met {
                    let flags =
                        frame.source.load(Ordering::Relaxed) & (flag::USES_FRAME_POINTER | flag::NEEDS_FRAME_POINTER);
                    frame.set_source(registers, sources, flags);
                }
                return met;
            }
            self.known -= 1;
        }
        false
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
        self.inner -= 1;
        let frame = &self.record.frame[self.inner];
        frame.return_address.store(registers.return_address, Ordering::Relaxed);
        frame.stack_pointer.store(registers.stack_pointer, Ordering::Relaxed);
        let flags = if uses_frame_pointer { flag::USES_FRAME_POINTER } else { 0 };
        frame.set_source(registers, sources, flags);
        Ok(())
    }

    /// Ends it, at a frame of the last walk or where the stack ends. How many frames the stack has.
    #[inline(always)]
    pub fn finish(self, end: Option<StackEnd>) -> usize {
        let Walk { record, known, inner, keeps } = self;
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
        let outside = kept.checked_sub(1).map(|last| &record.frame[last]);
        let seed = SEED ^ u64::from(record.end.load(Ordering::Relaxed));
        let mut hash = outside.map_or(seed, |frame| frame.hash.load(Ordering::Relaxed));
        let mut source = outside.map_or(0, |frame| frame.source.load(Ordering::Relaxed));
        for (depth, frame) in (kept as u64..).zip(&record.frame[inner..]) {
            hash = hash.wrapping_add(mixed(depth, frame.return_address.load(Ordering::Relaxed) as u64));
            frame.hash.store(hash, Ordering::Relaxed);
            let inherits = source & flag::ADDRESS == 0 && source & flag::NEEDS_FRAME_POINTER != 0;
            source = frame.source.load(Ordering::Relaxed);
            if inherits || source & flag::USES_FRAME_POINTER != 0 {
                source |= flag::NEEDS_FRAME_POINTER;
                frame.source.store(source, Ordering::Relaxed);
            }
        }
        kept + FRAMES - inner
    }
}

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// What a frame adds to the hash of its stack: multiply and fold, as in wyhash. Addresses differ in their low and middle
/// bits. A sum, since no frame's part then waits for another's.
#[inline(always)]
pub fn mixed(depth: u64, frame: u64) -> u64 {
    let product = u128::from(frame ^ depth.wrapping_mul(SEED)) * 0xe703_7ed1_a0b4_28db;
    (product >> 64) as u64 ^ product as u64
}
