//! The trace cannot be written, or is taken away: the program does not notice, its user is told once.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{TIME_LIMIT, number, pagetrace, program, report, text_of};
use crate::statuses::ended;

/// Allocates enough that its trace outgrows every limit of these tests.
const MUCH: &str = r#"
import hashlib
kept = [hashlib.sha256(b"%d" % i).hexdigest() * (i % 50) for i in range(300000)]
print(len(kept))
"#;

/// Runs a script in a mount namespace of its own, as root: what it mounts goes with it. `None` where that cannot be done.
fn among_own_mounts(script: &str, arguments: &[String]) -> Option<Output> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: mounting a small file system needs root");
        return None;
    }
    let mut unshare = assert_cmd::Command::new("unshare");
    unshare.args(["-m", "sh", "-c", script, "sh"]).args(arguments).env("PYTHONMALLOC", "malloc").timeout(TIME_LIMIT);
    let output = unshare.output().expect("unshare runs: apt-get install util-linux");
    if output.status.code() == Some(90) || String::from_utf8_lossy(&output.stderr).contains("unshare failed") {
        println!("skipped: no mounts here: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(output)
}

#[test]
fn a_full_disk_harms_the_trace_alone() {
    // The trace is copied out before the mount goes.
    let script = r#"mount -t tmpfs -o size=256k none "$1" || exit 90
"$2" record -o "$1/trace" -- /usr/bin/python3 -c "$3"
status=$?
cp "$1/trace" "$4" || exit 91
exit $status"#;
    let directory = tempfile::tempdir().expect("a directory");
    let (mount, kept) = (directory.path().join("mount"), directory.path().join("trace"));
    std::fs::create_dir(&mount).expect("a mount point");
    let words = [text_of(&mount), text_of(pagetrace()), MUCH.to_owned(), text_of(&kept)];
    if let Some(output) = among_own_mounts(script, &words) {
        assert_told_once(&output, 125, "300000\n", "No space left on device");
        assert_begun(&kept);
    }
}

#[test]
fn in_a_read_only_directory_the_command_is_not_started() {
    let script = r#"mount -t tmpfs none "$1" && mount -o remount,ro "$1" || exit 90
exec "$2" record -o "$1/trace" -- echo started"#;
    let directory = tempfile::tempdir().expect("a directory");
    if let Some(output) = among_own_mounts(script, &[text_of(directory.path()), text_of(pagetrace())]) {
        assert_told_once(&output, 125, "", "Read-only file system");
    }
}

#[test]
fn a_limit_of_file_sizes_harms_the_trace_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let trace = directory.path().join("trace");
    // In units of 512 bytes (POSIX) the limit is 1 MiB. The program inherits it and writes to a pipe.
    let script = r#"ulimit -f 2048; exec "$1" record -o "$2" -- /usr/bin/python3 -c "$3""#;
    let mut shell = assert_cmd::Command::new("sh");
    shell.args(["-c", script, "sh"]).args([text_of(pagetrace()), text_of(&trace), MUCH.to_owned()]);
    let output = shell.env("PYTHONMALLOC", "malloc").timeout(TIME_LIMIT).output().expect("a shell");
    assert_told_once(&output, 125, "300000\n", "File too large");
    assert_begun(&trace);
}

#[test]
fn hooks_do_not_wait_for_a_recorder_that_cannot_write() {
    const LONGEST_STALL_US: u64 = 3_000_000;
    let script = r#"mount -t tmpfs -o size=128k none "$1" || exit 90
exec "$2" record --buffer 2 -o "$1/trace" -- "$3" "$4" 1000"#;
    let directory = tempfile::tempdir().expect("a directory");
    let (mount, stalls) = (directory.path().join("mount"), directory.path().join("stalls"));
    std::fs::create_dir(&mount).expect("a mount point");
    let words = [text_of(&mount), text_of(pagetrace()), program("stalls"), text_of(&stalls)];
    let Some(output) = among_own_mounts(script, &words) else { return };
    assert_told_once(&output, 125, "2 children ended well\n", "No space left on device");
    for line in std::fs::read_to_string(&stalls).expect("each process has written its own").lines() {
        let longest = line.split_once(' ').and_then(|(_, longest)| longest.parse::<u64>().ok());
        println!("a call of malloc or free took {longest:?} µs at most");
        assert!(longest.is_some_and(|longest| longest < LONGEST_STALL_US), "{line}");
    }
}

