//! `report --html`: one file, in which data cannot become markup and which asks nobody.

use crate::story::MARKUP;
use crate::{as_text, output_of, story_file};

#[test]
fn the_file_holds_all_and_names_of_functions_only_compressed() {
    let (directory, trace) = story_file();
    let out = directory.path().join("story.html");
    output_of(&["report", "--html", as_text(&out), as_text(&trace)]);
    let page = std::fs::read_to_string(&out).expect("text");
    assert!(page.starts_with("<!doctype html>"));
    let (_, data) = page.split_once("<script id=\"data\" type=\"application/octet-stream\">").expect("the data");
    let (data, _) = data.split_once("</script>").expect("their end");
    assert!(data.len() > 1000 && data.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)));
    assert!(!page.contains(MARKUP) && !page.contains("keep_one"));
    assert!(page.contains("default-src 'none'") && page.contains("connect-src 'none'"));
    assert!(!page.contains("unsafe-inline") && !page.contains("unsafe-eval"));
    // The elements that load something from elsewhere.
    for loads in ["<link rel=\"stylesheet", "<script src", "<img", "<iframe", "@import", "url(http"] {
        assert!(!page.contains(loads), "the page has {loads}");
    }
    assert!(page.len() < 400_000, "{} bytes", page.len());
}

#[test]
fn the_terminal_draws_the_same_time() {
    let (_directory, trace) = story_file();
    let text = String::from_utf8(output_of(&["report", as_text(&trace)])).expect("text");
    let (_, drawn) = text.split_once("RSS over time (░ live objects)\n").expect("a picture");
    let rows: Vec<&str> = drawn.lines().take(6).collect();
    assert!(rows[0].contains("3.9 MiB ┤") && rows[0].contains('█') && !rows[0].contains('░'), "{drawn}");
    // Live objects up to the moment at which most of them are freed.
    assert!(rows[4].contains('░') && rows[4].ends_with('█'), "{drawn}");
    let names = drawn.lines().find(|line| line.contains("--at")).expect("moments");
    assert!(names.contains("--at 1.060 shows its largest"), "{names}");
    // What it names can be asked for.
    output_of(&["report", "--at", "1.060", as_text(&trace)]);
}

#[test]
fn a_page_trace_of_go_and_a_trace_without_snapshots_have_pages_too() {
    let go = concat!(env!("CARGO_MANIFEST_DIR"), "/../../format/tests/data/go-page-trace/go1.22-churn.pagetrace");
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("go.html");
    output_of(&["report", "--html", as_text(&out), go]);
    assert!(std::fs::metadata(&out).expect("the page").len() > 50_000);
    // Another page over it, and nothing of it where the trace is none.
    let not_a_trace = assert_cmd::cargo::cargo_bin_cmd!("pagetrace")
        .args(["report", "--html", as_text(&out), concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .output()
        .expect("the binary runs");
    assert_eq!(not_a_trace.status.code(), Some(1));
    assert!(std::fs::metadata(&out).expect("the page").len() > 50_000);
}
