//! What a thread's last walk found, so that the next one follows only what is new: most stacks differ from the last one in
//! a few innermost frames.
//!
//! Of each frame it keeps the registers, and of all words that were read in the stack where they lay and what they were.
//! A walk that comes to the same registers, with the same words in the places that were read from there on, leads to
//! the same frames: it would read nothing else. So comparing the words is as good as walking, and costs a
//! fraction, since no word's address depends on another.
//!
//! ```text
//! frames:  outermost ─────────────▶ innermost │ those of the present walk, innermost first
//! reads:   for frame 0, for frame 1, …        │ likewise
//! ```
//! All is in atomics, used by one thread without order: the memory may be given back, that is zeroed, at any moment.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use pagetrace_format::encode::STACK_FRAMES_MAX;
use pagetrace_format::records::StackEnd;

use crate::on::thread_state::ThreadState;
use crate::sys;

/// Frames of a walk at the most.
pub const FRAMES_MAX: usize = STACK_FRAMES_MAX;
/// Words that a walk may read. A frame needs two, one for signals three.
const READS_MAX: usize = 2 * FRAMES_MAX + 2;

/// A thread's record.
#[repr(C)]
pub struct LastWalk {
    next: AtomicPtr<LastWalk>,
    taken: AtomicU32,
    end: AtomicU32,
    epoch: AtomicU64,
    frames: AtomicU64,
    reads: AtomicU64,
    frame: [Frame; 2 * FRAMES_MAX],
    read: [Read; 2 * READS_MAX],
}

/// Registers at a frame, and what leads on from there.
#[repr(C)]
struct Frame {
    return_address: AtomicU64,
    stack_pointer: AtomicU64,
    frame_pointer: AtomicU64,
    /// Of the addresses from the outermost frame to this one.
    hash: AtomicU64,
    /// How many of the reads there are to be the same (low half), and the stack's number, 0 for unknown.
    reads_and_id: AtomicU64,
}

#[repr(C)]
struct Read {
    address: AtomicU64,
    word: AtomicU64,
}

/// Registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// Where the function goes on.
    pub return_address: usize,
    pub stack_pointer: usize,
    pub frame_pointer: usize,
}

static FIRST: AtomicPtr<LastWalk> = AtomicPtr::new(ptr::null_mut());

const BYTES: usize = size_of::<LastWalk>();

/// This thread's record. `None` without memory for one.
#[inline]
pub fn of(thread: &ThreadState) -> Option<&'static LastWalk> {
    // SAFETY: null, or a record, which is never unmapped.
    let known = unsafe { thread.last_walk.get().as_ref() };
    known.or_else(|| take(thread))
}

