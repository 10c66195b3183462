//! What a trace says beside its events, written by the program itself: processes, modules, buckets, losses, sources,
//! the end.

use core::sync::atomic::Ordering;

use pagetrace_format::record_chunk::{ModuleRef, ProcessRef, RecordChunk};
use pagetrace_format::records::{
    End, EndStatus, Gap, Loss, LossReason, ProcessEnd, ProcessOrigin, Sampling, TracerMemory,
};
use pagetrace_format::session::{ProcessSlot, Session, slot_state};
use pagetrace_format::{Address, ProcessId, StackId, TraceNanos};

use super::process::{INHERITED, PROCESS, lifecycle};
use super::scratch::Scratch;
use super::{buckets, call_stack, drain, figures, go_buffers, modules, sampling, tick_line, trace_file};
use crate::sys;

const OBJECTS_MISSED: &str = "objects of allocators that the tracer is not linked into, and what came before its start";
const SNAPSHOTS_MISSED: &str =
    "taken by the program itself while it ran: what changed meanwhile, and whatever changed between snapshots";

/// The number in the trace of the process with this serial.
pub fn process_id(serial: u32) -> ProcessId {
    ProcessId(serial.wrapping_sub(1))
}

/// Writes what is new about all processes, and takes in those that have died.
pub fn all(session: Session, scratch: &mut Scratch) {
    let slots = (0..session.layout().process_slots).filter_map(|index| session.slot(index));
    // Slots are claimed from the front, so the rest was never used.
    for slot in slots.take_while(|slot| slot.state.load(Ordering::Acquire) != slot_state::EMPTY || was_used(slot)) {
        if slot.state.load(Ordering::Acquire) == slot_state::RUNNING {
            one(session, slot, scratch);
        }
    }
    let refused = session.header().processes_refused.0.swap(0, Ordering::Relaxed);
    if refused > 0 {
        let loss = Loss { process: None, reason: LossReason::TooManyProcesses, events: 0, time: now() };
        write(scratch, |chunk| chunk.loss(&loss));
    }
}

/// Writes that this process has ended, as far as the trace goes, and gives its slot back. Whether it was the last.
pub fn process_ended(session: Session, scratch: &mut Scratch) -> bool {
    if let Some(slot) = PROCESS.slot() {
        one(session, slot, scratch);
        end_process(slot, EndStatus::Unknown, scratch);
    }
    let mut slots = (0..session.layout().process_slots).filter_map(|index| session.slot(index));
    !slots.any(|slot| {
        slot.state.load(Ordering::Acquire) == slot_state::RUNNING && sys::process_runs(slot.pid.load(Ordering::Relaxed))
    })
}

/// Ends the trace.
pub fn end(scratch: &mut Scratch) {
    let end = End { time: now(), unix_ns: sys::unix_ns() };
    write(scratch, |chunk| chunk.end(&end));
}

/// Writes the sources of a recording that begins, and whether objects are sampled.
pub fn sources(scratch: &mut Scratch, snapshots: bool) {
    write(scratch, |chunk| {
        let sampling = sampling::mean_bytes().map(|mean_bytes| Sampling { mean_bytes });
        sampling.is_none_or(|sampling| chunk.sampling(&sampling))
            && chunk.source("linked tracer", true, OBJECTS_MISSED)
            && chunk.source("residency scans", snapshots, if snapshots { SNAPSHOTS_MISSED } else { "switched off" })
    });
}

/// Writes that recording was off.
pub fn gap(start: TraceNanos, end: TraceNanos, kept: bool, scratch: &mut Scratch) {
    let gap = Gap { process: process_id(PROCESS.serial()), start, end, kept };
    write(scratch, |chunk| chunk.gap(&gap));
}

/// Writes the modules of this process, if they have changed since they were written. Without `look` this is only found
/// out if looking has not cost much of the time lately.
pub fn modules(look: bool, scratch: &mut Scratch) {
    if go_buffers::wanted() {
        return;
    }
    let Scratch { text, chunk, .. } = scratch;
    if !PROCESS.modules_seen.has_changed(text, look) {
        return;
    }
    let process = process_id(PROCESS.serial());
    modules::for_each_module(text, &mut |module| {
        call_stack::learn_code_between(module.start, module.end);
        let found = ModuleRef {
            process,
            start: module.start,
            end: module.end,
            file_offset: module.file_offset,
            path: module.path,
            build_id: module.build_id,
        };
        write_in(chunk, |chunk| chunk.module(&found));
    });
}

/// What [`ProcessSlot::announced`] says of a process that is dead and whose blocks are not drained yet.
const DEAD: u32 = 2;

