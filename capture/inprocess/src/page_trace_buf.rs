//! The page-trace buffer: one for each thread, one for callers without a thread, and any that an allocator owns.

use core::cell::Cell;
use core::marker::PhantomData;

use crate::twin;

/// What happened to a run of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PageEventKind {
    /// The allocator took it into use.
    Alloc = 1,
    /// The allocator freed it and keeps it.
    Free = 2,
    /// The allocator gave it back to the kernel.
    Scavenge = 3,
}

/// Kinds of events, as a set of bits.
///
/// ```
/// use pagetrace::EventMask;
/// let pages = EventMask::PAGE_ALLOC | EventMask::PAGE_FREE;
/// assert!(pages.contains(EventMask::PAGE_FREE) && !pages.contains(EventMask::OBJECT_ALLOC));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventMask(pub u32);

impl EventMask {
    /// Page runs taken into use.
    pub const PAGE_ALLOC: EventMask = EventMask(1 << 1);
    /// Page runs freed.
    pub const PAGE_FREE: EventMask = EventMask(1 << 2);
    /// Page runs given back to the kernel.
    pub const PAGE_SCAVENGE: EventMask = EventMask(1 << 3);
    /// Objects that come to life.
    pub const OBJECT_ALLOC: EventMask = EventMask(1 << 4);
    /// Objects that die.
    pub const OBJECT_FREE: EventMask = EventMask(1 << 5);
    /// Nothing.
    pub const NONE: EventMask = EventMask(0);
    /// Everything.
    pub const ALL: EventMask = EventMask(0b11_1110);

    /// Whether all of `other` is in it.
    #[must_use]
    pub const fn contains(self, other: EventMask) -> bool {
        self.0 & other.0 == other.0
    }
}

impl core::ops::BitOr for EventMask {
    type Output = EventMask;

    fn bitor(self, other: EventMask) -> EventMask {
        EventMask(self.0 | other.0)
    }
}

/// A page run that a buffer has traced, and the last that happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracedRun {
    /// Address of its first byte.
    pub base: usize,
    /// How many pages of [`page_bytes`](crate::page_bytes).
    pub pages: usize,
    /// What happened last to a run of this base and length.
    pub last: PageEventKind,
}

/// A page-trace buffer that an allocator owns: `pages`, `buf`, `mask` and `cnts`.
///
/// Events of one buffer are one stream of the trace, in the order of the calls. Compiled out it has no size. It may go
/// from thread to thread, but only one may look at it at a time.
///
/// ```
/// let mut trace = pagetrace::PageTraceBuf::new();
/// trace.alloc(0x10_0000, 16);
/// trace.free(0x10_0000, 16);
/// trace.scav(0x10_0000, 16);
/// ```
#[derive(Debug)]
pub struct PageTraceBuf(twin::PageTraceBuf, PhantomData<Cell<()>>);

impl PageTraceBuf {
    /// A buffer with all kinds of events in its mask. It takes memory at its first event.
    #[inline]
    #[must_use]
    pub const fn new() -> PageTraceBuf {
        PageTraceBuf(twin::PageTraceBuf::new(), PhantomData)
    }

    /// Records that the `pages` pages of [`page_bytes`](crate::page_bytes) from the address `base` on were taken into
    /// use. To be called after the allocator has them, and before it lets go of the lock under which it took them.
    #[inline]
    pub fn alloc(&mut self, base: usize, pages: usize) {
        self.0.page_event(PageEventKind::Alloc, base, pages);
    }

    /// Records that they were freed and are kept. To be called before another thread can take them.
    #[inline]
    pub fn free(&mut self, base: usize, pages: usize) {
        self.0.page_event(PageEventKind::Free, base, pages);
    }

    /// Records that they were given back to the kernel. They should be free.
    #[inline]
    pub fn scav(&mut self, base: usize, pages: usize) {
        self.0.page_event(PageEventKind::Scavenge, base, pages);
    }

