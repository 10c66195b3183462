//! The addresses of the live objects that are recorded where not all are, so that the frees of these and of no others are.
//!
//! ```text
//! filter   a count a page (of 4 KiB, modulo 4 GiB) of the objects that begin on it: 0 answers nearly every free at once
//! tables   hash tables, each of twice the size of the one before; an address is in the first that had room for it
//!          ┌──────────────────┬─────────┬───┬─────────┐
//!  bucket  │ passed over      │ address │ … │ address │   64 bytes, 7 addresses, 0 for none
//!          └──────────────────┴─────────┴───┴─────────┘
//! ```
//! Nothing is ever moved, so nobody waits for anybody: an address goes in and out by one compare-and-swap. It is put into
//! the bucket that its hash names, or the next with room; those that were full count that. A search that finds such a count
//! at 0 ends.
//!
//! An address goes in after the allocator has returned it and out before the allocator has it back, so it is in at most once, and the
//! free of an object comes after its address went in, by whatever the program's threads told it to each other. All of it is memory of the process
//! alone: a forked child finds a copy that fits its copies of the objects.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::sys;

/// Counts of the filter.
const PAGES: usize = 1 << 20;
const PAGE_SHIFT: u32 = 12;
/// A count that stays, since it has no room for more.
const MANY: u8 = u8::MAX;

const TABLES: usize = 9;
const FIRST_BUCKETS: usize = 1024;
const PLACES: usize = 7;
/// A table gets so many addresses a bucket: then most lie in their own.
const FULL: usize = 4;
/// Buckets that are tried for one address.
const TRIES: usize = 32;
/// Odd, and near 2⁶⁴ over the golden ratio.
const HASH_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
/// Of all tables: some two million objects at a time.
const BUCKETS: usize = FIRST_BUCKETS * ((1 << TABLES) - 1);
const BYTES: usize = PAGES + BUCKETS * size_of::<Bucket>();

/// See above.
#[derive(Debug)]
pub struct SampledObjects {
    /// Ones for each bit of the filter's index; 0 where the first count is that of all pages.
    mask: AtomicUsize,
    filter: AtomicPtr<AtomicU8>,
    /// The filter's memory, with the tables behind it.
    memory: AtomicPtr<u8>,
    /// Addresses in each table, or about to be.
    taken: [AtomicU32; TABLES],
}

#[repr(C, align(64))]
struct Bucket {
    passed: AtomicU64,
    addresses: [AtomicU64; PLACES],
}

/// The filter of those who record all objects.
static ALL: AtomicU8 = AtomicU8::new(1);

impl SampledObjects {
    /// For assembly.
    pub const PAGE_SHIFT: u32 = PAGE_SHIFT;
    /// See above.
    pub const MASK_OFFSET: usize = core::mem::offset_of!(SampledObjects, mask);
    /// See above.
    pub const FILTER_OFFSET: usize = core::mem::offset_of!(SampledObjects, filter);

    pub const fn new() -> SampledObjects {
        SampledObjects {
            mask: AtomicUsize::new(0),
            filter: AtomicPtr::new((&raw const ALL).cast_mut()),
            memory: AtomicPtr::new(ptr::null_mut()),
            taken: [const { AtomicU32::new(0) }; TABLES],
        }
    }

    /// Has every address looked up.
    pub fn hold_all(&self) {
        self.mask.store(0, Ordering::Release);
    }

    /// Has the filter answer. `None` without memory for it.
    pub fn open(&self) -> Option<()> {
        if self.memory.load(Ordering::Acquire).is_null() {
            // SAFETY: anywhere.
            let memory = unsafe { sys::map_zeroed(ptr::null(), BYTES) }?.cast_mut();
            self.memory.store(memory, Ordering::Release);
            self.filter.store(memory.cast(), Ordering::Release);
            // That of the null address and of whoever has not heard of the mask yet.
            self.count(0).store(MANY, Ordering::Relaxed);
        }
        // Who sees this sees the memory that it leads into.
        self.mask.store(PAGES - 1, Ordering::Release);
        Some(())
    }

