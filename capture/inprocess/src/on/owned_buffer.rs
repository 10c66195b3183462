//! Page events, in the buffer of a thread or in one that an allocator owns, and what a buffer tells of itself.

use core::num::NonZeroU16;
use core::sync::atomic::Ordering;

use pagetrace_format::encode::{self, PackedItem, PackedReader};
use pagetrace_format::{Address, PageCount, PageRun};

use super::event_buffer::{EventBuffer, Identity};
use super::flush_lock::FlushLock;
use super::page_set::PageMark;
use super::page_sets::{self, Node};
use super::process::{INHERITED, PROCESS};
use super::recursion_guard::RecursionGuard;
use super::thread_state;
use crate::page_trace_buf::{EventMask, PageEventKind, TracedRun};
use crate::sys;

/// A buffer that an allocator owns.
#[derive(Debug)]
pub struct PageTraceBuf {
    buffer: EventBuffer,
}

// SAFETY: its pointers are to memory that belongs to no thread and is never unmapped.
unsafe impl Send for PageTraceBuf {}

impl PageTraceBuf {
    pub const fn new() -> PageTraceBuf {
        PageTraceBuf { buffer: EventBuffer::new() }
    }

    #[inline]
    pub fn page_event(&mut self, kind: PageEventKind, base: usize, pages: usize) {
        if super::is_recording() {
            append(&self.buffer, Identity::of_buffer, PROCESS.tick(), kind, base, pages);
        }
    }

    pub fn pages(&self, each: impl FnMut(TracedRun)) {
        View(&self.buffer).pages(each);
    }

    pub fn buf(&self, into: &mut [u64]) -> usize {
        View(&self.buffer).buf(into)
    }

    pub fn mask(&self) -> EventMask {
        View(&self.buffer).mask()
    }

    pub fn set_mask(&self, mask: EventMask) {
        View(&self.buffer).set_mask(mask);
    }

    pub fn cnts(&self) -> u32 {
        View(&self.buffer).cnts()
    }

    pub fn flush(&mut self) {
        self.buffer.release();
        PROCESS.ring_doorbell();
    }
}

impl Drop for PageTraceBuf {
    fn drop(&mut self) {
        self.buffer.release();
        self.buffer.leave_mark();
        leave_pages(&self.buffer);
    }
}

/// Records a page event.
#[inline]
pub fn append(
    buffer: &EventBuffer,
    identity: impl FnOnce() -> Identity,
    tick: u64,
    kind: PageEventKind,
    base: usize,
    pages: usize,
) {
    if !buffer.wants(kind as u8) {
        return;
    }
    let Ok(mut entered) = buffer.enter(identity) else { return };
    if buffer.pages().get().is_null() {
        take_node(buffer);
    }
    let address = Address(base as u64);
    // One that finds no room has been counted.
    let _ = match u16::try_from(pages).ok().and_then(NonZeroU16::new) {
        Some(pages) => entered.append(tick, |ticks| encode::short_page_event(ticks, kind as u8, address, pages)),
        None => {
            let run = PageRun { base: address, pages: PageCount(pages as u64) };
            entered.append(tick, |ticks| encode::page_event(ticks, kind as u8, &run))
        }
    };
}

/// Leaves the page runs of a buffer that goes to the next that needs a place for them.
pub fn leave_pages(buffer: &EventBuffer) {
    if let Some(node) = node_of(buffer) {
        buffer.pages().set(core::ptr::null());
        page_sets::leave(node);
    }
}

/// The binary logarithm of the size of the pages that hooks count in.
#[inline]
pub fn page_shift() -> u32 {
    INHERITED.page_shift.load(Ordering::Relaxed)
}

/// Finds the buffer a place for its page runs. Without memory for one they are missed.
#[cold]
fn take_node(buffer: &EventBuffer) {
    match sys::keeping_errno(page_sets::take) {
        Some(node) => buffer.set_pages(node),
        None => page_sets::count_missed(),
    }
}

#[inline]
fn node_of(buffer: &EventBuffer) -> Option<&'static Node> {
    // SAFETY: null, or a node of the list, which is never unmapped.
    unsafe { buffer.pages().get().as_ref() }
}

/// Notes the page runs that are still in buffers.
pub fn settle() {
    let Some(_guard) = RecursionGuard::enter() else { return };
    if let Some(session) = PROCESS.session()
        && PROCESS.is_recording()
        && PROCESS.writes_itself()
        && let Some(_lock) = sys::with_signals_blocked(|| FlushLock::take(session.header()))
    {
        page_sets::note_own_blocks(session);
    }
}

/// A buffer to look at.
#[derive(Clone, Copy, Debug)]
pub struct View<'b>(pub &'b EventBuffer);

impl View<'_> {
    pub fn pages(self, mut each: impl FnMut(TracedRun)) {
        let Some(node) = node_of(self.0) else { return };
        settle();
        for run in node.set.runs() {
            let last = match run.mark {
                Some(PageMark::Alloc) => PageEventKind::Alloc,
                Some(PageMark::Free) => PageEventKind::Free,
                Some(PageMark::Scavenge) => PageEventKind::Scavenge,
                None => continue,
            };
            each(TracedRun { base: (run.base.0 << page_shift()) as usize, pages: run.pages.0 as usize, last });
        }
    }

    pub fn buf(self, into: &mut [u64]) -> usize {
        self.with_words(|base, words| {
            let first = if base == 0 { [0; 2] } else { encode::time_base(base) };
            let first = if base == 0 { &first[..0] } else { &first[..] };
            let all = first.iter().copied().chain(words.iter().map(|word| word.load(Ordering::Relaxed)));
            into.iter_mut().zip(all).for_each(|(to, word)| *to = word);
            first.len() + words.len()
        })
        .unwrap_or(0)
    }

    pub fn mask(self) -> EventMask {
        EventMask(EventMask::ALL.0 & !self.0.masked_out().load(Ordering::Relaxed))
    }

    pub fn set_mask(self, mask: EventMask) {
        self.0.masked_out().store(!mask.0, Ordering::Relaxed);
    }

    pub fn cnts(self) -> u32 {
        let mut events = 0;
        self.with_words(|_, words| {
            // A reader wants plain words: one event at a time fits a small buffer.
            let mut at = 0;
            while at < words.len() {
                let mut one = [0; READ_WORDS];
                let (base, item) = one.split_at_mut(2);
                base.copy_from_slice(&encode::time_base(0));
                let count = item.len().min(words.len() - at);
                for (to, from) in item.iter_mut().zip(&words[at..]) {
                    *to = from.load(Ordering::Relaxed);
                }
                let mut rest = &one[..2 + count];
                match PackedReader::default().next(&mut rest) {
                    Ok(Some(PackedItem::Event(..))) => events += 1,
                    Ok(Some(PackedItem::Stack(..))) => {}
                    Ok(None) | Err(_) => break,
                }
                at += count - rest.len();
            }
        });
        events
    }

    /// The published words that are not in the file yet, while they cannot go away.
    fn with_words<T>(self, work: impl FnOnce(u64, &[core::sync::atomic::AtomicU64]) -> T) -> Option<T> {
        let _guard = RecursionGuard::enter()?;
        // By the looking thread's own mark: several may look at a buffer at a time.
        let mark = thread_state::current().buffer.mark()?;
        if !mark.begin(PROCESS.active()) {
            return None;
        }
        let result = self.0.buffered().map(|(words, base)| work(base, words));
        mark.end();
        result
    }
}

/// Words of the longest item, a stack, with two time bases in front.
const READ_WORDS: usize = 6 + pagetrace_format::encode::STACK_FRAMES_MAX;
