//! What is found of a Go heap, as plain data.

use pagetrace_format::decode::Defect;
use pagetrace_format::go_execution_trace::SpanClass;
use pagetrace_format::{Address, PageCount, PageShift, TraceNanos};

use super::scavenger::ScavengerView;
use crate::activity_lanes::ActivityLanes;

/// A trace, and the state of the heap at one moment of it.
#[derive(Clone, Debug)]
pub struct GoHeap {
    /// The minor version of the trace's format: 23 to 26.
    pub format_minor: u32,
    /// Generations in the file.
    pub generations: u64,
    /// The page size of Go's heap.
    pub page_shift: PageShift,
    /// Time of the first event.
    pub start: TraceNanos,
    /// Time of the last event.
    pub last: TraceNanos,
    /// The start in nanoseconds since 1970, where the trace says it.
    pub start_unix_ns: Option<u64>,
    /// Whether the trace has its end and no damage.
    pub complete: bool,
    /// What could not be read.
    pub defects: Vec<Defect>,
    /// Events of the whole trace.
    pub events: GoHeapEvents,
    /// Pages of all span events.
    pub pages_alloc: PageCount,
    /// Pages of all spans that were given up.
    pub pages_free: PageCount,
    /// The first moment with the most pages in use, and how many.
    pub peak: Option<(TraceNanos, PageCount)>,
    /// Pages in use at the end of the trace.
    pub final_in_use: PageCount,
    /// Pages that were in use and are not at the end of the trace: kept or given back, which these traces do not tell.
    pub final_free: PageCount,
    /// Contradictions between events.
    pub anomalies: GoHeapAnomalies,
    /// Goroutine stacks that were freed without having been allocated, or allocated where one was: the runtime leaves out
    /// an event of a stack that it needs while it writes another event, so this is no sign of loss.
    pub unmatched_stack_events: u64,
    /// The heap at the moment asked for.
    pub state: GoHeapState,
    /// The heap over time, evenly, at most some hundred points.
    pub timeline: Vec<GoHeapPoint>,
    /// What each P did over time.
    pub lanes: ActivityLanes,
}

/// Events by kind. The first three of each line are the trace's alloc/free events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct GoHeapEvents {
    pub span: u64,
    pub span_alloc: u64,
    pub span_free: u64,
    pub object: u64,
    pub object_alloc: u64,
    pub object_free: u64,
    pub stack: u64,
    pub stack_alloc: u64,
    pub stack_free: u64,
    /// Collections that ended.
    pub collections: u64,
}

impl GoHeapEvents {
    /// By the names that Go's tools have for them.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 9] {
        [
            ("Span", self.span),
            ("SpanAlloc", self.span_alloc),
            ("SpanFree", self.span_free),
            ("HeapObject", self.object),
            ("HeapObjectAlloc", self.object_alloc),
            ("HeapObjectFree", self.object_free),
            ("GoroutineStack", self.stack),
            ("GoroutineStackAlloc", self.stack_alloc),
            ("GoroutineStackFree", self.stack_free),
        ]
    }
}

/// Events that contradict the events before: of damaged traces, and where times of threads are too far from each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoHeapAnomalies {
    /// Spans given up that were not known.
    pub free_of_unallocated: u64,
    /// Spans taken into use where one was that was not given up soon after.
    pub alloc_of_allocated: u64,
    /// Spans of a length that their size class does not have, or that no memory has: damage, ignored.
    pub impossible_runs: u64,
    /// Objects at addresses without a span for objects.
    pub objects_outside_spans: u64,
    /// Objects freed that were not known to live.
    pub unknown_object_frees: u64,
    /// Objects allocated in slots that were taken and were not freed soon after, other than by the tiny allocator.
    pub replaced_objects: u64,
    /// Objects that lived in spans that were given up.
    pub objects_of_freed_spans: u64,
}

impl GoHeapAnomalies {
    /// The anomalies that occurred, by their names in reports.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("free_of_unallocated", self.free_of_unallocated),
            ("alloc_of_allocated", self.alloc_of_allocated),
            ("impossible_runs", self.impossible_runs),
            ("objects_outside_spans", self.objects_outside_spans),
            ("unknown_object_frees", self.unknown_object_frees),
            ("replaced_objects", self.replaced_objects),
            ("objects_of_freed_spans", self.objects_of_freed_spans),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
    }
}

