//! Execution traces of Go that are not as they should be: what can be read is read, the rest is told with its place.

mod go_trace_builder;

use std::path::Path;

use go_trace_builder::{GoTraceBuilder, HEAP_BASE, event};
use pagetrace_format::decode::Defect;
use pagetrace_format::go_execution_trace::{GoEvent, GoEventKind, GoEvents, OriginId, TypeId};
use pagetrace_format::{Address, TraceNanos};
use proptest::prelude::*;

const ALLOC: u8 = 132;
const FREE: u8 = 133;
const GO_CREATE: u8 = 14;
const GO_START: u8 = 16;

fn read(bytes: &[u8]) -> (Vec<GoEvent>, Vec<Defect>) {
    let mut events = GoEvents::open(bytes).expect("the header is whole");
    let mut found = Vec::new();
    while let Some(event) = events.next_event() {
        found.push(event);
    }
    (found, events.defects().to_vec())
}

/// One batch of these bytes in a whole generation: the number of events, and what is told of it.
fn check(payload: &[u8], events: usize, expected: Option<&str>) {
    let mut builder = GoTraceBuilder::with_heap(26);
    let start = builder.bytes().len();
    builder.batch(1, 3, 100, payload).end(1);
    let (found, defects) = read(builder.bytes());
    assert_eq!(found.len(), events, "{payload:?}");
    match (expected, &defects[..]) {
        (None, []) => {}
        (Some(what), [defect]) => {
            assert!(defect.what.contains(what), "{defect:?}");
            assert!((start..start + payload.len() + 8).contains(&defect.offset), "{defect:?} of {start}");
        }
        _ => panic!("{payload:?}: {defects:?}, not {expected:?}"),
    }
}

#[test]
fn damage_in_a_batch_costs_the_rest_of_it() {
    let mut whole = Vec::new();
    event(&mut whole, ALLOC, 1, &[2, 0]);
    let with = |more: &[u8]| [&whole[..], more].concat();
    check(&with(&[]), 1, None);
    check(&with(&[ALLOC]), 1, Some("cut"));
    check(&with(&[ALLOC, 1, 0x80]), 1, Some("cut"));
    check(&with(&[200, 1, 1]), 1, Some("not known"));
    check(&with(&[2, 1, 1]), 1, Some("not known"));
    // Numbers of eleven bytes, and of ten with more than 64 bits.
    check(&with(&[&[ALLOC, 1][..], &[0xff; 11]].concat()), 1, Some("64 bits"));
    check(&with(&[&[ALLOC][..], &[0xff; 9], &[2]].concat()), 1, Some("64 bits"));
    // A time beyond 64 bits.
    check(&with(&[&[ALLOC][..], &[0xff; 9], &[1, 1, 0]].concat()), 1, Some("64 bits"));
    // An address beyond them costs its event alone.
    let mut far = Vec::new();
    event(&mut far, ALLOC, 1, &[u64::MAX, 0]);
    event(&mut far, FREE, 1, &[2]);
    check(&with(&far), 2, Some("address beyond 64 bits"));
    for (kind, arguments, expected) in
        [(129, &[1, 1, 68 << 2][..], "size class"), (135, &[1, 65], "size that cannot be")]
    {
        let mut impossible = Vec::new();
        event(&mut impossible, kind, 1, arguments);
        event(&mut impossible, FREE, 1, &[2]);
        check(&with(&impossible), 2, Some(expected));
    }
}

#[test]
fn damage_between_batches_ends_what_can_be_found() {
    let mut payload = Vec::new();
    event(&mut payload, ALLOC, 1, &[2, 0]);
    let mut builder = GoTraceBuilder::with_heap(26);
    builder.batch(1, 3, 100, &payload);
    let whole = builder.bytes().to_vec();
    for (more, expected) in [
        (&[99_u8, 1, 1][..], "another type"),
        (&[1, 0, 3, 100, 0], "generation 0"),
        (&[1, 1, 3, 100, 0x81, 0x80, 4], "64 KiB"),
        (&[1, 1, 3], "cut"),
        (&[1, 1, 3, 100, 9, 132], "cut"),
        (&[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 1, 1], "64 bits"),
        (&[], "no end"),
    ] {
        let (events, defects) = read(&[&whole[..], more].concat());
        assert_eq!(events.len(), 1, "{more:?}");
        assert_eq!(defects.len(), 1, "{more:?}: {defects:?}");
        assert!(defects[0].what.contains(expected), "{more:?}: {defects:?}");
        assert_eq!(defects[0].offset, whole.len(), "{more:?}");
    }
}

