//! What several page sets say together: each page counts once, with the mark that was noted last on it.
//!
//! All runs are copied to scratch memory and sorted by their start; a sweep keeps those that cover its place in a heap,
//! latest tick on top. n log n for n runs, 24 bytes each for the runs and 16 for the heap, given back at the end.

use core::{mem, ptr, slice};

use pagetrace_format::PageCount;

use crate::sys;

use super::{NotedRun, PageMark, PageSet};

/// Pages that were traced, each counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageStatistics {
    /// All of them: the sum of those that follow.
    pub distinct: PageCount,
    /// Last allocated.
    pub in_use: PageCount,
    /// Last freed.
    pub free: PageCount,
    /// Last given back to the kernel.
    pub scavenged: PageCount,
    /// What was done with them last was forgotten when recording went off.
    pub unmarked: PageCount,
    /// Runs in the sets.
    pub runs: u64,
    /// Notes that the sets could not hold: with any, the figures are too small.
    pub missed: u64,
}

/// There is no memory to sort the runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatisticsError {
    /// So many bytes were asked for.
    pub bytes: usize,
}

/// A run between its first page and one past its last.
#[derive(Clone, Copy)]
struct Span {
    start: u64,
    end: u64,
    last: Last,
}

/// What orders runs on the same page: time, then mark, so that the result does not depend on the order of the sets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Last {
    tick_and_mark: u64,
}

/// A span that the sweep is inside of, or has left without noticing yet.
#[derive(Clone, Copy)]
struct Open {
    last: Last,
    end: u64,
}

/// The statistics of the union of sets.
///
/// # Errors
/// The kernel gives no memory to sort in.
pub fn page_statistics<'set>(sets: impl Iterator<Item = &'set PageSet>) -> Result<PageStatistics, StatisticsError> {
    let mut spans = Scratch::<Span>::new();
    let mut statistics = PageStatistics::default();
    for set in sets {
        statistics.missed += set.missed();
        for run in set.runs() {
            spans.push(Span::new(&run))?;
        }
    }
    let spans = spans.items();
    statistics.runs = spans.len() as u64;
    spans.sort_unstable_by_key(|span| span.start);
    let mut heap = Heap { open: Scratch::new() };
    let mut waiting = spans.iter().peekable();
    let mut place = 0;
    while waiting.peek().is_some() || !heap.is_empty() {
        if heap.is_empty() {
            place = waiting.peek().map_or(place, |span| span.start);
        }
        while let Some(span) = waiting.next_if(|span| span.start <= place) {
            heap.push(Open { last: span.last, end: span.end })?;
        }
        let Some(top) = heap.top() else { continue };
        let end = waiting.peek().map_or(top.end, |next| next.start.min(top.end));
        if end > place {
            statistics.add(top.last, PageCount(end - place));
            place = end;
        }
        while heap.top().is_some_and(|top| top.end <= place) {
            heap.pop();
        }
    }
    Ok(statistics)
}

impl PageStatistics {
    fn add(&mut self, last: Last, pages: PageCount) {
        let part = match last.mark() {
            Some(PageMark::Alloc) => &mut self.in_use,
            Some(PageMark::Free) => &mut self.free,
            Some(PageMark::Scavenge) => &mut self.scavenged,
            None => &mut self.unmarked,
        };
        part.0 += pages.0;
        self.distinct.0 += pages.0;
    }
}

impl Span {
    fn new(run: &NotedRun) -> Span {
        Span { start: run.base.0, end: run.base.0 + run.pages.0, last: Last::new(run.tick, run.mark) }
    }
}

impl Last {
    fn new(tick: u64, mark: Option<PageMark>) -> Last {
        Last { tick_and_mark: tick << 2 | mark.map_or(0, |mark| mark as u64) }
    }

    fn mark(self) -> Option<PageMark> {
        match self.tick_and_mark & 3 {
            1 => Some(PageMark::Alloc),
            2 => Some(PageMark::Free),
            3 => Some(PageMark::Scavenge),
            _ => None,
        }
    }
}

/// A binary heap with the latest on top.
struct Heap {
    open: Scratch<Open>,
}

impl Heap {
    fn is_empty(&self) -> bool {
        self.open.len == 0
    }

    fn top(&mut self) -> Option<Open> {
        self.open.items().first().copied()
    }

    fn push(&mut self, open: Open) -> Result<(), StatisticsError> {
        self.open.push(open)?;
        let items = self.open.items();
        let mut index = items.len() - 1;
        while index > 0 && items[(index - 1) / 2].last < items[index].last {
            items.swap(index, (index - 1) / 2);
            index = (index - 1) / 2;
        }
        Ok(())
    }

    fn pop(&mut self) {
        let items = self.open.items();
        let Some(end) = items.len().checked_sub(1) else { return };
        items.swap(0, end);
        self.open.len = end;
        let items = self.open.items();
        let mut index = 0;
        loop {
            let children = (2 * index + 1)..(2 * index + 3).min(end);
            let Some(child) = children.max_by_key(|&child| items[child].last) else { return };
            if items[child].last <= items[index].last {
                return;
            }
            items.swap(index, child);
            index = child;
        }
    }
}

/// A list in mapped memory that doubles.
struct Scratch<T: Copy> {
    base: *mut T,
    capacity: usize,
    len: usize,
}

impl<T: Copy> Scratch<T> {
    fn new() -> Scratch<T> {
        Scratch { base: ptr::null_mut(), capacity: 0, len: 0 }
    }

    fn bytes(&self) -> usize {
        sys::whole_pages(self.capacity * size_of::<T>())
    }

    fn push(&mut self, item: T) -> Result<(), StatisticsError> {
        if self.len == self.capacity {
            self.grow()?;
        }
        // SAFETY: inside the mapping, which nobody else knows.
        unsafe { self.base.add(self.len).write(item) };
        self.len += 1;
        Ok(())
    }

    fn items(&mut self) -> &mut [T] {
        if self.base.is_null() {
            return &mut [];
        }
        // SAFETY: so many were written, to a mapping that nobody else knows.
        unsafe { slice::from_raw_parts_mut(self.base, self.len) }
    }

    #[cold]
    fn grow(&mut self) -> Result<(), StatisticsError> {
        let capacity = (self.capacity * 2).max(sys::PAGE_BYTES / size_of::<T>());
        let bytes = sys::whole_pages(capacity * size_of::<T>());
        // SAFETY: at an address of the kernel's choice.
        let base = sys::keeping_errno(|| unsafe { sys::map_zeroed(ptr::null(), bytes) });
        let base = base.ok_or(StatisticsError { bytes })? as *mut T;
        let mut grown = Scratch { base, capacity, len: self.len };
        if !self.base.is_null() {
            // SAFETY: what was written so far, to a larger mapping that is not the old one.
            unsafe { ptr::copy_nonoverlapping(self.base, grown.base, self.len) };
        }
        mem::swap(self, &mut grown);
        Ok(())
    }
}

impl<T: Copy> Drop for Scratch<T> {
    fn drop(&mut self) {
        if !self.base.is_null() {
            // SAFETY: nobody else knows the mapping.
            sys::keeping_errno(|| unsafe { sys::unmap(self.base.cast(), self.bytes()) });
        }
    }
}
