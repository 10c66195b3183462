//! Objects whose free comes before their alloc, since times of different streams are rounded.

mod trace;

use pagetrace_format::records::{Gap, ProcessOrigin, Record};
use pagetrace_format::{Event, PageShift, ProcessId, TraceNanos};
use pagetrace_replay::Moment;
use pagetrace_replay::results::ObjectState;

use trace::*;

const A: u64 = 0x5555_0000_0010;
const B: u64 = 0x5555_0000_2010;

/// What is known of the objects of one process with these events in its two streams.
fn objects(first: &[Event], second: &[Event]) -> ObjectState {
    let bytes = Builder::new(PageShift::KIB_4)
        .records(&[process(0, ProcessOrigin::Command, None, 1), stream(1, 0, None), stream(2, 0, None)])
        .events(1, first)
        .events(2, second)
        .end(100_000);
    replayed(&bytes, Moment::End).processes[0].objects.unwrap()
}

/// Live, allocated, freed, unknown frees.
fn check(first: &[Event], second: &[Event], expected: (u64, u64, u64, u64)) {
    let found = objects(first, second);
    assert_eq!((found.live, found.allocated, found.freed, found.unknown_frees), expected, "{first:?} {second:?}");
}

#[test]
fn a_free_cancels_out_with_an_alloc_of_another_stream_that_follows_at_once() {
    check(&[free(1000, A)], &[alloc(1000, A, 100, 1)], (0, 1, 1, 0));
    check(&[free(1000, A)], &[alloc(3048, A, 100, 1)], (0, 1, 1, 0));
    check(&[free(1000, A)], &[alloc(3049, A, 100, 1)], (1, 1, 0, 1));
    check(&[free(1000, A)], &[alloc(1100, B, 100, 1)], (1, 1, 0, 1));
    // A stream's own events are in order.
    check(&[free(1000, A), alloc(1100, A, 100, 1)], &[], (1, 1, 0, 1));
    // Once only, and the later alloc is another object.
    check(&[free(1000, A)], &[alloc(1100, A, 100, 1), alloc(1200, A, 100, 1)], (1, 2, 1, 0));
    check(&[free(1000, A), alloc(1100, A, 10, 1)], &[alloc(1200, A, 100, 1)], (1, 2, 0, 1));
    // Two threads pass an address on and on.
    check(
        &[free(1000, A), alloc(1020, A, 10, 1)],
        &[free(1010, A), alloc(1030, A, 10, 1), free(1040, A)],
        (0, 2, 2, 1),
    );
    assert_eq!(objects(&[free(1000, A)], &[alloc(1100, A, 100, 1)]).allocated_bytes, 100);
}

#[test]
fn of_two_early_frees_the_older_is_that_of_the_alloc_that_comes_first() {
    // The second alloc is too late for the first free.
    check(&[free(1000, A), free(2024, A)], &[alloc(2113, A, 8, 1), alloc(3137, A, 8, 1)], (0, 2, 2, 0));
}

#[test]
fn an_object_that_comes_late_and_dies_at_once_replaces_nobody() {
    // The second stream has the address already when the first one's alloc and free come, both late.
    let passing = [alloc(1021, A, 64, 1), free(1021, A)];
    check(&passing, &[alloc(121, A, 100, 2)], (1, 2, 1, 0));
    let found = objects(&passing, &[alloc(121, A, 100, 2)]);
    assert_eq!((found.replaced, found.live_bytes), (0, 100));
    check(&passing, &[alloc(121, A, 100, 2), free(5000, A)], (0, 2, 2, 0));
    // What is freed later was the object that came last.
    let found = objects(&[alloc(1021, A, 64, 1), free(4000, A)], &[alloc(121, A, 100, 2)]);
    assert_eq!((found.live, found.replaced), (0, 1));
}

#[test]
fn a_free_that_comes_behind_another_stream_s_alloc_at_its_address_leaves_that_alone() {
    let own = [alloc(121, A, 100, 2), free(1100, A)];
    let found = objects(&[alloc(1021, A, 64, 1)], &own);
    assert_eq!((found.live, found.replaced, found.live_bytes, found.freed), (1, 0, 64, 1));
    check(&[alloc(1021, A, 64, 1), free(1200, A)], &own, (0, 2, 2, 0));
    // Too late to be its own.
    let found = objects(&[alloc(1021, A, 64, 1)], &[alloc(121, A, 100, 2), free(3070, A)]);
    assert_eq!((found.live, found.replaced), (0, 1));
}

#[test]
fn many_frees_of_unknown_objects_are_only_counted() {
    let frees: Vec<Event> = (0..1000).map(|index| free(1000, A + 16 * index)).collect();
    let allocs: Vec<Event> = (0..1000).map(|index| alloc(1001, A + 16 * index, 8, 1)).collect();
    let found = objects(&frees, &allocs);
    assert_eq!((found.allocated, found.live + found.freed, found.freed + found.unknown_frees), (1000, 1000, 1000));
    assert!(found.freed > 0);
}

#[test]
fn the_object_s_pages_held_one_and_hold_none() {
    let bytes = Builder::new(PageShift::KIB_4)
        .records(&[process(0, ProcessOrigin::Command, None, 1), stream(1, 0, None), stream(2, 0, None)])
        .events(1, &[free(1000, A)])
        .events(2, &[alloc(1100, A, 100, 1)])
        .snapshot(&snapshot(0, 5000, 8192, &[(A & !0xfff, 8192, "rw-p", "[heap]")], &[(A & !0xfff, 1, 0)]))
        .end(6000);
    let all = replayed(&bytes, Moment::Peak);
    let classes = all.processes[0].rss.as_ref().unwrap().explanation.as_ref().unwrap().classes;
    assert_eq!((classes.live_objects, classes.retained), (0, 4096));
}

#[test]
fn after_a_gap_it_is_the_same() {
    let gap = Gap { process: ProcessId(0), start: TraceNanos(100), end: TraceNanos(200), kept: false };
    let bytes = Builder::new(PageShift::KIB_4)
        .records(&[process(0, ProcessOrigin::Command, None, 1), stream(1, 0, None), stream(2, 0, None)])
        .records(&[Record::Gap(gap)])
        .events(1, &[free(1000, A), free(1000, B)])
        .events(2, &[alloc(1100, A, 100, 1)])
        .end(6000);
    let found = replayed(&bytes, Moment::End).processes[0].objects.unwrap();
    assert_eq!((found.live, found.freed, found.unknown_frees, found.unknown_frees_after_gap), (0, 1, 0, 1));
}
