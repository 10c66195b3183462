//! When the program takes a snapshot of itself: at the start, when it has grown, after a while, and at the end.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use pagetrace_format::snapshot::SnapshotReason;

use super::announcements::process_id;
use super::process::{INHERITED, PROCESS};
use super::scratch::Scratch;
use super::{figures, go_buffers, snapshot, trace_file};
use crate::sys;

/// Snapshots are at least so far apart…
const EVERY_NS_MIN: u64 = 1_000_000_000;
/// …and at most, while recording.
const EVERY_NS_MAX: u64 = 10_000_000_000;
/// Growth of RSS by one part in so many is worth one.
const GROWTH: u64 = 10;

/// Memory for one snapshot; it is given back after each.
static MEMORY: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static BYTES: AtomicUsize = AtomicUsize::new(0);
/// Room for a chunk of the largest payload.
const BYTES_MAX: usize = 17 << 20;

/// Takes one if it is time. The caller holds the lock for writing, as the scratch memory shows.
pub fn take_if_due(scratch: &mut Scratch) {
    let [resident, time] = &PROCESS.last_snapshot;
    let since = sys::monotonic_ns().saturating_sub(time.load(Ordering::Relaxed));
    if !wanted() || since < EVERY_NS_MIN {
        return;
    }
    let now = figures::resident_bytes().unwrap_or(0);
    let before = resident.load(Ordering::Relaxed);
    if now > before + before / GROWTH {
        take(SnapshotReason::Growth, scratch);
    } else if since >= EVERY_NS_MAX {
        take(SnapshotReason::Interval, scratch);
    }
}

/// Takes the last one.
pub fn take_last(scratch: &mut Scratch) {
    if wanted() {
        take(SnapshotReason::Exit, scratch);
    }
}

fn wanted() -> bool {
    INHERITED.snapshots.load(Ordering::Relaxed) && !go_buffers::wanted()
}

fn take(reason: SnapshotReason, _scratch: &mut Scratch) {
    let (Some(memory), Some(scratch)) = (memory(), snapshot_scratch()) else { return };
    let [resident, time] = &PROCESS.last_snapshot;
    resident.store(figures::resident_bytes().unwrap_or(0), Ordering::Relaxed);
    time.store(sys::monotonic_ns(), Ordering::Relaxed);
    let process = process_id(PROCESS.serial());
    if let Ok(taken) = snapshot::take(scratch, memory, process, reason)
        && let Some(chunk) = memory.get(taken.place)
    {
        trace_file::append(chunk);
    }
    // SAFETY: mapped above by this module, and the chunk in it has been written.
    unsafe { sys::give_pages_back(MEMORY.load(Ordering::Relaxed), BYTES_MAX) };
}

/// The memory; the caller's lock keeps it to one at a time.
fn memory() -> Option<&'static mut [u8]> {
    if BYTES.load(Ordering::Acquire) == 0 {
        // SAFETY: anywhere.
        let memory = unsafe { sys::map_zeroed(ptr::null(), BYTES_MAX) }?;
        MEMORY.store(memory.cast_mut(), Ordering::Relaxed);
        BYTES.store(BYTES_MAX, Ordering::Release);
    }
    // SAFETY: a mapping of this size that is never unmapped; used only by `take`, whose caller has the scratch memory
    // and with it the lock for writing.
    Some(unsafe { core::slice::from_raw_parts_mut(MEMORY.load(Ordering::Relaxed), BYTES_MAX) })
}

/// What snapshots work in. The caller's lock keeps it to one at a time.
fn snapshot_scratch() -> Option<&'static mut snapshot::Scratch> {
    static SCRATCH: AtomicPtr<snapshot::Scratch> = AtomicPtr::new(ptr::null_mut());
    if SCRATCH.load(Ordering::Relaxed).is_null() {
        SCRATCH.store(snapshot::Scratch::map()?, Ordering::Relaxed);
    }
    // SAFETY: mapped for good and used only by `take`, whose caller has the lock for writing.
    unsafe { SCRATCH.load(Ordering::Relaxed).as_mut() }
}
