//! The page runs that buffers have traced: one set for each buffer that is in use, kept when the buffer goes, so that
//! statistics stay whole and the number of sets is that of the buffers there were at once.
//!
//! Hooks do not touch them. A run is noted when its event leaves the buffer: by this process's flusher, by the owner of
//! a block that somebody else will drain, and by who asks for the runs.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use pagetrace_format::encode::{PackedItem, PackedReader};
use pagetrace_format::session::{BlockHeader, Session};
use pagetrace_format::{EventKind, PageCount, PageIndex, PageRun};

use super::owned_buffer::page_shift;
use super::page_set::{PageMark, PageSet};
use super::process::PROCESS;
use crate::sys;

/// A set and its place in the list of all. Never unmapped.
#[repr(C, align(64))]
pub struct Node {
    /// The runs.
    pub set: PageSet,
    next: AtomicPtr<Node>,
    taken: AtomicU32,
    /// From 1.
    number: AtomicU32,
    /// 1 while runs are being noted.
    noting: AtomicU32,
}

impl Node {
    /// Its number, from 1.
    pub fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }

    /// Notes the page runs among the words of a block that have not been noted yet. The block must not be given away
    /// meanwhile.
    fn note(&self, block: &BlockHeader, words: &[AtomicU64]) {
        while self.noting.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            sys::keeping_errno(sys::yield_processor);
        }
        let end = (block.committed_words.load(Ordering::Acquire) as usize).min(words.len());
        let noted = block.noted_words.load(Ordering::Relaxed) as usize;
        if noted < end {
            for_each_run(&words[..end], noted, |run, mark, tick| {
                // SAFETY: whoever notes in this set holds `noting`.
                unsafe { self.set.note(PageIndex(run.base.0 >> page_shift()), run.pages, mark, tick) };
            });
            block.noted_words.store(end as u32, Ordering::Relaxed);
        }
        self.noting.store(0, Ordering::Release);
    }
}

/// Notes the page runs of a block of this process, if its owner has traced any.
pub fn note_block(block: &BlockHeader, words: &[AtomicU64]) {
    let number = block.next_free.load(Ordering::Relaxed);
    if number != 0
        && let Some(node) = all().find(|node| node.number() == number)
    {
        node.note(block, words);
    }
}

/// Notes what is in the blocks that threads of this process have. The caller keeps others from draining them.
pub fn note_own_blocks(session: Session) {
    let taken = session.header().blocks_taken.0.load(Ordering::Acquire).min(session.layout().block_count);
    for index in 0..taken {
        if let (Some(block), Some(words)) = (session.block(index), session.words(index))
            && block.published().is_some()
            && block.process_serial.load(Ordering::Relaxed) == PROCESS.serial()
        {
            note_block(block, words);
        }
    }
}

/// The page events among packed words, from the `first` word on.
fn for_each_run(words: &[AtomicU64], first: usize, mut each: impl FnMut(PageRun, PageMark, u64)) {
    /// Words that are looked at together: the longest item, a stack, is shorter.
    const WINDOW: usize = 512;
    let mut window = [0; WINDOW];
    let mut reader = PackedReader::default();
    let mut at = 0;
    while at < words.len() {
        let count = WINDOW.min(words.len() - at);
        for (to, from) in window.iter_mut().zip(&words[at..at + count]) {
            *to = from.load(Ordering::Relaxed);
        }
        let mut rest = &window[..count];
        loop {
            let start = at + count - rest.len();
            let before = rest;
            let (run, mark, tick) = match reader.next(&mut rest) {
                Ok(Some(PackedItem::Event(tick, EventKind::PageAlloc(run)))) => (run, PageMark::Alloc, tick),
                Ok(Some(PackedItem::Event(tick, EventKind::PageFree(run)))) => (run, PageMark::Free, tick),
                Ok(Some(PackedItem::Event(tick, EventKind::PageScavenge(run)))) => (run, PageMark::Scavenge, tick),
                Ok(Some(_)) => continue,
                Ok(None) => {
                    at += count;
                    break;
                }
                // Cut by the end of the window, unless it is at the window's start: then it is no item.
                Err(_) if before.len() < count => {
                    at = start;
                    break;
                }
                Err(_) => return,
            };
            if start >= first && run.pages != PageCount(0) {
                each(run, mark, tick);
            }
        }
    }
}

static FIRST: AtomicPtr<Node> = AtomicPtr::new(ptr::null_mut());
/// Events that found no memory for a set.
static MISSED: AtomicU64 = AtomicU64::new(0);

/// Numbers given.
static NUMBERS: AtomicU32 = AtomicU32::new(0);

/// Nodes that are mapped at a time.
const NODES: usize = 64;

/// A set for a buffer: one that another buffer has left, or a new one. `None`, and counted, without memory.
#[cold]
pub fn take() -> Option<&'static Node> {
    let free = |node: &&Node| node.taken.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok();
    all().find(free).or_else(|| {
        map_more();
        all().find(free)
    })
}

/// Counts a run that is in no set.
pub fn count_missed() {
    MISSED.fetch_add(1, Ordering::Relaxed);
}

/// Runs that are in no set.
pub fn missed() -> u64 {
    MISSED.load(Ordering::Relaxed)
}

/// Leaves a set to another buffer, with what is in it.
pub fn leave(node: &Node) {
    node.taken.store(0, Ordering::Release);
}

/// All sets.
pub fn all() -> impl Iterator<Item = &'static Node> {
    let mut next = FIRST.load(Ordering::Acquire);
    core::iter::from_fn(move || {
        // SAFETY: null, or a node in memory that is never unmapped; what is shared of it is atomic.
        let node = unsafe { next.as_ref() }?;
        next = node.next.load(Ordering::Acquire);
        Some(node)
    })
}

/// In a forked child: those who were reading are not there.
pub fn forget_readers_in_child() {
    for node in all() {
        // SAFETY: called where the child has one thread, which reads no set now.
        unsafe { node.set.forget_readers_in_child() };
        node.noting.store(0, Ordering::Relaxed);
    }
}

/// Empties all sets. No hook may be at work.
pub fn release_all() {
    for node in all() {
        node.set.release();
    }
    MISSED.store(0, Ordering::Relaxed);
}

fn map_more() {
    let bytes = NODES * size_of::<Node>();
    // SAFETY: anywhere.
    let Some(memory) = (unsafe { sys::map_zeroed(ptr::null(), bytes) }) else { return };
    let nodes = memory.cast_mut().cast::<Node>();
    for index in 0..NODES {
        let node = nodes.wrapping_add(index);
        let fresh = Node {
            set: PageSet::new(),
            next: AtomicPtr::new(ptr::null_mut()),
            taken: AtomicU32::new(0),
            number: AtomicU32::new(NUMBERS.fetch_add(1, Ordering::Relaxed) + 1),
            noting: AtomicU32::new(0),
        };
        // SAFETY: within the new mapping, aligned as mappings are, and nobody knows of it yet.
        unsafe { node.write(fresh) };
        let mut first = FIRST.load(Ordering::Relaxed);
        loop {
            // SAFETY: written above.
            unsafe { (*node).next.store(first, Ordering::Relaxed) };
            match FIRST.compare_exchange(first, node, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => break,
                Err(other) => first = other,
            }
        }
    }
}
