//! Execution traces of Go: the oracle's counts and the runtime's own figures in the report, its text, and the exports.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{as_text, output_of, pagetrace};

const SAMPLES: [&str; 3] = ["go1.23-allocfree", "go1.25-allocfree", "go1.27-allocfree"];

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../format/tests/data/go-execution-trace").join(name)
}

fn report_of(arguments: &[&str], path: &Path) -> Value {
    let report = output_of(&[&["report", "--json"], arguments, &[as_text(path)]].concat());
    serde_json::from_str(&report).expect("JSON")
}

#[test]
fn reports_agree_with_the_oracle_and_the_runtime() {
    let expected = fs::read_to_string(sample("expected.json")).expect("the samples are in the repository");
    let expected: Value = serde_json::from_str(&expected).expect("JSON");
    for name in SAMPLES {
        let file = format!("{name}.trace");
        let (counts, stats) = (&expected[&file]["event_counts"], &expected[&file]["memstats_just_before_stop"]);
        let report = report_of(&[], &sample(&file));
        let check = |pointer: &str, expected: &Value| {
            assert_eq!(report.pointer(pointer), Some(expected), "{pointer} of {name}");
        };
        let near = |pointer: &str, field: &str, distance: u64| {
            let found = report.pointer(pointer).and_then(Value::as_u64).expect("a number");
            let expected = stats[field].as_u64().expect("a number");
            assert!(found.abs_diff(expected) <= distance, "{pointer} of {name}: {found}, {field} is {expected}");
        };
        check("/format", &json!("go-alloc-free"));
        check("/complete", &json!(true));
        check("/page_size", &json!(8192));
        check("/at/moment", &json!("end"));
        check("/go_heap/events", counts);
        check("/events/alloc", &counts["SpanAlloc"]);
        check("/events/free", &counts["SpanFree"]);
        check("/events/object_alloc", &counts["HeapObjectAlloc"]);
        check("/processes/0/objects/allocated", &counts["HeapObjectAlloc"]);
        check("/processes/0/objects/freed", &counts["HeapObjectFree"]);
        check("/processes/0/objects/inherited", &counts["HeapObject"]);
        check("/processes/0/rss", &Value::Null);
        check("/final/pages_returned", &Value::Null);
        near("/go_heap/heap_inuse_bytes", "HeapInuse", 8192);
        near("/go_heap/stack_inuse_bytes", "stackinuse", 4 * 8192);
        near("/processes/0/objects/live", "objects", 20);
        near("/processes/0/objects/live_bytes", "HeapAlloc", 64 << 10);
        let in_use = (report["go_heap"]["heap_inuse_bytes"].as_u64().expect("a number")
            + report["go_heap"]["stack_inuse_bytes"].as_u64().expect("a number"))
            / 8192;
        check("/final/pages_in_use", &json!(in_use));
    }
}

#[test]
fn moments_are_those_that_were_asked_for() {
    let path = sample("go1.27-allocfree.trace");
    let (peak, end, early) =
        (report_of(&["--at", "peak"], &path), report_of(&["--at", "end"], &path), report_of(&["--at", "5ms"], &path));
    let live = |report: &Value| report["processes"][0]["objects"]["live_bytes"].as_u64().expect("a number");
    assert_eq!(peak["at"], json!({"moment": "peak", "time_ns": peak["peak"]["time_ns"]}));
    assert_eq!(early["at"], json!({"moment": "time", "time_ns": 5_000_000}));
    assert!(live(&early) < live(&end) && live(&end) < live(&peak));
    assert_eq!(peak["processes"][0]["objects"]["allocated"], end["processes"][0]["objects"]["allocated"]);
    let beyond = pagetrace(&["report", "--at", "1000s", as_text(&path)]);
    assert_eq!(beyond.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&beyond.stderr).contains("choose an earlier moment"), "{beyond:?}");
}

#[test]
fn the_diagnosis_names_types_classes_and_what_keeps_pages() {
    let text = output_of(&["report", as_text(&sample("go1.27-allocfree.trace"))]);
    for expected in [
        "heap had 9.2 MiB in use at the end",
        "Size classes",
        "Types that pin mostly empty spans",
        "main.Session",
        "main.main.func1 (main.go:",
        "What could go back to the kernel, and what keeps it",
        "Goroutine stacks: 11 of 40.0 KiB",
        "Over time",
        "P1",
    ] {
        assert!(text.contains(expected), "expected {expected:?} in {text}");
    }
}

#[test]
fn exports_have_slots_as_objects_and_types_as_sites() {
    let directory = tempfile::tempdir().expect("a directory");
    for name in SAMPLES {
        let original = sample(&format!("{name}.trace"));
        let report = report_of(&[], &original);
        let native = directory.path().join(name);
        output_of(&["export", "--to", "pagetrace", "-o", as_text(&native), as_text(&original)]);
        let exported = report_of(&["--at", "end"], &native);
        for pointer in ["/processes/0/objects/live", "/processes/0/objects/live_bytes", "/final/pages_in_use"] {
            assert_eq!(exported.pointer(pointer), report.pointer(pointer), "{pointer} of {name}");
        }
        assert_eq!(exported["complete"], json!(true));
        assert_eq!(exported["processes"][0]["objects"]["unknown_frees"], json!(0), "{name}");
        let sites = exported["processes"][0]["sites"].as_array().expect("sites");
        let session = sites.iter().find(|site| site["stack"][0] == "new main.Session in main.main.func1");
        assert_eq!(session.expect("a site")["allocated_objects"], json!(6000), "{name}");

        let text = output_of(&["export", "--to", "text", as_text(&original)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2], "pagesize: 8192");
        let events = exported["events"].as_object().expect("counts");
        let counted: u64 =
            ["alloc", "free", "object_alloc", "object_free"].iter().filter_map(|it| events[*it].as_u64()).sum();
        assert_eq!(lines.len() as u64, counted + 6, "{name}: a line an event");
        let go = output_of(&["export", "--to", "go", "-o", as_text(&directory.path().join("go")), as_text(&original)]);
        assert!(go.is_empty());
        let pages = report_of(&[], &directory.path().join("go"));
        assert_eq!(pages["format"], json!("go-page-trace"));
        assert_eq!(pages["final"]["pages_in_use"], report["final"]["pages_in_use"], "{name}");
    }
}

#[test]
fn damage_costs_what_is_damaged_and_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let bytes = fs::read(sample("go1.27-allocfree.trace")).expect("a sample");
    let path = directory.path().join("cut");
    fs::write(&path, &bytes[..bytes.len() / 2]).expect("a file");
    let cut = report_of(&[], &path);
    assert_eq!(cut["complete"], json!(false));
    let defect = &cut["defects"][0];
    assert!(defect["what"].as_str().expect("text").contains("cut") && defect["offset"].as_u64() > Some(16), "{defect}");
    assert!(cut["processes"][0]["objects"]["allocated"].as_u64() > Some(10_000), "what was there is used");
}
