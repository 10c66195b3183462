//! Exit statuses, signals and standard streams pass through the recorder untouched.

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::harness::{TIME_LIMIT, assert_whole, interruptible, pagetrace, processes, record, record_with, report};

#[test]
fn exit_codes_and_deaths() {
    for code in [0, 1, 7, 255] {
        check(&format!("exit {code}"), Some(code), None, &format!("exited {code}"));
    }
    for (name, signal) in [("KILL", 9), ("SEGV", 11), ("TERM", 15)] {
        check(&format!("kill -{name} $$"), None, Some(signal), "");
    }
}

fn check(script: &str, code: Option<i32>, signal: Option<i32>, end_status: &str) {
    let recorded = record(&["/bin/sh", "-c", script]);
    let status = recorded.output.status;
    assert_eq!((status.code(), status.signal()), (code, signal), "{script}");
    let report = recorded.report();
    assert_whole(&report, script);
    let said = processes(&report)[0]["end_status"].as_str().unwrap_or("");
    match signal {
        None => assert_eq!(said, end_status, "{script}"),
        Some(signal) => assert!(said.contains(&signal.to_string()), "{script}: the report says {said:?}"),
    }
}

/// Says when it is ready, keeps some objects, and ends in its own way when it is interrupted.
const INTERRUPTED: &str = r#"
import sys, time
kept = [str(i) * 50 for i in range(10000)]
try:
    print("ready", flush=True)
    time.sleep(30)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(42)
"#;

#[test]
fn an_interrupt_of_the_group_is_the_programs_business() {
    let (status, printed, report) = signalled(INTERRUPTED, |recorder| {
        kill_process_group(recorder, Signal::INT).expect("the group is there");
    });
    assert_eq!(status.code(), Some(42), "{status}, printed {printed:?}");
    assert_eq!(printed, "interrupted\n");
    assert_whole(&report, "interrupted");
    assert_eq!(processes(&report)[0]["end_status"], "exited 42");
}

/// Says when it is ready, and ends with a status of its own when it is asked to.
const ASKED_TO_END: &str = r#"
import os, signal, time
def end(number, frame):
    print("asked to end", flush=True)
    os._exit(43)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(30)
"#;

#[test]
fn a_signal_to_the_recorder_alone_reaches_the_program() {
    let (status, printed, report) = signalled(ASKED_TO_END, |recorder| {
        kill_process(recorder, Signal::TERM).expect("the recorder is there");
    });
    assert_eq!(status.code(), Some(43), "printed {printed:?}");
    assert_eq!(printed, "asked to end\n");
    assert_whole(&report, "asked to end");
}

/// Records a Python script in a process group of its own and signals it once it says that it is ready. Gives the
/// recorder's status, what was printed after that, and the report.
fn signalled(script: &str, signal: impl Fn(Pid)) -> (ExitStatus, String, serde_json::Value) {
    let directory = tempfile::tempdir().expect("a directory for a trace");
    let trace = directory.path().join("trace");
    let mut recorder = interruptible(pagetrace());
    recorder.args(["record", "--quiet", "-o"]).arg(&trace).args(["--", "/usr/bin/python3", "-c", script]);
    let mut recorder = recorder.process_group(0).stdout(Stdio::piped()).spawn().expect("the recorder runs");
    let mut printed = recorder.stdout.take().expect("a pipe");
    let mut ready = [0; 6];
    printed.read_exact(&mut ready).expect("the script starts");
    assert_eq!(&ready, b"ready\n");
    signal(Pid::from_child(&recorder));
    let status = ended(&mut recorder);
    let mut rest = String::new();
    printed.read_to_string(&mut rest).expect("text");
    (status, rest, report(&trace))
}

/// Waits for a process that must end by itself.
pub fn ended(child: &mut Child) -> ExitStatus {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            return status;
        }
        if started.elapsed() > TIME_LIMIT {
            child.kill().expect("a child of ours");
            panic!("process {} has not ended in {TIME_LIMIT:?}", child.id());
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn standard_streams_are_the_programs() {
    const COPY: &str = "cat; echo to standard error >&2; exit 3";
    for quiet in [true, false] {
        let directory = tempfile::tempdir().expect("a directory for a trace");
        let mut recorder = Command::new(pagetrace());
        recorder.args(["record", "-o"]).arg(directory.path().join("trace"));
        recorder.args(quiet.then_some("--quiet")).args(["--", "/bin/sh", "-c", COPY]);
        recorder.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut recorder = recorder.spawn().expect("the recorder runs");
        let given = vec![b'x'; 300_000];
        let mut stdin = recorder.stdin.take().expect("a pipe");
        let writer = {
            let given = given.clone();
            std::thread::spawn(move || stdin.write_all(&given).expect("the program reads all"))
        };
        let output = recorder.wait_with_output().expect("the recorder ends");
        writer.join().expect("all was written");
        assert_eq!(output.status.code(), Some(3));
        assert!(output.stdout == given, "{} bytes came out of {}", output.stdout.len(), given.len());
        let errors = String::from_utf8_lossy(&output.stderr);
        let own = errors.strip_prefix("to standard error\n").unwrap_or_else(|| panic!("found {errors:?}"));
        assert_eq!(own.is_empty(), quiet, "{own}");
        assert!(quiet || own.contains("pagetrace report"), "{own}");
    }
}

#[test]
fn commands_that_cannot_start() {
    for (command, code, says) in [
        ("/no/such/program", 127, "no such program"),
        ("no-such-program-anywhere", 127, "no such program"),
        ("/etc/passwd", 126, "not executable"),
        ("/", 126, "not executable"),
    ] {
        let recorded = record_with(&[], &[], &[command]);
        let errors = String::from_utf8_lossy(&recorded.output.stderr);
        assert_eq!(recorded.output.status.code(), Some(code), "{command}: {errors}");
        assert!(errors.contains(command) && errors.contains(says), "{command}: {errors}");
        assert!(!recorded.trace().exists(), "{command}: a trace was left");
    }
}
