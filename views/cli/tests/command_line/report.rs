//! `pagetrace report` on traces made here: every figure is known.

use std::fs;

use serde_json::{Value, json};

use crate::made_trace::{made_trace, trace_with_kernel_events};
use crate::{as_text, output_of, pagetrace};

/// The JSON of a trace's report.
pub fn report_of(trace: &[u8], more: &[&str]) -> Value {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("trace");
    fs::write(&path, trace).expect("a file");
    let output = output_of(&[&["report", "--json", as_text(&path)], more].concat());
    serde_json::from_str(&output).expect("JSON")
}

#[test]
fn json_has_the_promised_names_and_figures() {
    let report = report_of(&made_trace(true), &[]);
    let check = |pointer: &str, expected: Value| {
        assert_eq!(report.pointer(pointer), Some(&expected), "{pointer} of {report:#}");
    };
    check("/format", json!("pagetrace"));
    check("/complete", json!(true));
    check("/page_size", json!(4096));
    check("/at/moment", json!("peak"));
    check("/at/time_ns", json!(1_000_000_000));
    check("/lost", json!({"events": 0, "reasons": {}}));
    check("/events/alloc", json!(0));
    check("/events/object_alloc", json!(3));
    check("/events/object_free", json!(2));
    check("/pages", json!({"alloc": 0, "free": 0, "scavenge": 0}));
    check("/peak/pages_in_use", Value::Null);
    check("/final", json!({"pages_in_use": null, "pages_free": null, "pages_returned": null}));
    check("/processes/0/pid", json!(4242));
    check("/processes/0/exe", json!("/opt/my program"));
    check("/processes/0/rss/time_ns", json!(1_000_000_000));
    check("/processes/0/rss/kernel_bytes", json!(5 * 4096));
    check("/processes/0/rss/residency_agreement", Value::Null);
    check("/processes/0/rss/change_agreement", Value::Null);
    check("/processes/0/touches", Value::Null);
    check("/processes/0/rss/snapshot/reason", json!("exit"));
    check("/processes/0/rss/snapshot/at_exit", json!(true));
    check("/processes/0/rss/classes/live_objects", json!(216 + 312));
    check("/processes/0/rss/classes/retained", json!(4096));
    check("/processes/0/rss/classes/file_text", json!(4096));
    check("/processes/0/objects/live", json!(2));
    check("/processes/0/objects/live_bytes", json!(500));
    check("/processes/0/objects/live_usable_bytes", json!(216 + 312));
    check("/processes/0/objects/allocated", json!(3));
    check("/processes/0/objects/freed", json!(1));
    check("/processes/0/objects/unknown_frees", json!(1));
    check("/processes/0/sites/0/live_bytes", json!(500));
    check("/processes/0/sites/0/stack", json!(["my program+0x1234", "[unknown region 0x7fff0000]"]));
    check("/sources/0", json!({"name": "objects", "active": true, "missed": ""}));
}

#[test]
fn page_events_are_counted_and_held_against_scans() {
    let report = report_of(&trace_with_kernel_events(), &[]);
    let check = |pointer: &str, expected: Value| {
        assert_eq!(report.pointer(pointer), Some(&expected), "{pointer} of {report:#}");
    };
    check("/events/page_faults", json!(2));
    check("/events/page_calls", json!({"mmap": 1, "madvise": 1, "munlockall": 1}));
    // The scan found four pages of the heap; events tell of two of them, and of two on the stack.
    check("/processes/0/rss/residency_agreement", json!(2.0 / 6.0));
    check("/processes/0/rss/change_agreement", Value::Null);
    let touches = json!({
        "events": 2, "full": 0, "cut": 0, "instruction_only": 2, "unknown": 0,
        "scan_only": {"anonymous": 2, "file": 1},
        "scans": 1,
        "sites": [
            {"cause": "exec", "reach": "none", "stack": [], "resident_bytes": 8192},
            {"cause": "fault", "reach": "instruction_only", "stack": ["my program+0x1234"], "resident_bytes": 4096},
            {"cause": "kernel_fault", "reach": "none", "stack": [], "resident_bytes": 4096},
        ],
        "unnamed_bytes": 0,
    });
    check("/processes/0/touches", touches);
}

#[test]
fn classes_sum_to_the_kernels_figure_in_their_order() {
    let report = report_of(&made_trace(true), &[]);
    let classes = report["processes"][0]["rss"]["classes"].as_object().expect("classes");
    let sum: i64 = classes.values().filter_map(Value::as_i64).sum();
    assert_eq!(sum, 5 * 4096);
    let output = report_text(&made_trace(true), &[]);
    let places: Vec<_> = ["live objects", "pinned", "retained", "file text"].map(|name| output.find(name)).into();
    assert!(places.iter().all(Option::is_some), "{output}");
}

/// The text of a trace's report.
pub fn report_text(trace: &[u8], more: &[&str]) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("trace");
    fs::write(&path, trace).expect("a file");
    output_of(&[&["report", as_text(&path)], more].concat())
}

#[test]
fn text_starts_with_the_diagnosis_and_has_no_colours_in_a_pipe() {
    let text = report_text(&made_trace(true), &[]);
    assert!(text.starts_with("my program (pid 4242) held 20.0 KiB of RAM (RSS) at the peak"), "{text}");
    for expected in ["Explained: ", "Where the memory is", "Who holds the live memory", "my program+0x1234", "Sources"]
    {
        assert!(text.contains(expected), "expected {expected:?} in {text}");
    }
    assert!(!text.contains('\x1b'), "{text:?}");
}

#[test]
fn a_cut_trace_is_reported_as_incomplete() {
    let report = report_of(&made_trace(false), &[]);
    assert_eq!(report["complete"], json!(false));
    let trace = made_trace(true);
    let report = report_of(&trace[..trace.len() - 10], &[]);
    assert_eq!(report["complete"], json!(false));
    assert_eq!(report["defects"].as_array().map(Vec::len), Some(1), "{report:#}");
    assert!(report_text(&trace[..trace.len() - 10], &[]).contains("not complete"));
}

#[test]
fn moments_are_those_asked_for() {
    let live =
        |moment: &str| report_of(&made_trace(true), &["--at", moment])["processes"][0]["objects"]["live"].clone();
    assert_eq!(live("0"), json!(0));
    assert_eq!(live("10ns"), json!(1));
    assert_eq!(live("35ns"), json!(3));
    assert_eq!(live("50ns"), json!(2));
    assert_eq!(live("end"), json!(2));
    assert_eq!(report_of(&made_trace(true), &["--at", "end"])["at"], json!({"moment": "end", "time_ns": null}));
}

#[test]
fn a_moment_that_is_none_is_wrong_usage() {
    let output = pagetrace(&["report", "--at", "yesterday", "trace"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("yesterday"), "{output:?}");
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("trace");
    fs::write(&path, made_trace(true)).expect("a file");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = std::process::Command::new(assert_cmd::cargo::cargo_bin!("pagetrace"))
        .args(["report", "--json", as_text(&path)])
        .stdout(writer)
        .output()
        .expect("the binary runs");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}
