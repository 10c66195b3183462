//! The recorder killed at random moments: the program, its children and its hooks go on as if nothing had been there, what
//! is written can be read, and nothing is left behind.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use pagetrace_format::records::Record;
use pagetrace_format::{ChunkKind, Trace};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{TIME_LIMIT, pagetrace, program, record, report, text_of};
use crate::random::Random;

const KILLS: u64 = 20;
/// No call of `malloc` or `free` may wait longer because the recorder is gone, on a machine that is busy with other tests.
const LONGEST_STALL: Duration = Duration::from_secs(3);

#[test]
fn programs_outlive_their_recorder() {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let mut longest = Duration::ZERO;
    for kill in 0..KILLS {
        let after = Duration::from_micros(random.below(350_000));
        longest = longest.max(check_killed_recorder(&[], after, &format!("seed {seed}, kill {kill}, after {after:?}")));
    }
    println!("{KILLS} kills; no call of malloc or free stood still for longer than {longest:?}");
}

#[test]
fn programs_whose_calls_are_taken_down_outlive_their_recorder() {
    // Without the process that lets them go on each of their calls about pages would fail.
    for after in [20, 200] {
        let options = ["--page-calls=seccomp", "--no-kernel-events"];
        check_killed_recorder(&options, Duration::from_millis(after), &format!("killed after {after} ms"));
    }
}

/// For how long a call of `malloc` or `free` stood still at most.
fn check_killed_recorder(options: &[&str], after: Duration, what: &str) -> Duration {
    let directory = tempfile::tempdir().expect("a directory for a trace");
    let (trace, stalls) = (directory.path().join("trace"), directory.path().join("stalls"));
    let output = killed_recorder(&trace, options, &[&program("stalls"), &text_of(&stalls), "500"], |_| {
        std::thread::sleep(after);
    });
    assert_eq!(String::from_utf8_lossy(&output.stdout), "2 children ended well\n", "{what}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{what}");
    assert_readable(&trace, what);
    let stalls = std::fs::read_to_string(&stalls).expect("each process has written its own");
    let stalls: Vec<u64> = stalls.lines().filter_map(|line| line.split_once(' ')?.1.parse().ok()).collect();
    assert_eq!(stalls.len(), 3, "{what}: {stalls:?}");
    let longest = Duration::from_micros(stalls.into_iter().max().unwrap_or(0));
    assert!(longest < LONGEST_STALL, "{what}: a call stood still for {longest:?}");
    longest
}

/// Keeps much memory, so that looking at it takes a while, and says when it is ready and when it has gone on.
const KEEPS_MUCH: &str = r#"
import os, sys, time
kept = [bytes(3000) for _ in range(60000)]
print(os.getpid(), flush=True)
time.sleep(2)
more = [str(i) for i in range(100000)]
print("went on", flush=True)
"#;

#[test]
fn a_descendant_that_is_held_for_a_snapshot_goes_on_when_the_recorder_is_killed() {
    let directory = tempfile::tempdir().expect("a directory for a trace");
    let (trace, script) = (directory.path().join("trace"), directory.path().join("keeps_much.py"));
    std::fs::write(&script, KEEPS_MUCH).expect("a script");
    // The shell waits for it: it is no child of the recorder's.
    let shell = format!("python3 {}; echo ended with $?", text_of(&script));
    let mut session = PathBuf::new();
    let output = killed_recorder(&trace, &[], &["/bin/sh", "-c", &shell], |recorder| {
        let (recorder, child) = (Pid::from_raw(recorder as i32).expect("a pid"), descendant_of(recorder, "python3"));
        session = session_directory(child);
        let started = Instant::now();
        // The recorder stands still while it holds the program, so that it cannot let go before it is killed.
        loop {
            while state_of(child) != 'T' {
                assert!(started.elapsed() < TIME_LIMIT, "it was never held for a snapshot");
            }
            kill_process(recorder, Signal::STOP).expect("the recorder is there");
            while state_of(recorder.as_raw_pid() as u32) != 'T' {}
            if state_of(child) == 'T' {
                return;
            }
            kill_process(recorder, Signal::CONT).expect("the recorder is there");
        }
    });
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.ends_with("went on\nended with 0\n"), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    assert_readable(&trace, "held");
    assert!(record(&["true"]).output.status.success());
    assert!(!session.exists(), "{} was left behind", session.display());
}

/// Runs a command under a recorder, which is killed at the moment when `until` returns; what the command printed until all
/// its processes had ended.
fn killed_recorder(trace: &Path, options: &[&str], command: &[&str], until: impl FnOnce(u32)) -> Output {
    let mut recorder = Command::new(pagetrace());
    recorder.args(["record", "--quiet", "--interval", "10", "-o"]).arg(trace).args(options).arg("--").args(command);
    let mut recorder = recorder.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the recorder runs");
    // The trace has its name when the command runs.
    let started = Instant::now();
    while !trace.exists() {
        assert!(started.elapsed() < TIME_LIMIT, "the command was not started");
        std::thread::sleep(Duration::from_millis(1));
    }
    until(recorder.id());
    recorder.kill().expect("the recorder is there");
    // The command's processes hold the pipes open until they end.
    let (done, waiting) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(recorder.wait_with_output()));
    let output = waiting.recv_timeout(TIME_LIMIT).expect("a process of the command hangs");
    let output = output.expect("the recorder was killed");
    assert_eq!(output.status.signal(), Some(9));
    output
}

/// The trace is whole up to its last chunk, and a report can be made of it if anything was seen by then.
fn assert_readable(trace: &Path, what: &str) {
    let bytes = std::fs::read(trace).expect("the trace");
    let opened = Trace::open(&bytes).expect("its header was written at the start");
    let cut = opened.defects().iter().all(|defect| defect.offset + defect.bytes == bytes.len());
    assert!(cut && opened.defects().len() <= 1, "{what}: {:?}", opened.defects());
    let records = opened.chunks().iter().filter(|chunk| chunk.header.kind == ChunkKind::RECORDS);
    let mut records = records.flat_map(|chunk| opened.records(chunk).expect("a whole chunk"));
    if records.any(|record| matches!(record, Record::Process(_))) {
        assert_eq!(report(trace)["complete"], false, "{what}");
    } else {
        println!("{what}: nothing had been seen yet");
    }
}

/// The descendant of a process that has this name, once there is one.
fn descendant_of(process: u32, name: &str) -> u32 {
    let started = Instant::now();
    loop {
        let mut found = vec![process];
        let mut next = 0;
        while let Some(&process) = found.get(next) {
            next += 1;
            let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
            let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
            found.extend(
                children.flat_map(|pids| pids.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()),
            );
        }
        let named =
            |pid: &&u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name);
        if let Some(&pid) = found.iter().find(named) {
            return pid;
        }
        assert!(started.elapsed() < TIME_LIMIT, "no {name} below {process}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The state of a process in proc_pid_stat(5).
fn state_of(pid: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('X')
}

/// Where the recording's own files are: the session is one of them.
fn session_directory(program: u32) -> PathBuf {
    let started = Instant::now();
    let environment = loop {
        let environment = std::fs::read(format!("/proc/{program}/environ")).expect("the program's environment");
        // A program that is being executed just now has none yet.
        if !environment.is_empty() || started.elapsed() > TIME_LIMIT {
            break String::from_utf8_lossy(&environment).into_owned();
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let session = environment.split('\0').find_map(|it| it.strip_prefix("PAGETRACE_SESSION="));
    let session = session.unwrap_or_else(|| panic!("no session in {environment:?}"));
    Path::new(session).parent().expect("it lies in a directory").to_owned()
}
