//! The entries of one shard of the live-object table: buckets in mapped memory.
//!
//! A bucket is 128 bytes, two cache lines that the processor fetches as a pair: a header and five entries of 24 bytes.
//! ```text
//!             63     48 47  40 39         32       7           0
//!  header      overflow │  0   │ tag of entry 4 … │ tag of entry 0      a tag: 1 and 7 bits of the hash, 0: no entry
//!             63        62      56 55                           0
//!  word 0      announced │ size high │ address
//!  word 1      id
//!             63                    32 31                       0
//!  word 2      bucket id                │ size low
//! ```
//! *Overflow* counts the entries that passed by this full bucket to one of the next: a search ends where it is 0, and
//! a removal leaves nothing behind. Nearly always a search is one header and one entry, without a loop whose end the
//! processor has to guess; measured against plain linear probing that halves the cost of a removal.
//!
//! Size: 38 bits of bytes, or with bit 38 set 38 bits of 4096 bytes, rounded up: exact below 256 GiB. Addresses have at
//! most 56 bits on x86-64, with five levels of page tables too. At the highest load, four entries in a bucket, an
//! object costs 32 bytes.

use core::{iter, ptr, slice};

use crate::sys;

use super::Entry;

#[derive(Clone, Copy)]
#[repr(C)]
struct Slot {
    word0: u64,
    id: u64,
    word2: u64,
}

#[repr(C, align(128))]
struct Bucket {
    header: u64,
    slots: [Slot; SLOTS],
}

const _: () = assert!(size_of::<Bucket>() == 128);

/// In a bucket.
const SLOTS: usize = 5;
/// One in the byte of each tag.
const EACH_TAG: u64 = 0x01_0101_0101;
const TAG_USED: u64 = 0x80;
const OVERFLOW_ONE: u64 = 1 << 48;
/// A count that has come to this stays: searches go on to the next bucket for nothing until the shard grows.
const OVERFLOW_STUCK: u64 = u16::MAX as u64;

const ADDRESS_BITS: u32 = 56;
const ADDRESS_MASK: u64 = (1 << ADDRESS_BITS) - 1;
const ANNOUNCED: u64 = 1 << 63;
const SIZE_HIGH_BITS: u32 = 7;
const SIZE_BITS: u32 = 32 + SIZE_HIGH_BITS - 1;
const SIZE_SCALED: u64 = 1 << SIZE_BITS;
const SIZE_SCALE: u64 = 4096;

/// A shard starts with a page.
const BUCKETS_MIN: usize = sys::PAGE_BYTES / size_of::<Bucket>();

/// Objects in the same 16 bytes have the same place to start probing from.
pub const GRANULE_BYTES: usize = 16;

/// The highest address that an entry can have.
pub const ADDRESS_MAX: usize = ADDRESS_MASK as usize;

/// See the file's header. Not synchronized: it is used under its shard's lock.
pub struct Slots {
    base: *mut Bucket,
    /// A power of two, or 0 where nothing is mapped.
    buckets: usize,
    len: usize,
}

/// Where an entry is.
#[derive(Clone, Copy)]
struct Place {
    bucket: usize,
    slot: usize,
}

/// No memory for another entry.
pub struct NoMemory;

/// Spreads addresses: the low bits choose a bucket, the highest ones are the tag, those between choose a shard.
#[inline]
pub fn hash_of(address: usize) -> u64 {
    let product = u128::from((address / GRANULE_BYTES) as u64) * 0x9e37_79b9_7f4a_7c15;
    (product >> 64) as u64 ^ product as u64
}

#[inline]
fn tag_of(hash: u64) -> u64 {
    hash >> 57 | TAG_USED
}

impl Bucket {
    /// The slots in use whose tag may be this one; one that has another may be among them.
    #[inline]
    fn with_tag(&self, tag: u64) -> impl Iterator<Item = (usize, &Slot)> {
        // A byte is zero if taking one off borrows, and a borrow can mislead about the byte above a zero. Not about
        // an unused one: there the top bits differ.
        let differs = self.header ^ (tag * EACH_TAG);
        let mut candidates = differs.wrapping_sub(EACH_TAG) & !differs & (EACH_TAG * TAG_USED);
        iter::from_fn(move || {
            let slot = (candidates != 0).then(|| slot_of(candidates))?;
            candidates &= candidates - 1;
            Some((slot, &self.slots[slot]))
        })
    }

    /// The first slot without an entry.
    #[inline]
    fn vacant(&self) -> Option<usize> {
        let vacant = !self.header & (EACH_TAG * TAG_USED);
        (vacant != 0).then(|| slot_of(vacant))
    }

    #[inline]
    fn overflow(&self) -> u64 {
        self.header >> 48
    }

    #[inline]
    fn is_used(&self, slot: usize) -> bool {
        self.header >> (slot * 8) & TAG_USED != 0
    }

    /// The slots in use.
    #[inline]
    fn used(&self) -> impl Iterator<Item = &Slot> {
        (0..SLOTS).filter(|&slot| self.is_used(slot)).map(|slot| &self.slots[slot])
    }
}

/// The slot of the lowest bit.
#[inline]
fn slot_of(bits: u64) -> usize {
    bits.trailing_zeros() as usize / 8
}

