//! The entries of one shard of the live-object table: an open-addressed array in mapped memory.
//!
//! ```text
//!             63        62      56 55                                             0
//!  word 0   announced │ size high │ address                                         0: the slot is empty
//!             63                                                                  0
//!  word 1   id
//!             63                    32 31                                         0
//!  word 2   bucket                    │ size low
//! ```
//! Size: 38 bits of bytes, or with bit 38 set 38 bits of 4096 bytes, rounded up: exact below 256 GiB. Addresses have at
//! most 56 bits on x86-64, with five levels of page tables too. So an entry is 24 bytes, 32 at the highest load.
//!
//! Linear probing; a removal moves what follows back, so that there are no tombstones and probes stay short.

use core::{ptr, slice};

use crate::sys;

use super::Entry;

/// An empty slot is all zeros.
#[derive(Clone, Copy)]
#[repr(C)]
struct Slot {
    word0: u64,
    id: u64,
    word2: u64,
}

const _: () = assert!(size_of::<Slot>() == 24);

const ADDRESS_BITS: u32 = 56;
const ADDRESS_MASK: u64 = (1 << ADDRESS_BITS) - 1;
const ANNOUNCED: u64 = 1 << 63;
const SIZE_HIGH_BITS: u32 = 7;
const SIZE_BITS: u32 = 32 + SIZE_HIGH_BITS - 1;
const SIZE_SCALED: u64 = 1 << SIZE_BITS;
const SIZE_SCALE: u64 = 4096;

/// Three quarters of a page. A shard starts with it.
const CAPACITY_MIN: usize = 128;

/// Objects in the same 16 bytes have the same place to start probing from.
pub const GRANULE_BYTES: usize = 16;

/// The highest address that an entry can have.
pub const ADDRESS_MAX: usize = ADDRESS_MASK as usize;

/// See the file's header. Not synchronized: it is used under its shard's lock.
pub struct Slots {
    base: *mut Slot,
    /// A power of two, or 0 where nothing is mapped.
    capacity: usize,
    len: usize,
}

/// Where an address is, or would be.
enum Place {
    Taken(usize),
    Vacant(usize),
}

/// No memory for another entry.
pub struct NoMemory;

/// Spreads addresses; the low bits choose a slot, the high ones are for the choice of a shard.
#[inline]
pub fn hash_of(address: usize) -> u64 {
    let product = u128::from((address / GRANULE_BYTES) as u64) * 0x9e37_79b9_7f4a_7c15;
    (product >> 64) as u64 ^ product as u64
}

impl Slot {
    const EMPTY: Slot = Slot { word0: 0, id: 0, word2: 0 };

    #[inline]
    fn new(entry: &Entry) -> Slot {
        let size = if entry.size < SIZE_SCALED {
            entry.size
        } else {
            SIZE_SCALED | entry.size.div_ceil(SIZE_SCALE).min(SIZE_SCALED - 1)
        };
        let announced = if entry.announced { ANNOUNCED } else { 0 };
        Slot {
            word0: announced | size >> 32 << ADDRESS_BITS | entry.address as u64,
            id: entry.id,
            word2: u64::from(entry.bucket) << 32 | size & u64::from(u32::MAX),
        }
    }

    #[inline]
    fn address(&self) -> usize {
        (self.word0 & ADDRESS_MASK) as usize
    }

    #[inline]
    fn entry(&self) -> Entry {
        let high = self.word0 >> ADDRESS_BITS & ((1 << SIZE_HIGH_BITS) - 1);
        let size = high << 32 | self.word2 & u64::from(u32::MAX);
        Entry {
            address: self.address(),
            id: self.id,
            bucket: (self.word2 >> 32) as u32,
            size: if size & SIZE_SCALED == 0 { size } else { (size & (SIZE_SCALED - 1)) * SIZE_SCALE },
            announced: self.word0 & ANNOUNCED != 0,
        }
    }
}

