//! The rules that were found, shared by all threads, without locks.
//!
//! ```text
//! short entry: 63            17 16    13 12        0
//!              | return address | epoch | short rule |
//! ```
//! A rule that cannot be shortened has an entry of two words in a table beside, the key combined with the rule, and the
//! rule. A reader that sees halves of two entries gets a key that is nobody's. Both hold an epoch: another one begins
//! when code is unloaded, since other code may come to its place.
//!
//! # Code that goes away
//! [`code_unloaded`] is called after dlclose(3) where that is interposed. The C library unloads what it has loaded by
//! itself (conversions, name services) without it, and a linked tracer interposes nothing. So each page of code notes
//! what file it was last seen to belong to: the first rule of another file there begins an epoch. A rule that is
//! out of date all the same, since every return address of the new code was one of the old, costs a wrong stack and
//! nothing else: whatever a rule says, only the thread's own stack is read.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use super::rule::{Rule, ShortRule};
use crate::sys;

/// Short rules that there is place for; a power of two. A program under load uses some hundreds, an interpreter thousands.
const SHORT_ENTRIES: usize = 1 << 14;
/// Other rules: some in a hundred.
const ENTRIES: usize = 1 << 11;
/// Pages of code whose file is noted.
const PAGES: usize = 1 << 12;
const BYTES: usize = size_of::<Cache>();
const PAGE_SHIFT: u32 = 12;
const EPOCH_SHIFT: u32 = 48;
/// Bits of the epoch in a short entry.
const SHORT_EPOCH_BITS: u32 = 4;
const ADDRESS_SHIFT: u32 = ShortRule::BITS + SHORT_EPOCH_BITS;
/// Addresses of programs are below this (Documentation/arch/x86/x86_64/mm.rst).
const ADDRESS_BITS: u64 = (1 << 47) - 1;

struct Entry {
    mixed: AtomicU64,
    rule: AtomicU64,
}

struct Cache {
    short: [AtomicU64; SHORT_ENTRIES],
    entries: [Entry; ENTRIES],
    pages: [AtomicU64; PAGES],
}

static CACHE: AtomicPtr<Cache> = AtomicPtr::new(ptr::null_mut());
static EPOCH: AtomicU32 = AtomicU32::new(0);

/// The present epoch.
#[inline(always)]
pub fn epoch() -> u32 {
    EPOCH.load(Ordering::Relaxed)
}

/// Code may have gone from its address: no rule that was found before holds.
pub fn code_unloaded() {
    let epoch = EPOCH.fetch_add(1, Ordering::AcqRel).wrapping_add(1);
    // The short entries hold so many bits of it. Who found a rule meanwhile returns to the code that it is of, which is
    // therefore still there.
    if epoch.is_multiple_of(1 << SHORT_EPOCH_BITS) {
        release();
    }
}

/// Sees to it that there is memory for rules.
pub fn prepare() {
    mapped();
}

/// Gives the memory back. All rules are new again.
pub fn release() {
    let cache = CACHE.load(Ordering::Acquire);
    if !cache.is_null() {
        // SAFETY: the tracer's own mapping of atomics, of which zeros are an empty entry.
        unsafe { sys::give_pages_back(cache.cast(), BYTES) };
    }
}

/// The rules that fit in short.
#[derive(Clone, Copy)]
pub struct ShortRules {
    table: &'static [AtomicU64; SHORT_ENTRIES],
    epoch: u64,
}

impl ShortRules {
    /// Those of an epoch. `None` before there are any.
    #[inline(always)]
    pub fn of(epoch: u32) -> Option<ShortRules> {
        // SAFETY: null, or a mapping of this size that is never unmapped.
        let cache = unsafe { CACHE.load(Ordering::Acquire).as_ref() }?;
        Some(ShortRules { table: &cache.short, epoch: short_epoch(epoch) })
    }

    /// The rule of the call before this address, if it is known.
    #[inline(always)]
    pub fn get(&self, return_address: usize) -> Option<ShortRule> {
        // Entries have no place for more: it would be taken for the address that its lower bits are.
        if return_address as u64 > ADDRESS_BITS {
            return None;
        }
        let first = short_index(return_address);
        self.get_at(first, return_address).or_else(|| self.get_at(first ^ 1, return_address))
    }

    #[inline(always)]
    fn get_at(&self, index: usize, return_address: usize) -> Option<ShortRule> {
        // What differs from an entry of this address and epoch, beside the rule.
        let differs = self.table[index].load(Ordering::Relaxed) ^ (return_address as u64) << ADDRESS_SHIFT ^ self.epoch;
        // No rule is 0: that is an empty entry, which return address 0 fits.
        (differs.wrapping_sub(1) < (1 << ShortRule::BITS) - 1).then_some(ShortRule(differs))
    }
}

