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

    /// Makes every slot empty and gives the memory back, but not its addresses.
    ///
    /// # Safety
    /// The table is mapped.
    pub unsafe fn empty(self) {
        // SAFETY: the table's own mapping, of atomics, which may become zero at any time.
        let given = self == Table::NONE
            || sys::keeping_errno(|| unsafe { sys::give_pages_back(self.base().cast(), self.bytes()) });
        if !given {
            // Locked by the program, as by mlockall(2): the memory stays.
            // SAFETY: the caller's promise is the same.
            for slot in unsafe { self.slots() } {
                slot.run.store(0, Ordering::Relaxed);
                slot.mark.store(0, Ordering::Relaxed);
            }
        }
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

/// Puts a run that is not there into a table; false if it would take the last empty slot, at which searches end.
///
/// # Safety
/// The table is mapped, and nobody else puts anything into it.
pub unsafe fn put(table: Table, run: u64, mark: u64) -> bool {
    // SAFETY: the caller's promise is the same.
    let slots = unsafe { table.slots() };
    if slots.is_empty() {
        return false;
    }
    let start = start_of(run, table.capacity_log());
    let from_start = slots[start..].iter().chain(&slots[..start]);
    let mut vacant = from_start.filter(|slot| slot.run.load(Ordering::Relaxed) == 0);
    let (Some(slot), Some(_)) = (vacant.next(), vacant.next()) else { return false };
    // A reader that sees the run sees its mark.
    slot.mark.store(mark, Ordering::Relaxed);
    slot.run.store(run, Ordering::Release);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_empty_slot_stays() {
        let table = Table::map(CAPACITY_LOG_MIN);
        // SAFETY: a new table, which nobody else has.
        let taken = (1..=1000).filter(|&run| unsafe { put(table, run, 0) }).count();
        assert_eq!(taken, (1 << CAPACITY_LOG_MIN) - 1);
        // SAFETY: there are no more slots of it.
        unsafe { table.unmap() };
    }
}