#[test]
fn references_to_nothing_are_told() {
    let mut payload = Vec::new();
    event(&mut payload, GO_CREATE, 1, &[5, 10, 11]);
    event(&mut payload, GO_START, 1, &[5, 1]);
    event(&mut payload, ALLOC, 1, &[2, 99]);
    let mut builder = GoTraceBuilder::with_heap(26);
    builder.batch(1, 3, 100, &payload);
    // Of the two stacks one is missing; the other names a string that is missing and one that is no UTF-8 in no table.
    builder.stacks(1, &[(10, &[(1, 77, 3)])]).end(1);
    let mut events = GoEvents::open(builder.bytes()).expect("the header is whole");
    let alloc = events.next_event().expect("an allocation");
    assert_eq!(alloc.kind, GoEventKind::ObjectAlloc { address: Address(HEAP_BASE + 16), of: TypeId(0) });
    assert_eq!(alloc.goroutine, 5);
    let origin = events.origin(alloc.origin);
    let frame = origin.started[0];
    assert_eq!((frame.function, frame.file, frame.line), ("main.main", "?", 3));
    assert!(origin.created_by.is_empty());
    assert_eq!(events.next_event(), None);
    assert_eq!(events.defects().len(), 1, "{:?}", events.defects());
    assert!(events.defects()[0].what.contains("a stack that is not in the table"));
}

#[test]
fn tables_that_are_damaged_cost_themselves() {
    let mut payload = Vec::new();
    event(&mut payload, ALLOC, 1, &[2, 4]);
    // A stack of a million frames, a string of a megabyte, a type with a name beyond the end, a clock without units.
    for (table, expected) in [
        (&[2_u8, 3, 1, 0xc0, 0x84, 0x3d][..], "128 frames"),
        (&[2, 9], "something else"),
        (&[4, 5, 1, 0x80, 0x80, 0x40], "1 KiB"),
        (&[4, 5, 1, 9, 65], "cut"),
        (&[50, 8, 0], "a clock of"),
        (&[50, 8], "cut"),
    ] {
        let mut builder = GoTraceBuilder::with_heap(26);
        builder.batch(1, 3, 100, &payload).batch(1, 3, 1, table).end(1);
        let (events, defects) = read(builder.bytes());
        assert_eq!(events.len(), 1, "{table:?}");
        assert_eq!(defects.len(), 1, "{table:?}: {defects:?}");
        assert!(defects[0].what.contains(expected), "{table:?}: {defects:?}");
    }
    for (table, expected) in [(&[0_u8, 4, 4, 4, 4, 99, 65][..], "types"), (&[1, 0, 3, 8, 1], "page size")] {
        let mut builder = GoTraceBuilder::with_heap(26);
        builder.batch(1, 3, 100, &payload).experimental_batch(1, table).end(1);
        let (events, defects) = read(builder.bytes());
        assert_eq!(events.len(), 1, "{table:?}");
        assert!(defects.len() == 1 && defects[0].what.contains(expected), "{table:?}: {defects:?}");
    }
}

#[test]
fn generations_follow_each_other_with_tables_of_their_own() {
    for minor in [23, 25, 26] {
        let mut builder = GoTraceBuilder::with_heap(minor);
        let mut payload = Vec::new();
        event(&mut payload, ALLOC, 1, &[2, 1]);
        builder.batch(1, 3, 100, &payload).types(1, &[(1, "main.First"), (2, "main.Both")]).end(1);
        let mut payload = Vec::new();
        event(&mut payload, ALLOC, 1, &[4, 1]);
        event(&mut payload, ALLOC, 1, &[6, 2]);
        builder.clock(2, 1_000_000_000).batch(2, 4, 200, &payload).types(2, &[(1, "main.Second"), (2, "main.Both")]);
        let cut = builder.bytes().to_vec();
        builder.end(2);
        let mut events = GoEvents::open(builder.bytes()).expect("a trace");
        let mut names = Vec::new();
        while let Some(event) = events.next_event() {
            let GoEventKind::ObjectAlloc { of, .. } = event.kind else { panic!("{event:?}") };
            names.push(events.types()[of.0 as usize].name.to_owned());
            assert_eq!(event.origin, OriginId(0));
        }
        assert_eq!(names, ["main.First", "main.Second", "main.Both"], "1.{minor}");
        assert_eq!((events.generations(), events.defects()), (2, &[][..]), "1.{minor}");
        // Without its last tables the second one is not whole, and read all the same.
        let (found, defects) = read(&cut);
        assert_eq!(found.len(), 3, "1.{minor}");
        assert!(defects.len() == 1 && defects[0].what.contains("no end"), "1.{minor}: {defects:?}");
    }
}

