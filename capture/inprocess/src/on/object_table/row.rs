//! A row of the live-object table's memory: five entries and their tags.
//!
//! 128 bytes, two cache lines that the processor fetches as a pair: a header and five entries of 24 bytes.
//! ```text
//!             63     48 47  40 39         32       7           0
//!  header      overflow │  0   │ tag of entry 4 … │ tag of entry 0      a tag: 1 and 7 bits of the hash, 0: no entry
//!             63        62      56 55                           0
//!  word 0      announced │ size high │ address
//!  word 1      id
//!             63                    32 31                       0
//!  word 2      bucket id                │ size low
//! ```
//! *Overflow* counts the entries that passed by this full row to one of the next: a search ends where it is 0, and
//! a removal leaves nothing behind. Nearly always a search is one header and one entry, without a loop whose end the
//! processor has to guess; measured against plain linear probing that halves the cost of a removal.
//!
//! Size: 38 bits of bytes, or with bit 38 set 38 bits of 4096 bytes, rounded up: exact below 256 GiB. Addresses have at
//! most 56 bits on x86-64, with five levels of page tables too. At the highest load, four entries in a row, an
//! object costs 32 bytes.

use core::iter;

use super::Entry;

/// Objects in the same 16 bytes have the same place to start probing from.
pub const GRANULE_BYTES: usize = 16;

/// The highest address that an entry can have.
pub const ADDRESS_MAX: usize = ADDRESS_MASK as usize;

/// An entry, packed.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Slot {
    word0: u64,
    id: u64,
    word2: u64,
}

/// See the file's header. All zeros: no entries.
#[repr(C, align(128))]
pub struct Row {
    header: u64,
    slots: [Slot; SLOTS],
}

const _: () = assert!(size_of::<Row>() == 128);

/// In a row.
const SLOTS: usize = 5;
/// One in the byte of each tag.
const EACH_TAG: u64 = 0x01_0101_0101;
const TAG_USED: u64 = 0x80;
const OVERFLOW_ONE: u64 = 1 << 48;
/// A count that has come to this stays: searches go on to the next row for nothing until the shard grows.
const OVERFLOW_STUCK: u64 = u16::MAX as u64;

const ADDRESS_BITS: u32 = 56;
const ADDRESS_MASK: u64 = (1 << ADDRESS_BITS) - 1;
const ANNOUNCED: u64 = 1 << 63;
const SIZE_HIGH_BITS: u32 = 7;
const SIZE_BITS: u32 = 32 + SIZE_HIGH_BITS - 1;
const SIZE_SCALED: u64 = 1 << SIZE_BITS;
const SIZE_SCALE: u64 = 4096;

/// Spreads addresses: the low bits choose a row, the highest ones are the tag, those between choose a shard.
#[inline]
pub fn hash_of(address: usize) -> u64 {
    let product = u128::from((address / GRANULE_BYTES) as u64) * 0x9e37_79b9_7f4a_7c15;
    (product >> 64) as u64 ^ product as u64
}

/// The tag of a hash.
#[inline]
pub fn tag_of(hash: u64) -> u64 {
    hash >> 57 | TAG_USED
}