    /// Calls `each` for the page runs that were traced, in no order. They stay after [`off`](crate::off) and
    /// [`finish`](crate::finish), until [`reset`](crate::reset).
    #[inline]
    pub fn pages(&self, each: impl FnMut(TracedRun)) {
        self.0.pages(each);
    }

    /// Copies the encoded events that are not in the file yet (packed words, TRACE_FORMAT.md) to the front of `into`,
    /// as far as it is long. Returns how many words there are.
    #[inline]
    pub fn buf(&self, into: &mut [u64]) -> usize {
        self.0.buf(into)
    }

    /// Which kinds of events it records.
    #[inline]
    #[must_use]
    pub fn mask(&self) -> EventMask {
        self.0.mask()
    }

    /// Chooses which kinds of events it records from now on.
    #[inline]
    pub fn set_mask(&self, mask: EventMask) {
        self.0.set_mask(mask);
    }

    /// How many events it holds that are not in the file yet.
    #[inline]
    #[must_use]
    pub fn cnts(&self) -> u32 {
        self.0.cnts()
    }

    /// Hands its events over to be written, as dropping it does.
    #[inline]
    pub fn flush(&mut self) {
        self.0.flush();
    }
}

impl Default for PageTraceBuf {
    fn default() -> PageTraceBuf {
        PageTraceBuf::new()
    }
}

/// The calling thread's buffer. The events of its objects are in it, too.
#[inline]
#[must_use]
pub fn thread_buf() -> ThreadBuf {
    ThreadBuf { shared: false, not_send: PhantomData }
}

/// The buffer of callers without a thread of their own, such as signal handlers and code that runs while a thread
/// starts or ends. Each call locks it for a moment; an event for which it is taken is counted as lost.
#[inline]
#[must_use]
pub fn shared_buf() -> ThreadBuf {
    ThreadBuf { shared: true, not_send: PhantomData }
}

/// The buffer of [`thread_buf`] or [`shared_buf`], with the methods of [`PageTraceBuf`].
#[derive(Debug)]
pub struct ThreadBuf {
    shared: bool,
    not_send: PhantomData<*const ()>,
}

impl ThreadBuf {
    /// See [`PageTraceBuf::alloc`].
    #[inline]
    pub fn alloc(&self, base: usize, pages: usize) {
        twin::page_event(self.shared, PageEventKind::Alloc, base, pages);
    }

    /// See [`PageTraceBuf::free`].
    #[inline]
    pub fn free(&self, base: usize, pages: usize) {
        twin::page_event(self.shared, PageEventKind::Free, base, pages);
    }

    /// See [`PageTraceBuf::scav`].
    #[inline]
    pub fn scav(&self, base: usize, pages: usize) {
        twin::page_event(self.shared, PageEventKind::Scavenge, base, pages);
    }

    /// See [`PageTraceBuf::pages`].
    #[inline]
    pub fn pages(&self, each: impl FnMut(TracedRun)) {
        twin::with_buf(self.shared, |buf| buf.pages(each));
    }

    /// See [`PageTraceBuf::buf`].
    #[inline]
    pub fn buf(&self, into: &mut [u64]) -> usize {
        twin::with_buf(self.shared, |buf| buf.buf(into)).unwrap_or(0)
    }

    /// See [`PageTraceBuf::mask`].
    #[inline]
    #[must_use]
    pub fn mask(&self) -> EventMask {
        twin::with_buf(self.shared, |buf| buf.mask()).unwrap_or(EventMask::NONE)
    }

    /// See [`PageTraceBuf::set_mask`].
    #[inline]
    pub fn set_mask(&self, mask: EventMask) {
        twin::with_buf(self.shared, |buf| buf.set_mask(mask));
    }

    /// See [`PageTraceBuf::cnts`].
    #[inline]
    #[must_use]
    pub fn cnts(&self) -> u32 {
        twin::with_buf(self.shared, |buf| buf.cnts()).unwrap_or(0)
    }

    /// See [`PageTraceBuf::flush`].
    #[inline]
    pub fn flush(&self) {
        twin::flush_buf(self.shared);
    }
}
