//! The heaps of real Go programs, against what their own runtimes said of them just before their traces ended.

use std::fs;
use std::path::{Path, PathBuf};

use pagetrace_format::TraceNanos;
use pagetrace_replay::go_heap::GoHeapState;
use pagetrace_replay::{GoHeap, Moment, ReplayError, replay_go_heap};
use serde_json::Value;

const SAMPLES: [&str; 3] = ["go1.23-allocfree.trace", "go1.25-allocfree.trace", "go1.27-allocfree.trace"];

/// The samples belong to the format's own tests.
fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../format/tests/data/go-execution-trace")
}

fn sample(name: &str) -> Vec<u8> {
    fs::read(data().join(name)).expect("the samples are in the repository")
}

fn replayed(bytes: &[u8], at: Moment) -> GoHeap {
    replay_go_heap(bytes, at, &mut |_| {}).expect("it can be replayed")
}

#[test]
fn figures_are_those_of_the_runtime() {
    let expected = fs::read_to_string(data().join("expected.json")).expect("the samples are in the repository");
    let expected: Value = serde_json::from_str(&expected).expect("JSON");
    for name in SAMPLES {
        let heap = replayed(&sample(name), Moment::End);
        let number = |path: &str| expected[name].pointer(path).and_then(Value::as_u64).expect("a number");
        let stats = |field: &str| number(&format!("/memstats_just_before_stop/{field}"));
        let state = &heap.state;
        println!(
            "{name}: heap {} of {}, stacks {} of {}, objects {} of {}, bytes {} of {}",
            state.heap_inuse_bytes,
            stats("HeapInuse"),
            state.stack_inuse_bytes,
            stats("stackinuse"),
            state.live_objects,
            stats("objects"),
            state.live_bytes,
            stats("HeapAlloc")
        );
        let span = heap.page_shift.bytes();
        assert!(state.heap_inuse_bytes.abs_diff(stats("HeapInuse")) <= span, "{name}: HeapInuse");
        assert!(state.stack_inuse_bytes.abs_diff(stats("stackinuse")) <= 4 * span, "{name}: StackInuse");
        assert!(state.live_objects.abs_diff(stats("objects")) <= 20, "{name}: objects");
        assert!(state.live_bytes.abs_diff(stats("HeapAlloc")) <= 64 << 10, "{name}: HeapAlloc");
        for (event, count) in heap.events.named() {
            assert_eq!(count, number(&format!("/event_counts/{event}")), "{name}: {event}");
        }
        // A thread may write events before it says which P it runs, so that a tiny object is taken for another P's.
        let others = heap.anomalies.named().filter(|(anomaly, count)| *anomaly != "replaced_objects" || *count > 2);
        assert_eq!(others.collect::<Vec<_>>(), [], "{name}");
        assert!(heap.complete, "{name}");
    }
}

#[test]
fn parts_sum_to_the_whole() {
    for name in SAMPLES {
        let bytes = sample(name);
        for at in [Moment::End, Moment::Peak, Moment::At(TraceNanos(10_000_000))] {
            let heap = replayed(&bytes, at);
            check_sums(&heap.state, heap.page_shift.bytes());
        }
    }
}

fn check_sums(state: &GoHeapState, page_bytes: u64) {
    let classes = &state.classes;
    let sum = |of: fn(&pagetrace_replay::go_heap::GoSizeClass) -> u64| classes.iter().map(of).sum::<u64>();
    assert_eq!(sum(|it| it.span_bytes), state.heap_inuse_bytes);
    assert_eq!(sum(|it| it.live_slots), state.live_objects);
    assert_eq!(sum(|it| it.live_bytes), state.live_bytes);
    assert_eq!(sum(|it| it.live_bytes + it.free_slot_bytes + it.tail_bytes), state.heap_inuse_bytes);
    assert_eq!(state.free_in_spans_bytes, state.heap_inuse_bytes - state.live_bytes);
    assert_eq!(state.sites.iter().map(|it| it.live).sum::<u64>(), state.live_objects);
    assert_eq!(state.sites.iter().map(|it| it.live_bytes).sum::<u64>(), state.live_bytes);
    assert_eq!(state.sites.iter().map(|it| it.pinned_bytes).sum::<u64>(), sum(|it| it.pinned_bytes));
    assert_eq!(state.types.iter().map(|it| it.pinned_bytes).sum::<u64>(), sum(|it| it.pinned_bytes));
    let pages = &state.pages;
    let counted =
        pages.empty + pages.to_quarter + pages.to_half + pages.to_three_quarters + pages.below_full + pages.full;
    assert_eq!(counted * page_bytes, state.heap_inuse_bytes);
    let stacks: u64 = state.stacks.iter().map(|it| it.bytes * it.stacks).sum();
    assert!(stacks > 0 && stacks <= state.stack_inuse_bytes, "{stacks} bytes of stacks");
    let scavenger = &state.scavenger;
    let dense = scavenger.in_dense_chunks_bytes + scavenger.in_chunks_dense_before_bytes;
    let parts = dense + scavenger.below_goal_bytes + scavenger.could_return_bytes;
    assert_eq!(parts, scavenger.free_bytes);
    assert!(state.spans.is_sorted_by_key(|span| span.base));
    assert_eq!(state.spans.iter().map(|span| span.live).sum::<u64>(), state.live_objects);
}