impl Row {
    /// The slots in use whose tag may be this one; one that has another may be among them.
    #[inline]
    pub fn with_tag(&self, tag: u64) -> impl Iterator<Item = (usize, &Slot)> {
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

    /// Puts an entry in, or counts that it passed by: then the row is full, and it goes to the next.
    #[inline]
    pub fn put(&mut self, tag: u64, entry: Slot) -> bool {
        let vacant = !self.header & (EACH_TAG * TAG_USED);
        if vacant == 0 {
            if self.overflow() != OVERFLOW_STUCK {
                self.header += OVERFLOW_ONE;
            }
            return false;
        }
        let slot = slot_of(vacant);
        self.slots[slot] = entry;
        self.header |= tag << (slot * 8);
        true
    }

    /// Takes the entry of a slot out.
    #[inline]
    pub fn take(&mut self, slot: usize) -> Slot {
        self.header &= !(0xff << (slot * 8));
        self.slots[slot]
    }

    /// One that passed by was taken out of another row.
    #[inline]
    pub fn uncount(&mut self) {
        if self.overflow() != OVERFLOW_STUCK {
            self.header -= OVERFLOW_ONE;
        }
    }

    /// Whether entries may have passed by.
    #[inline]
    pub fn was_passed(&self) -> bool {
        self.overflow() != 0
    }

    #[inline]
    fn overflow(&self) -> u64 {
        self.header >> 48
    }

    #[inline]
    fn is_used(&self, slot: usize) -> bool {
        self.header >> (slot * 8) & TAG_USED != 0
    }

    /// The entry in a slot in use.
    #[inline]
    pub fn slot(&mut self, slot: usize) -> &mut Slot {
        &mut self.slots[slot]
    }

    /// The slots in use.
    #[inline]
    pub fn used(&self) -> impl Iterator<Item = &Slot> {
        (0..SLOTS).filter(|&slot| self.is_used(slot)).map(|slot| &self.slots[slot])
    }

    /// The same, to be changed.
    pub fn used_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        let header = self.header;
        let slots = self.slots.iter_mut().enumerate();
        slots.filter(move |(slot, _)| header >> (slot * 8) & TAG_USED != 0).map(|(_, entry)| entry)
    }
}

/// The slot of the lowest bit.
#[inline]
fn slot_of(bits: u64) -> usize {
    bits.trailing_zeros() as usize / 8
}

impl Slot {
    /// Packs an entry.
    #[inline]
    pub fn new(entry: &Entry) -> Slot {
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

    /// Where the object starts.
    #[inline]
    pub fn address(&self) -> usize {
        (self.word0 & ADDRESS_MASK) as usize
    }

    /// The object's id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Says whether the trace knows the object.
    pub fn set_announced(&mut self, announced: bool) {
        self.word0 = self.word0 & !ANNOUNCED | if announced { ANNOUNCED } else { 0 };
    }

    /// The entry.
    #[inline]
    pub fn entry(&self) -> Entry {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_of_those_that_passed_by_sticks_when_it_is_full() {
        let slot = Slot::new(&Entry { address: 16, id: 1, bucket: 0, size: 1, announced: false });
        let mut row = Row { header: 0, slots: [slot; SLOTS] };
        for tag in 0..SLOTS as u64 {
            assert!(row.put(TAG_USED | tag, slot));
        }
        for _ in 0..100_000 {
            assert!(!row.put(TAG_USED, slot));
        }
        for _ in 0..100_000 {
            row.uncount();
        }
        assert!(row.was_passed(), "nobody knows how many have passed by");
        assert_eq!(row.used().count(), SLOTS);
        row.take(2);
        assert!(row.put(TAG_USED, slot));
        assert_eq!(row.with_tag(TAG_USED | 4).map(|(slot, _)| slot).next(), Some(4));
    }

    #[test]
    fn tags_are_told_apart_and_unused_slots_never_come() {
        let slot = Slot::new(&Entry { address: 16, id: 1, bucket: 0, size: 1, announced: false });
        for header in 0..1_u64 << 15 {
            // Five slots, each unused or with one of seven tags, at the ends of what a tag can be.
            let tags = [0, 0x80, 0x81, 0x82, 0xfd, 0xfe, 0xff, 0xc0];
            let tag_in = |slot: usize| tags[(header >> (slot * 3) & 7) as usize];
            let packed = (0..SLOTS).map(|slot| tag_in(slot) << (slot * 8)).sum();
            let row = Row { header: packed, slots: [slot; SLOTS] };
            for &tag in &tags[1..] {
                let found: Vec<usize> = row.with_tag(tag).map(|(slot, _)| slot).collect();
                assert!((0..SLOTS).filter(|&slot| tag_in(slot) == tag).all(|slot| found.contains(&slot)), "{packed:x}");
                assert!(found.iter().all(|&slot| tag_in(slot) != 0), "{packed:x} {tag:x}: {found:?}");
            }
        }
    }
}