#[test]
fn ms_are_merged_by_time() {
    let mut builder = GoTraceBuilder::with_heap(26);
    for (m, times) in [(10, [5, 50, 90]), (11, [6, 7, 91]), (12, [1, 60, 61])] {
        let mut payload = Vec::new();
        let mut last = 0;
        for time in times {
            event(&mut payload, FREE, time - last, &[time]);
            last = time;
        }
        builder.batch(1, m, 1000, &payload);
    }
    builder.end(1);
    let (events, defects) = read(builder.bytes());
    let found: Vec<(u64, u64)> = events.iter().map(|event| (event.time.0 - 1000, event.thread)).collect();
    assert_eq!(found, [(1, 12), (5, 10), (6, 11), (7, 11), (50, 10), (60, 12), (61, 12), (90, 10), (91, 11)]);
    assert_eq!(defects, []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn events_come_back_as_written(
        events in proptest::collection::vec((0_u64..4, 0_u64..1000, 0_u64..1 << 40, 0_u64..5, any::<bool>()), 1..200),
        minor in prop_oneof![Just(23), Just(25), Just(26)],
    ) {
        let mut builder = GoTraceBuilder::with_heap(minor);
        let mut expected = Vec::new();
        let mut payloads = vec![(Vec::new(), 0_u64); 4];
        for &(m, after, id, of, is_alloc) in &events {
            let (payload, time) = &mut payloads[m as usize];
            *time += after;
            let address = Address(HEAP_BASE + id * 8);
            if is_alloc {
                event(payload, ALLOC, after, &[id, of]);
            } else {
                event(payload, FREE, after, &[id]);
            }
            expected.push((*time, m, address, is_alloc));
        }
        for (m, (payload, _)) in payloads.iter().enumerate() {
            builder.batch(1, m as u64, 0, payload);
        }
        builder.types(1, &[(1, "a"), (2, "b"), (3, "c"), (4, "d")]).end(1);
        // By time; those of one M in their order.
        expected.sort_by_key(|&(time, ..)| time);
        let (found, defects) = read(builder.bytes());
        prop_assert_eq!(defects, vec![]);
        let mut found: Vec<_> = found.iter().map(|event| match event.kind {
            GoEventKind::ObjectAlloc { address, .. } => (event.time.0, event.thread, address, true),
            GoEventKind::ObjectFree { address } => (event.time.0, event.thread, address, false),
            _ => panic!("{event:?}"),
        }).collect();
        prop_assert!(found.is_sorted_by_key(|&(time, ..)| time));
        for m in 0..4 {
            let of = |all: &[(u64, u64, Address, bool)]| all.iter().filter(|it| it.1 == m).copied().collect::<Vec<_>>();
            prop_assert_eq!(of(&found), of(&expected));
        }
        found.sort();
        expected.sort();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn flipped_and_cut_samples_are_read_without_panic(
        flips in proptest::collection::vec((16_usize..60_000, any::<u8>()), 0..8),
        // The header alone is a trace of nothing, as Go's reader has it.
        cut in 17_usize..60_000,
    ) {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/go-execution-trace/go1.23-allocfree.trace");
        let mut bytes = std::fs::read(sample).expect("the samples are in the repository");
        bytes.truncate(60_000);
        for (offset, value) in flips {
            bytes[offset] = value;
        }
        bytes.truncate(cut);
        let (events, defects) = read(&bytes);
        prop_assert!(events.is_sorted_by_key(|event| event.time));
        prop_assert!(events.iter().all(|event| event.time < TraceNanos(u64::MAX)) || !defects.is_empty());
        prop_assert!(!defects.is_empty(), "it has no end");
        prop_assert!(defects.iter().all(|defect| defect.offset <= bytes.len()));
    }
}
