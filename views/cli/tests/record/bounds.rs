//! Recordings within bounds: what they take of the disk at any time, and what they still say.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{TIME_LIMIT, number, pagetrace, processes, program, report, text_of};

const MAX_SIZE: u64 = 1 << 20;

struct Bounded {
    output: Output,
    report: Value,
    /// The most that the files of the directory took.
    largest: u64,
    /// What was in the directory at the end.
    names: Vec<String>,
}

/// Records a command and looks at the directory of its trace all the time.
fn watched(options: &[&str], command: &[&str]) -> Bounded {
    let directory = tempfile::tempdir().expect("a directory for a trace");
    let trace = directory.path().join("trace");
    let mut recorder = recorder(&trace, options, command).spawn().expect("the recorder runs");
    let started = Instant::now();
    let mut largest = 0;
    while recorder.try_wait().expect("the recorder is there").is_none() {
        assert!(started.elapsed() < TIME_LIMIT, "the recorder hangs");
        largest = largest.max(bytes_in(directory.path()));
        std::thread::sleep(Duration::from_millis(1));
    }
    largest = largest.max(bytes_in(directory.path()));
    let output = recorder.wait_with_output().expect("the recorder has ended");
    assert!(output.status.success(), "{output:?}");
    let report = report(&trace);
    let entries = std::fs::read_dir(directory.path()).expect("the directory").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    Bounded { output, report, largest, names }
}

fn recorder(trace: &Path, options: &[&str], command: &[&str]) -> Command {
    let mut recorder = Command::new(pagetrace());
    recorder.args(["record", "--quiet", "-o"]).arg(trace).args(options).arg("--").args(command);
    recorder.stdout(Stdio::piped()).stderr(Stdio::piped());
    recorder
}

/// Every file is asked once: one that is replaced between the listing and the question counts as it is then.
fn bytes_in(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).expect("the directory").flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum()
}

fn ended_well(recorded: &Bounded) -> u64 {
    let report = &recorded.report;
    assert_eq!(String::from_utf8_lossy(&recorded.output.stderr), "");
    assert_eq!(report["complete"], true, "{report:#}");
    // The kernel loses events where the machine is too busy to take them.
    let lost = report["lost"]["reasons"].as_object().expect("reasons");
    assert!(lost.keys().all(|reason| reason == "kernel_buffer_full"), "{lost:#?}");
    assert_eq!(recorded.names, ["trace"]);
    let text = String::from_utf8_lossy(&recorded.output.stdout);
    text.trim().parse().expect("the program's own count")
}

#[test]
fn a_recording_stays_below_its_largest_size() {
    let recorded = watched(&["--max-size", "1MiB"], &[&program("churns"), "200000", "2000", "0"]);
    let counted = ended_well(&recorded);
    let report = &recorded.report;
    println!("{} bytes at most, {:#}", recorded.largest, report["dropped"]);
    assert!(recorded.largest <= MAX_SIZE, "{} bytes", recorded.largest);
    assert!(number(&report["dropped"]["cuts"]) >= 1, "{:#}", report["dropped"]);
    assert!(number(&report["dropped"]["before_ns"]) > 100_000_000, "{:#}", report["dropped"]);
    check_counts(report, counted);
}

#[test]
fn a_recording_keeps_the_last_seconds() {
    let recorded = watched(&["--keep-last", "1s"], &[&program("churns"), "50000", "2000", "6000"]);
    let counted = ended_well(&recorded);
    let report = &recorded.report;
    let kept = number(&report["duration_ns"]) - number(&report["dropped"]["before_ns"]);
    println!("{kept} ns kept, {} bytes at most, {:#}", recorded.largest, report["dropped"]);
    // How much more it is depends on how long a busy machine takes to make a cut.
    assert!(kept >= 1_000_000_000, "{kept} ns kept");
    assert!(number(&report["dropped"]["cuts"]) >= 1, "{:#}", report["dropped"]);
    assert!(number(&report["dropped"]["before_ns"]) > 100_000_000, "{:#}", report["dropped"]);
    check_counts(report, counted);
}

/// The counts are those of the whole recording, and the pages are told as well as without bounds.
fn check_counts(report: &Value, counted: u64) {
    let objects = &processes(report)[0]["objects"];
    let allocated = number(&objects["allocated"]);
    // The C library allocates for threads and output.
    assert!((counted + 2..counted + 50).contains(&allocated), "{counted} counted, {allocated} in the trace");
    for what in ["unknown_frees", "replaced"] {
        assert_eq!(objects[what], 0, "{objects:#}");
    }
    let live = number(&objects["live"]);
    // What the threads hold at the end is never freed.
    assert!((3990..4100).contains(&live), "{live} objects live");
    let rss = &processes(report)[0]["rss"];
    if let Some(agreement) = rss["residency_agreement"].as_f64() {
        assert!(agreement > 0.9, "{rss:#}");
    }
    assert!(rss["explained_fraction"].as_f64().is_some_and(|fraction| fraction > 0.9), "{rss:#}");
    // Children that ended long ago are there as figures.
    assert!(processes(report).len() > 1);
    for child in &processes(report)[1..] {
        assert!(number(&child["objects"]["allocated"]) > 1000, "{child:#}");
        assert_eq!(child["objects"]["unknown_frees"], 0, "{child:#}");
    }
}

