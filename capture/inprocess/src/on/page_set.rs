//! Which page runs one buffer has traced, and what was last done with each: for statistics at any time, also when
//! recording is off and the events are long gone.
//!
//! One thread writes, the buffer's owner ([`PageSet::note`]); anyone reads at any time, and nobody waits for anybody.
//! An open-addressed table of 16-byte slots in mapped memory that doubles; nothing is mapped before the first note.
//!
//! ```text
//!          63                        28 27                 0
//!  word 0   first page (36)            │ pages (28)            0: the slot is empty; it is never changed once written
//!          63                                    2 1       0
//!  word 1   tick                                  │ mark        0: none, 1: alloc, 2: free, 3: scavenge
//! ```
//! The key is word 0, so runs of one start and different lengths are different, and may overlap: [`page_statistics`] lets
//! each page have the mark with the latest tick. A new slot's word 1 is written first; later it is replaced whole.
//!
//! # Why readers never see unmapped memory
//! A reader counts itself before it looks where the table is; the owner that has moved to a larger table looks at the
//! count after it has said so. Zero readers then: no one can have the old table, it is unmapped. Otherwise it is kept for
//! the next time. [`PageSet::release`] unmaps nothing: it takes the memory away and leaves the addresses.

mod runs;
mod statistics;
mod table;

use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use pagetrace_format::{PageCount, PageIndex};

use runs::Reader;
use table::{
    CAPACITY_LOG_MAX, CAPACITY_LOG_MIN, FIRST_PAGE_BITS, MARK_BITS, MARK_MASK, PAGES_BITS, PAGES_MAX, Table, put,
    start_of,
};

pub use runs::{NotedRun, PageMark, Runs};
#[cfg(test)]
pub use statistics::PageStatistics;
pub use statistics::page_statistics;

/// Tables that readers may still have, at most. With more the set stays as large as it is.
const RETIRED_MAX: usize = 8;

/// See the file's header.
pub struct PageSet {
    /// Its address, and in the low bits the logarithm of its capacity; 0 where there is none.
    table: AtomicUsize,
    len: AtomicUsize,
    readers: AtomicU32,
    /// How often marks were cleared and memory released, so that a table that is being copied notices.
    clears: AtomicU32,
    releases: AtomicU32,
    missed: AtomicU64,
    retired: [AtomicUsize; RETIRED_MAX],
}

impl PageSet {
    /// Empty, no memory.
    pub const fn new() -> PageSet {
        PageSet {
            table: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            readers: AtomicU32::new(0),
            clears: AtomicU32::new(0),
            releases: AtomicU32::new(0),
            missed: AtomicU64::new(0),
            retired: [const { AtomicUsize::new(0) }; RETIRED_MAX],
        }
    }

    /// Notes what is done with a run. One that cannot be held is counted.
    ///
    /// # Safety
    /// No other thread is in this function for the same set.
    #[inline]
    pub unsafe fn note(&self, base: PageIndex, pages: PageCount, mark: PageMark, tick: u64) {
        let mark = tick << MARK_BITS | mark as u64;
        if base.0 >> FIRST_PAGE_BITS != 0 || pages.0.wrapping_sub(1) >= PAGES_MAX {
            // SAFETY: the caller's promise is the same.
            return unsafe { self.note_in_parts(base.0, pages.0, mark) };
        }
        // SAFETY: the caller's promise is the same.
        unsafe { self.note_run(base.0 << PAGES_BITS | pages.0, mark) };
    }

    /// # Safety
    /// As [`PageSet::note`].
    #[inline]
    unsafe fn note_run(&self, run: u64, mark: u64) {
        // The owner alone changes and unmaps the table, so it has the present one.
        let table = Table(self.table.load(Ordering::Relaxed));
        // SAFETY: the owner is here, so it does not unmap it.
        let slots = unsafe { table.slots() };
        let mask = slots.len().wrapping_sub(1);
        let mut index = if slots.is_empty() { 0 } else { start_of(run, table.capacity_log()) };
        // It ends, since `put` leaves an empty slot.
        while let Some(slot) = slots.get(index) {
            let found = slot.run.load(Ordering::Relaxed);
            if found == run {
                return slot.mark.store(mark, Ordering::Relaxed);
            }
            if found == 0 {
                break;
            }
            index = (index + 1) & mask;
        }
        // SAFETY: the caller's promise is the same.
        unsafe { self.note_new(run, mark) };
    }