/// The thread ends: the record goes to the next that needs one.
pub fn leave(thread: &ThreadState) {
    // SAFETY: as above.
    if let Some(record) = unsafe { thread.last_walk.replace(ptr::null()).as_ref() } {
        record.forget(0);
        record.taken.store(0, Ordering::Release);
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
    /// Forgets everything if that is of another epoch.
    #[inline]
    pub fn keep_only(&self, epoch: u64) {
        if self.epoch.load(Ordering::Relaxed) != epoch {
            self.forget(epoch);
        }
    }

    /// Forgets everything.
    pub fn forget(&self, epoch: u64) {
        self.frames.store(0, Ordering::Relaxed);
        self.reads.store(0, Ordering::Relaxed);
        self.epoch.store(epoch, Ordering::Relaxed);
    }

    /// How many frames there are, the outermost first, from which on the stack in `bounds` is what it was.
    #[inline]
    pub fn unchanged(&self, (low, high): (usize, usize)) -> usize {
        let reads = (self.reads.load(Ordering::Relaxed) as usize).min(READS_MAX);
        let mut same = 0;
        for read in &self.read[..reads] {
            let address = read.address.load(Ordering::Relaxed) as usize;
            if address < low || address > high - size_of::<u64>() {
                break;
            }
            // SAFETY: an aligned word between the stack pointer and the end of the thread's own stack, where all memory
            // is readable (the contract of `thread_started`); reads are only noted of aligned words.
            if unsafe { ptr::with_exposed_provenance::<u64>(address).read() } != read.word.load(Ordering::Relaxed) {
                break;
            }
            same += 1;
        }
        let mut frames = (self.frames.load(Ordering::Relaxed) as usize).min(FRAMES_MAX);
        while frames > 0 && self.reads_of(frames - 1) > same {
            frames -= 1;
        }
        frames
    }

    /// The registers at a frame, counted from the outermost.
    #[inline]
    pub fn registers(&self, frame: usize) -> Registers {
        let frame = &self.frame[frame];
        Registers {
            return_address: frame.return_address.load(Ordering::Relaxed) as usize,
            stack_pointer: frame.stack_pointer.load(Ordering::Relaxed) as usize,
            frame_pointer: frame.frame_pointer.load(Ordering::Relaxed) as usize,
        }
    }

    /// The stack pointer at a frame.
    #[inline]
    pub fn stack_pointer(&self, frame: usize) -> usize {
        self.frame[frame].stack_pointer.load(Ordering::Relaxed) as usize
    }

    /// The return address at a frame.
    #[inline]
    pub fn return_address(&self, frame: usize) -> u64 {
        self.frame[frame].return_address.load(Ordering::Relaxed)
    }

    /// The hash of a stack that ends with this frame.
    #[inline]
    pub fn hash(&self, frame: usize) -> u64 {
        self.frame[frame].hash.load(Ordering::Relaxed)
    }

    /// The number of that stack, 0 for unknown.
    #[inline]
    pub fn id(&self, frame: usize) -> u32 {
        (self.frame[frame].reads_and_id.load(Ordering::Relaxed) >> 32) as u32
    }

    /// Notes it.
    pub fn set_id(&self, frame: usize, id: u32) {
        let word = &self.frame[frame].reads_and_id;
        word.store(word.load(Ordering::Relaxed) as u32 as u64 | u64::from(id) << 32, Ordering::Relaxed);
    }

    /// How far its outermost frame reaches.
    pub fn end(&self) -> StackEnd {
        StackEnd::from_number(self.end.load(Ordering::Relaxed) as u8)
    }

    #[inline]
    fn reads_of(&self, frame: usize) -> usize {
        self.frame[frame].reads_and_id.load(Ordering::Relaxed) as u32 as usize
    }
}

/// A walk that is going on: what it has found, innermost first.
pub struct Walk {
    record: &'static LastWalk,
    frames: usize,
    reads: usize,
}

impl Walk {
    /// One that has found nothing.
    #[inline]
    pub fn new(record: &'static LastWalk) -> Walk {
        Walk { record, frames: 0, reads: 0 }
    }

    /// Where it is kept.
    #[inline]
    pub fn record(&self) -> &'static LastWalk {
        self.record
    }

    /// How many frames it has found.
    #[inline]
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Adds a frame. There is room for [`FRAMES_MAX`].
    #[inline]
    pub fn add_frame(&mut self, registers: Registers) {
        let Some(frame) = self.record.frame.get(FRAMES_MAX + self.frames) else { return };
        frame.return_address.store(registers.return_address as u64, Ordering::Relaxed);
        frame.stack_pointer.store(registers.stack_pointer as u64, Ordering::Relaxed);
        frame.frame_pointer.store(registers.frame_pointer as u64, Ordering::Relaxed);
        frame.reads_and_id.store(self.reads as u64, Ordering::Relaxed);
        self.frames += 1;
    }

    /// Notes that this word was read.
    #[inline]
    pub fn add_read(&mut self, address: usize, word: usize) {
        if let Some(read) = self.record.read.get(READS_MAX + self.reads) {
            read.address.store(address as u64, Ordering::Relaxed);
            read.word.store(word as u64, Ordering::Relaxed);
        }
        self.reads += 1;
    }

    /// Puts the frames behind so many of the last walk's that they lead to, or in their place. How many frames the stack
    /// has, or `None` if they are too many together.
    #[inline]
    pub fn finish(self, kept: usize, end: StackEnd) -> Option<usize> {
        let Walk { record, frames, reads } = self;
        let kept_reads = kept.checked_sub(1).map_or(0, |last| record.reads_of(last));
        let (all_frames, all_reads) = (kept + frames, kept_reads + reads);
        if all_frames > FRAMES_MAX || kept > 0 && all_reads > READS_MAX {
            return None;
        }
        if kept == 0 {
            record.end.store(end as u32, Ordering::Relaxed);
        }
        let mut hash = kept.checked_sub(1).map_or(end as u64 ^ SEED, |last| record.hash(last));
        for index in 0..frames {
            let (from, to) = (&record.frame[FRAMES_MAX + frames - 1 - index], &record.frame[kept + index]);
            let return_address = from.return_address.load(Ordering::Relaxed);
            hash = mixed(hash, return_address);
            to.return_address.store(return_address, Ordering::Relaxed);
            to.stack_pointer.store(from.stack_pointer.load(Ordering::Relaxed), Ordering::Relaxed);
            to.frame_pointer.store(from.frame_pointer.load(Ordering::Relaxed), Ordering::Relaxed);
            to.hash.store(hash, Ordering::Relaxed);
            let before = from.reads_and_id.load(Ordering::Relaxed);
            to.reads_and_id.store(all_reads as u64 - before, Ordering::Relaxed);
        }
        // Reads that did not fit make the frames useless for the next walk.
        let fit = all_reads <= READS_MAX;
        for index in 0..if fit { reads } else { 0 } {
            let (from, to) = (&record.read[READS_MAX + reads - 1 - index], &record.read[kept_reads + index]);
            to.address.store(from.address.load(Ordering::Relaxed), Ordering::Relaxed);
            to.word.store(from.word.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        record.frames.store(if fit { all_frames as u64 } else { 0 }, Ordering::Relaxed);
        record.reads.store(if fit { all_reads as u64 } else { 0 }, Ordering::Relaxed);
        Some(all_frames)
    }
}

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiply and fold, as in FxHash and wyhash: addresses differ in their low and middle bits.
#[inline]
pub fn mixed(hash: u64, frame: u64) -> u64 {
    let product = u128::from(hash ^ frame).wrapping_mul(0xe703_7ed1_a0b4_28db);
    ((product >> 64) as u64 ^ product as u64).rotate_left(23) ^ frame
}
