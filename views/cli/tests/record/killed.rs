//! The program or the recorder killed in the middle: nothing that had happened is lost, nothing else is harmed.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{TIME_LIMIT, assert_whole, number, pagetrace, processes, program, report};
use crate::statuses::ended;

#[test]
fn every_finished_event_of_a_killed_program_is_in_the_trace() {
    for after_ms in [5, 13, 22, 31, 47, 66, 90, 120, 170, 250] {
        check_killed_program(Duration::from_millis(after_ms));
    }
}

fn check_killed_program(after: Duration) {
    let directory = tempfile::tempdir().expect("a directory for a trace");
    let (trace, counted) = (directory.path().join("trace"), directory.path().join("counts"));
    let mut recorder = recorder(&trace, &[&program("counts_events"), counted.to_str().expect("text")]);
    let mut recorder = recorder.spawn().expect("the recorder runs");
    wait_until("the program counts", || counts(&counted).is_some_and(|(allocated, _)| allocated > 0));
    std::thread::sleep(after);
    let command = child_of(recorder.id(), "counts_events").expect("the recorder runs the command");
    kill_process(command, Signal::KILL).expect("the command is there");
    let status = ended(&mut recorder);
    assert_eq!(status.signal(), Some(9), "the recorder ends as the command did: {status}");

    let (allocated, freed) = counts(&counted).expect("the program has counted");
    let report = report(&trace);
    assert_whole(&report, &format!("killed after {after:?}"));
    let objects = &processes(&report)[0]["objects"];
    let (traced_allocated, traced_freed) = (number(&objects["allocated"]), number(&objects["freed"]));
    println!("after {after:?}: {allocated} + {freed} counted, {traced_allocated} + {traced_freed} in the trace");
    // Each of two threads can have been killed between an event and its count; the C library allocates for the
    // second thread.
    assert!((allocated..=allocated + 2 + 4).contains(&traced_allocated), "{traced_allocated} of {allocated}");
    assert!((freed..=freed + 2).contains(&traced_freed), "{traced_freed} of {freed}");
}

/// What the two threads have counted: allocations and frees.
fn counts(file: &Path) -> Option<(u64, u64)> {
    let bytes = std::fs::read(file).ok().filter(|bytes| bytes.len() == 4096)?;
    let word = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
    Some((word(0) + word(64), word(8) + word(72)))
}

#[test]
fn a_program_outlives_its_recorder() {
    for after_ms in [1, 40, 300] {
        let directory = tempfile::tempdir().expect("a directory for a trace");
        let trace = directory.path().join("trace");
        let mut recorder = recorder(&trace, &[&program("steady"), "1500"]);
        let mut recorder = recorder.stdout(Stdio::piped()).spawn().expect("the recorder runs");
        // The header alone is not worth a report; the first records follow when the program has joined.
        wait_until("the program is seen", || std::fs::metadata(&trace).is_ok_and(|trace| trace.len() > 512));
        std::thread::sleep(Duration::from_millis(after_ms));
        recorder.kill().expect("the recorder is there");
        // The program holds the pipe open until it ends.
        let started = Instant::now();
        let output = recorder.wait_with_output().expect("the recorder was killed");
        assert_eq!(output.status.signal(), Some(9));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "1500 steps\n");
        assert!(started.elapsed() < Duration::from_secs(20), "the program took {:?}", started.elapsed());
        let report = report(&trace);
        assert_eq!(report["complete"], false, "killed after {after_ms} ms");
    }
}

fn recorder(trace: &Path, command: &[&str]) -> Command {
    let mut recorder = Command::new(pagetrace());
    recorder.args(["record", "--quiet", "-o"]).arg(trace).arg("--").args(command);
    recorder
}

/// The command that this recorder runs: its child with this name. It is the recorder's first thread's only once the thread
/// that started it has ended.
fn child_of(recorder: u32, name: &str) -> Option<Pid> {
    let started = Instant::now();
    while started.elapsed() < TIME_LIMIT {
        let children = std::fs::read_to_string(format!("/proc/{recorder}/task/{recorder}/children")).ok()?;
        let is_command = |pid: &&str| {
            let comm = std::fs::read_to_string(format!("/proc/{pid}/comm"));
            comm.is_ok_and(|comm| comm.trim_end() == name)
        };
        if let Some(pid) = children.split_whitespace().find(is_command) {
            return pid.parse().ok().and_then(Pid::from_raw);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    None
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < TIME_LIMIT, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