    /// A run that is longer than an entry can say, or not at all where pages can be.
    ///
    /// # Safety
    /// As [`PageSet::note`].
    #[cold]
    unsafe fn note_in_parts(&self, mut base: u64, mut pages: u64, mark: u64) {
        while pages > 0 {
            if base >> FIRST_PAGE_BITS != 0 {
                self.missed.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let part = pages.min(PAGES_MAX);
            // SAFETY: the caller's promise is the same.
            unsafe { self.note_run(base << PAGES_BITS | part, mark) };
            base += part;
            pages -= part;
        }
    }

    /// # Safety
    /// As [`PageSet::note`], and the run is not in the table.
    #[cold]
    unsafe fn note_new(&self, run: u64, mark: u64) {
        let len = self.len.load(Ordering::Relaxed) + 1;
        // SAFETY: the owner is here, so it does not unmap the table while this looks at its length.
        let capacity = unsafe { Table(self.table.load(Ordering::Relaxed)).slots() }.len();
        // Three quarters of the slots at most; more, up to one empty slot in 16, only where the table cannot grow.
        // SAFETY: this is the owner, and it has no slots of the old table.
        if len * 4 > capacity * 3 && !unsafe { self.grow() } && len * 16 > capacity * 15 {
            self.missed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // SAFETY: as above.
        if unsafe { put(Table(self.table.load(Ordering::Relaxed)), run, mark) } {
            self.len.store(self.len.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        } else {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Moves to a table twice as large; false if that cannot be.
    ///
    /// # Safety
    /// As [`PageSet::note`], and the caller has no slots of the table.
    unsafe fn grow(&self) -> bool {
        let old = Table(self.table.load(Ordering::Relaxed));
        let capacity_log = if old == Table::NONE { CAPACITY_LOG_MIN } else { old.capacity_log() + 1 };
        self.unmap_retired();
        let Some(retired) = self.retired.iter().find(|retired| retired.load(Ordering::Relaxed) == 0) else {
            return false;
        };
        if capacity_log > CAPACITY_LOG_MAX {
            return false;
        }
        let new = Table::map(capacity_log);
        if new == Table::NONE {
            return false;
        }
        let (clears, releases) = (self.clears.load(Ordering::SeqCst), self.releases.load(Ordering::SeqCst));
        let mut len = 0;
        // SAFETY: the owner is here, so nobody unmaps it.
        for slot in unsafe { old.slots() } {
            let run = slot.run.load(Ordering::Relaxed);
            if run != 0 {
                // SAFETY: nobody else knows the new table yet, and it is the larger one.
                len += usize::from(unsafe { put(new, run, slot.mark.load(Ordering::Relaxed)) });
            }
        }
        self.len.store(len, Ordering::Relaxed);
        self.table.store(new.0, Ordering::SeqCst);
        // Who cleared or released the old table meanwhile, and did not see the new one, has counted before that.
        if self.releases.load(Ordering::SeqCst) != releases {
            self.release();
        } else if self.clears.load(Ordering::SeqCst) != clears {
            self.clear_marks();
        }
        retired.store(old.0, Ordering::Relaxed);
        self.unmap_retired();
        true
    }

    /// Unmaps the tables that were moved from, if nobody reads. Called by the owner alone.
    fn unmap_retired(&self) {
        if self.readers.load(Ordering::SeqCst) == 0 {
            for retired in &self.retired {
                // SAFETY: `table` has not named it since before the count was read, and whoever took it from there
                // had been counted.
                unsafe { Table(retired.swap(0, Ordering::Relaxed)).unmap() };
            }
        }
    }

    /// The runs at this moment; those noted meanwhile may be among them or not.
    pub fn runs(&self) -> Runs<'_> {
        Runs::new(self)
    }

    /// How many different runs there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// How many notes could not be held.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// Memory mapped, with tables that readers may still have.
    #[cfg(test)]
    pub fn bytes_mapped(&self) -> usize {
        let retired = self.retired.iter().map(|retired| Table(retired.load(Ordering::Relaxed)).bytes());
        Table(self.table.load(Ordering::Relaxed)).bytes() + retired.sum::<usize>()
    }

    /// Forgets what was last done with each run; the runs and their times stay. By any thread: a note that the owner
    /// makes at the same time may keep its mark.
    pub fn clear_marks(&self) {
        self.change_table(&self.clears, |table| {
            // SAFETY: the table is mapped while `change_table` counts as a reader.
            for slot in unsafe { table.slots() } {
                let mark = slot.mark.load(Ordering::Relaxed);
                // Where this fails the owner has just noted something newer.
                let _ = slot.mark.compare_exchange(mark, mark & !MARK_MASK, Ordering::Relaxed, Ordering::Relaxed);
            }
        });
    }

    /// All runs go, and the memory goes back to the kernel; its addresses stay reserved. By any thread: a note that
    /// the owner makes at the same time may stay.
    pub fn release(&self) {
        self.change_table(&self.releases, |table| {
            self.len.store(0, Ordering::Relaxed);
            // SAFETY: the table is mapped while `change_table` counts as a reader; all take zeros for empty slots.
            unsafe { table.empty() };
        });
        self.missed.store(0, Ordering::Relaxed);
    }

    /// Does `work` to the table, and again if the owner has moved to a larger one meanwhile. The owner, which copies
    /// before it moves, looks at the count afterwards: so one of the two sees the other.
    fn change_table(&self, count: &AtomicU32, work: impl Fn(Table)) {
        let reader = Reader::new(self);
        loop {
            let table = reader.table();
            work(table);
            count.fetch_add(1, Ordering::SeqCst);
            if reader.table() == table {
                return;
            }
        }
    }

    /// In a forked child: its readers were threads of the parent.
    ///
    /// # Safety
    /// The child has no other thread yet, and this one does not read the set.
    pub unsafe fn forget_readers_in_child(&self) {
        self.readers.store(0, Ordering::Relaxed);
    }

    /// Unmaps everything.
    #[cfg(test)]
    pub fn unmap(&mut self) {
        // The borrow says that there is no owner and no reader, also no leaked one.
        *self.readers.get_mut() = 0;
        self.retired.iter_mut().map(AtomicUsize::get_mut).chain([self.table.get_mut()]).for_each(|table| {
            // SAFETY: nobody has slots, and the set forgets it.
            unsafe { Table(core::mem::take(table)).unmap() };
        });
        *self.len.get_mut() = 0;
        *self.missed.get_mut() = 0;
    }
}

#[cfg(test)]
mod tests;
