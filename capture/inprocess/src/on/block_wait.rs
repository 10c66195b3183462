//! Getting a block from the session: free, never used before, or waited for.

use core::sync::atomic::Ordering;

use pagetrace_format::session::{Session, SessionHeader, when_full, writer};

use super::process::PROCESS;
use super::{flusher, own_session};
use crate::sys;

/// How long a hook waits at a time before it looks whether the recorder is alive.
const WAIT_MS: u32 = 20;
/// A recorder whose heartbeat stands still for so long is dead if its process is gone too…
const RECORDER_SILENT_MS: u64 = 1_000;
/// …and is taken for dead, whatever else, after so long: a disk may stall it for a while.
const RECORDER_DEAD_MS: u64 = 30_000;

/// A block that nobody has. `None` where there is none and the hook is not to wait, or would wait in vain.
pub fn obtain_block(session: Session) -> Option<u32> {
    let own = session.header().writer.load(Ordering::Relaxed) == writer::PROGRAMS;
    take(session, own).or_else(|| wait_for_block(session, own))
}

fn take(session: Session, own: bool) -> Option<u32> {
    session.take_free_block().or_else(|| if own { session.take_fresh_block() } else { None })
}

/// Puts a block back that was taken and not written to. Where recording was switched off meanwhile its memory goes, but
/// it stays accessible: to close it here could be late, when recording is on again and the next takes the block.
pub fn give_back(session: Session, index: u32) {
    if !PROCESS.is_recording() && session.header().writer.load(Ordering::Relaxed) == writer::PROGRAMS {
        own_session::empty_block(session, index);
    }
    session.put_free_block(index);
}

/// Waits until a block is put back. Ends when recording does; a recorder that is dead makes the process idle: a
/// program must not stand still for a tracer.
fn wait_for_block(session: Session, own: bool) -> Option<u32> {
    let header = session.header();
    let epoch = PROCESS.active();
    header.waiting.0.fetch_add(1, Ordering::Relaxed);
    let mut heartbeat = header.heartbeat.0.load(Ordering::Relaxed);
    let mut still_for_ms = 0;
    let mut looked = sys::monotonic_ms();
    let block = loop {
        let freed = header.blocks_freed.0.load(Ordering::Acquire);
        // A fresh one, too: the flusher may have allowed for more of them.
        if let Some(index) = take(session, own) {
            break Some(index);
        }
        if header.when_full.load(Ordering::Relaxed) == when_full::LOSE || PROCESS.active() != epoch {
            break None;
        }
        let recording = header.recording.load(Ordering::Relaxed) != 0;
        if own && recording && !flusher::somebody_flushes(header) {
            if flusher::flush_inline(session) == 0
                && let Some(index) = take(session, own)
            {
                break Some(index);
            }
            continue;
        }
        if !recording || (!own && still_for_ms >= RECORDER_SILENT_MS && !recorder_runs(header)) {
            PROCESS.become_idle();
            break None;
        }
        if still_for_ms >= RECORDER_DEAD_MS {
            if let Some(slot) = PROCESS.slot() {
                slot.lost_full.fetch_add(1, Ordering::Relaxed);
            }
            PROCESS.become_idle();
            break None;
        }
        PROCESS.ring_doorbell();
        sys::futex_wait(&header.blocks_freed.0, freed, WAIT_MS);
        let (beat, present) = (header.heartbeat.0.load(Ordering::Relaxed), sys::monotonic_ms());
        // By the clock, since signals cut a wait short; a step counts once however long, since this process and the
        // recorder may both have been stopped meanwhile.
        let step = (present - looked).min(2 * u64::from(WAIT_MS));
        still_for_ms = if beat == heartbeat { still_for_ms + step } else { 0 };
        (heartbeat, looked) = (beat, present);
    };
    header.waiting.0.fetch_sub(1, Ordering::Relaxed);
    block
}

fn recorder_runs(header: &SessionHeader) -> bool {
    sys::process_runs(header.recorder_pid.load(Ordering::Relaxed))
}
