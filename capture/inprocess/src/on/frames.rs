//! Call stacks by frame pointers, as far as they are to be trusted.
//!
//! Code without frame pointers leaves anything in the register. So a frame is followed only on the thread's own
//! stack, upwards, and only to addresses in regions that hold code: the caller's own return address always does, so
//! the regions are learnt from it. A linked tracer's caller is always the same wrapper around an allocator, so it learns
//! the regions of all modules besides.

use core::sync::atomic::{AtomicU32, Ordering};

use pagetrace_format::Address;

use super::recursion_guard::RecursionGuard;
use crate::hooks::Caller;

/// Frames of a stack at the most.
pub const FRAMES_MAX: usize = 64;

const REGION_SHIFT: u32 = 20;
const REGIONS: usize = 4096;
/// Regions of 1 MiB that hold code, by their low bits.
static CODE_REGIONS: [AtomicU32; REGIONS] = [const { AtomicU32::new(0) }; REGIONS];

/// Takes the stack of `caller` into `frames`, innermost first, and returns how many there are.
#[inline]
pub fn walk(guard: &RecursionGuard, caller: Caller, frames: &mut [u64; FRAMES_MAX]) -> usize {
    if caller.return_address == 0 {
        return 0;
    }
    frames[0] = caller.return_address as u64;
    learn_code(caller.return_address);
    let (low, high) = guard.thread().stack.get();
    let mut below = caller.stack_pointer;
    let mut frame = caller.frame_pointer;
    if below < low || below >= high {
        return 1;
    }
    let mut count = 1;
    while count < FRAMES_MAX && frame > below && frame < high - 16 && frame.is_multiple_of(8) {
        // SAFETY: between the stack pointer and the end of the thread's own stack all memory is readable (the
        // contract of `thread_started`), and two aligned words fit before the end.
        let (next, return_address) = unsafe { (*(frame as *const usize), *(frame as *const usize).add(1)) };
        if !is_code(return_address) {
            break;
        }
        frames[count] = return_address as u64;
        count += 1;
        below = frame;
        frame = next;
    }
    count
}

/// Notes that there is code around this address.
#[inline]
pub fn learn_code(address: usize) {
    let region = (address >> REGION_SHIFT) as u32;
    let entry = &CODE_REGIONS[region as usize % REGIONS];
    if entry.load(Ordering::Relaxed) != region {
        entry.store(region, Ordering::Relaxed);
    }
}

/// Notes that there is code from `start` to before `end`.
pub fn learn_code_between(start: Address, end: Address) {
    let regions = start.0 >> REGION_SHIFT..=end.0.saturating_sub(1) >> REGION_SHIFT;
    regions.for_each(|region| learn_code((region << REGION_SHIFT) as usize));
}

#[inline]
fn is_code(address: usize) -> bool {
    let region = (address >> REGION_SHIFT) as u32;
    region != 0 && CODE_REGIONS[region as usize % REGIONS].load(Ordering::Relaxed) == region
}
