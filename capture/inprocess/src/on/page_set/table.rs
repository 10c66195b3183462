//! The table of a page set: slots in mapped memory, and how a run and its mark are packed (drawn in `page_set.rs`).

use core::sync::atomic::{AtomicU64, Ordering};
use core::{ptr, slice};

use crate::sys;

/// Bits of a run's length.
pub const PAGES_BITS: u32 = 28;
/// Pages in a run, at most.
pub const PAGES_MAX: u64 = (1 << PAGES_BITS) - 1;
/// Bits of a run's first page.
pub const FIRST_PAGE_BITS: u32 = 64 - PAGES_BITS;
/// Bits of a mark's kind.
pub const MARK_BITS: u32 = 2;
/// Those bits.
pub const MARK_MASK: u64 = (1 << MARK_BITS) - 1;

/// The logarithm of the smallest table's number of slots: one page.
pub const CAPACITY_LOG_MIN: u32 = 8;
/// The largest.
pub const CAPACITY_LOG_MAX: u32 = 32;

/// All zeros: empty.
#[repr(C)]
pub struct Slot {
    /// Word 0.
    pub run: AtomicU64,
    /// Word 1.
    pub mark: AtomicU64,
}

const _: () = assert!(size_of::<Slot>() == 16);

/// A table as a page set has it in one word: its address, and in the low bits the logarithm of its capacity.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Table(pub usize);

impl Table {
    /// Nothing is mapped.
    pub const NONE: Table = Table(0);

    /// Maps one, or none if there is no memory.
    pub fn map(capacity_log: u32) -> Table {
        let base = sys::keeping_errno(|| sys::map_populated(size_of::<Slot>() << capacity_log));
        base.map_or(Table::NONE, |base| Table(base.expose_provenance() | capacity_log as usize))
    }

    /// The logarithm of the number of slots.
    #[inline]
    pub fn capacity_log(self) -> u32 {
        (self.0 % sys::PAGE_BYTES) as u32
    }

    /// Memory mapped for it.
    pub fn bytes(self) -> usize {
        if self == Table::NONE { 0 } else { size_of::<Slot>() << self.capacity_log() }
    }

    /// Where it is.
    pub fn base(self) -> *const Slot {
        ptr::with_exposed_provenance(self.0 & !(sys::PAGE_BYTES - 1))
    }

    /// All slots.
    ///
    /// # Safety
    /// The table stays mapped as long as the slots are used.
    #[inline]
    pub unsafe fn slots<'table>(self) -> &'table [Slot] {
        if self == Table::NONE {
            return &[];
        }
        // SAFETY: a mapping of so many slots; zeros are valid, and atomics may change at any time.
        unsafe { slice::from_raw_parts(self.base(), 1 << self.capacity_log()) }
    }

    /// Gives the memory up.
    ///
    /// # Safety
    /// Nobody has its slots, and nobody will.
    pub unsafe fn unmap(self) {
        if self != Table::NONE {
            // SAFETY: the caller gives it up.
            sys::keeping_errno(|| unsafe { sys::unmap(self.base().cast(), self.bytes()) });
        }
    }
}

/// Where probing for a run starts. Fibonacci hashing: the high bits are the good ones.
#[inline]
pub fn start_of(run: u64, capacity_log: u32) -> usize {
    (run.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - capacity_log)) as usize
}

/// Puts a run that is not there into a table with an empty slot.
///
/// # Safety
/// The table is mapped, and nobody else puts anything into it.
pub unsafe fn put(table: Table, run: u64, mark: u64) {
    // SAFETY: the caller's promise is the same.
    let slots = unsafe { table.slots() };
    let mut index = start_of(run, table.capacity_log());
    while slots[index].run.load(Ordering::Relaxed) != 0 {
        index = (index + 1) % slots.len();
    }
    // A reader that sees the run sees its mark.
    slots[index].mark.store(mark, Ordering::Relaxed);
    slots[index].run.store(run, Ordering::Release);
}
