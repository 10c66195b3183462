//! The entries of one shard of the live-object table: rows in mapped memory, twice as many when they are four fifths full.

use core::{ptr, slice};

use crate::sys;

use super::entry::{Entry, innermost};
use super::row::{GRANULE_BYTES, Row, Slot, hash_of, tag_of};

/// A shard starts with a page.
const ROWS_MIN: usize = sys::PAGE_BYTES / size_of::<Row>();

/// See the file's header. Not synchronized: it is used under its shard's lock.
pub struct Rows {
    base: *mut Row,
    /// A power of two, or 0 where nothing is mapped.
    rows: usize,
    len: usize,
}

/// Where an entry is.
#[derive(Clone, Copy)]
struct Place {
    row: usize,
    slot: usize,
}

/// No memory for another entry.
pub struct NoMemory;

impl Rows {
    /// No entries, no memory.
    pub const fn new() -> Rows {
        Rows { base: ptr::null_mut(), rows: 0, len: 0 }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Memory mapped for them: whole pages.
    pub fn bytes_mapped(&self) -> usize {
        self.rows * size_of::<Row>()
    }

    #[inline]
    fn rows(&mut self) -> &mut [Row] {
        if self.base.is_null() {
            return &mut [];
        }
        // SAFETY: a mapping of this many rows, for which zeros are valid, and which nobody else knows.
        unsafe { slice::from_raw_parts_mut(self.base, self.rows) }
    }

    /// The rows in which an entry of this hash may be, with their numbers.
    #[inline]
    fn search(&mut self, hash: u64) -> impl Iterator<Item = (usize, &Row)> {
        let rows = &*self.rows();
        let mask = rows.len().wrapping_sub(1);
        let mut passed_by = true;
        (0..rows.len()).map_while(move |step| {
            let index = (hash as usize).wrapping_add(step) & mask;
            let row = rows.get(index).filter(|_| passed_by)?;
            passed_by = row.was_passed();
            Some((index, row))
        })
    }

    #[inline]
    fn place_of(&mut self, hash: u64, address: usize) -> Option<Place> {
        for (index, row) in self.search(hash) {
            for (slot, found) in row.with_tag(tag_of(hash)) {
                if found.address() == address {
                    return Some(Place { row: index, slot });
                }
            }
        }
        None
    }

    #[inline]
    fn slot_at(&mut self, place: Place) -> &mut Slot {
        self.rows()[place.row].slot(place.slot)
    }

    /// The entry at the address.
    #[inline]
    pub fn get(&mut self, hash: u64, address: usize) -> Option<Entry> {
        self.place_of(hash, address).map(|place| self.slot_at(place).entry())
    }

    /// Puts an entry in. Returns the one at the same address that it replaces.
    #[inline]
    pub fn insert(&mut self, hash: u64, entry: &Entry) -> Result<Option<Entry>, NoMemory> {
        if let Some(place) = self.place_of(hash, entry.address) {
            let slot = self.slot_at(place);
            let replaced = slot.entry();
            *slot = Slot::new(entry);
            return Ok(Some(replaced));
        }
        // Four in a row on average; more, up to nine in two, only where no memory is to be had.
        if self.len >= self.rows * 4 && !self.grow() && self.len * 2 >= self.rows * 9 {
            return Err(NoMemory);
        }
        self.put(hash, Slot::new(entry));
        Ok(None)
    }

    /// Puts in what is not there. There is a vacant slot.
    #[inline]
    fn put(&mut self, hash: u64, slot: Slot) {
        let rows = self.rows();
        let mask = rows.len().wrapping_sub(1);
        let mut index = hash as usize & mask;
        while !rows[index].put(tag_of(hash), slot) {
            index = (index + 1) & mask;
        }
        self.len += 1;
    }

    /// Takes an entry out.
    #[inline]
    pub fn remove(&mut self, hash: u64, address: usize) -> Option<Entry> {
        let place = self.place_of(hash, address)?;
        let rows = self.rows();
        let mask = rows.len().wrapping_sub(1);
        let mut index = hash as usize & mask;
        while index != place.row {
            rows[index].uncount();
            index = (index + 1) & mask;
        }
        let removed = rows[index].take(place.slot).entry();
        self.len -= 1;
        Some(removed)
    }

    /// Changes whether the object with this id at the address is announced; false if it is not there.
    pub fn set_announced(&mut self, hash: u64, address: usize, id: u64, announced: bool) -> bool {
        let Some(place) = self.place_of(hash, address) else { return false };
        let slot = self.slot_at(place);
        let same = slot.id() == id;
        if same {
            slot.set_announced(announced);
        }
        same
    }

    /// Of the objects that start in `granule` (an address divided by [`GRANULE_BYTES`]) and hold `address`, the last.
    pub fn containing_from(&mut self, hash: u64, granule: usize, address: usize) -> Option<Entry> {
        let mut best = None;
        for (_, row) in self.search(hash) {
            for (_, slot) in row.with_tag(tag_of(hash)) {
                if slot.address() / GRANULE_BYTES == granule && slot.entry().holds(address) {
                    best = innermost(best, slot.entry());
                }
            }
        }
        best
    }

    /// Of all objects that hold `address`, the one that starts last. Looks at every slot.
    pub fn containing(&mut self, address: usize) -> Option<Entry> {
        let mut best = None;
        for row in self.rows() {
            for slot in row.used() {
                if slot.address() <= address && slot.entry().holds(address) {
                    best = innermost(best, slot.entry());
                }
            }
        }
        best
    }

    /// Calls `work` for each entry and stores what it changed, but for the address; ends early when it returns false.
    pub fn for_each(&mut self, mut work: impl FnMut(&mut Entry) -> bool) -> bool {
        for row in self.rows() {
            for slot in row.used_mut() {
                let before = slot.entry();
                let mut entry = before;
                let goes_on = work(&mut entry);
                if entry != before {
                    *slot = Slot::new(&Entry { address: before.address, ..entry });
                }
                if !goes_on {
                    return false;
                }
            }
        }
        true
    }

    /// Doubles the memory; false if there is none.
    #[cold]
    fn grow(&mut self) -> bool {
        let rows = (self.rows * 2).max(ROWS_MIN);
        // Every page of it is about to be written, since hashes are everywhere.
        let base = sys::keeping_errno(|| sys::map_populated(rows * size_of::<Row>()));
        let Some(base) = base else { return false };
        let mut grown = Rows { base: base as *mut Row, rows, len: 0 };
        for row in self.rows() {
            row.used().for_each(|slot| grown.put(hash_of(slot.address()), *slot));
        }
        self.release();
        *self = grown;
        true
    }

    /// All entries go, and the memory.
    pub fn release(&mut self) {
        let released = core::mem::replace(self, Rows::new());
        if !released.base.is_null() {
            // SAFETY: nobody else knows the mapping, and this was the last that referred to it.
            sys::keeping_errno(|| unsafe { sys::unmap(released.base.cast(), released.bytes_mapped()) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(address: usize) -> Entry {
        Entry { address, id: address as u64, bucket: 0, size: 16, announced: true }
    }

    #[test]
    fn removals_leave_nothing_behind() {
        let mut rows = Rows::new();
        let addresses = || (1..=30_000_usize).map(|object| object * 16);
        let passed = |rows: &mut Rows| rows.rows().iter().filter(|row| row.was_passed()).count();
        for address in addresses() {
            assert!(rows.insert(hash_of(address), &entry(address)).is_ok());
        }
        assert!(passed(&mut rows) > 0, "no row was ever full: nothing was tested");
        for address in addresses() {
            assert_eq!(rows.remove(hash_of(address), address), Some(entry(address)));
        }
        assert_eq!((rows.len(), passed(&mut rows)), (0, 0));
        assert!(rows.for_each(|entry| panic!("{entry:?} was taken out")));
        rows.release();
    }

    #[test]
    fn objects_of_one_hash_are_found_and_taken_out_over_many_rows() {
        let mut rows = Rows::new();
        // All of them want the same row, the last of the table, so that they go on at its start.
        let hash = u64::MAX;
        for address in 1..=60 {
            assert!(rows.insert(hash, &entry(address)).is_ok());
        }
        for address in (1..=60).rev() {
            assert_eq!(rows.get(hash, address), Some(entry(address)));
            assert_eq!(rows.remove(hash, address), Some(entry(address)));
            assert_eq!(rows.get(hash, address), None);
        }
        assert!(rows.rows().iter().all(|row| !row.was_passed()));
        rows.release();
    }
}
