//! What is told of an access: figures, the trace, the callback.

use core::sync::atomic::Ordering;

use pagetrace_format::access::{AccessSource, Modification, WatchedAccess};
use pagetrace_format::{Address, StackId, TraceNanos};

use super::super::{access_chunks, tasks};
use super::watched_range::Seen;
use super::{SLOTS, access_queue};
use crate::page_writes::{MonotonicNanos, Thread};
use crate::sys;
use crate::watch::{Access, AccessKind, Decision};

/// An access that has come to a page and waits.
#[derive(Clone, Copy, Debug)]
pub struct Coming {
    pub address: usize,
    pub write: bool,
    pub tid: u32,
    pub time: u64,
    pub instruction: Option<u64>,
}

/// Counts an access to the range of a slot, and puts it into the trace. One thread at a time.
pub fn note(index: usize, coming: &Coming, seen: &Seen, source: AccessSource) {
    let slot = &SLOTS[index];
    if coming.write { &slot.writes } else { &slot.reads }.fetch_add(1, Ordering::Relaxed);
    slot.foreign.fetch_add(seen.modified.is_some().into(), Ordering::Relaxed);
    let put = !access_chunks::are_wanted()
        || access_queue::put(&WatchedAccess {
            time: TraceNanos(coming.time),
            tid: coming.tid,
            address: Address(coming.address as u64),
            instruction: Address(coming.instruction.unwrap_or(0)),
            stack: StackId(0),
            task: tasks::at(coming.tid, coming.time),
            write: coming.write,
            source,
            foreign: seen.modified.map(|(tid, time)| Modification { tid, time: TraceNanos(time) }),
        });
    slot.lost.fetch_add((!put).into(), Ordering::Relaxed);
}

/// Asks the slot's callback whether the access may proceed, and does what it says.
pub fn ask(index: usize, coming: &Coming, seen: &Seen) {
    let Some(callback) = SLOTS[index].callback() else { return };
    let decision = callback(&Access {
        time: MonotonicNanos(coming.time),
        thread: Thread(coming.tid),
        address: coming.address,
        kind: if coming.write { AccessKind::Write } else { AccessKind::Read },
        instruction: coming.instruction.map(|instruction| instruction as usize),
        task: tasks::at(coming.tid, coming.time),
        modified_by: seen.modified.map(|(tid, _)| Thread(tid)),
        modified_at: seen.modified.map(|(_, time)| MonotonicNanos(time)),
    });
    match decision {
        Decision::Proceed => {}
        Decision::Stop => sys::stop_process(),
        Decision::Abort => {
            sys::abort(b"pagetrace: aborted before an access to watched memory, as its callback decided\n")
        }
    }
}
