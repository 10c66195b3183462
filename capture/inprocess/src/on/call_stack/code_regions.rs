//! Where code was seen that belongs to no loaded file: a frame pointer is followed only to where there is code. The
//! caller's own return address always is, so regions are learnt from it. Where the C library cannot tell the loaded files a
//! linked tracer, whose caller is always the same wrapper around an allocator, learns the regions of all of them.

use core::sync::atomic::{AtomicU32, Ordering};

use pagetrace_format::Address;

const REGION_SHIFT: u32 = 20;
const REGIONS: usize = 4096;
/// Regions of 1 MiB that hold code, by their low bits.
static CODE_REGIONS: [AtomicU32; REGIONS] = [const { AtomicU32::new(0) }; REGIONS];

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

/// Whether code was seen around this address.
#[inline]
pub fn is_code(address: usize) -> bool {
    let region = (address >> REGION_SHIFT) as u32;
    region != 0 && CODE_REGIONS[region as usize % REGIONS].load(Ordering::Relaxed) == region
}
