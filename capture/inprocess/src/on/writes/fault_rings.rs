//! Rings of page faults, one a processor, that the events of all threads go to.

use super::super::mapped_array::MappedArray;
use crate::sys::page_faults::{Fault, FaultEvent, FaultRing, descriptors_max, for_each_thread, processors};

/// Most processors there may be.
const PROCESSORS_MAX: usize = 1024;
/// Events of threads that were there before: of each one a processor.
const EVENTS_MAX: usize = 32 << 10;
/// Bytes of a ring, if the user may lock so much, and at least.
const LEAST_BYTES: usize = 16 << 10;
/// Looks at the list of threads until no new one is in it, but not more often than this.
const LOOKS_MAX: u32 = 8;

/// The rings, and the events whose records go there.
pub struct FaultRings {
    rings: [Option<FaultRing>; PROCESSORS_MAX],
    /// The first event of each processor, whose ring it is.
    leaders: [Option<FaultEvent>; PROCESSORS_MAX],
    others: MappedArray<Other>,
    /// Threads whose faults are not seen.
    pub unseen: u64,
    /// A quarter of the descriptors that the program may have: the rest is for itself.
    descriptors_max: usize,
}

/// The event of a thread, as the descriptor's number: a plain value.
#[derive(Clone, Copy)]
struct Other {
    descriptor: i32,
    tid: u32,
}

impl FaultRings {
    pub const fn new() -> FaultRings {
        FaultRings {
            rings: [const { None }; PROCESSORS_MAX],
            leaders: [const { None }; PROCESSORS_MAX],
            others: MappedArray::new(),
            unseen: 0,
            descriptors_max: 0,
        }
    }

    /// Opens them for all threads there are, and for those that these start. A reader is woken when a ring of `bytes` is
    /// half full. False where not a single ring is to be had; threads that could not be had are counted.
    pub fn open(&mut self, bytes: usize) -> bool {
        if !self.others.make(EVENTS_MAX) {
            return false;
        }
        self.unseen = 0;
        self.descriptors_max = descriptors_max() / 4;
        let count = processors().min(PROCESSORS_MAX as u32);
        for _ in 0..LOOKS_MAX {
            let mut new = 0;
            let listed = for_each_thread(&mut |tid| {
                if !self.has(tid) {
                    new += u32::from(self.add(tid, count, bytes));
                }
            });
            if !listed || new == 0 {
                break;
            }
        }
        self.rings.iter().any(Option::is_some)
    }

    fn has(&self, tid: u32) -> bool {
        self.others.values().iter().any(|other| other.tid == tid)
    }

    /// Opens the events of a thread. Whether it was new; one that was started by a thread that has events is, too, and gets
    /// its records twice, which does no harm.
    fn add(&mut self, tid: u32, processors: u32, bytes: usize) -> bool {
        let mut any = false;
        let processors = if self.others.values().len() < self.descriptors_max { processors } else { 0 };
        for processor in 0..processors as usize {
            let Ok(event) = FaultEvent::open(tid, processor as u32, bytes / 2) else { continue };
            let leader = &self.leaders[processor];
            let kept = match leader {
                None => {
                    FaultRing::map(&event, bytes, LEAST_BYTES).map(|ring| self.rings[processor] = Some(ring)).is_ok()
                }
                Some(leader) => event.send_to(leader).is_ok(),
            };
            if !kept {
                continue;
            }
            any = true;
            if leader.is_none() {
                self.others.push(Other { descriptor: -1, tid });
                self.leaders[processor] = Some(event);
            } else if self.others.room() > 0 {
                self.others.push(Other { descriptor: event.keep(), tid });
            }
        }
        if !any {
            self.unseen += 1;
            // Not to be tried again.
            self.others.push(Other { descriptor: -1, tid });
        }
        true
    }

    /// Takes what is in the rings. How many records were lost.
    pub fn take(&mut self, each: &mut dyn FnMut(&Fault)) -> u64 {
        self.rings.iter_mut().flatten().map(|ring| ring.take(each)).sum()
    }

    /// The descriptors to wait for.
    pub fn descriptors(&self) -> impl Iterator<Item = i32> {
        self.leaders.iter().flatten().map(FaultEvent::descriptor)
    }

    /// Closes all.
    pub fn close(&mut self) {
        self.rings.iter_mut().for_each(|ring| *ring = None);
        self.close_events();
    }

    /// Closes the copies that a forked child has; the rings are not mapped there.
    pub fn close_in_child(&mut self) {
        self.rings.iter_mut().for_each(|ring| core::mem::forget(ring.take()));
        self.close_events();
    }

    fn close_events(&mut self) {
        for other in self.others.values() {
            drop(FaultEvent::kept(other.descriptor));
        }
        self.others.release();
        self.leaders.iter_mut().for_each(|leader| *leader = None);
    }
}
