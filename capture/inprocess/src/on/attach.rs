//! Joining a session: the recorder's that the environment names, or the one that a fork's parent was in.

use core::ffi::CStr;
use core::sync::atomic::Ordering;

use pagetrace_format::session::{
    PROCESS_TABLE_OFFSET, SESSION_MAGIC, SESSION_VARIABLE, Session, SessionHeader, SessionLayout, handover, slot_state,
    writer,
};

use super::process::{INHERITED, PROCESS, active, lifecycle};
use super::{call_stack, idle, marks, sampling, stack_table, thread_state, write_handover};
use crate::sys;

/// Remembers where the real malloc is.
pub fn real_malloc_is_at(address: usize) {
    INHERITED.malloc.store(address, Ordering::Relaxed);
}

/// Remembers where the real malloc is, and attaches if that has not been done: whoever says so has been asked for by
/// the recorder, whatever else is in the process.
pub fn attach(malloc: usize) {
    INHERITED.malloc.store(malloc, Ordering::Relaxed);
    if INHERITED.session().is_none() {
        PROCESS.forget();
    }
    idle::set_up();
    become_recording();
}

/// What a hook does when it finds that nobody has looked yet whether to record: attaches, once for a process. Whether
/// it records now.
#[cold]
#[inline(never)]
pub fn become_recording() -> bool {
    if PROCESS.active() != 0 || !sys::environment_is_ready() {
        return false;
    }
    let asked = idle::is_asked();
    if asked && !idle::may_follow() {
        // Another thread will, or this one later.
        return false;
    }
    let claimed = PROCESS.attaching.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok();
    if !claimed {
        // Another thread is at it: the events until it is done are before the start of the recording.
        return false;
    }
    let kind = sys::keeping_errno(|| match INHERITED.session() {
        _ if asked => idle::follow().map(wanted_by_recorder),
        Some(session) => join_again(session),
        None => sys::environment(SESSION_VARIABLE)
            .and_then(open_session)
            .and_then(|session| join(session, 0).map(|()| wanted_by_recorder(session))),
    });
    PROCESS.activate(kind.unwrap_or(active::IDLE));
    if kind.is_some() {
        sys::keeping_errno(|| {
            PROCESS.ring_doorbell();
            write_handover::offer();
        });
    }
    kind == Some(active::RECORDING)
}

/// Notes the moment of a fork, in the parent.
pub fn fork_begins() {
    if PROCESS.is_recording() {
        INHERITED.fork_tick.store(PROCESS.tick(), Ordering::Relaxed);
    }
}

/// Forgets the moment of a fork, in the parent.
pub fn fork_in_parent() {
    INHERITED.fork_tick.store(0, Ordering::Relaxed);
}

/// Makes the child of a fork a process of its own.
pub fn fork_in_child() {
    // Without a session there is nothing to join, and without the wiped page (kernels before 4.14) the parent's slot
    // and blocks would be taken for our own.
    if INHERITED.session().is_some() {
        PROCESS.forget();
        become_recording();
    }
}

/// A forked child goes on as its parent was.
fn join_again(session: Session) -> Option<u32> {
    let parent = INHERITED.serial.load(Ordering::Relaxed);
    if session.header().writer.load(Ordering::Relaxed) == writer::RECORDER {
        return join(session, parent).map(|()| wanted_by_recorder(session));
    }
    let kind = match INHERITED.lifecycle.load(Ordering::Relaxed) {
        lifecycle::RECORDING => active::RECORDING,
        lifecycle::KEEPING => active::KEEPING,
        lifecycle::DROPPED => active::IDLE,
        _ => return None,
    };
    join(session, parent).map(|()| kind)
}

/// What a recorder wants of a program that has joined: its events, or nothing but to know of it.
fn wanted_by_recorder(session: Session) -> u32 {
    match session.header().hooks_idle.load(Ordering::Relaxed) {
        0 => active::RECORDING,
        _ => active::IDLE,
    }
}

/// Opens a recorder's session and makes it this process's. Nobody uses an earlier one any more.
pub fn open_session(path: &CStr) -> Option<Session> {
    let (base, bytes) = sys::map_file(path, PROCESS_TABLE_OFFSET)?;
    // SAFETY: the mapping is page aligned and at least as long as the header, whose fields are atomics.
    let header = unsafe { &*base.cast::<SessionHeader>() };
    let layout = SessionLayout {
        process_slots: header.process_slots.load(Ordering::Relaxed),
        block_count: header.block_count.load(Ordering::Relaxed),
        block_bytes: header.block_bytes.load(Ordering::Relaxed),
    };
    let fits = header.magic.load(Ordering::Acquire) == SESSION_MAGIC
        && layout.block_bytes >= 4096
        && layout.block_bytes.is_multiple_of(4096)
        && layout.total_bytes() <= bytes
        && header.recording.load(Ordering::Relaxed) == 1;
    if !fits {
        return None;
    }
    // SAFETY: mapped and checked above, never unmapped, and the first session of this process, or the hooks of earlier ones have
    // been waited for; those stay mapped.
    unsafe { INHERITED.set_session(base, layout) };
    INHERITED.session()
}

