//! The hooks of builds with the feature `enabled`; `off.rs` is the empty twin.

#[allow(dead_code)]
pub mod build_id;
#[allow(dead_code)]
pub mod figures;
#[allow(dead_code)]
pub mod maps;
#[allow(dead_code)]
pub mod modules;
#[allow(dead_code)]
pub mod proc_text;
#[allow(dead_code)]
pub mod residency;
#[allow(dead_code)]
pub mod snapshot;

use pagetrace_format::{Address, ObjectAlloc, ObjectFree, ObjectFunction, StackId, encode};

use crate::event_buffer;
use crate::frames;
use crate::process::{self, PROCESS};
use crate::recursion_guard::RecursionGuard;
use crate::stack_table;
use crate::thread_state;
use crate::{Caller, Function};

pub fn attach(malloc: usize) {
    process::attach(malloc);
}

#[inline]
pub fn is_recording() -> bool {
    PROCESS.is_recording() || process::become_recording()
}

#[inline]
pub fn now() -> u64 {
    if is_recording() { PROCESS.tick() } else { 0 }
}

#[inline]
pub fn object_alloc(address: usize, size: usize, usable: usize, function: Function, caller: Caller) {
    if !is_recording() || address == 0 {
        return;
    }
    let tick = PROCESS.tick();
    let Some(mut guard) = RecursionGuard::enter() else { return };
    let mut addresses = [0; frames::FRAMES_MAX];
    let count = frames::walk(&guard, caller, &mut addresses);
    let stack = StackId(stack_table::id_of(&mut guard, &addresses[..count]));
    let object = ObjectAlloc {
        address: Address(address as u64),
        size: size as u64,
        usable: usable.max(size) as u64,
        stack,
        function: to_format(function),
    };
    event_buffer::append(&mut guard, tick, |ticks| encode::object_alloc(ticks, &object));
}

#[inline]
pub fn object_free(address: usize, function: Function) {
    if is_recording() && address != 0 {
        record_free(PROCESS.tick(), address, function);
    }
}

#[inline]
pub fn object_free_at(tick: u64, address: usize, function: Function) {
    if tick != 0 && address != 0 && is_recording() {
        record_free(tick, address, function);
    }
}

#[inline]
fn record_free(tick: u64, address: usize, function: Function) {
    let Some(mut guard) = RecursionGuard::enter() else { return };
    let object = ObjectFree { address: Address(address as u64), function: to_format(function) };
    event_buffer::append(&mut guard, tick, |ticks| encode::object_free(ticks, &object));
}

/// # Safety
/// As [`crate::thread_started`].
pub unsafe fn thread_started(low: usize, high: usize) {
    thread_state::current().stack.set((low, high));
}

pub fn thread_ended() {
    if PROCESS.is_recording()
        && let Some(mut guard) = RecursionGuard::enter()
    {
        event_buffer::release(&mut guard);
    }
}

pub fn fork_begins() {
    process::fork_begins();
}

pub fn fork_in_parent() {
    process::fork_in_parent();
}

pub fn fork_in_child() {
    process::fork_in_child();
}

pub fn hold_for_last_snapshot() {
    process::hold_for_last_snapshot();
}

#[inline]
fn to_format(function: Function) -> ObjectFunction {
    match function {
        Function::Plain => ObjectFunction::Plain,
        Function::Calloc => ObjectFunction::Calloc,
        Function::Realloc => ObjectFunction::Realloc,
        Function::Aligned => ObjectFunction::Aligned,
    }
}
