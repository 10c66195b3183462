//! What is known of each page that may be written: one record of 16 bytes, in tables of 1 GiB each that appear as pages do.
//!
//! ```text
//! epochs  31        0 63        32     writer  23        0 31   24 63               32
//!        ┌───────────┬───────────┐            ┌───────────┬───────┬───────────────────┐
//!        │last epoch │  written  │            │  writer   │ flags │ fault of this one │
//!        └───────────┴───────────┘            └───────────┴───────┴───────────────────┘
//! ```
//! The one who has the tracker writes them; everyone may read at any time. `epochs` is stored last, so one that is the same
//! before and after tells that `writer` belongs to it.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::sys;

/// The binary logarithm of the pages of a table: 1 GiB.
const LEAF_SHIFT: u32 = 18;
const LEAF_PAGES: usize = 1 << LEAF_SHIFT;
/// Tables of the addresses that programs have on x86-64.
const LEAVES: usize = 1 << (47 - 12 - LEAF_SHIFT);
/// The binary logarithm of the pages of a *unit*, 2 MiB.
const UNIT_SHIFT: u32 = 9;
/// Pages of a unit.
pub const UNIT_PAGES: usize = 1 << UNIT_SHIFT;
const UNITS: usize = LEAF_PAGES / UNIT_PAGES;

/// Bits of a record's flags.
pub mod flag {
    /// The page had contents of the program's at the last look.
    pub const HELD: u64 = 1 << 24;
    /// It was in memory then, so that the first fault of the epoch is that of a write.
    pub const IN_MEMORY: u64 = 1 << 25;
    /// It has been given back since it was written.
    pub const DISCARDED: u64 = 1 << 26;
}

const WRITER_MASK: u64 = (1 << 24) - 1;
const FAULT_SHIFT: u32 = 32;

/// One page.
#[repr(C)]
#[derive(Debug)]
pub struct Record {
    epochs: AtomicU64,
    writer: AtomicU64,
}

/// What a record says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The last epoch in which it was written, 0 for none.
    pub last_epoch: u32,
    /// In how many it was.
    pub epochs_written: u32,
    /// Number of who wrote first in the last, 0 for none.
    pub writer: u32,
    /// See [`flag::DISCARDED`].
    pub discarded: bool,
}

#[repr(C)]
struct Leaf {
    records: [Record; LEAF_PAGES],
    /// How many pages of each unit are held.
    held: [AtomicU32; UNITS],
    /// When a look at each unit began that protected what was written.
    looked_at: [AtomicU64; UNITS],
}

/// All records.
pub struct PageRecords {
    leaves: AtomicPtr<AtomicPtr<Leaf>>,
}