#[test]
fn a_recorder_that_cannot_write_rests() {
    let directory = tempfile::tempdir().expect("a directory");
    let trace = directory.path().join("trace");
    let rests = format!("{MUCH}import time, sys\nsys.stdout.flush()\ntime.sleep(1.5)\n");
    let script = r#"ulimit -f 2048; exec "$1" record -o "$2" -- /usr/bin/python3 -c "$3""#;
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).args([text_of(pagetrace()), text_of(&trace), rests]);
    shell.env("PYTHONMALLOC", "malloc").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut recorder = shell.spawn().expect("a shell");
    // What the program prints comes when all has been allocated.
    let mut printed = [0; 7];
    recorder.stdout.as_mut().expect("a pipe").read_exact(&mut printed).expect("the program goes on");
    let (before, began) = (processor_time(recorder.id()), Instant::now());
    std::thread::sleep(Duration::from_millis(1000));
    let (used, took) = (processor_time(recorder.id()) - before, began.elapsed());
    let output = recorder.wait_with_output().expect("it ends");
    assert_told_once(&output, 125, "", "File too large");
    println!("{used:?} of a processor in {took:?}");
    assert!(used < took / 4, "the recorder is busy: {used:?} in {took:?}");
}

/// What a process has had of processors: proc_pid_stat(5), in ticks of 10 ms.
fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(10 * ticks)
}

#[test]
fn a_trace_that_is_taken_away_is_missed_at_the_end() {
    const GONE: &str = "removed or replaced while it was written";
    let taken = [
        ("rm trace", 125, GONE),
        ("cp trace other; mv other trace", 125, GONE),
        ("rm -r ../here", 125, GONE),
        ("mv trace elsewhere", 0, "is whole where it is now"),
        ("rm trace; exit 7", 7, GONE),
    ];
    for (script, status, says) in taken {
        let directory = tempfile::tempdir().expect("a directory");
        let here = directory.path().join("here");
        std::fs::create_dir(&here).expect("a directory");
        let mut recorder = Command::new(pagetrace());
        recorder.args(["record", "-o"]).arg(here.join("trace")).args(["--", "/bin/sh", "-c"]);
        let output = recorder
            .arg(format!("while ! test -e trace; do sleep 0.01; done; echo taken; {script}"))
            .current_dir(&here)
            .output()
            .expect("it runs");
        // The trace gets its name once the command has been started.
        assert_told_once(&output, status, "taken\n", says);
        let moved = here.join("elsewhere");
        assert!(!moved.exists() || report(&moved)["complete"] == true, "{script}");
        let left = std::fs::read(here.join("trace")).unwrap_or_default();
        assert!(!here.join("trace").exists() || !left.is_empty(), "{script}: what was put in its place was touched");
    }
}

#[test]
fn a_reader_that_goes_harms_the_trace_alone() {
    for (script, status) in [("exit 0", 125), ("exit 7", 7)] {
        let mut recorder = Command::new(pagetrace());
        recorder.args(["record", "-o", "/dev/stdout", "--", "/bin/sh", "-c"]);
        recorder.arg(format!("sleep 1; echo went on >&2; {script}")).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut recorder = recorder.spawn().expect("the recorder runs");
        let mut reader = recorder.stdout.take().expect("a pipe");
        reader.read_exact(&mut [0; 8]).expect("the file header comes first");
        drop(reader);
        let mut errors = recorder.stderr.take().expect("a pipe");
        let status_found = ended(&mut recorder);
        let mut said = String::new();
        errors.read_to_string(&mut said).expect("text");
        assert_eq!(status_found.code(), Some(status), "{said}");
        assert!(said.contains("went on\n"), "{said}");
        assert_eq!(
            said.matches("pagetrace: failed to write page trace: /dev/stdout: Broken pipe").count(),
            1,
            "{said}"
        );
    }
}

#[test]
fn a_device_that_is_full_from_the_start_starts_nothing() {
    let mut recorder = Command::new(pagetrace());
    let recorder = recorder.args(["record", "-o", "/dev/full", "--", "/bin/sh", "-c", "echo started; exit 7"]);
    assert_told_once(&recorder.output().expect("the recorder runs"), 125, "", "No space left on device");
}

/// The program printed what it does, and the recorder said one thing, and no other.
fn assert_told_once(output: &Output, status: i32, printed: &str, says: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), printed, "{errors}");
    assert_eq!(output.status.code(), Some(status), "{errors}");
    let one_line = errors.starts_with("pagetrace: failed to write page trace: ") && errors.lines().count() == 1;
    assert!(one_line && errors.contains(says), "{errors}");
}

/// A trace without its end, with the events until then.
fn assert_begun(trace: &Path) {
    let report = report(trace);
    assert_eq!(report["complete"], false);
    assert!(number(&report["events"]["object_alloc"]) > 0, "{report:#}");
}
