//! The allocator's pages where objects are sampled. Which of them hold something live cannot be told page by page: how many live
//! bytes all of them hold is estimated, and what else they are stays one class.

use crate::estimates::{Estimate, Sum};
use crate::intervals::Intervals;
use crate::page_table::Span;
use crate::process_state::ProcessState;

/// Resident pages that are known as the allocator's.
#[derive(Debug, Default)]
pub(crate) struct SampledPages {
    resident: Intervals,
    /// Of them, those of heaps whose bounds are known.
    heaps: Intervals,
}

/// What they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SampledSplit {
    /// Usable bytes of live objects on resident pages: never more than there are pages for them.
    pub(crate) live: Estimate,
    /// The rest of the allocator's pages.
    pub(crate) rest_bytes: u64,
    /// Live bytes that must lie in mappings of which no object was sampled, and which are not known as the allocator's for it.
    pub(crate) elsewhere_bytes: u64,
}

impl SampledPages {
    pub(crate) fn add(&mut self, page: u64, of_heap: bool) {
        self.resident.insert(page..page + 1);
        if of_heap {
            self.heaps.insert(page..page + 1);
        }
    }

    /// Splits them. So much anonymous memory is there besides, of no known owner.
    pub(crate) fn split(&self, state: &ProcessState, other_anonymous_bytes: u64) -> SampledSplit {
        let (mut in_heaps, mut mapped) = (Sum::default(), Sum::default());
        let (shift, rate) = (state.pages.shift(), state.objects.rate());
        for (address, object) in state.objects.live() {
            let (first, last) = Span::of(shift, address.0, object.usable).pages();
            let end = address.0.saturating_add(object.usable);
            let resident_bytes: u64 = self
                .resident
                .within(first..last.saturating_add(1))
                .map(|run| (run.start << shift.get(), run.end.saturating_mul(shift.bytes())))
                .map(|(from, to)| end.min(to).saturating_sub(address.0.max(from)))
                .fold(0, u64::saturating_add);
            let sum = if self.heaps.contains(first) { &mut in_heaps } else { &mut mapped };
            sum.add(resident_bytes, rate.chance(object.size));
        }
        let heap_bytes = self.heaps.count().saturating_mul(shift.bytes());
        let mapped_bytes = self.resident.count().saturating_mul(shift.bytes()) - heap_bytes;
        let live_in_heaps = in_heaps.estimate().value.min(heap_bytes);
        let live_mapped = mapped.estimate().value.min(mapped_bytes.saturating_add(other_anonymous_bytes));
        in_heaps += mapped;
        SampledSplit {
            live: Estimate { value: live_in_heaps + live_mapped, error: in_heaps.estimate().error },
            rest_bytes: heap_bytes - live_in_heaps + mapped_bytes.saturating_sub(live_mapped),
            elsewhere_bytes: live_mapped.saturating_sub(mapped_bytes),
        }
    }
}
