//! Who may take events out of the blocks and write to the file: one thread of all processes of a recording.

use core::sync::atomic::{AtomicU64, Ordering};

use pagetrace_format::session::SessionHeader;

use super::process::PROCESS;
use crate::sys;

/// Held while events are taken and written.
#[must_use = "dropping it gives the lock back"]
pub struct FlushLock {
    word: &'static AtomicU64,
}

/// Looks whether the holder is alive after so many tries.
const TRIES: u32 = 64;
const NAP_NS: u64 = 200_000;
/// The flusher goes on after so many naps, whoever else waits.
const PATIENCE: u32 = 50;

impl FlushLock {
    /// Waits for the lock; takes it from a process that has died with it. `None` if this thread has it.
    pub fn take(header: &'static SessionHeader) -> Option<FlushLock> {
        let word = &header.flush_lock.0;
        let own = u64::from(sys::getpid()) << 32 | u64::from(sys::gettid());
        let mut tries = 0_u32;
        let _waits = Waits::begin();
        loop {
            match word.compare_exchange(0, own, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(FlushLock { word }),
                Err(holder) if holder == own => return None,
                Err(holder) => {
                    tries = tries.wrapping_add(1);
                    if tries.is_multiple_of(TRIES)
                        && !holder_runs(holder)
                        && word.compare_exchange(holder, own, Ordering::Acquire, Ordering::Relaxed).is_ok()
                    {
                        return Some(FlushLock { word });
                    }
                    if tries < TRIES { sys::yield_processor() } else { sys::sleep_ns(NAP_NS) }
                }
            }
        }
    }
}

fn holder_runs(holder: u64) -> bool {
    let (pid, tid) = ((holder >> 32) as u32, holder as u32);
    sys::process_runs(pid) && sys::thread_runs(pid, tid)
}

/// Lets those go first who wait for the lock in this process: under load the flusher has it nearly all of the time, and
/// a thread that switches recording off would wait for as long as the load lasts.
pub fn let_others_first() {
    for _ in 0..PATIENCE {
        if PROCESS.waits_to_write.load(Ordering::Relaxed) == 0 {
            return;
        }
        sys::sleep_ns(NAP_NS);
    }
}

/// Counted while a thread waits for the lock.
struct Waits;

impl Waits {
    fn begin() -> Waits {
        PROCESS.waits_to_write.fetch_add(1, Ordering::Relaxed);
        Waits
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        PROCESS.waits_to_write.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for FlushLock {
    fn drop(&mut self) {
        self.word.store(0, Ordering::Release);
    }
}