fn short_epoch(epoch: u32) -> u64 {
    (u64::from(epoch) & ((1 << SHORT_EPOCH_BITS) - 1)) << ShortRule::BITS
}

/// Calls are some bytes apart, so neighbours have places of their own.
#[inline(always)]
fn short_index(return_address: usize) -> usize {
    (return_address ^ return_address >> SHORT_ENTRIES.trailing_zeros()) % SHORT_ENTRIES
}

/// The rule of this address, if it is known.
pub fn get(address: usize, epoch: u32) -> Option<Rule> {
    // SAFETY: null, or a mapping of this size that is never unmapped.
    let cache = unsafe { CACHE.load(Ordering::Acquire).as_ref() }?;
    if let Some(short) = ShortRules::of(epoch).and_then(|rules| rules.get(address.wrapping_add(1))) {
        return Some(short.expanded());
    }
    let key = key_of(address, epoch);
    let first = index_of(address);
    for index in [first, first ^ 1] {
        let entry = &cache.entries[index];
        let rule = entry.rule.load(Ordering::Relaxed);
        if entry.mixed.load(Ordering::Relaxed) ^ spread(rule) == key {
            return Some(Rule(rule));
        }
    }
    None
}

/// Keeps the rule of this address, which lies in a file known by this number.
#[cold]
pub fn put(address: usize, epoch: u32, rule: Rule, file: u64) {
    let Some(cache) = mapped() else { return };
    let page = address as u64 >> PAGE_SHIFT;
    // A page's number has 35 bits, so that 29 of the file's number fit.
    let seen = page << 29 | file & ((1 << 29) - 1);
    let before = cache.pages[page as usize % PAGES].swap(seen, Ordering::Relaxed);
    if before != seen && before >> 29 == page && before != 0 {
        code_unloaded();
        return;
    }
    if let Some(short) = rule.shortened() {
        put_short(cache, address.wrapping_add(1), epoch, short);
        return;
    }
    let first = index_of(address);
    let empty = [first, first ^ 1].into_iter().find(|&index| {
        let entry = &cache.entries[index];
        (entry.mixed.load(Ordering::Relaxed) ^ spread(entry.rule.load(Ordering::Relaxed))) >> EPOCH_SHIFT
            != key_of(0, epoch) >> EPOCH_SHIFT
            || entry.rule.load(Ordering::Relaxed) == 0
    });
    let entry = &cache.entries[empty.unwrap_or(first ^ (page as usize & 1))];
    entry.rule.store(rule.0, Ordering::Relaxed);
    entry.mixed.store(key_of(address, epoch) ^ spread(rule.0), Ordering::Relaxed);
}

fn put_short(cache: &Cache, return_address: usize, epoch: u32, rule: ShortRule) {
    let entry = (return_address as u64) << ADDRESS_SHIFT | short_epoch(epoch) | rule.0;
    let first = &cache.short[short_index(return_address)];
    let second = &cache.short[short_index(return_address) ^ 1];
    let before = first.load(Ordering::Relaxed);
    // The latest is found first; the one before it is not lost.
    if before != 0 {
        second.store(before, Ordering::Relaxed);
    }
    first.store(entry, Ordering::Relaxed);
}

/// A rule over all bits of a word, so that one that is read while it is replaced fits nobody's key: rules often differ in
/// their lowest bits only, as neighbouring addresses do.
#[inline(always)]
fn spread(rule: u64) -> u64 {
    rule.wrapping_mul(0xff51_afd7_ed55_8ccd)
}

#[inline(always)]
fn key_of(address: usize, epoch: u32) -> u64 {
    address as u64 & ADDRESS_BITS | u64::from(epoch) << EPOCH_SHIFT
}

#[inline(always)]
fn index_of(address: usize) -> usize {
    let spread = (address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (spread >> (64 - ENTRIES.trailing_zeros())) as usize
}

fn mapped() -> Option<&'static Cache> {
    let cache = CACHE.load(Ordering::Acquire);
    if cache.is_null() {
        // SAFETY: anywhere.
        let memory = unsafe { sys::map_zeroed(ptr::null(), BYTES) }?;
        let made = memory.cast_mut().cast::<Cache>();
        if CACHE.compare_exchange(ptr::null_mut(), made, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            // SAFETY: nobody has seen this mapping.
            unsafe { sys::unmap(memory, BYTES) };
        }
    }
    // SAFETY: as in `get`.
    unsafe { CACHE.load(Ordering::Acquire).as_ref() }
}
