//! The twin of `on.rs` for builds without the feature `enabled`: the same signatures, empty.

use crate::{Caller, Function};

#[inline(always)]
pub fn attach(_malloc: usize) {}

#[inline(always)]
pub fn is_recording() -> bool {
    false
}

#[inline(always)]
pub fn now() -> u64 {
    0
}

#[inline(always)]
pub fn object_alloc(_address: usize, _size: usize, _usable: usize, _function: Function, _caller: Caller) {}

#[inline(always)]
pub fn object_free(_address: usize, _function: Function) {}

#[inline(always)]
pub fn object_free_at(_time: u64, _address: usize, _function: Function) {}

/// # Safety
/// None needed: it does nothing.
#[inline(always)]
pub unsafe fn thread_started(_low: usize, _high: usize) {}

#[inline(always)]
pub fn thread_ended() {}

#[inline(always)]
pub fn fork_begins() {}

#[inline(always)]
pub fn fork_in_parent() {}

#[inline(always)]
pub fn fork_in_child() {}

#[inline(always)]
pub fn hold_for_last_snapshot() {}
