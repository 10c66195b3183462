//! Gives the recorder a descriptor by which it learns which pages this process writes, where it wants one.
//!
//! The process waits until the recorder has it and has armed all that is mapped, so that no write comes before; but not for
//! long, and not for a recorder that is gone. Nothing of it stays here.

use core::sync::atomic::Ordering;

use pagetrace_format::session::{ProcessSlot, Session, handover};

use super::process::PROCESS;
use crate::sys::{self, write_protection};

/// A recorder that is slower than this, on a disk that stands still, does not learn of this process's writes.
const WAIT_MS_MAX: u64 = 1_000;
/// So often it is looked whether the recording has ended.
const LOOK_MS: u32 = 20;

/// Offers one, and waits until it was taken.
pub fn offer() {
    let (Some(session), Some(slot)) = (PROCESS.session(), PROCESS.slot()) else { return };
    let is_wanted = session.header().track_writes.load(Ordering::Relaxed) == 1 && !PROCESS.writes_itself();
    if !is_wanted || sys::sandbox::is_entered() {
        return;
    }
    match write_protection::open() {
        Ok((fd, inode)) => {
            slot.userfaultfd.store(fd as u32, Ordering::Relaxed);
            slot.userfaultfd_inode.store(inode, Ordering::Relaxed);
            slot.handover.store(handover::OFFERED, Ordering::Release);
            wait_while(session, slot, handover::OFFERED);
            // One that comes later finds nothing: the number may be another file's then.
            slot.handover.store(handover::TAKEN, Ordering::Relaxed);
            write_protection::close(fd);
        }
        Err(errno) => {
            slot.userfaultfd.store(errno as u32, Ordering::Relaxed);
            slot.handover.store(handover::REFUSED, Ordering::Release);
        }
    }
}

/// Asks the recorder to let go, since the program is about to use userfaultfd(2) itself: memory can be registered with one
/// descriptor only.
pub fn ask_back() {
    let (Some(session), Some(slot)) = (PROCESS.session(), PROCESS.slot()) else { return };
    let asked =
        slot.handover.compare_exchange(handover::TAKEN, handover::ASKED_BACK, Ordering::AcqRel, Ordering::Relaxed);
    if asked.is_ok() && !sys::sandbox::is_entered() {
        wait_while(session, slot, handover::ASKED_BACK);
    }
}

fn wait_while(session: Session, slot: &ProcessSlot, state: u32) {
    PROCESS.ring_doorbell();
    let give_up = sys::monotonic_ms() + WAIT_MS_MAX;
    while slot.handover.load(Ordering::Acquire) == state
        && session.header().recording.load(Ordering::Relaxed) == 1
        && sys::monotonic_ms() < give_up
    {
        sys::futex_wait(&slot.handover, state, LOOK_MS);
    }
}
