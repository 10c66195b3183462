//! Readers of a page set: they are counted, so that the table that they look at stays mapped.

use core::slice;
use core::sync::atomic::Ordering;

use pagetrace_format::{PageCount, PageIndex};

use super::PageSet;
use super::table::{MARK_BITS, MARK_MASK, PAGES_BITS, PAGES_MAX, Slot, Table};

/// What was last done with a run of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum PageMark {
    /// It is in use.
    Alloc = 1,
    /// It is free, and the allocator has it.
    Free = 2,
    /// It was given back to the kernel.
    Scavenge = 3,
}

/// A run of pages that was traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotedRun {
    /// The first.
    pub base: PageIndex,
    /// How many.
    pub pages: PageCount,
    /// What was last done with it; `None` after [`PageSet::clear_marks`].
    pub mark: Option<PageMark>,
    /// When, in ticks of the recording's clock, of which 62 bits are kept.
    pub tick: u64,
}

/// One who looks at the table: counted as long as this lives.
pub struct Reader<'set> {
    set: &'set PageSet,
}

impl<'set> Reader<'set> {
    /// Counts one more.
    pub fn new(set: &'set PageSet) -> Reader<'set> {
        set.readers.fetch_add(1, Ordering::SeqCst);
        Reader { set }
    }

    /// The present table, mapped as long as the reader lives.
    pub fn table(&self) -> Table {
        Table(self.set.table.load(Ordering::SeqCst))
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.set.readers.fetch_sub(1, Ordering::Release);
    }
}

/// The runs of a [`PageSet`] at one moment; those noted meanwhile may be among them or not.
pub struct Runs<'set> {
    slots: slice::Iter<'set, Slot>,
    _reader: Reader<'set>,
}

impl<'set> Runs<'set> {
    /// From the set's present table.
    pub fn new(set: &'set PageSet) -> Runs<'set> {
        let reader = Reader::new(set);
        // SAFETY: it stays mapped as long as the reader is counted, and this has the reader.
        Runs { slots: unsafe { reader.table().slots() }.iter(), _reader: reader }
    }
}

impl Iterator for Runs<'_> {
    type Item = NotedRun;

    fn next(&mut self) -> Option<NotedRun> {
        loop {
            let slot = self.slots.next()?;
            let run = slot.run.load(Ordering::Acquire);
            if run != 0 {
                let word = slot.mark.load(Ordering::Relaxed);
                let mark = match word & MARK_MASK {
                    1 => Some(PageMark::Alloc),
                    2 => Some(PageMark::Free),
                    3 => Some(PageMark::Scavenge),
                    _ => None,
                };
                let (base, pages) = (PageIndex(run >> PAGES_BITS), PageCount(run & PAGES_MAX));
                return Some(NotedRun { base, pages, mark, tick: word >> MARK_BITS });
            }
        }
    }
}
