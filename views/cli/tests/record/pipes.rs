//! A trace that goes to a pipe with a name, whose reader comes later, or never.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{TIME_LIMIT, assert_whole, interruptible, number, pagetrace, report};

fn pipe_in(directory: &Path) -> PathBuf {
    let pipe = directory.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    pipe
}

fn recorder(pipe: &Path) -> Child {
    let mut recorder = interruptible(pagetrace());
    recorder.args(["record", "-o"]).arg(pipe).args(["--quiet", "--", "/bin/sh", "-c", "echo started; exit 7"]);
    recorder.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the recorder runs")
}

#[test]
fn a_reader_may_come_later() {
    let directory = tempfile::tempdir().expect("a directory");
    let (pipe, trace) = (pipe_in(directory.path()), directory.path().join("trace"));
    let recorder = recorder(&pipe);
    std::thread::sleep(Duration::from_millis(300));
    let read = std::fs::read(&pipe).expect("the trace");
    let output = recorder.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(7), &b"started\n"[..]));
    std::fs::write(&trace, read).expect("a file");
    let report = report(&trace);
    assert_whole(&report, "through a pipe");
    assert!(number(&report["events"]["object_alloc"]) > 0, "{report:#}");
}

#[test]
fn nobody_hangs_where_no_reader_comes() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut recorder = recorder(&pipe_in(directory.path()));
    // Long enough to have been told what is waited for.
    std::thread::sleep(Duration::from_millis(1500));
    let asked = Instant::now();
    kill_process(Pid::from_child(&recorder), Signal::INT).expect("it is there");
    let ended = loop {
        if let Some(status) = recorder.try_wait().expect("a child") {
            break status;
        }
        assert!(asked.elapsed() < TIME_LIMIT, "it hangs");
        std::thread::sleep(Duration::from_millis(5));
    };
    let output = recorder.wait_with_output().expect("it ended");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!((ended.code(), &output.stdout[..]), (Some(125), &b""[..]), "{errors}");
    assert!(errors.contains("the command starts when someone reads from it"), "{errors}");
    assert!(errors.contains("interrupted before anybody read from it"), "{errors}");
}