impl PageRecords {
    pub const fn new() -> PageRecords {
        PageRecords { leaves: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Makes room for the list of tables, once.
    pub fn make(&self) -> bool {
        if self.leaves.load(Ordering::Acquire).is_null() {
            // SAFETY: anywhere.
            let memory = unsafe { sys::map_zeroed(ptr::null(), LEAVES * size_of::<AtomicPtr<Leaf>>()) };
            let Some(memory) = memory else { return false };
            self.leaves.store(memory.cast_mut().cast(), Ordering::Release);
        }
        true
    }

    /// The record of a page, if its table is there.
    pub fn get(&self, page: usize) -> Option<&Record> {
        Some(&self.leaf(page)?.records[page % LEAF_PAGES])
    }

    /// The same, with its table. `None` without memory, and for addresses of the kernel.
    pub fn get_or_make(&self, page: usize) -> Option<&Record> {
        Some(&self.leaf_or_make(page)?.records[page % LEAF_PAGES])
    }

    /// Notes that a page has contents, or that it has none any more.
    pub fn set_held(&self, page: usize, held: bool, in_memory: bool) {
        let Some(leaf) = self.leaf_or_make(page) else { return };
        let record = &leaf.records[page % LEAF_PAGES];
        let count = &leaf.held[page % LEAF_PAGES / UNIT_PAGES];
        let was = record.writer.load(Ordering::Relaxed);
        let flags = if held { flag::HELD | if in_memory { flag::IN_MEMORY } else { 0 } } else { 0 };
        record.writer.store(was & !(flag::HELD | flag::IN_MEMORY) | flags, Ordering::Relaxed);
        match (was & flag::HELD != 0, held) {
            (false, true) => {
                count.fetch_add(1, Ordering::Relaxed);
            }
            (true, false) => {
                count.fetch_sub(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// How many pages of the page's unit are held.
    pub fn held_in_unit(&self, page: usize) -> u32 {
        self.leaf(page).map_or(0, |leaf| leaf.held[page % LEAF_PAGES / UNIT_PAGES].load(Ordering::Relaxed))
    }

    /// When the last look at the page's unit began; 0 for never.
    pub fn looked_at(&self, page: usize) -> u64 {
        self.leaf(page).map_or(0, |leaf| leaf.looked_at[page % LEAF_PAGES / UNIT_PAGES].load(Ordering::Relaxed))
    }

    /// Notes it for all units of a range of pages.
    pub fn set_looked_at(&self, pages: (usize, usize), time: u64) {
        for unit in units(pages) {
            if let Some(leaf) = self.leaf_or_make(unit.0) {
                leaf.looked_at[unit.0 % LEAF_PAGES / UNIT_PAGES].store(time, Ordering::Relaxed);
            }
        }
    }

    /// Calls `each` for the pages of a range that are held.
    pub fn for_each_held(&self, pages: (usize, usize), each: &mut dyn FnMut(usize)) {
        for (from, to) in units(pages) {
            if self.held_in_unit(from) == 0 {
                continue;
            }
            for page in from..to {
                if self.get(page).is_some_and(Record::is_held) {
                    each(page);
                }
            }
        }
    }

    /// Forgets a range of pages that is mapped no more.
    pub fn forget(&self, pages: (usize, usize)) {
        for (from, to) in units(pages) {
            let Some(leaf) = self.leaf(from) else { continue };
            for page in from..to {
                let record = &leaf.records[page % LEAF_PAGES];
                if record.epochs.load(Ordering::Relaxed) | record.writer.load(Ordering::Relaxed) != 0 {
                    self.set_held(page, false, false);
                    record.writer.store(0, Ordering::Relaxed);
                    record.epochs.store(0, Ordering::Release);
                }
            }
        }
    }

    /// Forgets everything and gives the memory back. Who reads finds nothing written.
    pub fn release(&self) {
        let list = self.leaves.load(Ordering::Acquire);
        if list.is_null() {
            return;
        }
        for index in 0..LEAVES {
            // SAFETY: the list has so many entries and is never unmapped.
            let leaf = unsafe { &*list.add(index) }.load(Ordering::Acquire);
            if !leaf.is_null() {
                // SAFETY: a mapping of this size that stays mapped; all zeros is what its atomics may become at any moment.
                unsafe { sys::give_pages_back(leaf.cast_const().cast(), size_of::<Leaf>()) };
            }
        }
    }

    fn leaf(&self, page: usize) -> Option<&Leaf> {
        let list = self.leaves.load(Ordering::Acquire);
        let index = page >> LEAF_SHIFT;
        if list.is_null() || index >= LEAVES {
            return None;
        }
        // SAFETY: the list has so many entries and is never unmapped; an entry is null or a mapping that is never unmapped.
        unsafe { (*list.add(index)).load(Ordering::Acquire).as_ref() }
    }

    fn leaf_or_make(&self, page: usize) -> Option<&Leaf> {
        if let Some(leaf) = self.leaf(page) {
            return Some(leaf);
        }
        let list = self.leaves.load(Ordering::Acquire);
        let index = page >> LEAF_SHIFT;
        if list.is_null() || index >= LEAVES {
            return None;
        }
        // SAFETY: anywhere.
        let memory = unsafe { sys::map_zeroed(ptr::null(), size_of::<Leaf>()) }?;
        // SAFETY: as in `leaf`. One thread makes tables: the one that has the tracker.
        unsafe { &*list.add(index) }.store(memory.cast_mut().cast(), Ordering::Release);
        self.leaf(page)
    }
}

impl Record {
    /// What it says now. To be called at any time.
    pub fn known(&self) -> Known {
        loop {
            let epochs = self.epochs.load(Ordering::Acquire);
            let writer = self.writer.load(Ordering::Acquire);
            if self.epochs.load(Ordering::Acquire) == epochs {
                return Known {
                    last_epoch: epochs as u32,
                    epochs_written: (epochs >> 32) as u32,
                    writer: (writer & WRITER_MASK) as u32,
                    discarded: writer & flag::DISCARDED != 0,
                };
            }
        }
    }

    /// See [`flag::HELD`].
    pub fn is_held(&self) -> bool {
        self.writer.load(Ordering::Relaxed) & flag::HELD != 0
    }

    /// See [`flag::IN_MEMORY`].
    pub fn is_in_memory(&self) -> bool {
        self.writer.load(Ordering::Relaxed) & flag::IN_MEMORY != 0
    }

    /// Number of the fault that was noted of it in this epoch, 0 for none.
    pub fn fault(&self) -> u32 {
        (self.writer.load(Ordering::Relaxed) >> FAULT_SHIFT) as u32
    }

    /// Notes one.
    pub fn set_fault(&self, fault: u32) {
        let rest = self.writer.load(Ordering::Relaxed) & ((1 << FAULT_SHIFT) - 1);
        self.writer.store(rest | u64::from(fault) << FAULT_SHIFT, Ordering::Relaxed);
    }

    /// Notes that it was written in an epoch.
    pub fn set_written(&self, epoch: u32, writer: u32) {
        let written = (self.epochs.load(Ordering::Relaxed) >> 32).saturating_add(1).min(u64::from(u32::MAX));
        let rest = self.writer.load(Ordering::Relaxed) & !(WRITER_MASK | flag::DISCARDED);
        self.writer.store(rest | u64::from(writer) & WRITER_MASK, Ordering::Release);
        self.epochs.store(u64::from(epoch) | written << 32, Ordering::Release);
    }

    /// Notes that it was given back.
    pub fn set_discarded(&self) {
        self.writer.fetch_or(flag::DISCARDED, Ordering::Relaxed);
    }
}

/// A range of pages in parts that do not cross a unit.
pub fn units((from, to): (usize, usize)) -> impl Iterator<Item = (usize, usize)> {
    let mut next = from;
    core::iter::from_fn(move || {
        let start = next;
        next = ((start / UNIT_PAGES + 1) * UNIT_PAGES).min(to);
        (start < to).then_some((start, next))
    })
}

const _: () = assert!(size_of::<Record>() == 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_cut_ranges_at_their_ends() {
        let check = |from, to, expected: &[(usize, usize)]| {
            assert_eq!(units((from, to)).collect::<Vec<_>>(), expected, "{from}..{to}");
        };
        check(5, 5, &[]);
        check(0, 512, &[(0, 512)]);
        check(510, 1030, &[(510, 512), (512, 1024), (1024, 1030)]);
    }

    #[test]
    fn a_record_says_what_it_was_told() {
        let records = PageRecords::new();
        assert!(records.get(0x1234).is_none() && records.make() && records.get(0x1234).is_none());
        let record = records.get_or_make(0x1234).expect("memory");
        assert_eq!(record.known(), Known::default());
        records.set_held(0x1234, true, true);
        record.set_fault(77);
        record.set_written(9, 5);
        record.set_written(12, 6);
        assert_eq!(record.known(), Known { last_epoch: 12, epochs_written: 2, writer: 6, discarded: false });
        assert_eq!((record.fault(), record.is_held(), record.is_in_memory()), (77, true, true));
        record.set_discarded();
        records.set_held(0x1234, false, false);
        assert!(record.known().discarded && !record.is_held());
        assert_eq!(records.held_in_unit(0x1234), 0);
        record.set_written(13, 0);
        assert!(!record.known().discarded);
        let mut held = Vec::new();
        records.set_held(0x1400, true, false);
        records.for_each_held((0x1000, 0x2000), &mut |page| held.push(page));
        assert_eq!(held, [0x1400]);
        records.forget((0x1234, 0x1235));
        assert_eq!(record.known(), Known::default());
        records.release();
        assert!(!records.get(0x1400).expect("its table stays").is_held());
        assert!(records.get_or_make(usize::MAX >> 12).is_none());
    }
}
