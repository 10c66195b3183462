//! Each piece of advice, applied to a program that needs it, lowers its RSS by the figure that was given, within 20 %.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Recorded, number, processes, program, record_with};

const JEMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";

/// What was advised of a kind, and the RSS at the end.
fn figures(recorded: &Recorded, kind: &str) -> (Option<u64>, u64) {
    let errors = String::from_utf8_lossy(&recorded.output.stderr);
    assert!(recorded.output.status.success(), "{kind} ended with {}: {errors}", recorded.output.status);
    let report = recorded.report();
    let process = &processes(&report)[0];
    let all = process["advice"].as_array().expect("advice");
    let found = all.iter().find(|advice| advice["kind"] == kind).map(|advice| number(&advice["bytes"]));
    // The tracer's own memory grows with what it has seen, and is no part of the program's.
    let rss = number(&process["rss"]["kernel_bytes"]);
    let tracer = number(&process["rss"]["classes"]["tracer"]);
    println!("{kind}: {all:#?}, RSS {rss}, of which the tracer has {tracer}");
    (found, rss - tracer)
}

fn check(kind: &str, mode: &str, variables: &[(&str, &str)], applied: &[(&str, &str)]) {
    let program = program("gives_back");
    let directory = tempfile::tempdir().expect("a directory for a file");
    let file = directory.path().join("mapped");
    let file = file.to_str().expect("a path that is text");
    let before = record_with(&["--quiet"], variables, &[&program, mode, "not_applied", file]);
    let after = record_with(&["--quiet"], applied, &[&program, mode, "applied", file]);
    let (advised, rss_before) = figures(&before, kind);
    let (left, rss_after) = figures(&after, kind);
    let advised = advised.unwrap_or_else(|| panic!("{kind} was not advised"));
    let fell = rss_before.saturating_sub(rss_after);
    assert!(
        fell.abs_diff(advised) <= advised / 5,
        "{kind}: {advised} bytes were promised, RSS fell by {fell}, from {rss_before} to {rss_after}"
    );
    assert!(left.unwrap_or(0) < advised / 5, "{kind}: applied, and advised again: {left:?}");
}

#[test]
fn trimming() {
    check("malloc_trim", "trim", &[], &[]);
}

#[test]
fn the_threshold_of_trimming() {
    check("trim_threshold", "threshold", &[], &[("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=131072")]);
}

#[test]
fn objects_that_pin_pages() {
    check("pinned_site", "pinned", &[], &[]);
}

#[test]
fn mapped_files() {
    check("mapped_files", "files", &[], &[]);
}

#[test]
fn decay_of_jemalloc() {
    if !Path::new(JEMALLOC).exists() {
        println!("skipped: no jemalloc here (apt-get install libjemalloc2)");
        return;
    }
    let with = |conf| [("LD_PRELOAD", JEMALLOC), ("MALLOC_CONF", conf)];
    check("jemalloc_decay", "decay", &with("dirty_decay_ms:-1"), &with("dirty_decay_ms:0,muzzy_decay_ms:0"));
}

/// A leak is found, named by the function it comes from, and its figure is what freeing it gives back.
#[test]
fn a_leak() {
    check("leak", "leak", &[], &[]);
    let recorded = record_with(&["--quiet"], &[], &[&program("gives_back"), "leak"]);
    let report = recorded.report();
    let leaks = processes(&report)[0]["leaks"].as_array().expect("leaks").clone();
    assert_eq!(leaks.len(), 1, "{leaks:#?}");
    let stack: Vec<&str> = leaks[0]["stack"].as_array().expect("a stack").iter().filter_map(Value::as_str).collect();
    assert!(stack.iter().any(|frame| frame.starts_with("serve")), "{stack:#?}");
    assert_eq!((number(&leaks[0]["objects"]), number(&leaks[0]["bytes"])), (16_000, 16_000 * 900));
}

#[test]
fn a_cache_and_a_table_are_no_leaks() {
    for mode in ["cache", "table"] {
        let report = record_with(&["--quiet"], &[], &[&program("gives_back"), mode]).report();
        assert!(number(&processes(&report)[0]["objects"]["live"]) >= 4000, "{mode}");
        assert_eq!(processes(&report)[0]["leaks"], serde_json::json!([]), "{mode}");
    }
}