/// Tells the recorder that there is a tracer in this process that it hears nothing of.
pub fn tell_of_idle_tracer() {
    let mapped = sys::environment(SESSION_VARIABLE).and_then(|path| sys::map_file(path, PROCESS_TABLE_OFFSET));
    let Some((base, bytes)) = mapped else { return };
    // SAFETY: the mapping is page aligned and at least as long as the header, whose fields are atomics.
    let header = unsafe { &*base.cast::<SessionHeader>() };
    if header.magic.load(Ordering::Acquire) == SESSION_MAGIC {
        header.idle_tracers.0.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: mapped above, and the reference into it is used no more.
    unsafe { sys::unmap_file(base, bytes) };
}

/// Takes a slot and says who we are. `forked_from` is the serial of the process that this one is a copy of.
pub fn join(session: Session, forked_from: u32) -> Option<()> {
    let header = session.header();
    if header.recording.load(Ordering::Relaxed) != 1 {
        return None;
    }
    if forked_from != 0 {
        marks::forget_in_child();
        call_stack::open_in_child();
        sampling::begin_in_child();
    }
    thread_state::current().buffer.forget_process();
    thread_state::current().object_ids.set((0, 0));
    let table = fresh_stack_table()?;
    sampling::begin(header.sample_bytes.load(Ordering::Relaxed))?;
    let claimed = (0..session.layout().process_slots).find_map(|index| {
        let slot = session.slot(index)?;
        let change =
            slot.state.compare_exchange(slot_state::EMPTY, slot_state::CLAIMED, Ordering::Acquire, Ordering::Relaxed);
        change.is_ok().then_some((index, slot))
    });
    let Some((index, slot)) = claimed else {
        header.processes_refused.0.fetch_add(1, Ordering::Relaxed);
        return None;
    };
    // Buffers know by it whose they are: one of an earlier session must not come again in this process.
    header.process_serial.0.fetch_max(INHERITED.serial.load(Ordering::Relaxed), Ordering::Relaxed);
    let serial = header.process_serial.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    PROCESS.begin(header.clock.load(Ordering::Relaxed), serial, index);
    let fork_tick = INHERITED.fork_tick.swap(0, Ordering::Relaxed);
    let start = if forked_from != 0 && fork_tick != 0 { fork_tick } else { PROCESS.tick() };
    // A child that is forked while recording is off has its gap from there on.
    PROCESS.off_since.store(start, Ordering::Relaxed);
    // A child that is forked in a sandbox has one thread, and its pid for a tid.
    slot.pid.store(sys::sandbox::tid().unwrap_or_else(sys::getpid), Ordering::Relaxed);
    slot.serial.store(serial, Ordering::Relaxed);
    slot.forked_from.store(forked_from, Ordering::Relaxed);
    slot.start_tick.store(start, Ordering::Relaxed);
    slot.malloc.store(INHERITED.malloc.load(Ordering::Relaxed) as u64, Ordering::Relaxed);
    for counter in [&slot.lost_full, &slot.lost_reentered, &slot.stacks_lost].into_iter().chain(&slot.lost_written) {
        counter.store(0, Ordering::Relaxed);
    }
    slot.announced.store(0, Ordering::Relaxed);
    slot.buckets_announced.store(0, Ordering::Relaxed);
    let base = session.base() as u64;
    let ranges = [
        (base, base + session.layout().total_bytes() as u64),
        (table as u64, table as u64 + stack_table::BYTES as u64),
        sampling::SAMPLED.memory(),
    ];
    for (range, (start, end)) in slot.tracer_ranges.iter().zip(ranges) {
        range[0].store(start, Ordering::Relaxed);
        range[1].store(end, Ordering::Relaxed);
    }
    slot.handover.store(handover::NONE, Ordering::Relaxed);
    slot.state.store(slot_state::RUNNING, Ordering::Release);
    Some(())
}

/// An empty table of stacks in place of the parent's.
fn fresh_stack_table() -> Option<*const u8> {
    let old = INHERITED.stack_table.load(Ordering::Relaxed);
    if sys::sandbox::is_entered() && !old.is_null() {
        PROCESS.set_stack_table(old);
        stack_table::empty();
        return Some(old.cast_const().cast());
    }
    // SAFETY: null, or the parent's table, to which nobody in this new process refers.
    let table = unsafe { sys::map_zeroed(old.cast_const().cast(), stack_table::BYTES) }?;
    PROCESS.set_stack_table(table.cast_mut().cast());
    Some(table)
}
