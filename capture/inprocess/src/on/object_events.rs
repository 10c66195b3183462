//! Events of objects: their numbers, their call sites, and the live table.
//!
//! Whether an event is due is for the table to say ([`super::object_table`]): a trace never has a free without its
//! allocation because recording was switched in between.

use core::sync::atomic::Ordering;

use pagetrace_format::event::kind_number;
use pagetrace_format::{Address, ObjectAlloc, ObjectFree, ObjectFunction, ObjectId, StackId, encode};

use super::event_buffer::{self, Entered, Identity, NotWritten};
use super::object_table::Removed;
use super::process::PROCESS;
use super::recursion_guard::RecursionGuard;
use super::sampling::{self, SAMPLED};
use super::stack_table::{self, Number, Place};
use super::{OBJECTS, call_stack, object_ids};
use crate::hooks::{Caller, Function};

/// Where an object comes from.
#[derive(Clone, Copy)]
pub enum Site {
    /// A call.
    Stack(Caller),
    /// A bucket of the program's own.
    Bucket(u32),
}

/// An object came to life.
#[inline]
pub fn alloc(address: usize, size: usize, usable: usize, function: Function, site: Site) {
    let tick = PROCESS.tick();
    let Some(guard) = RecursionGuard::enter() else { return };
    // Before its event, so that its free is known for one whenever it comes.
    let is_sampled = sampling::is_on();
    if is_sampled && !SAMPLED.insert(address) {
        event_buffer::count_lost(PROCESS.active());
        return;
    }
    let mut object = ObjectAlloc {
        address: Address(address as u64),
        size: size as u64,
        usable: usable.max(size) as u64,
        stack: StackId(0),
        function: to_format(function),
    };
    if PROCESS.has_table() {
        alloc_in_table(&guard, tick, object, site);
        return;
    }
    let buffer = &guard.thread().buffer;
    // One that is not written has been counted, or recording is off.
    let written = buffer.enter(Identity::of_thread).and_then(|mut entered| {
        object.stack = StackId(match site {
            Site::Bucket(bucket) => bucket,
            Site::Stack(caller) => {
                call_stack::number(&guard, caller, |stack| stack_table::id_of(&mut Place::Buffer(&mut entered), stack))
            }
        });
        match buffer.wants(kind_number::OBJECT_ALLOC) {
            true => entered.append(tick, |ticks| encode::object_alloc(ticks, &object)),
            false => Ok(()),
        }
    });
    if is_sampled && written.is_err() {
        SAMPLED.remove(address);
    }
}

/// The same with a live table.
#[inline(never)]
fn alloc_in_table(guard: &RecursionGuard, tick: u64, mut object: ObjectAlloc, site: Site) {
    let address = object.address.0 as usize;
    let buffer = &guard.thread().buffer;
    let mut entered = buffer.enter(Identity::of_thread);
    let bucket = match site {
        Site::Bucket(bucket) => bucket,
        Site::Stack(caller) => call_stack::number(guard, caller, |stack| match &mut entered {
            Ok(entered) => stack_table::id_of(&mut Place::Buffer(entered), stack),
            Err(NotWritten::Off) => stack_table::id_of(&mut Place::Kept, stack),
            // The event is lost, and its object has no site.
            Err(NotWritten::Lost) => Number::Substitute(0),
        }),
    };
    object.stack = StackId(bucket);
    let wanted = buffer.wants(kind_number::OBJECT_ALLOC);
    let id = object_ids::next(guard);
    let inserted = OBJECTS.insert(address, id, bucket, object.size, wanted);
    // One that finds no place in the table is written all the same, while recording.
    if inserted.is_ok_and(|inserted| !inserted.event_due) || !wanted {
        return;
    }
    // The table may have resumed since the buffer was tried: then there is a buffer now.
    let entered = match entered {
        Err(NotWritten::Off) => buffer.enter(Identity::of_thread),
        tried => tried,
    };
    let write = |entered: Result<Entered<'_>, NotWritten>| {
        entered.and_then(|mut entered| {
            entered.append(tick, |ticks| encode::object_alloc_with_id(ticks, &object, ObjectId(id)))
        })
    };
    let mut written = write(entered);
    // Either the table keeps it for when recording resumes, or recording has resumed.
    while written == Err(NotWritten::Off) && !OBJECTS.take_back(address, id) && PROCESS.is_recording() {
        written = write(buffer.enter(Identity::of_thread));
    }
}

