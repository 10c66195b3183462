//! Stacks that a thread has walked before, known by the words that the walk read.
//!
//! A walk is a function of the registers that it begins with and of the words that it reads: where the next word lies
//! follows from those before. So a thread notes for the registers at which it has walked *where* it read, and for the
//! words that stood there which stack they led to:
//!
//! ```text
//! shapes:  return address, stack pointer ──▶ places of words, relative to the stack pointer
//! numbers: hash of those words           ──▶ number of the stack
//! ```
//! To read all places of a shape needs no rules, and no word waits for another. Where the hash is known, the places are those
//! that a walk would read, one after the other, and lead to the same stack. Where it is not, a walk finds out.
//!
//! The hash is that of stacks ([`super::stack_hash`]), begun with a number for the shape; 50 bits of it are compared.
//! As the record of the last walk, which it is a part of, this is in atomics that one thread uses without order.

use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::WORD;
use super::last_walk::{LastWalk, Registers};
use super::stack_hash::{FACTORS, mixed};

/// Words that a stack can be known by; those of deeper ones are not kept.
pub const WORDS_MAX: usize = 96;
/// Words are hashed so many at a time.
const LANES: usize = 4;
/// Shapes that there is place for, and numbers; powers of two. 72 KiB a thread, as far as it has as many stacks.
const SHAPES: usize = 1 << 7;
const NUMBERS: usize = 1 << 11;
/// Where a number can be: close together.
const WAYS: usize = 4;
/// Numbers of stacks that can be kept.
const NUMBER_BITS: u32 = 24;
/// The factor of the frame pointer that a walk begins with.
const FRAME_POINTER_FACTOR: usize = WORDS_MAX;
/// Where hardly a stack is known one in so many is looked up, and a thread's first ones are not.
const TRIES: u32 = 16;
/// What a known one adds to the credit: looking is worth it where a third is known.
const CREDIT: u32 = 3;
const CREDIT_MAX: u32 = 256;

/// What a thread knows. All zero at first.
#[repr(C)]
pub struct KnownStacks {
    /// What is not of this one counts for nothing.
    generation: AtomicU32,
    /// How many more to look up: each lookup costs one, each that finds something brings more.
    credit: AtomicU32,
    /// Stacks that were not looked up for want of it.
    passed: AtomicU32,
    shapes: [Shape; SHAPES],
    numbers: [AtomicU64; NUMBERS],
}

#[repr(C, align(32))]
struct Shape {
    return_address: AtomicUsize,
    stack_pointer: AtomicUsize,
    /// What the hash begins with.
    seed: AtomicU64,
    /// 0 where the frame pointer does not matter.
    frame_pointer_factor: AtomicU64,
    generation: AtomicU32,
    /// Bytes from the stack pointer to behind the highest place.
    reach: AtomicU32,
    /// How many words, a multiple of [`LANES`].
    words: AtomicU32,
    /// In words above the stack pointer.
    places: [AtomicU32; WORDS_MAX],
}

/// The places that a walk has read, in words above its stack pointer.
pub struct Places {
    pub place: [u32; WORDS_MAX],
    pub count: usize,
    /// Whether the frame pointer that it began with matters.
    pub needs_frame_pointer: bool,
}

impl Places {
    /// Adds that of an address that a walk from these registers has read. `None` without room for it.
    pub fn add(&mut self, from: Registers, address: usize) -> Option<()> {
        let place = address.checked_sub(from.stack_pointer)? / WORD;
        *self.place.get_mut(self.count)? = u32::from(u16::try_from(place).ok()?);
        self.count += 1;
        Some(())
    }
}

impl KnownStacks {
    /// Forgets everything.
    pub fn forget(&self) {
        let generation = self.generation.load(Ordering::Relaxed).wrapping_add(1);
        self.generation.store(generation, Ordering::Relaxed);
        self.credit.store(0, Ordering::Relaxed);
        self.passed.store(0, Ordering::Relaxed);
    }