#[test]
fn live_state_beyond_the_bounds_is_told_once() {
    // So many places a thread, each object of a size of its own, that what is live takes more than all there may be.
    let recorded = watched(&["--max-size", "1MiB"], &[&program("churns"), "900000", "600000", "0"]);
    let errors = String::from_utf8_lossy(&recorded.output.stderr);
    println!("{errors}{} bytes at most, {:#}", recorded.largest, recorded.report["lost"]);
    assert!(recorded.largest <= MAX_SIZE, "{} bytes", recorded.largest);
    // On a busy machine the program may end before a cut was tried.
    assert!(errors.matches("takes more than --max-size").count() <= 1, "{errors}");
    let lost = ["has reached --max-size and cannot", "has reached --max-size before"];
    let told = lost.map(|what| errors.matches(what).count());
    assert!(matches!(told, [1, 0] | [0, 1] | [1, 1]), "{errors}");
    assert!(number(&recorded.report["lost"]["reasons"]["size_limit"]) > 0, "{:#}", recorded.report["lost"]);
}

#[test]
fn a_recorder_that_is_killed_while_it_cuts_leaves_a_readable_trace() {
    for after_us in [0, 3000, 30_000, 150_000] {
        let directory = tempfile::tempdir().expect("a directory for a trace");
        let trace = directory.path().join("trace");
        let command = [&program("churns") as &str, "200000", "2000", "0"];
        let mut recorder = recorder(&trace, &["--max-size", "1MiB"], &command);
        let mut child: Child = recorder.stdout(Stdio::null()).spawn().expect("the recorder runs");
        // The trace is there under its name and something beside it: a cut is being made.
        let started = Instant::now();
        let is_cutting = || trace.exists() && std::fs::read_dir(directory.path()).is_ok_and(|it| it.count() > 1);
        while !is_cutting() {
            assert!(started.elapsed() < TIME_LIMIT, "no cut was made");
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_micros(after_us));
        let cutting = is_cutting();
        child.kill().expect("the recorder is there");
        child.wait().expect("the recorder was killed");
        let report = report(&trace);
        println!("killed {after_us} us after a cut began, in it: {cutting}, {:#}", report["dropped"]);
        assert_eq!(report["complete"], false);
        assert!(number(&processes(&report)[0]["objects"]["allocated"]) > 1000, "{report:#}");
        let offsets = report["defects"].as_array().expect("a list");
        assert!(offsets.len() <= 1, "at most the last chunk is cut: {offsets:?}");
    }
}

#[test]
fn a_full_disk_stops_a_cut_and_not_the_recording() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: mounting a small file system needs root");
        return;
    }
    // A first file system has room for the directory and one file, a second one for few bytes.
    for (options, may_be_full) in [("nr_inodes=2", false), ("size=1m", true)] {
        check_full_disk(options, may_be_full);
    }
}

fn check_full_disk(options: &str, may_be_full: bool) {
    let script = r#"mount -t tmpfs -o "$5" none "$1" || exit 90
"$2" record --quiet -o "$1/trace" --keep-last 1s -- "$3" 50000 2000 4000
status=$?
ls -A "$1"
cp "$1/trace" "$4" || exit 91
exit $status"#;
    let directory = tempfile::tempdir().expect("a directory");
    let (mount, kept) = (directory.path().join("mount"), directory.path().join("trace"));
    std::fs::create_dir(&mount).expect("a mount point");
    let words = [text_of(&mount), text_of(pagetrace()), program("churns"), text_of(&kept), options.to_owned()];
    let mut unshare = assert_cmd::Command::new("unshare");
    unshare.args(["-m", "sh", "-c", script, "sh"]).args(words).timeout(TIME_LIMIT);
    let output = unshare.output().expect("unshare runs: apt-get install util-linux");
    let errors = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(90) || errors.contains("unshare failed") {
        println!("skipped: no mounts here: {errors}");
        return;
    }
    println!("{errors}");
    let report = report(&kept);
    // Either cuts have kept it small enough all the time, or one failed, which is said once, and then the disk was full.
    let cuts_failed = errors.matches("cannot shorten the trace").count();
    let failed = errors.contains("failed to write page trace");
    assert!(cuts_failed <= 1 && (may_be_full || cuts_failed == 1), "{options}: {errors}");
    assert!(may_be_full || !failed, "{options}: {errors}");
    assert!(errors.matches("failed to write page trace").count() <= 1, "{errors}");
    assert_eq!(output.status.code(), Some(if failed { 125 } else { 0 }), "{errors}");
    assert_eq!(report["complete"], !failed, "{errors}");
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("trace\n"), "nothing else is left: {output:?}");
    assert!(number(&processes(&report)[0]["objects"]["allocated"]) > 1000, "{report:#}");
}

#[test]
fn bounds_that_cannot_be_are_refused() {
    let check = |options: &[&str], expected: &str| {
        let directory = tempfile::tempdir().expect("a directory for a trace");
        let output = recorder(&directory.path().join("trace"), options, &["/bin/true"]).output().expect("it runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains(expected), "{errors}");
    };
    check(&["--max-size", "1M"], "expected at least 1MiB");
    check(&["--max-size", "much"], "expected a size");
    check(&["--keep-last", "30"], "expected a duration");
    check(&["--keep-last", "0s"], "at least 1s");
    let output = Command::new(pagetrace())
        .args(["record", "--max-size", "8M", "-o", "/dev/null", "--", "/bin/true"])
        .output()
        .expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{errors}");
    assert!(errors.contains("need a file"), "{errors}");
}
