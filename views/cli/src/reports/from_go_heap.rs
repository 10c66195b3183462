//! What was found of a Go heap, as a report.

use std::collections::BTreeMap;

use pagetrace_format::TraceNanos;
use pagetrace_format::go_execution_trace::SpanClass;
use pagetrace_replay::activity_lanes::{ActivityCounts, ActivityLanes};
use pagetrace_replay::go_heap;

use super::go_heap_text::FORMAT;
use super::report_model::{
    Activity, At, Defect, EventCounts, Final, Gaps, GoHeap, GoHeapPoint, GoPageOccupancy, GoScavenger, GoSite,
    GoSizeClass, GoSpan, GoStackSize, GoType, Lane, Lanes, Lost, ObjectErrors, Objects, PageCounts, Peak, Process,
    Report, Site, SiteErrors, Source, StackShares, Stacks,
};

/// Makes the report of a Go heap; `asked` is the moment's name on the command line.
pub fn report_of_go_heap(heap: &go_heap::GoHeap, asked: &'static str) -> Report {
    let since_start = |time: TraceNanos| time.0.saturating_sub(heap.start.0);
    let events = &heap.events;
    Report {
        format: FORMAT,
        complete: heap.complete,
        page_size: heap.page_shift.bytes(),
        at: At { moment: asked, time_ns: (asked != "end").then(|| since_start(heap.state.time)) },
        duration_ns: since_start(heap.last),
        lost: Lost { events: 0, reasons: BTreeMap::new() },
        events: EventCounts {
            alloc: events.span_alloc,
            free: events.span_free,
            scavenge: 0,
            object_alloc: events.object_alloc,
            object_free: events.object_free,
            time_sync: 0,
            page_faults: 0,
            page_calls: BTreeMap::new(),
        },
        pages: PageCounts { alloc: heap.pages_alloc.0, free: heap.pages_free.0, scavenge: 0 },
        peak: Peak {
            time_ns: heap.peak.map(|(time, _)| since_start(time)),
            pages_in_use: heap.peak.map(|(_, pages)| pages.0),
            near_since_ns: None,
        },
        last: Final {
            pages_in_use: Some(heap.final_in_use.0),
            pages_free: Some(heap.final_free.0),
            pages_returned: None,
        },
        anomalies: heap.anomalies.named().collect(),
        defects: heap.defects.iter().map(defect).collect(),
        tree: None,
        processes: vec![process_of(heap)],
        stacks: Stacks {
            object_events: StackShares {
                thread_start: 0,
                cut: 0,
                unknown: 0,
                none: events.object + events.object_alloc,
                bucket: 0,
            },
        },
        sampling: None,
        sources: vec![Source {
            name: "alloc/free events of Go's runtime".into(),
            active: true,
            missed: "stacks of objects, what was given back to the kernel, and memory outside the Go heap".into(),
        }],
        dropped: None,
        gaps: Gaps { number: 0, total_ns: 0, intervals: Vec::new() },
        buffers: Vec::new(),
        timeline: Vec::new(),
        go_processors: heap.lanes.lanes().iter().map(|lane| (lane.processor, lane.total.events())).collect(),
        go_heap: Some(go_heap_of(heap)),
        go_pages: None,
        unresolved_modules: BTreeMap::new(),
    }
}

fn defect(defect: &pagetrace_format::decode::Defect) -> Defect {
    Defect { offset: defect.offset as u64, bytes: Some(defect.bytes as u64), what: defect.what, events_lost: 0 }
}

/// The traces name no process: one stands in.
fn process_of(heap: &go_heap::GoHeap) -> Process {
    let state = &heap.state;
    Process {
        pid: None,
        exe: None,
        args: None,
        origin: None,
        parent: None,
        start_ns: None,
        end_ns: None,
        end_status: None,
        running: true,
        largest_rss_bytes: None,
        peak_share_of_hwm: None,
        rss: None,
        objects: Objects {
            live: Some(state.live_objects),
            live_bytes: Some(state.live_bytes),
            live_usable_bytes: Some(state.live_bytes),
            live_chunk_bytes: None,
            allocated: Some(heap.events.object_alloc),
            freed: Some(heap.events.object_free),
            unknown_frees: Some(heap.anomalies.unknown_object_frees),
            unknown_frees_after_gap: Some(0),
            replaced: Some(heap.anomalies.replaced_objects),
            forgotten: Some(0),
            inherited: Some(heap.events.object),
            errors: ObjectErrors::default(),
        },
        touches: None,
        writes: None,
        advice: Vec::new(),
        leaks: Vec::new(),
        sites: state.sites.iter().map(site).collect(),
    }
}

/// A site as those of other traces: its type stands for the innermost frame.
fn site(site: &go_heap::GoSite) -> Site {
    let of = site.type_name.as_deref().unwrap_or("memory without a type");
    Site {
        stack: std::iter::once(format!("new {of}")).chain(site.goroutine_stack.iter().cloned()).collect(),
        bucket: false,
        live_bytes: site.live_bytes,
        live_objects: site.live,
        live_usable_bytes: site.live_bytes,
        pinned_bytes: Some(site.pinned_bytes),
        allocated_objects: site.allocated,
        allocated_bytes: site.allocated_bytes,
        errors: SiteErrors::default(),
    }
}

