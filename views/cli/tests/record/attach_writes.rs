//! `record -p --writes`: each page that is written from the attach on, in programs that were led to make a descriptor; and what the
//! leading does to a program that is interrupted all the time.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::attach::{Recorder, as_user, source, wait_for_program};
use crate::harness::{compiled, copied_into, report};
use crate::random::Random;
use crate::writes::check_trace;

#[test]
fn every_page_that_is_written_after_attach_is_found() {
    check_attached(false, &[]);
}

#[test]
fn an_ordinary_user_finds_those_of_a_static_program_that_runs() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: only root can become another user");
    }
    check_attached(true, &["-static"]);
}

fn check_attached(as_nobody: bool, compiled_with: &[&str]) {
    let directory = tempfile::tempdir_in("/var/tmp").expect("a directory");
    open_to_all(directory.path());
    let program = copied_into(directory.path(), &compiled("writes", compiled_with));
    let mut command = as_user(as_nobody, &program);
    let command = command.args(["48", "3", "700", "wait"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut target = command.spawn().expect("it runs");
    // Until then it may belong to another user.
    wait_for_program(target.id(), &program);
    let recorder = Recorder::attach(directory.path(), as_nobody, target.id(), &["--quiet", "--writes=200ms"]);
    // The tracking begins in the recorder's first rounds.
    std::thread::sleep(Duration::from_secs(2));
    target.stdin.take().expect("a pipe").write_all(b"\n").expect("it reads");
    let mut printed = String::new();
    target.stdout.take().expect("a pipe").read_to_string(&mut printed).expect("text");
    assert!(target.wait().expect("it ends").success());
    let output = recorder.ended();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    check_trace(&directory.path().join("trace"), &printed);
}

/// Calls that the kernel begins anew, sleeps of a known length, signals that are counted, and sums in registers, all checked.
#[test]
fn a_program_that_is_interrupted_all_the_time_is_led_back_right() {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    for compiled_with in [&[][..], &["-static"]] {
        let directory = tempfile::tempdir().expect("a directory");
        let program = compiled("interrupted", compiled_with);
        let mut target = Command::new(&program);
        let mut target = target.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
        for time in 0..8 {
            let recorder = Recorder::attach(directory.path(), false, target.id(), &["--quiet", "--writes=20ms"]);
            std::thread::sleep(Duration::from_micros(random.below(60_000)));
            if time % 2 == 0 {
                recorder.signal(Signal::KILL);
                drop(recorder.ended());
                continue;
            }
            assert_eq!(recorder.interrupted().status.code(), Some(0), "seed {seed}, time {time}");
            let report = report(&directory.path().join("trace"));
            assert_eq!(source(&report, "page_writes")["active"], true, "{}", source(&report, "page_writes"));
        }
        drop(target.stdin.take());
        let mut printed = String::new();
        target.stdout.take().expect("a pipe").read_to_string(&mut printed).expect("text");
        let status = target.wait().expect("it ends");
        assert!(status.success() && printed == "all is well\n", "seed {seed}: {status}: {printed}");
    }
}

#[test]
fn writes_of_a_program_under_seccomp_are_refused_with_a_reason() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut target = Command::new(compiled("interrupted", &[]));
    let target = target.arg("seccomp").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut target = target.spawn().expect("it runs");
    std::thread::sleep(Duration::from_millis(200));
    let recorder = Recorder::attach(directory.path(), false, target.id(), &["--quiet", "--writes=20ms"]);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(recorder.interrupted().status.code(), Some(0));
    let report = report(&directory.path().join("trace"));
    let writes = source(&report, "page_writes");
    assert_eq!(writes["active"], false, "{writes}");
    assert!(writes["missed"].as_str().is_some_and(|missed| missed.contains("seccomp")), "{writes}");
    drop(target.stdin.take());
    assert!(target.wait().expect("it ends").success());
}

fn open_to_all(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, PermissionsExt::from_mode(0o777)).expect("a directory of ours");
}
