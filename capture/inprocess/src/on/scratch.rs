//! Memory for what is being written: one piece, mapped when a recording starts, used under the lock for writing.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use crate::sys;

static MEMORY: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static BYTES: AtomicUsize = AtomicUsize::new(0);

/// The parts of the scratch memory.
pub struct Scratch {
    /// Words of one block.
    pub words: &'static mut [u64],
    /// Indexes of blocks.
    pub chain: &'static mut [u32],
    /// A chunk.
    pub chunk: &'static mut [u8],
    /// Text of /proc.
    pub text: &'static mut [u8],
}

/// Bytes of a chunk of events or records at the most.
const CHUNK_BYTES: usize = 192 << 10;
const CHAIN: usize = 32 << 10;
const WORDS: usize = 8 << 10;
const TEXT_BYTES: usize = 16 << 10;
const TOTAL: usize = CHUNK_BYTES + CHAIN * 4 + WORDS * 8 + TEXT_BYTES;

/// Maps the memory if that has not been done.
pub fn make() -> bool {
    if BYTES.load(Ordering::Acquire) != 0 {
        return true;
    }
    // SAFETY: anywhere.
    let Some(memory) = (unsafe { sys::map_zeroed(ptr::null(), TOTAL) }) else { return false };
    MEMORY.store(memory.cast_mut(), Ordering::Relaxed);
    BYTES.store(TOTAL, Ordering::Release);
    true
}

/// Gives the memory back to the kernel; it is there again, zeroed, when it is used next.
pub fn release() {
    if BYTES.load(Ordering::Acquire) != 0 {
        // SAFETY: mapped by `make`; nothing in it outlives the work of who has the lock for writing, which the caller has.
        unsafe { sys::give_pages_back(MEMORY.load(Ordering::Relaxed), TOTAL) };
    }
}

/// The scratch memory.
///
/// # Safety
/// Nobody else has it: the caller holds the lock for writing, and has no other from this function.
pub unsafe fn get() -> Option<Scratch> {
    if BYTES.load(Ordering::Acquire) == 0 {
        return None;
    }
    let memory = MEMORY.load(Ordering::Relaxed);
    // SAFETY: the parts lie side by side within one mapping that is never unmapped, largest alignment first, and
    // the caller has them alone.
    unsafe {
        Some(Scratch {
            words: core::slice::from_raw_parts_mut(memory.cast(), WORDS),
            chain: core::slice::from_raw_parts_mut(memory.add(WORDS * 8).cast(), CHAIN),
            chunk: core::slice::from_raw_parts_mut(memory.add(WORDS * 8 + CHAIN * 4), CHUNK_BYTES),
            text: core::slice::from_raw_parts_mut(memory.add(WORDS * 8 + CHAIN * 4 + CHUNK_BYTES), TEXT_BYTES),
        })
    }
}
