//! The records of last walks: a thread takes one with its first stack and leaves it to another when it ends.

use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering, fence};

use super::last_walk::LastWalk;
use crate::on::thread_state::ThreadState;
use crate::sys;

static FIRST: AtomicPtr<LastWalk> = AtomicPtr::new(ptr::null_mut());

const BYTES: usize = size_of::<LastWalk>();

/// This thread's record. `None` without memory for one.
#[inline(always)]
pub fn of(thread: &ThreadState) -> Option<&'static LastWalk> {
    // SAFETY: null, or a record, which is never unmapped.
    let known = unsafe { thread.last_walk.get().as_ref() };
    known.or_else(|| take(thread))
}

/// The thread ends: the record goes to the next that needs one.
pub fn leave(thread: &ThreadState) {
    // SAFETY: as above.
    if let Some(record) = unsafe { thread.last_walk.replace(ptr::null()).as_ref() } {
        record.forget();
        record.taken.store(0, Ordering::Release);
    }
}

/// Makes so many records for threads that have none yet.
pub fn prepare(records: usize) {
    for record in (0..records).map_while(|_| make()) {
        record.taken.store(0, Ordering::Release);
    }
}

/// A walk of this thread was left in the middle: what it wrote means nothing.
#[cold]
pub fn forget(thread: &ThreadState) {
    // SAFETY: as above.
    if let Some(record) = unsafe { thread.last_walk.get().as_ref() } {
        record.forget();
        record.known.forget();
    }
}

/// In a forked child: who was about to give memory back is not there.
pub fn open_in_child() {
    all().for_each(|record| record.closed.store(0, Ordering::Relaxed));
}

/// Gives the memory of all records back, but for each one's first page, and for those that are at work.
pub fn release() {
    all().for_each(|record| record.closed.store(1, Ordering::Relaxed));
    sys::barrier_on_all_processors();
    fence(Ordering::SeqCst);
    for record in all() {
        if record.at_work.load(Ordering::Acquire) == 0 {
            let behind_first = ptr::from_ref(record).cast::<u8>().wrapping_add(sys::PAGE_BYTES);
            // SAFETY: the tracer's own mapping of atomics, which nobody uses, and whose frames nothing leads to.
            unsafe { sys::give_pages_back(behind_first, sys::whole_pages(BYTES) - sys::PAGE_BYTES) };
            // The parts are on the first page.
            record.epoch.store(0, Ordering::Relaxed);
        }
        record.closed.store(0, Ordering::Release);
    }
}

#[cold]
fn take(thread: &ThreadState) -> Option<&'static LastWalk> {
    let free = |record: &&LastWalk| {
        record.taken.load(Ordering::Relaxed) == 0
            && record.taken.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    };
    let record = all().find(free).or_else(|| sys::keeping_errno(make))?;
    thread.last_walk.set(record);
    Some(record)
}

fn all() -> impl Iterator<Item = &'static LastWalk> {
    let mut next = FIRST.load(Ordering::Acquire);
    core::iter::from_fn(move || {
        // SAFETY: null, or a record in memory that is never unmapped and whose fields are atomic.
        let record = unsafe { next.as_ref() }?;
        next = record.next.load(Ordering::Acquire);
        Some(record)
    })
}

fn make() -> Option<&'static LastWalk> {
    // SAFETY: anywhere.
    let memory = unsafe { sys::map_zeroed(ptr::null(), BYTES) }?;
    let record = memory.cast_mut().cast::<LastWalk>();
    // SAFETY: a new mapping, aligned as mappings are; all-zero is an empty record, and it is never unmapped.
    let made = unsafe { &*record };
    made.taken.store(1, Ordering::Relaxed);
    made.forget();
    let mut first = FIRST.load(Ordering::Relaxed);
    loop {
        made.next.store(first, Ordering::Relaxed);
        match FIRST.compare_exchange(first, record, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return Some(made),
            Err(other) => first = other,
        }
    }
}
