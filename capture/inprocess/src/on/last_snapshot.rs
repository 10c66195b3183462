//! Holding an exiting process for its last snapshot.

use core::sync::atomic::Ordering;

use pagetrace_format::session::{ProcessSlot, SessionHeader, slot_state};

use super::process::PROCESS;
use crate::sys;

/// How long an exiting process waits for its last snapshot while the recorder's heart beats, and without.
const LAST_SNAPSHOT_MS: u64 = 20_000;
const RECORDER_DEAD_MS: u64 = 2_000;
/// It looks at the heart so often.
const STEP_MS: u32 = 50;

/// See [`crate::hold_for_last_snapshot`].
pub fn hold_for_last_snapshot() {
    let Some(slot) = PROCESS.slot() else { return };
    // In the child of a vfork this memory, and the slot, are still the parent's. In a sandbox that cannot be told.
    let is_own = || sys::sandbox::is_entered() || slot.pid.load(Ordering::Relaxed) == sys::getpid();
    let Some(session) = PROCESS.session() else { return };
    let is_looked_at = PROCESS.is_recording() || session.header().hooks_idle.load(Ordering::Relaxed) == 1;
    if !is_looked_at || PROCESS.writes_itself() || !is_own() {
        return;
    }
    sys::keeping_errno(|| hold(slot, session.header()));
}

fn hold(slot: &ProcessSlot, header: &SessionHeader) {
    let parked = (slot_state::RUNNING, slot_state::PARKED);
    if slot.state.compare_exchange(parked.0, parked.1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        return;
    }
    PROCESS.ring_doorbell();
    let (mut waited, mut still_for) = (0, 0);
    let mut heartbeat = header.heartbeat.0.load(Ordering::Relaxed);
    let mut looked = sys::monotonic_ms();
    while slot.state.load(Ordering::Acquire) == slot_state::PARKED
        && header.recording.load(Ordering::Relaxed) == 1
        && waited < LAST_SNAPSHOT_MS
        && still_for < RECORDER_DEAD_MS
    {
        sys::futex_wait(&slot.state, slot_state::PARKED, STEP_MS);
        // As in `wait_for_block`: by the clock, a long step counted once.
        let (beat, present) = (header.heartbeat.0.load(Ordering::Relaxed), sys::monotonic_ms());
        let step = (present - looked).min(2 * u64::from(STEP_MS));
        still_for = if beat == heartbeat { still_for + step } else { 0 };
        waited += step;
        (heartbeat, looked) = (beat, present);
    }
}
