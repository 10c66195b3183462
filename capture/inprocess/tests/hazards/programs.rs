//! The programs. Each does one thing to the tracer, counts what it does besides, and tells the counts.

pub mod ends;
pub mod files;
pub mod forks;
pub mod life;
pub mod load;
pub mod stress;
pub mod switching;

use std::sync::atomic::{AtomicUsize, Ordering};

use pagetrace::PageTraceBuf;

use crate::counts::{self, Tagged};

/// Objects of one [`work`]. A third of them stays alive.
pub const WORK_OBJECTS: usize = 300;
/// Page events of one [`work`].
const WORK_PAGE_EVENTS: u64 = 30;
/// Where the page runs lie that are invented: no mapping is ever there.
pub const INVENTED_PAGES: usize = 0x10_0000_0000;

/// Bytes between two places of [`invented_place`].
const PLACE_BYTES: usize = 1 << 20;

/// Does what can be counted: objects, and pages through a buffer of its own.
pub fn work() {
    work_of(WORK_OBJECTS);
    page_rounds(&mut PageTraceBuf::new(), invented_place(), WORK_PAGE_EVENTS / 3);
}

/// Where page runs may lie that nobody else of this process tells of.
pub fn invented_place() -> usize {
    static PLACES: AtomicUsize = AtomicUsize::new(1);
    INVENTED_PAGES + PLACES.fetch_add(1, Ordering::Relaxed) * PLACE_BYTES
}

/// The part with objects.
pub fn work_of(objects: usize) {
    let mut kept = Vec::with_capacity(objects);
    for number in 0..objects {
        let object = Tagged::new();
        if number % 3 == 0 {
            kept.push(object);
        }
    }
    kept.into_iter().for_each(Tagged::leak);
}

/// Takes, frees and gives back a run of pages, so many times.
pub fn page_rounds(buffer: &mut PageTraceBuf, base: usize, rounds: u64) {
    let bytes = pagetrace::page_bytes();
    for round in 0..rounds as usize {
        let base = base + round * 4 * bytes;
        counts::page_events(3);
        buffer.alloc(base, 4);
        buffer.free(base, 4);
        buffer.scav(base, 4);
    }
}
