//! The trace of the allocator replays without a contradiction, and ends in the pages of the allocator's own books.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pagetrace_format::{GoPageTrace, Trace, go_to_native};
use pagetrace_replay::{Moment, Replayed, replay};

/// A directory that is removed with what is in it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("the target directory can be written to");
        Scratch(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("allocator.pagetrace")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A directory that is left behind harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn allocator(arguments: &[&str], environment: &[(&str, String)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_page-run-allocator"));
    command.env_remove("PAGETRACE").env_remove("GODEBUG");
    command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value)));
    command.output().expect("the example runs")
}

/// The figures that the program prints, as `books.in_use`.
fn figures(output: &Output) -> BTreeMap<String, u64> {
    let printed = String::from_utf8_lossy(&output.stdout);
    let lines = printed.lines().filter_map(|line| line.split_once(": "));
    let figures = lines.flat_map(|(line, words)| {
        let words = words.split(' ').filter_map(|word| word.split_once('='));
        words.map(move |(name, value)| (format!("{line}.{name}"), value.parse().expect("a number")))
    });
    figures.collect()
}

fn check(name: &str, arguments: &[&str], environment: &dyn Fn(&Path) -> Option<(&'static str, String)>, go: bool) {
    let scratch = Scratch::new(name);
    let file = scratch.file();
    let environment = environment(&file);
    let mut all = arguments.to_vec();
    if environment.is_none() {
        all.push(file.to_str().expect("a path in UTF-8"));
    }
    let output = allocator(&all, environment.as_slice());
    assert!(output.status.success(), "{name}: {output:?}");

    let bytes = fs::read(&file).expect("the trace was written");
    let bytes = if go {
        assert!(GoPageTrace::looks_like(&bytes), "{name}: it is no page trace of Go");
        go_to_native(&GoPageTrace::open(&bytes).expect("a page trace"), Vec::new()).expect("it can be converted")
    } else {
        bytes
    };
    let replayed = replay(&Trace::open(&bytes).expect("a trace"), Moment::End, &mut |_| {}).expect("events");
    let figures = figures(&output);
    assert_pages(name, &replayed, &figures);
    if !go && !arguments.contains(&"--off") {
        let objects = replayed.processes[0].objects.expect("it has objects");
        assert_eq!((objects.live, objects.live_bytes), (figures["objects.live"], figures["objects.bytes"]), "{name}");
        assert_eq!((objects.unknown_frees, objects.replaced), (0, 0), "{name}");
    }
}

fn assert_pages(name: &str, replayed: &Replayed, figures: &BTreeMap<String, u64>) {
    let anomalies: Vec<_> = replayed.anomalies.named().collect();
    assert!(anomalies.is_empty(), "{name}: {anomalies:?}");
    assert!(replayed.complete && replayed.lost.is_empty(), "{name}: {:?} {:?}", replayed.defects, replayed.lost);
    assert!(replayed.events.page_scavenge > 0 && replayed.events.page_free > 1_000, "{name}: {:?}", replayed.events);
    let last = replayed.final_pages;
    for (state, pages) in [("in_use", last.in_use), ("free", last.free), ("scavenged", last.returned)] {
        assert_eq!(pages, figures[&format!("books.{state}")], "{name}: {state} in the trace and in the books");
        assert_eq!(pages, figures[&format!("statistics.{state}")], "{name}: {state} in the trace and in statistics()");
    }
    assert_eq!(last.distinct, last.in_use + last.free + last.returned, "{name}");
}

fn no_environment(_: &Path) -> Option<(&'static str, String)> {
    None
}

#[test]
fn native() {
    check("native", &["--threads", "4"], &no_environment, false);
}

#[test]
fn go() {
    check("go", &["--go", "--threads", "4"], &no_environment, true);
}

#[test]
fn one_thread() {
    check("one-thread", &["--threads", "1", "--operations", "60000"], &no_environment, false);
}

#[test]
fn more_threads_than_processors() {
    check("many-threads", &["--threads", "32", "--operations", "5000"], &no_environment, false);
}

#[test]
fn figures_stay_after_off() {
    check("off", &["--off"], &no_environment, false);
}

#[test]
fn started_by_the_environment() {
    let page_trace = |file: &Path| Some(("PAGETRACE", format!("{},page_size=8192", file.display())));
    check("environment", &[], &page_trace, false);
}

#[test]
fn started_as_go_programs_are() {
    check("godebug", &[], &|file| Some(("GODEBUG", format!("pagetrace={}", file.display()))), true);
}

#[test]
fn pages_of_another_size_are_refused() {
    let scratch = Scratch::new("page-size");
    let output = allocator(&[], &[("PAGETRACE", scratch.file().display().to_string())]);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("page_size=8192"), "{message}");
}

#[test]
fn without_a_file_nothing_is_recorded() {
    let output = allocator(&["--seconds", "1"], &[]);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("nothing is recorded"));
}

#[test]
fn unknown_options_are_wrong_usage() {
    for arguments in [&["--no-such-option"][..], &["--threads", "0"], &["a", "b"]] {
        let output = allocator(arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}
