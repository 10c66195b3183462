//! The heap of a Go program by its execution trace: a part of a report.

use std::collections::BTreeMap;

/// A heap at the moment of the report; events, timeline and lanes are of the whole trace.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct GoHeap {
    /// The format's version, `1.23` to `1.26`.
    pub go_format: String,
    pub generations: u64,
    /// By the names that `go tool trace -d=parsed` has for them.
    pub events: BTreeMap<&'static str, u64>,
    pub collections: u64,
    /// The moment, since the trace's start.
    pub time_ns: u64,
    /// Spans for objects: `HeapInuse` of runtime.MemStats.
    pub heap_inuse_bytes: u64,
    /// Other spans: `StackInuse`, and the collector's work buffers while it works.
    pub stack_inuse_bytes: u64,
    pub live_objects: u64,
    /// Slots of live objects: `HeapAlloc`.
    pub live_bytes: u64,
    /// What of the spans for objects no object is in.
    pub free_in_spans_bytes: u64,
    /// Most bytes first.
    pub size_classes: Vec<GoSizeClass>,
    /// Those with the most live bytes first.
    pub sites: Vec<GoSite>,
    /// Those that pin the most first.
    pub types: Vec<GoType>,
    /// The largest first.
    pub goroutine_stacks: Vec<GoStackSize>,
    /// Stack events that the runtime left out, as far as others tell.
    pub unmatched_stack_events: u64,
    pub page_occupancy: GoPageOccupancy,
    pub scavenger: GoScavenger,
    /// By address.
    pub spans: Vec<GoSpan>,
    pub spans_left_out: u64,
    pub timeline: Vec<GoHeapPoint>,
    pub lanes: Lanes,
}

/// The spans of one size class.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct GoSizeClass {
    /// 0 for spans of one large object.
    pub class: u8,
    /// Whether the objects have no pointers.
    pub noscan: bool,
    pub slot_bytes: u64,
    pub spans: u64,
    pub span_bytes: u64,
    pub slots: u64,
    pub live_slots: u64,
    pub live_bytes: u64,
    /// `free_slot_bytes` and `tail_bytes`.
    pub waste_bytes: u64,
    pub free_slot_bytes: u64,
    /// Ends of spans, and bits of the collector there.
    pub tail_bytes: u64,
    /// Spans with objects on at most a quarter of their slots.
    pub sparse_spans: u64,
    /// What no object is in of these.
    pub pinned_bytes: u64,
    /// Spans without objects, not swept yet.
    pub empty_spans: u64,
}

/// A type and where the goroutines that allocated it began.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct GoSite {
    /// `None` for memory without a type.
    pub type_name: Option<String>,
    /// What the goroutine runs, then what created it, innermost first. Objects have no stack of their own in these traces.
    pub goroutine_stack: Vec<String>,
    pub live_objects: u64,
    pub live_bytes: u64,
    pub pinned_bytes: u64,
    pub sparse_spans: u64,
    /// In the whole trace.
    pub allocated_objects: u64,
    pub allocated_bytes: u64,
}

/// A type, whoever allocated it.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct GoType {
    pub type_name: Option<String>,
    pub live_objects: u64,
    pub live_bytes: u64,
    pub pinned_bytes: u64,
    pub sparse_spans: u64,
}

/// Goroutine stacks of one size.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct GoStackSize {
    pub bytes: u64,
    pub stacks: u64,
    /// The goroutine that ran when the latest was allocated, `None` for one from before the trace.
    pub latest_goroutine: Option<u64>,
}

/// Pages of spans for objects by how much of them is live.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct GoPageOccupancy {
    pub empty: u64,
    pub to_quarter: u64,
    pub to_half: u64,
    pub to_three_quarters: u64,
    pub below_full: u64,
    pub full: u64,
}

/// What could go back to the kernel, and what keeps it.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct GoScavenger {
    /// Pages of no span that were in use before: the four that follow. Given back or not is not in the trace.
    pub free_bytes: u64,
    /// In chunks of 4 MiB that are nearly all in use.
    pub in_dense_chunks_bytes: u64,
    /// In chunks that were when the last collection ended.
    pub in_chunks_dense_before_bytes: u64,
    pub below_goal_bytes: u64,
    pub could_return_bytes: u64,
    /// What of spans with objects no object is in.
    pub held_by_objects_bytes: u64,
    /// What the scavenger aims to hold at most; `None` before two collections.
    pub goal_bytes: Option<u64>,
    /// Of 4 MiB, with a page in use.
    pub chunks: u64,
    pub dense_chunks: u64,
}

/// A span.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct GoSpan {
    pub address: u64,
    pub pages: u64,
    /// `None` for stacks and other spans without objects.
    pub class: Option<u8>,
    pub noscan: bool,
    pub slots: u64,
    pub live_slots: u64,
}

/// The heap at a time.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct GoHeapPoint {
    pub time_ns: u64,
    pub heap_inuse_bytes: u64,
    pub stack_inuse_bytes: u64,
    pub live_bytes: u64,
    pub free_bytes: u64,
    /// `None` where not known yet.
    pub heap_goal_bytes: Option<u64>,
}

/// What each of Go's Ps did over time.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct Lanes {
    /// Width of a bucket.
    pub bucket_ns: u64,
    pub lanes: Vec<Lane>,
}

/// A P.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct Lane {
    /// −1 for none.
    pub processor: i64,
    pub total: Activity,
    /// From the start on; those behind the last are empty.
    pub buckets: Vec<Activity>,
}

/// Events in a time, and pages that they were about.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct Activity {
    pub alloc: u64,
    pub free: u64,
    pub scavenge: u64,
    pub pages_alloc: u64,
    pub pages_free: u64,
    pub pages_scavenge: u64,
    pub object_alloc: u64,
    pub object_free: u64,
}
