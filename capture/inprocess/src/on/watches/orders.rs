//! What other threads have the thread do that arms pages.

use core::sync::atomic::Ordering;

use super::super::watched_ranges::WATCHES_MAX;
use super::arming::Arming;
use super::mechanism::Mechanism;
use super::{COMMAND, SLOTS, command, slot};

/// Who arms pages.
pub trait Worker {
    /// What it works with.
    fn arming(&mut self) -> (&mut Arming, &Mechanism);

    /// Puts all pages of a range back.
    fn restore(&mut self, index: usize);
}

/// Does what was asked for. False when everything is over.
pub fn obey(worker: &mut impl Worker) -> bool {
    match COMMAND.load(Ordering::Acquire) {
        command::PAUSE => {
            (0..WATCHES_MAX).for_each(|index| worker.restore(index));
            worker.arming().0.paused = true;
            COMMAND.store(command::PAUSED, Ordering::Release);
        }
        command::PAUSED => {}
        command::END => {
            for (index, slot) in SLOTS.iter().enumerate() {
                if slot.state.load(Ordering::Acquire) == slot::ACTIVE {
                    end(worker, index);
                }
            }
            return false;
        }
        _ => worker.arming().0.paused = false,
    }
    for (index, slot) in SLOTS.iter().enumerate() {
        match slot.state.load(Ordering::Acquire) {
            slot::WANTED => {
                let (arming, by) = worker.arming();
                arming.begin(by, index, slot);
            }
            slot::ENDING => end(worker, index),
            _ => {}
        }
    }
    true
}

fn end(worker: &mut impl Worker, index: usize) {
    worker.restore(index);
    let (arming, by) = worker.arming();
    arming.ranges[index].end(by);
    SLOTS[index].state.store(slot::ENDED, Ordering::Release);
}
