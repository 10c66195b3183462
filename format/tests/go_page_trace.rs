//! Page traces of Go: real files against an independent count, conversion there and back, and damaged ones.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pagetrace_format::records::{Record, StreamKind};
use pagetrace_format::{
    ChunkKind, Event, EventKind, FormatError, GoPageTrace, Origin, PageShift, Trace, go_to_native, native_to_go,
};
use serde_json::{Value, json};

fn data(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/go-page-trace").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn all_events(go: &GoPageTrace) -> Vec<(i64, Event)> {
    let mut events = Vec::new();
    for run in go.runs() {
        let before = events.len();
        let mut cursor = go.events(run);
        while let Some(event) = cursor.next_event().expect("opening has checked it") {
            events.push((run.processor, event));
        }
        assert_eq!(events.len() - before, run.events as usize);
        let times = events[before..].iter().map(|(_, event)| event.time);
        assert_eq!((Some(run.first), Some(run.last)), (times.clone().min(), times.max()));
    }
    events
}

fn to_native(bytes: &[u8]) -> Result<Vec<u8>, FormatError> {
    go_to_native(&GoPageTrace::open(bytes)?, Vec::new())
}

fn to_go(native: &[u8]) -> Result<Vec<u8>, FormatError> {
    let mut out = Vec::new();
    native_to_go(&Trace::open(native)?, &mut out)?;
    Ok(out)
}

/// What a file holds, in the form of expected.json.
fn summary(bytes: &[u8]) -> Value {
    let go = GoPageTrace::open(bytes).expect("a Go page trace");
    let (mut counts, mut pages) = (BTreeMap::<&str, u64>::new(), BTreeMap::<&str, u64>::new());
    let mut per_processor = BTreeMap::<String, u64>::new();
    let (mut syncs, mut large, mut total) = (0, 0, 0);
    let (mut first, mut last) = (u64::MAX, 0);
    for (processor, event) in all_events(&go) {
        let (kind, run) = match event.kind {
            EventKind::PageAlloc(run) => ("alloc", run),
            EventKind::PageFree(run) => ("free", run),
            EventKind::PageScavenge(run) => ("scav", run),
            EventKind::TimeSync => {
                syncs += 1;
                continue;
            }
            other => panic!("{other:?} in a Go page trace"),
        };
        total += 1;
        large += u64::from(run.pages.0 >= 1024);
        *counts.entry(kind).or_default() += 1;
        *pages.entry(kind).or_default() += run.pages.0;
        *per_processor.entry(processor.to_string()).or_default() += 1;
        first = first.min(event.time.0);
        last = last.max(event.time.0);
    }
    json!({
        "file_bytes": bytes.len(),
        "trailing_bytes": go.defects().iter().map(|defect| defect.bytes).sum::<usize>(),
        "events": total,
        "counts": counts,
        "pages": pages,
        "large": large,
        "sync_events": syncs,
        "pid_events": go.runs().len(),
        "events_per_p": per_processor,
        "first_ns": first,
        "last_ns": last,
    })
}

fn samples() -> BTreeMap<String, Value> {
    let samples: BTreeMap<String, Value> = serde_json::from_slice(&data("expected.json")).expect("expected.json");
    assert_eq!(samples.len(), 4);
    samples
}

#[test]
fn samples_hold_what_an_independent_reader_found() {
    for (name, expected) in samples() {
        let bytes = data(&name);
        assert!(GoPageTrace::looks_like(&bytes), "{name}");
        assert_eq!(summary(&bytes), expected, "{name}");
    }
}

#[test]
fn samples_come_back_byte_for_byte_by_way_of_a_native_trace() {
    for name in samples().keys() {
        let bytes = data(name);
        let native = to_native(&bytes).expect(name);
        assert!(native.len() < bytes.len(), "{name}: {} bytes became {}", bytes.len(), native.len());
        assert!(to_go(&native).expect(name) == bytes, "{name} differs after conversion there and back");
    }
}

