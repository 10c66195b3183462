//! The tracer's own threads: what they write is not the program's doing.

use core::sync::atomic::{AtomicU32, Ordering};

use super::object_ids;
use crate::sys;

/// Their tids, 0 for a free place.
static OWN: [AtomicU32; 8] = [const { AtomicU32::new(0) }; 8];

/// The calling thread is one until this is dropped.
pub struct TracerThread(Option<&'static AtomicU32>);

/// Says so of the calling thread. Its own allocations, if the C library makes any, are none of the program's.
pub fn enter() -> TracerThread {
    object_ids::never_trace_this_thread();
    let tid = sys::gettid();
    let free = |place: &&AtomicU32| place.compare_exchange(0, tid, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    TracerThread(OWN.iter().find(free))
}

/// Whether this is one of them.
pub fn is_one(tid: u32) -> bool {
    OWN.iter().any(|own| own.load(Ordering::Relaxed) == tid)
}

/// A forked child has none of them.
pub fn forget_in_child() {
    OWN.iter().for_each(|own| own.store(0, Ordering::Relaxed));
}

impl Drop for TracerThread {
    fn drop(&mut self) {
        if let Some(place) = self.0 {
            place.store(0, Ordering::Relaxed);
        }
    }
}