    /// First address of the memory for it and one past the last, zeros for none.
    pub fn memory(&self) -> (u64, u64) {
        match self.memory.load(Ordering::Acquire) as u64 {
            0 => (0, 0),
            start => (start, start + BYTES as u64),
        }
    }

    /// Whether no address of this page is in.
    #[inline(always)]
    pub fn lacks_page_of(&self, address: usize) -> bool {
        self.count(address).load(Ordering::Relaxed) == 0
    }

    /// Puts an address in. Whether there was room.
    pub fn insert(&self, address: usize) -> bool {
        self.change_count(address, |count| count + 1);
        let found = (0..TABLES).any(|table| {
            let taken = self.taken[table].fetch_add(1, Ordering::Relaxed) as usize;
            let inside = taken < (FIRST_BUCKETS << table) * FULL && self.put(table, address as u64);
            if !inside {
                self.taken[table].fetch_sub(1, Ordering::Relaxed);
            }
            inside
        });
        if !found {
            self.change_count(address, |count| count - 1);
        }
        found
    }

    /// Takes an address out. Whether it was in.
    #[inline(never)]
    pub fn remove(&self, address: usize) -> bool {
        let is_used = |table: &usize| self.taken[*table].load(Ordering::Relaxed) > 0;
        let found = (0..TABLES).filter(is_used).find(|&table| self.take(table, address as u64));
        let Some(table) = found else { return false };
        self.taken[table].fetch_sub(1, Ordering::Relaxed);
        self.change_count(address, |count| count - 1);
        true
    }

    #[inline(always)]
    fn count(&self, address: usize) -> &AtomicU8 {
        // In this order: a mask is never older than the filter that it is for.
        let mask = self.mask.load(Ordering::Acquire);
        let filter = self.filter.load(Ordering::Relaxed);
        // SAFETY: one count with a mask of 0, else as many as the mask has numbers, in memory that is never unmapped.
        unsafe { &*filter.add(address >> PAGE_SHIFT & mask) }
    }

    fn change_count(&self, address: usize, change: impl Fn(u8) -> u8) {
        let changed = |count| if count == MANY { None } else { Some(change(count)) };
        // One that has no room for more stays.
        let _ = self.count(address).fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed);
    }

    fn put(&self, table: usize, address: u64) -> bool {
        for (tried, bucket) in self.buckets(table, address).enumerate() {
            let is_put = |place: &AtomicU64| {
                place.load(Ordering::Relaxed) == 0
                    && place.compare_exchange(0, address, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            };
            if bucket.addresses.iter().any(is_put) {
                return true;
            }
            if tried + 1 == TRIES {
                self.buckets(table, address).take(tried).for_each(Bucket::forget_one);
            } else {
                bucket.passed.fetch_add(1, Ordering::Relaxed);
            }
        }
        false
    }

    fn take(&self, table: usize, address: u64) -> bool {
        for (tried, bucket) in self.buckets(table, address).enumerate() {
            let is_taken = |place: &AtomicU64| {
                place.load(Ordering::Relaxed) == address
                    && place.compare_exchange(address, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            };
            if bucket.addresses.iter().any(is_taken) {
                self.buckets(table, address).take(tried).for_each(Bucket::forget_one);
                return true;
            }
            if bucket.passed.load(Ordering::Relaxed) == 0 {
                return false;
            }
        }
        false
    }

    /// The buckets that an address may lie in, in order.
    fn buckets(&self, table: usize, address: u64) -> impl Iterator<Item = &'static Bucket> + use<> {
        let count = FIRST_BUCKETS << table;
        let before = FIRST_BUCKETS * ((1 << table) - 1);
        let home = ((address >> 4).wrapping_mul(HASH_FACTOR) >> 32) as usize;
        let memory = self.memory.load(Ordering::Acquire);
        let tries = if memory.is_null() { 0 } else { TRIES };
        (0..tries).map(move |step| {
            let bucket = before + (home + step) % count;
            // SAFETY: `BYTES` of it hold the filter and all buckets, which are atomics and may be zero; pages are aligned
            // to more than a bucket, and the filter's length is a multiple of it. It is never unmapped.
            unsafe { &*memory.add(PAGES).cast::<Bucket>().add(bucket) }
        })
    }
}