fn go_heap_of(heap: &go_heap::GoHeap) -> GoHeap {
    let since_start = |time: TraceNanos| time.0.saturating_sub(heap.start.0);
    let state = &heap.state;
    let (pages, scavenger) = (&state.pages, &state.scavenger);
    GoHeap {
        go_format: format!("1.{}", heap.format_minor),
        generations: heap.generations,
        events: heap.events.named().into_iter().collect(),
        collections: heap.events.collections,
        time_ns: since_start(state.time),
        heap_inuse_bytes: state.heap_inuse_bytes,
        stack_inuse_bytes: state.stack_inuse_bytes,
        live_objects: state.live_objects,
        live_bytes: state.live_bytes,
        free_in_spans_bytes: state.free_in_spans_bytes,
        size_classes: state.classes.iter().map(size_class).collect(),
        sites: state
            .sites
            .iter()
            .map(|it| GoSite {
                type_name: it.type_name.clone(),
                goroutine_stack: it.goroutine_stack.clone(),
                live_objects: it.live,
                live_bytes: it.live_bytes,
                pinned_bytes: it.pinned_bytes,
                sparse_spans: it.sparse_spans,
                allocated_objects: it.allocated,
                allocated_bytes: it.allocated_bytes,
            })
            .collect(),
        types: state
            .types
            .iter()
            .map(|it| GoType {
                type_name: it.type_name.clone(),
                live_objects: it.live,
                live_bytes: it.live_bytes,
                pinned_bytes: it.pinned_bytes,
                sparse_spans: it.sparse_spans,
            })
            .collect(),
        goroutine_stacks: state
            .stacks
            .iter()
            .map(|it| GoStackSize {
                bytes: it.bytes,
                stacks: it.stacks,
                latest_goroutine: (it.latest_goroutine != 0).then_some(it.latest_goroutine),
            })
            .collect(),
        unmatched_stack_events: heap.unmatched_stack_events,
        page_occupancy: GoPageOccupancy {
            empty: pages.empty,
            to_quarter: pages.to_quarter,
            to_half: pages.to_half,
            to_three_quarters: pages.to_three_quarters,
            below_full: pages.below_full,
            full: pages.full,
        },
        scavenger: GoScavenger {
            free_bytes: scavenger.free_bytes,
            in_dense_chunks_bytes: scavenger.in_dense_chunks_bytes,
            in_chunks_dense_before_bytes: scavenger.in_chunks_dense_before_bytes,
            below_goal_bytes: scavenger.below_goal_bytes,
            could_return_bytes: scavenger.could_return_bytes,
            held_by_objects_bytes: scavenger.held_by_objects_bytes,
            goal_bytes: scavenger.goal_bytes,
            chunks: scavenger.chunks,
            dense_chunks: scavenger.dense_chunks,
        },
        spans: state.spans.iter().map(span).collect(),
        spans_left_out: state.spans_left_out,
        timeline: heap
            .timeline
            .iter()
            .map(|point| GoHeapPoint {
                time_ns: since_start(point.time),
                heap_inuse_bytes: point.heap_inuse_bytes,
                stack_inuse_bytes: point.stack_inuse_bytes,
                live_bytes: point.live_bytes,
                free_bytes: point.free_bytes,
                heap_goal_bytes: (point.heap_goal_bytes != 0).then_some(point.heap_goal_bytes),
            })
            .collect(),
        lanes: lanes_of(&heap.lanes),
    }
}

fn size_class(it: &go_heap::GoSizeClass) -> GoSizeClass {
    GoSizeClass {
        class: it.class,
        noscan: it.noscan,
        slot_bytes: it.slot_bytes,
        spans: it.spans,
        span_bytes: it.span_bytes,
        slots: it.slots,
        live_slots: it.live_slots,
        live_bytes: it.live_bytes,
        waste_bytes: it.free_slot_bytes.saturating_add(it.tail_bytes),
        free_slot_bytes: it.free_slot_bytes,
        tail_bytes: it.tail_bytes,
        sparse_spans: it.sparse_spans,
        pinned_bytes: it.pinned_bytes,
        empty_spans: it.empty_spans,
    }
}

fn span(it: &go_heap::GoSpan) -> GoSpan {
    let (class, noscan) = match it.class {
        SpanClass::Manual => (None, true),
        SpanClass::Objects { class, noscan } => (Some(class), noscan),
    };
    GoSpan { address: it.base.0, pages: it.pages.0, class, noscan, slots: it.slots, live_slots: it.live }
}

/// The activity of Ps, of any trace that has them.
pub fn lanes_of(lanes: &ActivityLanes) -> Lanes {
    Lanes {
        bucket_ns: lanes.bucket_ns(),
        lanes: lanes
            .lanes()
            .iter()
            .map(|lane| Lane {
                processor: lane.processor,
                total: activity(&lane.total),
                buckets: lane.buckets.iter().map(activity).collect(),
            })
            .collect(),
    }
}

fn activity(counts: &ActivityCounts) -> Activity {
    Activity {
        alloc: counts.page_allocs,
        free: counts.page_frees,
        scavenge: counts.page_scavenges,
        pages_alloc: counts.pages_allocated,
        pages_free: counts.pages_freed,
        pages_scavenge: counts.pages_scavenged,
        object_alloc: counts.object_allocs,
        object_free: counts.object_frees,
    }
}