    /// Whether to look for the next stack.
    #[inline(always)]
    pub fn is_worth_looking(&self) -> bool {
        let credit = self.credit.load(Ordering::Relaxed);
        if credit > 0 {
            self.credit.store(credit - 1, Ordering::Relaxed);
            return true;
        }
        self.tries_again()
    }

    #[cold]
    fn tries_again(&self) -> bool {
        let passed = self.passed.load(Ordering::Relaxed).wrapping_add(1);
        self.passed.store(passed, Ordering::Relaxed);
        if passed == TRIES {
            self.credit.store(CREDIT_MAX, Ordering::Relaxed);
        }
        passed.is_multiple_of(TRIES)
    }

    /// The number of the stack that a walk from `registers` would find, on a stack that ends at `high`; the words from the
    /// stack pointer to there are readable.
    #[inline(always)]
    pub fn number(&self, registers: Registers, high: usize) -> Option<u32> {
        let Registers { stack_pointer, frame_pointer, .. } = registers;
        let first = shape_index(registers);
        let is_it = |shape: &&Shape| shape.is_of(registers, self.generation.load(Ordering::Relaxed));
        let shape = Some(&self.shapes[first]).filter(is_it).or_else(|| Some(&self.shapes[first ^ 1]).filter(is_it))?;
        if high.checked_sub(stack_pointer)? < shape.reach.load(Ordering::Relaxed) as usize {
            return None;
        }
        let factor = shape.frame_pointer_factor.load(Ordering::Relaxed);
        let begun = shape.seed.load(Ordering::Relaxed).wrapping_add((frame_pointer as u64).wrapping_mul(factor));
        let words = shape.words.load(Ordering::Relaxed) as usize;
        let places = shape.places.get(..words)?;
        // SAFETY: a place lies `reach` above the stack pointer at the most, which is aligned, so below the end of the stack.
        let hash = unsafe { hash_of(begun, stack_pointer, places) };
        let (first, tag) = (number_index(hash), tag_of(hash));
        for index in (0..WAYS).map(|way| first ^ way) {
            let seen = self.numbers[index].load(Ordering::Relaxed);
            if seen >> NUMBER_BITS == tag {
                let credit = self.credit.load(Ordering::Relaxed);
                self.credit.store((credit + CREDIT).min(CREDIT_MAX), Ordering::Relaxed);
                return Some((seen & ((1 << NUMBER_BITS) - 1)) as u32);
            }
        }
        None
    }

    /// Notes what the last walk found to be the stack of this number, all words of the stack being as they were.
    #[cold]
    #[inline(never)]
    pub fn note(&self, walk: &LastWalk, number: u32) {
        if number == 0 || number >> NUMBER_BITS != 0 {
            return;
        }
        let Some((registers, places)) = walk.places() else { return };
        let generation = self.generation.load(Ordering::Relaxed);
        let shape = self.place_for(registers, generation, number);
        // Filled up with the first place: read twice, it says the same.
        let words = places.count.next_multiple_of(LANES);
        let place = |index: usize| places.place[if index < places.count { index } else { 0 }];
        let mut sum = registers.stack_pointer as u64 ^ (registers.return_address as u64).rotate_left(32);
        sum = sum.wrapping_add(u64::from(generation) << 1 | u64::from(places.needs_frame_pointer));
        for index in 0..words {
            sum = sum.wrapping_add(mixed(index, u64::from(place(index)) + 1));
            shape.places[index].store(place(index), Ordering::Relaxed);
        }
        let reach = (0..words).map(|index| (place(index) as usize + 1) * WORD).max().unwrap_or(0);
        let factor = if places.needs_frame_pointer { FACTORS[FRAME_POINTER_FACTOR] } else { 0 };
        shape.return_address.store(registers.return_address, Ordering::Relaxed);
        shape.stack_pointer.store(registers.stack_pointer, Ordering::Relaxed);
        shape.seed.store(finished(sum), Ordering::Relaxed);
        shape.frame_pointer_factor.store(factor, Ordering::Relaxed);
        shape.generation.store(generation, Ordering::Relaxed);
        shape.reach.store(reach as u32, Ordering::Relaxed);
        shape.words.store(words as u32, Ordering::Relaxed);
        let begun = finished(sum).wrapping_add((registers.frame_pointer as u64).wrapping_mul(factor));
        // SAFETY: places that the walk has read.
        let hash = unsafe { hash_of(begun, registers.stack_pointer, &shape.places[..words]) };
        self.put(hash, number);
    }

