//! The heap of a Go program by the alloc/free events of its execution trace: spans, slots, types, goroutine stacks, and
//! what keeps pages from going back to the kernel.
//!
//! The events go by once. Memory follows what is live: a few bytes a page in use, four bytes a slot of a span with objects.

mod analysis;
mod chunks;
mod observer;
mod overdue;
mod results;
mod scavenger;
mod sites;
mod spans;
mod stacks;
mod state;
mod timeline;
mod tiny;
mod to_native;

pub use results::{
    GoHeap, GoHeapAnomalies, GoHeapEvents, GoHeapPoint, GoHeapState, GoPageOccupancy, GoSite, GoSizeClass, GoSpan,
    GoStackSize, GoTypeShare,
};
pub use scavenger::{DENSE_CHUNK_FRACTION, RETAINED_OVER_GOAL, ScavengerView};
pub use state::replay_go_heap;
pub use to_native::go_heap_to_native;