impl Bucket {
    fn forget_one(&self) {
        self.passed.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn opened() -> SampledObjects {
        let objects = SampledObjects::new();
        objects.open().expect("memory");
        objects
    }

    #[test]
    fn holds_what_was_put_in_and_nothing_else() {
        let objects = opened();
        let mut model = BTreeSet::new();
        let mut state = 7_u64;
        for _ in 0..400_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let address = 0x7f00_0000_0000 + ((state >> 33) as usize % 120_000) * 48;
            if model.contains(&address) {
                assert!(!objects.lacks_page_of(address) && objects.remove(address) && !objects.remove(address));
                model.remove(&address);
            } else {
                assert!(!objects.remove(address) && objects.insert(address));
                model.insert(address);
            }
        }
        assert!(model.len() > 30_000, "several tables are in use");
        assert!(model.iter().all(|&address| objects.remove(address)));
        let counts = (0..PAGES).filter(|&page| !objects.lacks_page_of(page << PAGE_SHIFT));
        assert_eq!(counts.collect::<Vec<_>>(), [0], "the filter is empty again, but for the null address");
        assert!((0..TABLES).all(|table| objects.taken[table].load(Ordering::Relaxed) == 0));
        let passed = (0..BUCKETS).map(|bucket| {
            let memory = objects.memory.load(Ordering::Relaxed);
            // SAFETY: as in `buckets`.
            unsafe { &*memory.add(PAGES).cast::<Bucket>().add(bucket) }.passed.load(Ordering::Relaxed)
        });
        assert_eq!(passed.sum::<u64>(), 0);
    }

    #[test]
    fn threads_that_take_out_what_others_put_in_find_it() {
        let objects = opened();
        let (sender, receiver) = std::sync::mpsc::sync_channel(64);
        std::thread::scope(|scope| {
            for thread in 0..3_usize {
                let (objects, sender) = (&objects, sender.clone());
                scope.spawn(move || {
                    for number in 0..30_000 {
                        let address = 0x10_0000 + (number * 3 + thread) * 16;
                        assert!(objects.insert(address));
                        sender.send(address).expect("the receiver lives as long");
                    }
                });
            }
            drop(sender);
            let objects = &objects;
            scope.spawn(move || receiver.iter().for_each(|address| assert!(objects.remove(address))));
        });
        assert!((0..TABLES).all(|table| objects.taken[table].load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn what_finds_no_room_is_not_in() {
        let objects = opened();
        // Addresses whose hash names the first bucket of every table: the factor's inverse, by Newton's method, times a few.
        let inverse =
            (0..6).fold(HASH_FACTOR, |it, _| it.wrapping_mul(2_u64.wrapping_sub(HASH_FACTOR.wrapping_mul(it))));
        let hashed = (1..u64::MAX).map(|number: u64| number.wrapping_mul(inverse)).filter(|it| *it < 1 << 60);
        let same: Vec<usize> = hashed.map(|it| (it << 4) as usize).take(TABLES * TRIES * PLACES + 1).collect();
        let found = same.iter().take_while(|&&address| objects.insert(address)).count();
        assert_eq!(found, TABLES * TRIES * PLACES);
        assert!(!objects.remove(same[found]));
        assert!(same[..found].iter().all(|&address| objects.remove(address)));
    }

    #[test]
    fn without_sampling_every_address_is_to_be_looked_up() {
        let objects = SampledObjects::new();
        assert!(!objects.lacks_page_of(0x1234_5678) && !objects.remove(0x1234_5678));
        objects.open().expect("memory");
        assert!(objects.lacks_page_of(0x1234_5678) && !objects.lacks_page_of(0));
        objects.hold_all();
        assert!(!objects.lacks_page_of(0x1234_5678));
    }
}