#[test]
fn a_native_trace_has_the_streams_the_buffers_and_the_end() {
    let bytes = data("go1.22-churn.pagetrace");
    let go = GoPageTrace::open(&bytes).expect("a Go page trace");
    let native = to_native(&bytes).expect("canonical");
    let trace = Trace::open(&native).expect("a trace");
    assert_eq!((trace.header().origin, trace.header().page_shift), (Origin::GoPageTrace, PageShift::KIB_8));
    let (records, events): (Vec<_>, Vec<_>) = trace.chunks().iter().partition(|c| c.header.kind == ChunkKind::RECORDS);
    let mut processors = BTreeMap::new();
    let (mut processes, mut ends) = (0, 0);
    for record in records.iter().flat_map(|chunk| trace.records(chunk).expect("records")) {
        match record {
            Record::Stream(stream) => drop(processors.insert(stream.id, stream.kind)),
            Record::Process(process) => {
                processes += 1;
                assert_eq!((process.id.0, process.pid, process.exe.as_str()), (0, 0, ""));
            }
            Record::End(end) => {
                ends += 1;
                assert_eq!(Some(end.time), go.runs().iter().map(|run| run.last).max());
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!((processes, ends, processors.len()), (1, 1, 3));
    assert_eq!(events.len(), go.runs().len());
    for (chunk, run) in events.iter().zip(go.runs()) {
        assert_eq!(processors.get(&chunk.header.stream), Some(&StreamKind::GoProcessor(run.processor)));
        assert_eq!((chunk.header.count, chunk.header.first, chunk.header.last), (run.events, run.first, run.last));
    }
}

const P0: u64 = 0b100;
const P_NONE: u64 = u64::MAX << 3 | 0b100;
const SYNC: u64 = 1000 << 3;
const ALLOC: u64 = 0x0001_00c0_0000_0000 | 4 << 3 | 1;
const LARGE_FREE: u64 = 0x0002_00c0_0000_0000 | 0b100 | 2;

fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn damage_is_said_and_the_rest_is_read() {
    // name, words, bytes cut from the end, runs, events, (offset, bytes) of the defects
    type Case<'c> = (&'c str, &'c [u64], usize, usize, usize, &'c [(usize, usize)]);
    let cases: &[Case] = &[
        ("whole", &[P0, SYNC, ALLOC, LARGE_FREE, 5000, P_NONE, SYNC], 0, 2, 4, &[]),
        ("cut inside the first word", &[P0], 3, 0, 0, &[(0, 5)]),
        ("a P word alone", &[P0], 0, 0, 0, &[(0, 8)]),
        ("cut inside the sync", &[P0, SYNC], 1, 0, 0, &[(0, 8), (8, 7)]),
        ("a sync alone", &[P0, SYNC], 0, 1, 1, &[]),
        ("cut inside an event", &[P0, SYNC, ALLOC], 7, 1, 1, &[(16, 1)]),
        ("a large event without its count", &[P0, SYNC, LARGE_FREE], 0, 1, 1, &[(16, 8)]),
        ("a large event with half its count", &[P0, SYNC, LARGE_FREE, 5000], 4, 1, 1, &[(16, 8), (24, 4)]),
        ("words before the first P", &[SYNC, ALLOC, P0, SYNC], 0, 1, 1, &[(0, 16)]),
        ("a P word after a P word", &[P_NONE, P0, SYNC, ALLOC], 0, 1, 2, &[(0, 8)]),
        ("a time beyond 64 bits", &[P0, SYNC, u64::MAX << 3, ALLOC, P0, SYNC], 0, 2, 2, &[(16, 8), (24, 8)]),
        ("a delta beyond 64 bits", &[P0, u64::MAX >> 7 << 3, ALLOC], 0, 1, 1, &[(16, 8)]),
    ];
    for &(name, words, cut, runs, events, defects) in cases {
        let mut bytes = bytes_of(words);
        bytes.truncate(bytes.len() - cut);
        let go = match GoPageTrace::open(&bytes) {
            Ok(go) => go,
            Err(FormatError::Foreign { .. }) if runs == 0 => continue,
            Err(error) => panic!("{name}: {error}"),
        };
        let found: Vec<_> = go.defects().iter().map(|defect| (defect.offset, defect.bytes)).collect();
        assert_eq!((go.runs().len(), all_events(&go).len(), &found[..]), (runs, events, defects), "{name}");
        // A damaged file can be analysed as a native trace, but not be taken for a whole one.
        let native = to_native(&bytes).expect(name);
        match (defects, to_go(&native)) {
            ([], Ok(back)) => assert_eq!(back, bytes, "{name}"),
            ([_, ..], Err(FormatError::CannotConvert { why, .. })) => assert!(why.contains("no end"), "{name}: {why}"),
            (_, other) => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn every_cut_of_a_real_file_is_read() {
    let whole = data("go1.22-churn.pagetrace");
    // Every byte around the start and around a buffer's end; then here and there.
    let cuts = (0..200).chain(32_700..32_900).chain((200..whole.len()).step_by(997));
    for cut in cuts {
        let bytes = &whole[..cut];
        match GoPageTrace::open(bytes) {
            Ok(go) => {
                let read: usize = go.runs().iter().map(|run| run.bytes + 8).sum();
                let stepped_over: usize = go.defects().iter().map(|defect| defect.bytes).sum();
                assert_eq!(read + stepped_over, cut);
                assert!(stepped_over <= 16, "cut at {cut}: {:?}", go.defects());
                all_events(&go);
            }
            Err(FormatError::Empty) => assert_eq!(cut, 0),
            Err(FormatError::Foreign { .. }) => assert!(cut < 8, "cut at {cut}"),
            Err(error) => panic!("cut at {cut}: {error}"),
        }
    }
}

#[test]
fn what_go_would_not_write_is_refused_by_conversion() {
    let cases: &[(&str, &[u64])] = &[
        ("few pages in the form for many", &[P0, SYNC, LARGE_FREE, 5]),
        ("a page count in both words", &[P0, SYNC, LARGE_FREE | 7 << 3, 5000]),
    ];
    for (name, words) in cases {
        let error = to_native(&bytes_of(words)).expect_err(name);
        assert!(matches!(error, FormatError::CannotConvert { .. }), "{name}: {error}");
        assert!(error.to_string().contains("offset 0"), "{name}: {error}");
    }
}

#[test]
fn other_files_are_told_apart() {
    let elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0\x01\0\0\0";
    let go123 = b"go 1.23 trace\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08";
    for bytes in [&elf[..], go123, b"", b"\x04\0\0", b"hello, world, this is text", &[0; 64]] {
        assert!(!GoPageTrace::looks_like(bytes), "{bytes:?}");
    }
    assert!(matches!(GoPageTrace::open(b""), Err(FormatError::Empty)));
    let error = GoPageTrace::open(b"hello, world, this is text").expect_err("text");
    assert!(error.to_string().contains("found 68 65 6c 6c 6f"), "{error}");
}
