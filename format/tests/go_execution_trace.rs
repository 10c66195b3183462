//! Execution traces of Go 1.23 to 1.27 against the counts of `go tool trace -d=parsed`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pagetrace_format::go_execution_trace::{GoEventKind, GoEvents, GoTraceVersion};
use pagetrace_format::{Address, TraceNanos};
use serde_json::Value;

const SAMPLES: [(&str, u32); 3] =
    [("go1.23-allocfree.trace", 23), ("go1.25-allocfree.trace", 25), ("go1.27-allocfree.trace", 26)];

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/go-execution-trace")
}

fn sample(name: &str) -> Vec<u8> {
    fs::read(data().join(name)).expect("the samples are in the repository")
}

/// The name that the oracle has for an event.
fn name_of(kind: &GoEventKind) -> Option<&'static str> {
    Some(match kind {
        GoEventKind::Span { .. } => "Span",
        GoEventKind::SpanAlloc { .. } => "SpanAlloc",
        GoEventKind::SpanFree { .. } => "SpanFree",
        GoEventKind::Object { .. } => "HeapObject",
        GoEventKind::ObjectAlloc { .. } => "HeapObjectAlloc",
        GoEventKind::ObjectFree { .. } => "HeapObjectFree",
        GoEventKind::Stack { .. } => "GoroutineStack",
        GoEventKind::StackAlloc { .. } => "GoroutineStackAlloc",
        GoEventKind::StackFree { .. } => "GoroutineStackFree",
        _ => return None,
    })
}

fn counts(events: &mut GoEvents<'_>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let mut last = TraceNanos(0);
    while let Some(event) = events.next_event() {
        assert!(event.time >= last, "by time");
        last = event.time;
        if let Some(name) = name_of(&event.kind) {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    counts
}

#[test]
fn counts_are_those_of_the_oracle() {
    let expected = fs::read_to_string(data().join("expected.json")).expect("the samples are in the repository");
    let expected: Value = serde_json::from_str(&expected).expect("JSON");
    for (name, minor) in SAMPLES {
        let bytes = sample(name);
        let mut events = GoEvents::open(&bytes).expect("a trace");
        assert_eq!(events.version(), GoTraceVersion { minor });
        let counts = counts(&mut events);
        let expected: BTreeMap<String, u64> =
            serde_json::from_value(expected[name]["event_counts"].clone()).expect("counts");
        assert_eq!(counts, expected, "{name}");
        assert_eq!(events.defects(), &[], "{name}");
    }
}

#[test]
fn objects_have_types_goroutines_and_where_these_began() {
    for (name, _) in SAMPLES {
        let bytes = sample(name);
        let mut events = GoEvents::open(&bytes).expect("a trace");
        let (mut allocs, mut with_goroutine, mut sessions, mut of_workers) = (0_u64, 0_u64, 0, 0);
        while let Some(event) = events.next_event() {
            let GoEventKind::ObjectAlloc { address, of } = event.kind else { continue };
            allocs += 1;
            with_goroutine += u64::from(event.goroutine != 0);
            assert!(address >= Address(0xc0_0000_0000), "{address} is in the heap of Go on Linux");
            assert!(event.processor >= 0, "{event:?}");
            if events.types()[of.0 as usize].name == "main.Session" {
                sessions += 1;
                let origin = events.origin(event.origin);
                of_workers += u64::from(
                    origin.started.first().is_some_and(|frame| frame.function == "main.main.func1")
                        && origin.created_by.first().is_some_and(|frame| frame.function == "main.main"),
                );
            }
        }
        assert_eq!((sessions, of_workers), (6000, 6000), "{name}");
        // A thread may allocate its first goroutine before it says what it runs.
        assert!(with_goroutine + 10 > allocs, "{name}: {with_goroutine} of {allocs}");
    }
}

/// Which P and goroutine each event was written by, against the oracle.
#[test]
fn processors_and_goroutines_are_those_of_the_oracle() {
    let expected = fs::read_to_string(data().join("oracle-by-goroutine.json")).expect("in the repository");
    let expected: Value = serde_json::from_str(&expected).expect("JSON");
    for (name, _) in SAMPLES {
        let bytes = sample(name);
        let mut events = GoEvents::open(&bytes).expect("a trace");
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        while let Some(event) = events.next_event() {
            let Some(kind) = name_of(&event.kind) else { continue };
            let goroutine = if event.goroutine == 0 { "-1".to_owned() } else { event.goroutine.to_string() };
            *counts.entry(format!("{kind} {} {goroutine}", event.processor)).or_default() += 1;
        }
        let expected: BTreeMap<String, u64> = serde_json::from_value(expected[name].clone()).expect("counts");
        let keys = counts.keys().chain(expected.keys());
        let count = |of: &BTreeMap<String, u64>, key: &str| of.get(key).copied().unwrap_or(0);
        let different: BTreeMap<_, _> = keys
            .filter(|key| count(&counts, key) != count(&expected, key))
            .map(|key| (key, (count(&counts, key), count(&expected, key))))
            .collect();
        assert!(different.is_empty(), "{name}: found, expected: {different:?}");
    }
}
