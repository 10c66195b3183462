//! Page traces of Go: every figure that was found independently, and the way there and back.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{as_text, output_of, pagetrace};

const SAMPLES: [&str; 4] = ["go1.22-churn", "go1.22-gofmt", "go1.22-large-scavenge", "go1.22-crashed"];

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../format/tests/data/go-page-trace").join(name)
}

#[test]
fn reports_equal_what_was_found_independently() {
    let expected = include_str!("../data/go-page-trace/expected.json");
    let expected: Value = serde_json::from_str(expected).expect("JSON");
    for name in SAMPLES {
        let file = format!("{name}.pagetrace");
        let expected = &expected[&file];
        let report = output_of(&["report", "--json", as_text(&sample(&file))]);
        let report: Value = serde_json::from_str(&report).expect("JSON");
        let check = |pointer: &str, expected: &Value| {
            assert_eq!(report.pointer(pointer), Some(expected), "{pointer} of {name}");
        };
        check("/format", &json!("go-page-trace"));
        check("/page_size", &json!(8192));
        check("/events/alloc", &expected["counts"]["alloc"]);
        check("/events/free", &expected["counts"]["free"]);
        check("/events/scavenge", &expected["counts"]["scav"]);
        check("/pages/alloc", &expected["pages"]["alloc"]);
        check("/pages/free", &expected["pages"]["free"]);
        check("/pages/scavenge", &expected["pages"]["scav"]);
        check("/peak/pages_in_use", &expected["peak_pages_in_use"]);
        check("/final/pages_in_use", &expected["final_in_use"]);
        check("/final/pages_free", &expected["final_free"]);
        check("/final/pages_returned", &expected["final_scavenged"]);
        check("/go_processors", &expected["events_per_p"]);
        check("/anomalies", &expected["anomalies"]);
        check("/complete", &json!(expected["anomalies"] == json!({})));
        check("/processes/0/pid", &Value::Null);
        check("/processes/0/exe", &Value::Null);
        check("/processes/0/rss", &Value::Null);
        check("/processes/0/objects/live", &Value::Null);
        let duration =
            expected["last_ns"].as_u64().zip(expected["first_ns"].as_u64()).map(|(last, first)| last - first);
        check("/duration_ns", &json!(duration));
    }
}

#[test]
fn export_to_go_rebuilds_every_byte_also_by_way_of_native() {
    let directory = tempfile::tempdir().expect("a directory");
    for name in SAMPLES {
        let original = sample(&format!("{name}.pagetrace"));
        let (native, go, direct) = (
            directory.path().join(format!("{name}.native")),
            directory.path().join(format!("{name}.go")),
            directory.path().join(format!("{name}.direct")),
        );
        output_of(&["export", "--to", "pagetrace", "-o", as_text(&native), as_text(&original)]);
        output_of(&["export", "--to", "go", "-o", as_text(&go), as_text(&native)]);
        output_of(&["export", "--to", "go", "-o", as_text(&direct), as_text(&original)]);
        let original = fs::read(&original).expect("the sample");
        assert!(fs::read(&go).expect("an export") == original, "{name} by way of the native format");
        assert!(fs::read(&direct).expect("an export") == original, "{name}");
        let native = fs::read(&native).expect("an export");
        assert!(native.starts_with(b"\x89PGT"), "{name} is native");
        assert!(!contains(&native, &original[..original.len().min(4096)]), "{name}: events, not the input's bytes");
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn text_has_a_line_for_every_event_and_says_what_is_unknown() {
    let text = output_of(&["export", "--to", "text", as_text(&sample("go1.22-churn.pagetrace"))]);
    let lines: Vec<&str> = text.lines().collect();
    let head = ["start profile: unknown", "execname and pid: unknown unknown", "pagesize: 8192", "start date: unknown"];
    assert_eq!(lines[..4], head);
    assert_eq!(lines[4], "samples and events:");
    assert_eq!(lines.last(), Some(&"end date: unknown"));
    assert_eq!(lines.len(), 15917 + 6);
    let times: Vec<u64> = lines[5..lines.len() - 1]
        .iter()
        .map(|line| line.split(' ').next().and_then(|time| time.parse().ok()).expect("a time first"))
        .collect();
    assert!(times.is_sorted(), "merged by time");
}

#[test]
fn the_diagnosis_is_about_pages() {
    let text = output_of(&["report", as_text(&sample("go1.22-churn.pagetrace"))]);
    for expected in ["170.1 MiB of pages in use at its peak", "given back", "21,772", "P1"] {
        assert!(text.contains(expected), "expected {expected:?} in {text}");
    }
    let text = output_of(&["report", as_text(&sample("go1.22-crashed.pagetrace"))]);
    for expected in ["not complete", "19,687 free of unallocated"] {
        assert!(text.contains(expected), "expected {expected:?} in {text}");
    }
}

#[test]
fn a_recording_is_no_go_page_trace() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("trace");
    fs::write(&path, crate::made_trace::made_trace(true)).expect("a file");
    let output = pagetrace(&["export", "--to", "go", as_text(&path)]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "nothing is written before that is known");
}
