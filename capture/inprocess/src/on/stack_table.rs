//! Gives each call stack a number, so that an event holds 4 bytes of it. A stack's frames are written once, into the
//! block of the thread that met it first.
//!
//! An open-addressed table of 64-bit slots in private memory, each a part of a hash and a number; inserted with one
//! compare-and-swap. Two stacks fall together with a chance of about n²/2⁴⁹ for n stacks. The first slots are the *front*, where
//! a stack goes if it can, so that those of most programs lie on a few pages side by side; there it is n²/2⁴³, with n at most
//! 2,048. All other stacks have their slots behind the front, which is soon full.

use core::sync::atomic::{AtomicU64, Ordering};

use pagetrace_format::encode::STACK_FRAMES_MAX;

use super::call_stack::CallStack;
use super::event_buffer::Entered;
use super::kept_stacks;
use super::process::PROCESS;
use crate::sys;

/// Slots of the table; a power of two.
pub const SLOTS: usize = 1 << 18;
/// Slots of its front: 16 KiB.
const FRONT_SLOTS: usize = 1 << 11;
const SLOTS_BEHIND: usize = SLOTS - FRONT_SLOTS;
/// Bytes of the table.
pub const BYTES: usize = SLOTS * size_of::<AtomicU64>();
/// With more stacks than this only their innermost frame is told apart, so that the table never fills up.
const FULL_STACKS_MAX: u32 = SLOTS as u32 / 2;
const PROBES_MAX: usize = 64;

/// The number that a stack is told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// Its own.
    Own(u32),
    /// That of its innermost frame where it could not be kept, which is counted; 0 for none.
    Substitute(u32),
}

impl Number {
    /// As events have it.
    pub fn value(self) -> u32 {
        match self {
            Number::Own(number) | Number::Substitute(number) => number,
        }
    }
}

/// The number of the stack. Writes the frames if it is new.
#[inline(always)]
pub fn id_of(place: &mut Place<'_, '_>, stack: &CallStack) -> Number {
    let hash = stack.hash();
    if let Some(table) = PROCESS.stack_table() {
        for slot in [front_slot(hash), first_slot(hash)] {
            let seen = table[slot].load(Ordering::Relaxed);
            if seen >> 32 == tag_of(hash) {
                return Number::Own(seen as u32);
            }
        }
    }
    id_of_other(place, stack)
}

/// Of one that is new, or not where it would be first.
#[cold]
#[inline(never)]
fn id_of_other(place: &mut Place<'_, '_>, stack: &CallStack) -> Number {
    if stack.len() == 0 {
        return Number::Substitute(0);
    }
    match find_or_insert(place, stack, FULL_STACKS_MAX) {
        Some(id) => Number::Own(id),
        None => Number::Substitute(count_lost_stack(find_or_insert(place, &stack.innermost(), u32::MAX))),
    }
}

/// The first slot behind the front. The upper bits of a hash are the better ones.
#[inline(always)]
fn first_slot(hash: u64) -> usize {
    FRONT_SLOTS + (((hash >> 32) * SLOTS_BEHIND as u64) >> 32) as usize
}

/// The one after so many others.
fn slot_behind(hash: u64, probe: usize) -> usize {
    FRONT_SLOTS + (first_slot(hash) - FRONT_SLOTS + probe) % SLOTS_BEHIND
}

/// A slot in the front.
#[inline(always)]
fn front_slot(hash: u64) -> usize {
    (hash >> (u64::BITS - FRONT_SLOTS.trailing_zeros())) as usize
}

/// The bits behind those of the slot, never zero.
#[inline(always)]
fn tag_of(hash: u64) -> u64 {
    hash << SLOTS.trailing_zeros() >> 32 | 1 << 31
}

/// Where the frames of a new stack go.
pub enum Place<'p, 'b> {
    /// Into the buffer that the hook has entered.
    Buffer(&'p mut Entered<'b>),
    /// Recording is off and ids go on: into a block of their own.
    Kept,
}

impl Place<'_, '_> {
    fn reserve(&mut self, frames: usize) -> bool {
        match self {
            Place::Buffer(entered) => entered.reserve(frames as u32 + 2).is_ok(),
            Place::Kept => true,
        }
    }

    fn append(&mut self, id: u32, stack: &CallStack) -> bool {
        match self {
            Place::Buffer(entered) => {
                entered.append_stack(id, stack);
                true
            }
            Place::Kept => kept_stacks::append(id, stack),
        }
    }
}

#[cold]
fn count_lost_stack(id: Option<u32>) -> u32 {
    if let Some(slot) = PROCESS.slot() {
        slot.stacks_lost.fetch_add(1, Ordering::Relaxed);
    }
    id.unwrap_or(0)
}

fn find_or_insert(place: &mut Place<'_, '_>, stack: &CallStack, ids_max: u32) -> Option<u32> {
    let table = PROCESS.stack_table()?;
    let hash = stack.hash();
    let tag = tag_of(hash);
    let behind = (0..PROBES_MAX).map(|probe| slot_behind(hash, probe));
    for slot in core::iter::once(front_slot(hash)).chain(behind) {
        let slot = &table[slot];
        let mut seen = slot.load(Ordering::Relaxed);
        if seen == 0 {
            // The frames must be sure of their place before anyone can refer to them.
            if PROCESS.stacks_in_table() >= ids_max || !place.reserve(stack.len()) {
                return None;
            }
            let id = PROCESS.next_stack();
            match slot.compare_exchange(0, tag << 32 | u64::from(id), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    if place.append(id, stack) {
                        return Some(id);
                    }
                    // Nobody is to refer to it; who does meanwhile has a number without frames, as counted.
                    slot.store(0, Ordering::Relaxed);
                    return None;
                }
                Err(other) => seen = other,
            }
        }
        if seen >> 32 == tag {
            return Some(seen as u32);
        }
    }
    None
}

/// Empties the table where its memory cannot be given back.
pub fn empty() {
    // Pages that hold nothing stay the ones that a fork's parent and child share.
    let used = PROCESS.stack_table().into_iter().flatten().filter(|slot| slot.load(Ordering::Relaxed) != 0);
    used.for_each(|slot| slot.store(0, Ordering::Relaxed));
}

/// Gives the table's memory back: all stacks are new again.
pub fn release() {
    if let Some(table) = PROCESS.stack_table() {
        // SAFETY: the tracer's own mapping of atomics, of which zero means that a slot is empty.
        unsafe { sys::give_pages_back(table.as_ptr().cast(), BYTES) };
        PROCESS.forget_stacks();
    }
}

const _: () = assert!(super::call_stack::FRAMES_MAX <= STACK_FRAMES_MAX);
