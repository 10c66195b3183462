//! Real page traces of Go 1.22, replayed: counts, peak and final states are those that Go's own records have, found
//! once by an independent reader.

use std::fs;
use std::path::{Path, PathBuf};

use pagetrace_format::{GoPageTrace, Trace, go_to_native};
use pagetrace_replay::results::MomentRule;
use pagetrace_replay::{Moment, Replayed, replay};
use serde_json::Value;

#[test]
fn churn() {
    check("go1.22-churn.pagetrace");
}

#[test]
fn gofmt() {
    check("go1.22-gofmt.pagetrace");
}

#[test]
fn large_scavenge() {
    check("go1.22-large-scavenge.pagetrace");
}

/// Lost each P's last buffer: anomalies are counted, and it is incomplete.
#[test]
fn crashed() {
    check("go1.22-crashed.pagetrace");
}

fn check(name: &str) {
    let bytes = fs::read(data().join(name)).unwrap();
    let native = go_to_native(&GoPageTrace::open(&bytes).unwrap(), Vec::new()).unwrap();
    let replayed = replay(&Trace::open(&native).unwrap(), Moment::Peak, &mut |_| {}).unwrap();

    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/go-page-states.json");
    let [counts, states] = [data().join("expected.json"), own]
        .map(|path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() });
    let (counts, states) = (&counts[name], &states[name]);
    let number = |path: &str| counts.pointer(path).or(states.pointer(path)).and_then(Value::as_u64).unwrap();
    let Replayed { events, pages, final_pages, anomalies, .. } = &replayed;
    let peak = replayed.peak.unwrap();
    let found = [
        ("/events", events.page_alloc + events.page_free + events.page_scavenge),
        ("/counts/alloc", events.page_alloc),
        ("/counts/free", events.page_free),
        ("/counts/scav", events.page_scavenge),
        ("/sync_events", events.time_sync),
        ("/pages/alloc", pages.alloc),
        ("/pages/free", pages.free),
        ("/pages/scav", pages.scavenge),
        ("/peak_pages_in_use", peak.pages_in_use),
        ("/final_in_use", final_pages.in_use),
        ("/final_free", final_pages.free),
        ("/final_scavenged", final_pages.returned),
        ("/distinct_pages", final_pages.distinct),
        ("/anomalies/free_of_unallocated", anomalies.free_of_unallocated),
        ("/anomalies/alloc_of_allocated", anomalies.alloc_of_allocated),
        ("/anomalies/scav_of_allocated", anomalies.scav_of_allocated),
        ("/first_ns", replayed.start.0),
        ("/last_ns", replayed.last.0),
    ];
    for (path, count) in found {
        assert_eq!(count, number(path), "{name}: {path}");
    }
    let whole = states["anomalies"].as_object().unwrap().values().all(|count| *count == 0);
    assert_eq!(replayed.complete, whole, "{name}: complete");
    assert_eq!(anomalies.named().count() == 0, whole);
    assert_eq!((replayed.moment.rule, replayed.moment.time), (MomentRule::PeakPages, peak.time));
    assert_eq!(replayed.processes.len(), 1);
    assert_eq!(replayed.processes[0].objects, None);
}

/// The samples belong to the format's own tests.
fn data() -> PathBuf {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../format/tests/data/go-page-trace");
    assert!(
        data.is_dir(),
        "{}: expected the samples of Go's page traces there; take them from a whole clone",
        data.display()
    );
    data
}