impl Slot {
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
        Slots { base: ptr::null_mut(), buckets: 0, len: 0 }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Memory mapped for them: whole pages.
    pub fn bytes_mapped(&self) -> usize {
        self.buckets * size_of::<Bucket>()
    }

    #[inline]
    fn buckets(&mut self) -> &mut [Bucket] {
        if self.base.is_null() {
            return &mut [];
        }
        // SAFETY: a mapping of this many buckets, for which zeros are valid, and which nobody else knows.
        unsafe { slice::from_raw_parts_mut(self.base, self.buckets) }
    }

    /// The buckets in which an entry of this hash may be, with their numbers.
    #[inline]
    fn search(&mut self, hash: u64) -> impl Iterator<Item = (usize, &Bucket)> {
        let buckets = &*self.buckets();
        let mask = buckets.len().wrapping_sub(1);
        let mut passed_by = true;
        (0..buckets.len()).map_while(move |step| {
            let index = (hash as usize).wrapping_add(step) & mask;
            let bucket = buckets.get(index).filter(|_| passed_by)?;
            passed_by = bucket.overflow() != 0;
            Some((index, bucket))
        })
    }

    #[inline]
    fn place_of(&mut self, hash: u64, address: usize) -> Option<Place> {
        for (index, bucket) in self.search(hash) {
            for (slot, found) in bucket.with_tag(tag_of(hash)) {
                if found.address() == address {
                    return Some(Place { bucket: index, slot });
                }
            }
        }
        None
    }

    #[inline]
    fn slot_at(&mut self, place: Place) -> &mut Slot {
        &mut self.buckets()[place.bucket].slots[place.slot]
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
        // Four in a bucket on average; more, up to nine in two, only where no memory is to be had.
        if self.len >= self.buckets * 4 && !self.grow() && self.len * 2 >= self.buckets * 9 {
            return Err(NoMemory);
        }
        self.put(hash, Slot::new(entry));
        Ok(None)
    }

    /// Puts in what is not there. There is a vacant slot.
    #[inline]
    fn put(&mut self, hash: u64, slot: Slot) {
        let buckets = self.buckets();
        let mask = buckets.len().wrapping_sub(1);
        let mut index = hash as usize & mask;
        loop {
            let bucket = &mut buckets[index];
            if let Some(vacant) = bucket.vacant() {
                bucket.slots[vacant] = slot;
                bucket.header |= tag_of(hash) << (vacant * 8);
                break;
            }
            if bucket.overflow() != OVERFLOW_STUCK {
                bucket.header += OVERFLOW_ONE;
            }
            index = (index + 1) & mask;
        }
        self.len += 1;
    }

    /// Takes an entry out.
    #[inline]
    pub fn remove(&mut self, hash: u64, address: usize) -> Option<Entry> {
        let place = self.place_of(hash, address)?;
        let buckets = self.buckets();
        let mask = buckets.len().wrapping_sub(1);
        let mut index = hash as usize & mask;
        while index != place.bucket {
            if buckets[index].overflow() != OVERFLOW_STUCK {
                buckets[index].header -= OVERFLOW_ONE;
            }
            index = (index + 1) & mask;
        }
        let bucket = &mut buckets[index];
        bucket.header &= !(0xff << (place.slot * 8));
        let removed = bucket.slots[place.slot].entry();
        self.len -= 1;
        Some(removed)
    }

    /// Changes whether the object with this id at the address is announced; false if it is not there.
    pub fn set_announced(&mut self, hash: u64, address: usize, id: u64, announced: bool) -> bool {
        let Some(place) = self.place_of(hash, address) else { return false };
        let slot = self.slot_at(place);
        let same = slot.id == id;
        if same {
            slot.word0 = slot.word0 & !ANNOUNCED | if announced { ANNOUNCED } else { 0 };
        }
        same
    }

    /// Of the objects that start in `granule` (an address divided by [`GRANULE_BYTES`]) and hold `address`, the last.
    pub fn containing_from(&mut self, hash: u64, granule: usize, address: usize) -> Option<Entry> {
        let mut best = None;
        for (_, bucket) in self.search(hash) {
            for (_, slot) in bucket.with_tag(tag_of(hash)) {
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
        for bucket in self.buckets() {
            for slot in bucket.used() {
                if slot.address() <= address && slot.entry().holds(address) {
                    best = innermost(best, slot.entry());
                }
            }
        }
        best
    }

    /// Calls `work` for each entry and stores what it changed, but for the address; ends early when it returns false.
    pub fn for_each(&mut self, mut work: impl FnMut(&mut Entry) -> bool) -> bool {
        for bucket in self.buckets() {
            for slot in 0..SLOTS {
                if !bucket.is_used(slot) {
                    continue;
                }
                let before = bucket.slots[slot].entry();
                let mut entry = before;
                let goes_on = work(&mut entry);
                if entry != before {
                    bucket.slots[slot] = Slot::new(&Entry { address: before.address, ..entry });
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
        let buckets = (self.buckets * 2).max(BUCKETS_MIN);
        // Every page of it is about to be written, since hashes are everywhere.
        let base = sys::keeping_errno(|| sys::map_populated(buckets * size_of::<Bucket>()));
        let Some(base) = base else { return false };
        let mut grown = Slots { base: base as *mut Bucket, buckets, len: 0 };
        for bucket in self.buckets() {
            bucket.used().for_each(|slot| grown.put(hash_of(slot.address()), *slot));
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
