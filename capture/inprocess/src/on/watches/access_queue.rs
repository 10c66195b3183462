//! Accesses that were seen, on their way from the thread that sees them, which must wait for nobody, to the one that writes.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use pagetrace_format::access::{Access, WatchedAccess};

use super::super::access_chunks;
use crate::sys;

/// Accesses that wait at the most.
const PLACES: usize = 16 << 10;
/// Accesses of a chunk at the most.
const CHUNK: usize = 256;

static PLACE: AtomicPtr<WatchedAccess> = AtomicPtr::new(ptr::null_mut());
static PUT: AtomicU64 = AtomicU64::new(0);
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// Makes room, once.
pub fn make() -> bool {
    if PLACE.load(Ordering::Acquire).is_null() {
        // SAFETY: anywhere.
        let memory = unsafe { sys::map_zeroed(ptr::null(), PLACES * size_of::<WatchedAccess>()) };
        let Some(memory) = memory else { return false };
        PLACE.store(memory.cast_mut().cast(), Ordering::Release);
    }
    true
}

/// Puts one in; false where there is no room. Called by the thread that sees them alone.
pub fn put(access: &WatchedAccess) -> bool {
    let (places, put) = (PLACE.load(Ordering::Acquire), PUT.load(Ordering::Relaxed));
    if places.is_null() || put - TAKEN.load(Ordering::Acquire) >= PLACES as u64 {
        return false;
    }
    // SAFETY: as many are mapped, for good; who takes does not look at this place before `PUT` covers it.
    unsafe { places.add(put as usize % PLACES).write(*access) };
    PUT.store(put + 1, Ordering::Release);
    true
}

/// Writes all that wait, in chunks built in `memory`. The caller holds the lock for writing.
pub fn write(memory: &mut [u8]) {
    let places = PLACE.load(Ordering::Acquire);
    let mut taken = TAKEN.load(Ordering::Relaxed);
    while !places.is_null() && taken < PUT.load(Ordering::Acquire) {
        let count = (PUT.load(Ordering::Acquire) - taken).min(CHUNK as u64) as usize;
        let items: [Access; CHUNK] = core::array::from_fn(|index| {
            let place = (taken as usize + index.min(count - 1)) % PLACES;
            // SAFETY: put in before `PUT` covered it, and nobody writes there before `TAKEN` does.
            Access::Watched(unsafe { *places.add(place) })
        });
        access_chunks::append_locked(memory, &items[..count]);
        taken += count as u64;
        TAKEN.store(taken, Ordering::Release);
    }
}

/// In a forked child: what waits is its parent's to write.
pub fn forget_in_child() {
    TAKEN.store(PUT.load(Ordering::Relaxed), Ordering::Relaxed);
}