/// A heap at one moment.
#[derive(Clone, Debug, Default)]
pub struct GoHeapState {
    /// Which moment.
    pub time: TraceNanos,
    /// Bytes of spans for objects: the runtime's `HeapInuse`.
    pub heap_inuse_bytes: u64,
    /// Bytes of other spans: the runtime's `StackInuse`, and work buffers while a collection runs.
    pub stack_inuse_bytes: u64,
    /// Live objects, by slots: the tiny allocator's several objects in a slot are one.
    pub live_objects: u64,
    /// Bytes of their slots: the runtime's `HeapAlloc`.
    pub live_bytes: u64,
    /// Bytes of slots that no object is in, and of what is left over at the ends of spans.
    pub free_in_spans_bytes: u64,
    /// By size class and whether the objects have pointers, most bytes first.
    pub classes: Vec<GoSizeClass>,
    /// By type and by where the goroutine that allocated began, most live bytes first.
    pub sites: Vec<GoSite>,
    /// By type alone, most pinned bytes first.
    pub types: Vec<GoTypeShare>,
    /// Live goroutine stacks by size.
    pub stacks: Vec<GoStackSize>,
    /// How full the pages of spans for objects are.
    pub pages: GoPageOccupancy,
    /// What could go back to the kernel.
    pub scavenger: ScavengerView,
    /// The spans by address; of very large heaps the first ones.
    pub spans: Vec<GoSpan>,
    /// Spans that are not listed.
    pub spans_left_out: u64,
}

/// The spans of a size class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoSizeClass {
    /// Its number, 0 for spans of one large object.
    pub class: u8,
    /// Whether its objects have no pointers.
    pub noscan: bool,
    /// Bytes of a slot, 0 for large objects.
    pub slot_bytes: u64,
    /// How many spans.
    pub spans: u64,
    /// Their bytes.
    pub span_bytes: u64,
    /// Slots that the runtime uses of them.
    pub slots: u64,
    /// Slots with an object.
    pub live_slots: u64,
    /// Bytes of these.
    pub live_bytes: u64,
    /// Bytes of free slots.
    pub free_slot_bytes: u64,
    /// Bytes at the ends of spans in which no slot fits, and of bits that the collector keeps there.
    pub tail_bytes: u64,
    /// Spans with live objects on at most a quarter of their slots.
    pub sparse_spans: u64,
    /// Bytes of these that no object is in.
    pub pinned_bytes: u64,
    /// Spans without any object: the next sweep gives them up.
    pub empty_spans: u64,
}

/// A type and where the goroutines that allocated it began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoSite {
    /// The type's name; `None` where the event had none (memory without a type, such as the tiny allocator's).
    pub type_name: Option<String>,
    /// What the goroutine runs, then what created it, innermost first. Events of objects have no stack of their own.
    pub goroutine_stack: Vec<String>,
    /// Live slots.
    pub live: u64,
    /// Bytes of these.
    pub live_bytes: u64,
    /// Bytes that stay in use only because sparse spans hold objects of this site.
    pub pinned_bytes: u64,
    /// Sparse spans with an object of it.
    pub sparse_spans: u64,
    /// Alloc events in the whole trace.
    pub allocated: u64,
    /// Bytes of the slots that these took.
    pub allocated_bytes: u64,
}

/// A type, whoever allocated it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoTypeShare {
    /// Its name; `None` for memory without a type.
    pub type_name: Option<String>,
    /// Live slots.
    pub live: u64,
    /// Bytes of these.
    pub live_bytes: u64,
    /// Bytes that stay in use only because sparse spans hold objects of this type.
    pub pinned_bytes: u64,
    /// Sparse spans with an object of it.
    pub sparse_spans: u64,
}

/// Goroutine stacks of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoStackSize {
    /// Bytes of each.
    pub bytes: u64,
    /// How many.
    pub stacks: u64,
    /// The goroutine that ran when the latest of them was allocated: its own where it had to grow, else its creator's. 0
    /// where it was there before the trace.
    pub latest_goroutine: u64,
}

/// Pages of spans for objects by how much of them is live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoPageOccupancy {
    /// Nothing live.
    pub empty: u64,
    /// Up to a quarter.
    pub to_quarter: u64,
    /// Up to a half.
    pub to_half: u64,
    /// Up to three quarters.
    pub to_three_quarters: u64,
    /// Less than all.
    pub below_full: u64,
    /// All of it.
    pub full: u64,
}

/// A span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoSpan {
    /// Its first page.
    pub base: Address,
    /// How many pages.
    pub pages: PageCount,
    /// What it is for.
    pub class: SpanClass,
    /// Slots.
    pub slots: u64,
    /// Slots with an object.
    pub live: u64,
}

/// The heap at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoHeapPoint {
    /// When.
    pub time: TraceNanos,
    /// Bytes of spans for objects.
    pub heap_inuse_bytes: u64,
    /// Bytes of other spans.
    pub stack_inuse_bytes: u64,
    /// Bytes of slots with an object.
    pub live_bytes: u64,
    /// Bytes of pages that were in use before and are not.
    pub free_bytes: u64,
    /// Bytes at which the next collection is to be done; 0 where not known.
    pub heap_goal_bytes: u64,
}