/// An object dies.
#[inline(always)]
pub fn free(tick: u64, address: usize, function: Function) {
    // Also where its event is lost: the address is another object's next.
    if sampling::is_on() && !SAMPLED.remove(address) {
        return;
    }
    let Some(guard) = RecursionGuard::enter() else { return };
    if PROCESS.has_table() {
        free_in_table(&guard, tick, address, function);
        return;
    }
    let buffer = &guard.thread().buffer;
    if buffer.wants(kind_number::OBJECT_FREE)
        && let Ok(mut entered) = buffer.enter(Identity::of_thread)
    {
        let object = ObjectFree { address: Address(address as u64), function: to_format(function) };
        // As in `alloc`.
        let _ = entered.append(tick, |ticks| encode::object_free(ticks, &object));
    }
}

#[inline(never)]
fn free_in_table(guard: &RecursionGuard, tick: u64, address: usize, function: Function) {
    match take_out(address) {
        Some(removed) if !removed.event_due => {}
        removed => write_free(guard, tick, address, function, removed),
    }
}

fn take_out(address: usize) -> Option<Removed> {
    let removed = OBJECTS.remove(address);
    if removed.is_none() {
        PROCESS.unknown_frees.fetch_add(1, Ordering::Relaxed);
    }
    removed
}

fn write_free(guard: &RecursionGuard, tick: u64, address: usize, function: Function, removed: Option<Removed>) {
    let buffer = &guard.thread().buffer;
    if !buffer.wants(kind_number::OBJECT_FREE) {
        return;
    }
    let object = ObjectFree { address: Address(address as u64), function: to_format(function) };
    let write = || {
        buffer.enter(Identity::of_thread).and_then(|mut entered| match &removed {
            Some(removed) => {
                entered.append(tick, |ticks| encode::object_free_with_id(ticks, &object, ObjectId(removed.entry.id)))
            }
            None => entered.append(tick, |ticks| encode::object_free(ticks, &object)),
        })
    };
    // As in `alloc_in_table`.
    while write() == Err(NotWritten::Off)
        && let Some(removed) = &removed
        && !OBJECTS.log_dead(removed)
        && PROCESS.is_recording()
    {}
}

/// See [`crate::PendingFree`].
#[derive(Debug)]
pub struct PendingFree {
    tick: u64,
    address: usize,
    removed: Option<Removed>,
    /// Whether it was among the sampled objects.
    was_sampled: bool,
}

impl PendingFree {
    /// Of nothing that is traced.
    #[inline]
    pub const fn nothing() -> PendingFree {
        PendingFree { tick: 0, address: 0, removed: None, was_sampled: false }
    }

    /// Of an object whose death is of no interest.
    pub fn unrecorded(address: usize) -> PendingFree {
        let was_sampled = sampling::is_on() && SAMPLED.remove(address);
        PendingFree { address, was_sampled, ..PendingFree::nothing() }
    }

    /// Takes the object out of the table, since another may be at its address before the allocator returns.
    #[inline]
    pub fn begin(address: usize) -> PendingFree {
        let was_sampled = sampling::is_on();
        if was_sampled && !SAMPLED.remove(address) {
            return PendingFree::nothing();
        }
        let pending = PendingFree { tick: PROCESS.tick(), address, removed: None, was_sampled };
        if !PROCESS.has_table() {
            return pending;
        }
        match RecursionGuard::enter() {
            Some(_guard) => PendingFree { removed: take_out(address), ..pending },
            None => PendingFree { tick: 0, ..pending },
        }
    }

    /// The object has died.
    #[inline]
    pub fn happened(self, function: Function) {
        let known_and_not_due = self.removed.as_ref().is_some_and(|removed| !removed.event_due);
        if self.tick != 0
            && !known_and_not_due
            && let Some(guard) = RecursionGuard::enter()
        {
            write_free(&guard, self.tick, self.address, function, self.removed);
        }
    }

    /// It lives on.
    #[inline]
    pub fn failed(self) {
        if self.was_sampled {
            // There was room a moment ago; where another took it, the object's death will not be known.
            SAMPLED.insert(self.address);
        }
        let Some(removed) = self.removed else { return };
        let Some(_guard) = RecursionGuard::enter() else { return };
        let entry = removed.entry;
        // Without a free due, the trace does not know it, or knows it among those that died while nothing was written.
        let inserted = OBJECTS.insert(entry.address, entry.id, entry.bucket, entry.size, removed.event_due);
        if removed.event_due && inserted.is_ok_and(|inserted| !inserted.event_due) {
            // Recording went off meanwhile: it will be announced again, so it has to die before.
            OBJECTS.log_dead(&removed);
        }
    }
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