    /// Where the shape of these registers is; else a place that is free, or either of two.
    fn place_for(&self, registers: Registers, generation: u32, number: u32) -> &Shape {
        let first = shape_index(registers);
        let two = [&self.shapes[first], &self.shapes[first ^ 1]];
        let of_these = two.into_iter().find(|shape| shape.is_of(registers, generation));
        let free = || two.into_iter().find(|shape| shape.generation.load(Ordering::Relaxed) != generation);
        of_these.or_else(free).unwrap_or(two[(number & 1) as usize])
    }

    fn put(&self, hash: u64, number: u32) {
        let entry = tag_of(hash) << NUMBER_BITS | u64::from(number);
        // The latest is found first; those before it are not lost.
        let mut next = entry;
        for way in 0..WAYS {
            let place = &self.numbers[number_index(hash) ^ way];
            let before = place.load(Ordering::Relaxed);
            place.store(next, Ordering::Relaxed);
            if before == 0 || before == entry {
                break;
            }
            next = before;
        }
    }
}

impl Shape {
    #[inline(always)]
    fn is_of(&self, registers: Registers, generation: u32) -> bool {
        self.return_address.load(Ordering::Relaxed) == registers.return_address
            && self.stack_pointer.load(Ordering::Relaxed) == registers.stack_pointer
            && self.generation.load(Ordering::Relaxed) == generation
    }
}

/// The hash of words of the stack, after what it begins with.
///
/// # Safety
/// All places above the stack pointer, which is aligned, are readable.
#[inline(always)]
unsafe fn hash_of(begun: u64, stack_pointer: usize, places: &[AtomicU32]) -> u64 {
    let mut sums = [begun, 0, 0, 0];
    for (places, factors) in places.as_chunks::<LANES>().0.iter().zip(FACTORS.as_chunks::<LANES>().0) {
        for ((place, factor), sum) in places.iter().zip(factors).zip(&mut sums) {
            let address = stack_pointer.wrapping_add(place.load(Ordering::Relaxed) as usize * WORD);
            // SAFETY: of the caller.
            let word = unsafe { core::ptr::with_exposed_provenance::<u64>(address).read() };
            *sum = sum.wrapping_add(word.wrapping_mul(*factor));
        }
    }
    sums[0].wrapping_add(sums[1]).wrapping_add(sums[2].wrapping_add(sums[3]))
}

#[inline(always)]
fn shape_index(registers: Registers) -> usize {
    let mixed =
        (registers.stack_pointer ^ registers.return_address.rotate_left(20)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed >> (usize::BITS - SHAPES.trailing_zeros())
}

#[inline(always)]
fn number_index(hash: u64) -> usize {
    (hash >> (u64::BITS - NUMBERS.trailing_zeros())) as usize
}

/// The bits behind those of the index, never zero.
#[inline(always)]
fn tag_of(hash: u64) -> u64 {
    hash << NUMBERS.trailing_zeros() >> NUMBER_BITS | 1
}

/// All bits of a sum spread over a word (the finalizer of MurmurHash3).
fn finished(mut sum: u64) -> u64 {
    sum = (sum ^ sum >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    sum = (sum ^ sum >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    sum ^ sum >> 33
}

const _: () = assert!(WORDS_MAX < FACTORS.len() && WORDS_MAX.is_multiple_of(LANES));