/// Writes what is new about a process, and whether it has died.
fn one(session: Session, slot: &ProcessSlot, scratch: &mut Scratch) {
    let id = process_id(slot.serial.load(Ordering::Relaxed));
    if slot.announced.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        announce(session, slot, id, scratch);
    }
    let announced = slot.buckets_announced.load(Ordering::Relaxed);
    let mut name = buckets::name_buffer();
    for index in announced..buckets::count() {
        let Some(name) = buckets::name(index, &mut name) else { break };
        write(scratch, |chunk| chunk.bucket(id, StackId(buckets::NAMED | index), name));
        slot.buckets_announced.store(index + 1, Ordering::Relaxed);
    }
    losses(slot, id, scratch);
    let pid = slot.pid.load(Ordering::Relaxed);
    if pid == sys::getpid() || sys::process_runs(pid) {
        return;
    }
    // In two rounds: what it has left in its blocks is drained between them.
    if slot.announced.swap(DEAD, Ordering::Relaxed) == DEAD {
        end_process(slot, EndStatus::Unknown, scratch);
    } else {
        drain::fill_blocks_of(session, slot.serial.load(Ordering::Relaxed));
    }
}

fn announce(session: Session, slot: &ProcessSlot, id: ProcessId, scratch: &mut Scratch) {
    let clock = tick_line::line(session.header());
    let parent = slot.forked_from.load(Ordering::Relaxed);
    let (mut exe, mut args) = ([0; 1024], [0; 2048]);
    let args = if INHERITED.args.load(Ordering::Relaxed) { figures::arguments(&mut args) } else { None };
    let process = ProcessRef {
        id,
        pid: slot.pid.load(Ordering::Relaxed),
        parent: (parent != 0).then(|| process_id(parent)),
        origin: if parent == 0 { ProcessOrigin::Command } else { ProcessOrigin::Fork },
        start: clock.time_of(slot.start_tick.load(Ordering::Relaxed)),
        exe: modules::executable(&mut exe).unwrap_or_default(),
        args,
        malloc: Address(slot.malloc.load(Ordering::Relaxed)),
    };
    let ranges = slot.tracer_ranges.each_ref().map(|range| range.each_ref().map(|end| end.load(Ordering::Relaxed)));
    let (start, end) = sys::reserved_addresses();
    write(scratch, |chunk| {
        chunk.process(&process)
            && ranges.iter().chain(&[[start, end]]).filter(|range| range[1] > range[0]).all(|&[start, end]| {
                chunk.tracer_memory(&TracerMemory { process: id, start: Address(start), end: Address(end) })
            })
    });
}

fn losses(slot: &ProcessSlot, process: ProcessId, scratch: &mut Scratch) {
    let counters = [
        (&slot.lost_full, LossReason::BufferFull),
        (&slot.lost_reentered, LossReason::Reentered),
        (&slot.stacks_lost, LossReason::StackTableFull),
    ];
    for ((counter, reason), written) in counters.into_iter().zip(&slot.lost_written) {
        let lost = counter.load(Ordering::Relaxed);
        let events = lost.wrapping_sub(written.swap(lost, Ordering::Relaxed));
        if events > 0 {
            let loss = Loss { process: Some(process), reason, events, time: now() };
            write(scratch, |chunk| chunk.loss(&loss));
        }
    }
}

fn end_process(slot: &ProcessSlot, status: EndStatus, scratch: &mut Scratch) {
    let end = ProcessEnd {
        id: process_id(slot.serial.load(Ordering::Relaxed)),
        time: now(),
        status,
        snapshot_at_exit: slot.serial.load(Ordering::Relaxed) == PROCESS.serial()
            && INHERITED.lifecycle.load(Ordering::Relaxed) == lifecycle::FINISHED
            && INHERITED.snapshots.load(Ordering::Relaxed),
    };
    write(scratch, |chunk| chunk.process_end(&end));
    slot.state.store(slot_state::EMPTY, Ordering::Release);
}

fn was_used(slot: &ProcessSlot) -> bool {
    slot.serial.load(Ordering::Relaxed) != 0
}

fn now() -> TraceNanos {
    TraceNanos(sys::monotonic_ns())
}

fn write(scratch: &mut Scratch, records: impl FnOnce(&mut RecordChunk<'_>) -> bool) {
    write_in(scratch.chunk, records);
}

fn write_in(memory: &mut [u8], records: impl FnOnce(&mut RecordChunk<'_>) -> bool) {
    if go_buffers::wanted() {
        // The format has events and nothing else.
        return;
    }
    if let Some(mut chunk) = RecordChunk::new(memory) {
        // What does not fit is left out: paths and arguments are bounded, so only a frame of many megabytes would.
        let _ = records(&mut chunk);
        if !chunk.is_empty() {
            trace_file::append(chunk.finish(now()));
        }
    }
}