impl Slots {
    /// No entries, no memory.
    pub const fn new() -> Slots {
        Slots { base: ptr::null_mut(), capacity: 0, len: 0 }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Memory mapped for them.
    pub fn bytes_mapped(&self) -> usize {
        sys::whole_pages(self.capacity * size_of::<Slot>())
    }

    #[inline]
    fn slots(&mut self) -> &mut [Slot] {
        if self.base.is_null() {
            return &mut [];
        }
        // SAFETY: a mapping of this many slots, for which zeros are valid, and which nobody else knows.
        unsafe { slice::from_raw_parts_mut(self.base, self.capacity) }
    }

    /// The place of the address. There is an empty slot, so that probing ends; without memory the place is vacant.
    #[inline]
    fn place_of(&mut self, hash: u64, address: usize) -> Place {
        let slots = self.slots();
        let mask = slots.len().wrapping_sub(1);
        let mut index = hash as usize & mask;
        while let Some(slot) = slots.get(index) {
            if slot.address() == address {
                return Place::Taken(index);
            }
            if slot.word0 == 0 {
                break;
            }
            index = (index + 1) & mask;
        }
        Place::Vacant(index)
    }

    /// The entry at the address.
    #[inline]
    pub fn get(&mut self, hash: u64, address: usize) -> Option<Entry> {
        match self.place_of(hash, address) {
            Place::Taken(index) => self.slots().get(index).map(Slot::entry),
            Place::Vacant(_) => None,
        }
    }

    /// Puts an entry in. Returns the one at the same address that it replaces.
    #[inline]
    pub fn insert(&mut self, hash: u64, entry: &Entry) -> Result<Option<Entry>, NoMemory> {
        let mut index = match self.place_of(hash, entry.address) {
            Place::Taken(index) => {
                let slot = &mut self.slots()[index];
                let replaced = slot.entry();
                *slot = Slot::new(entry);
                return Ok(Some(replaced));
            }
            Place::Vacant(index) => index,
        };
        // Three quarters of the slots at most; more, up to one empty slot in 16, only where no memory is to be had.
        if (self.len + 1) * 4 > self.capacity * 3 {
            if !self.grow() && (self.len + 1) * 16 > self.capacity * 15 {
                return Err(NoMemory);
            }
            if let Place::Vacant(vacant) = self.place_of(hash, entry.address) {
                index = vacant;
            }
        }
        self.slots()[index] = Slot::new(entry);
        self.len += 1;
        Ok(None)
    }

    /// Takes an entry out.
    #[inline]
    pub fn remove(&mut self, hash: u64, address: usize) -> Option<Entry> {
        let Place::Taken(mut hole) = self.place_of(hash, address) else { return None };
        let slots = self.slots();
        let mask = slots.len().wrapping_sub(1);
        let removed = slots[hole].entry();
        let mut next = hole;
        loop {
            next = (next + 1) & mask;
            let follower = slots[next];
            if follower.word0 == 0 {
                break;
            }
            // It may move to the hole if that does not lie before the place where its probing starts.
            let start = hash_of(follower.address()) as usize;
            if next.wrapping_sub(start) & mask >= next.wrapping_sub(hole) & mask {
                slots[hole] = follower;
                hole = next;
            }
        }
        slots[hole] = Slot::EMPTY;
        self.len -= 1;
        Some(removed)
    }

    /// Changes whether the object with this id at the address is announced; false if it is not there.
    pub fn set_announced(&mut self, hash: u64, address: usize, id: u64, announced: bool) -> bool {
        let Place::Taken(index) = self.place_of(hash, address) else { return false };
        let slot = &mut self.slots()[index];
        let same = slot.id == id;
        if same {
            slot.word0 = slot.word0 & !ANNOUNCED | if announced { ANNOUNCED } else { 0 };
        }
        same
    }

    /// Of the objects that start in `granule` (an address divided by [`GRANULE_BYTES`]) and hold `address`, the last.
    #[inline]
    pub fn containing_from(&mut self, hash: u64, granule: usize, address: usize) -> Option<Entry> {
        let slots = self.slots();
        let mask = slots.len().wrapping_sub(1);
        let mut index = hash as usize & mask;
        let mut best: Option<Entry> = None;
        while let Some(slot) = slots.get(index).filter(|slot| slot.word0 != 0) {
            if slot.address() / GRANULE_BYTES == granule && slot.entry().holds(address) {
                best = innermost(best, slot.entry());
            }
            index = (index + 1) & mask;
        }
        best
    }

    /// Of all objects that hold `address`, the one that starts last. Looks at every slot.
    pub fn containing(&mut self, address: usize) -> Option<Entry> {
        let near = self.slots().iter().filter(|slot| slot.word0 != 0 && slot.address() <= address);
        near.map(Slot::entry).filter(|entry| entry.holds(address)).fold(None, innermost)
    }

    /// Calls `work` for each entry and stores what it changed, but for the address; ends early when it returns false.
    pub fn for_each(&mut self, mut work: impl FnMut(&mut Entry) -> bool) -> bool {
        for slot in self.slots().iter_mut().filter(|slot| slot.word0 != 0) {
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
        true
    }

    /// Doubles the memory; false if there is none.
    #[cold]
    fn grow(&mut self) -> bool {
        let capacity = (self.capacity * 2).max(CAPACITY_MIN);
        let bytes = sys::whole_pages(capacity * size_of::<Slot>());
        // Every page of it is about to be written, since hashes are everywhere.
        let Some(base) = sys::keeping_errno(|| sys::map_populated(bytes)) else { return false };
        let mut grown = Slots { base: base as *mut Slot, capacity, len: self.len };
        for slot in self.slots().iter().filter(|slot| slot.word0 != 0) {
            if let Place::Vacant(index) = grown.place_of(hash_of(slot.address()), slot.address()) {
                grown.slots()[index] = *slot;
            }
        }
        self.release();
        *self = grown;
        true
    }

    /// All entries go, and the memory.
    pub fn release(&mut self) {
        let released = core::mem::replace(self, Slots::new());
        if !released.base.is_null() {
            // SAFETY: nobody else knows the mapping, and this was the last that referred to it.
            sys::keeping_errno(|| unsafe { sys::unmap(released.base.cast(), released.bytes_mapped()) });
        }
    }
}

/// The one that starts later: of objects inside each other the inner one.
pub fn innermost(best: Option<Entry>, entry: Entry) -> Option<Entry> {
    Some(best.filter(|best| best.address >= entry.address).unwrap_or(entry))
}