#[test]
fn who_pins_sparse_spans_is_known() {
    // The program drops 99 of 100 sessions and keeps one: few stay, on pages of their own.
    for name in SAMPLES {
        let heap = replayed(&sample(name), Moment::End);
        let session = heap.state.types.iter().find(|it| it.type_name.as_deref() == Some("main.Session"));
        let session = session.expect("sessions live");
        assert!((1900..2300).contains(&session.live), "{name}: {session:?}");
        let site = heap.state.sites.iter().find(|it| it.type_name.as_deref() == Some("main.Session")).expect("a site");
        assert_eq!(site.allocated, 6000, "{name}");
        assert!(site.goroutine_stack[0].starts_with("main.main.func1 ("), "{name}: {:?}", site.goroutine_stack);
        assert!(site.goroutine_stack[1].starts_with("main.main ("), "{name}: {:?}", site.goroutine_stack);
        let pinned: u64 = heap.state.sites.iter().map(|site| site.pinned_bytes).sum();
        assert!(pinned > 0 && pinned < heap.state.free_in_spans_bytes, "{name}: {pinned}");
    }
}

#[test]
fn moments_show_the_heap_as_it_was() {
    let bytes = sample(SAMPLES[2]);
    let (end, peak) = (replayed(&bytes, Moment::End), replayed(&bytes, Moment::Peak));
    let in_use = |heap: &GoHeap| heap.state.heap_inuse_bytes + heap.state.stack_inuse_bytes;
    let (_, most) = end.peak.expect("there are spans");
    assert_eq!(in_use(&peak), most.0 * 8192);
    assert_eq!(in_use(&end), end.final_in_use.0 * 8192);
    assert!(in_use(&peak) > in_use(&end));
    assert_eq!((peak.events, peak.final_in_use), (end.events, end.final_in_use), "totals are of the whole trace");
    let at = peak.state.time.0 - peak.start.0;
    let same = replayed(&bytes, Moment::At(TraceNanos(at)));
    assert_eq!(in_use(&same), in_use(&peak));
    let beyond = replay_go_heap(&bytes, Moment::At(TraceNanos(1 << 50)), &mut |_| {});
    assert!(matches!(beyond, Err(ReplayError::MomentOutside { .. })));
}

#[test]
fn activity_and_timeline_cover_the_trace() {
    for name in SAMPLES {
        let heap = replayed(&sample(name), Moment::End);
        let totals = heap.lanes.lanes().iter().map(|lane| lane.total);
        assert_eq!(totals.clone().map(|it| it.object_allocs).sum::<u64>(), heap.events.object_alloc, "{name}");
        assert_eq!(totals.clone().map(|it| it.page_frees).sum::<u64>(), heap.events.span_free, "{name}");
        assert_eq!(totals.map(|it| it.pages_allocated).sum::<u64>(), heap.pages_alloc.0, "{name}");
        assert!(heap.lanes.lanes().len() >= 2, "{name}: goroutines ran on several Ps");
        let last = heap.timeline.last().expect("points");
        assert_eq!((last.time, last.heap_inuse_bytes), (heap.last, heap.state.heap_inuse_bytes), "{name}");
        assert!(heap.timeline.len() > 50 && heap.timeline.is_sorted_by_key(|point| point.time), "{name}");
    }
}
