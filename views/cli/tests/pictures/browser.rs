//! The page in a real browser, without a screen: Debian's chromium, driven by playwright-core. What is done and checked there stands in
//! `views/web/tests/browser.mjs`; `PAGETRACE_BLESS=1` writes its golden pictures anew.

use std::path::Path;
use std::process::Command;

use crate::story::{HEAP_PAGE, MARKUP, SHARED_PAGES, SPARSE_PAGE, story_of_samples, story_without_writes};
use crate::{as_text, output_of, read_by, report_of, skip, story_file, web};

const CHROMIUM: &str = "/usr/bin/chromium";

#[test]
fn colours_are_told_apart_with_any_colour_vision() {
    if !web().join("node_modules/typescript").exists() {
        return skip("the packages of views/web");
    }
    let mut command = Command::new("node");
    command.arg(web().join("tests/palette.mjs"));
    read_by(command);
}

#[test]
fn the_page_of_a_file_and_of_the_server_works() {
    if !Path::new(CHROMIUM).exists() {
        return skip("no chromium");
    }
    if !web().join("node_modules/playwright-core").exists() {
        return skip("the packages of views/web");
    }
    let (directory, trace) = story_file();
    let go = concat!(env!("CARGO_MANIFEST_DIR"), "/../../format/tests/data/go-page-trace/go1.22-churn.pagetrace");
    let go_heap =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../format/tests/data/go-execution-trace/go1.25-allocfree.trace");
    let made = |trace: &str, name: &str| {
        let out = directory.path().join(name);
        output_of(&["report", "--html", as_text(&out), trace]);
        out
    };
    let without_writes = directory.path().join("without-writes.pagetrace");
    std::fs::write(&without_writes, story_without_writes()).expect("a file");
    let samples = directory.path().join("samples.pagetrace");
    std::fs::write(&samples, story_of_samples()).expect("a file");
    let settings = serde_json::json!({
        "chromium": CHROMIUM,
        "pagetrace": assert_cmd::cargo::cargo_bin!("pagetrace"),
        "trace": trace,
        "page": made(as_text(&trace), "story.html"),
        "report": report_of(&trace),
        "pageWithoutWrites": made(as_text(&without_writes), "without-writes.html"),
        "pageOfSamples": made(as_text(&samples), "samples.html"),
        "reportOfSamples": report_of(&samples),
        "goPage": made(go, "go.html"),
        "goReport": report_of(Path::new(go)),
        "goHeapPage": made(go_heap, "go-heap.html"),
        "goHeapReport": report_of(Path::new(go_heap)),
        "markup": MARKUP,
        "heapPage": HEAP_PAGE,
        "sparsePage": SPARSE_PAGE,
        "sharedPage": HEAP_PAGE + SHARED_PAGES.start,
        "golden": Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures/golden"),
        "bless": std::env::var_os("PAGETRACE_BLESS").is_some(),
        "seen": Path::new(env!("CARGO_TARGET_TMPDIR")),
    });
    let path = directory.path().join("settings.json");
    std::fs::write(&path, settings.to_string()).expect("a file");
    let mut command = Command::new("node");
    command.arg(web().join("tests/browser.mjs")).arg(&path);
    if let Some(output) = read_by(command) {
        print!("{}", String::from_utf8_lossy(&output.stdout));
    }
}
