//! `run-idle` and `record -p`: objects from the attach on are exact, for as many recordings as one likes; those from before are
//! unknown and said to be; and what the idle library does to a program that nobody looks at.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::attach::{Recorder, Target, as_user, source};
use crate::harness::{compiled, copied_into, number, pagetrace, processes, report};

/// What `idle.c` does each time, in all its threads.
const ALLOCATED: u64 = 4 * 250;
const FREED: u64 = 4 * 50;
const MOVED: u64 = 4 * 10;
const IN_CHILD: u64 = 33;
const OPTIONS: &[&str] = &["--quiet"];

#[test]
fn objects_from_the_attach_on_are_exact_again_and_again() {
    check_attaching_twice(false);
}

#[test]
fn an_ordinary_user_wakes_its_own_idle_programs() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: only root can become another user");
    }
    check_attaching_twice(true);
}

fn check_attaching_twice(as_nobody: bool) {
    let directory = tempfile::tempdir().expect("a directory for a trace");
    let mut target = idle_target(directory.path(), as_nobody);
    target.go();
    for attach in 0..2 {
        let recorder = Recorder::attach(directory.path(), as_nobody, target.pid(), OPTIONS);
        target.go();
        let output = recorder.interrupted();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        // Idle again: nothing of this is in the next trace.
        target.go();
        check_exact(&report(&directory.path().join("trace")), &format!("attach {attach}, nobody {as_nobody}"));
    }
    target.ends_well();
}

fn check_exact(report: &Value, what: &str) {
    assert_eq!((&report["complete"], &report["lost"]["events"]), (&true.into(), &0.into()), "{what}: {report:#}");
    let [program, child] = processes(report) else { panic!("{what}: two processes: {report:#}") };
    assert_eq!((&program["origin"], &child["origin"]), (&"attached".into(), &"fork".into()), "{what}");
    assert_eq!(allocated(program, "allocate_after"), ALLOCATED, "{what}: {program:#}");
    assert_eq!(allocated(program, "move_old"), MOVED, "{what}: {program:#}");
    assert_eq!(allocated(program, "allocate_before"), 0, "{what}: {program:#}");
    let objects = &program["objects"];
    assert_eq!((&objects["unknown_frees"], &objects["replaced"]), (&0.into(), &0.into()), "{what}: {objects}");
    // What the C library frees of its own is among them.
    let unknown = number(&objects["unknown_frees_after_gap"]);
    assert!((FREED + MOVED..FREED + MOVED + 8).contains(&unknown), "{what}: {objects}");
    assert_eq!(allocated(child, "allocate_in_child"), IN_CHILD, "{what}: {child:#}");
    let objects = source(report, "objects");
    assert_eq!(objects["active"], true, "{what}");
    assert_eq!(objects["missed"], "objects are not visible before attach", "{what}");
}

#[test]
fn one_recorder_has_the_objects_and_another_the_pages() {
    let directory = tempfile::tempdir().expect("a directory for a trace");
    let other = tempfile::tempdir().expect("a directory for another");
    let mut target = idle_target(directory.path(), false);
    let first = Recorder::attach(directory.path(), false, target.pid(), OPTIONS);
    let second = Recorder::attach(other.path(), false, target.pid(), OPTIONS);
    target.go();
    assert_eq!(second.interrupted().status.code(), Some(0));
    assert_eq!(first.interrupted().status.code(), Some(0));
    check_exact(&report(&directory.path().join("trace")), "the first");
    let report = report(&other.path().join("trace"));
    let objects = source(&report, "objects");
    assert_eq!(objects["active"], false, "{objects}");
    let missed = objects["missed"].as_str().expect("text");
    assert!(missed.contains("another recorder (pid"), "{missed}");
    target.ends_well();
}

#[test]
fn a_killed_recorder_leaves_a_program_that_the_next_one_wakes() {
    let directory = tempfile::tempdir().expect("a directory for a trace");
    let mut target = idle_target(directory.path(), false);
    for kill in 0..3 {
        let recorder = Recorder::attach(directory.path(), false, target.pid(), OPTIONS);
        target.go();
        recorder.signal(Signal::KILL);
        drop(recorder.ended());
        target.go();
        let recorder = Recorder::attach(directory.path(), false, target.pid(), OPTIONS);
        target.go();
        assert_eq!(recorder.interrupted().status.code(), Some(0));
        check_exact(&report(&directory.path().join("trace")), &format!("after kill {kill}"));
    }
    target.ends_well();
}

#[test]
fn threads_that_allocate_all_the_time_are_woken_again_and_again() {
    let directory = tempfile::tempdir().expect("a directory for a trace");
    let target = idle_target_with(directory.path(), false, &["churn"]);
    for attach in 0..6 {
        let recorder = Recorder::attach(directory.path(), false, target.pid(), OPTIONS);
        std::thread::sleep(Duration::from_millis(60));
        if attach % 2 == 1 {
            recorder.signal(Signal::KILL);
            drop(recorder.ended());
            continue;
        }
        assert_eq!(recorder.interrupted().status.code(), Some(0), "attach {attach}");
        let report = report(&directory.path().join("trace"));
        let objects = &processes(&report)[0]["objects"];
        assert!(number(&objects["allocated"]) > 0, "attach {attach}: {objects}");
        // An address is never alive twice, and what is freed unknown came to life before.
        assert_eq!(
            (&objects["unknown_frees"], &objects["replaced"]),
            (&0.into(), &0.into()),
            "attach {attach}: {objects}"
        );
    }
    // It checks what it has written into each object.
    target.ends_well();
}

#[test]
fn an_idle_program_behaves_as_without() {
    let directory = tempfile::tempdir().expect("a directory");
    let with = |arguments: &[&str]| {
        let output = Command::new(pagetrace()).arg("run-idle").arg("--").args(arguments).output();
        output.expect("it runs")
    };
    let output = with(&["sh", "-c", "echo said; echo to me >&2; exit 9"]);
    assert_eq!(output.status.code(), Some(9));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "said\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "to me\n");
    let missing = with(&["./no-such-program"]);
    assert_eq!(missing.status.code(), Some(127), "{}", String::from_utf8_lossy(&missing.stderr));
    let unreadable = with(&[directory.path().to_str().expect("text")]);
    assert_eq!(unreadable.status.code(), Some(126), "{}", String::from_utf8_lossy(&unreadable.stderr));
    let static_program = compiled("static_sleeper", &["-static"]);
    let said = with(&[static_program.to_str().expect("text")]);
    assert!(String::from_utf8_lossy(&said.stderr).contains("a static program"), "{said:?}");
    // The same pid, one process.
    let target = idle_target(directory.path(), false);
    assert_eq!(target.below, target.pid());
    target.ends_well();
}

/// `idle.c` under `run-idle`.
fn idle_target(directory: &Path, as_nobody: bool) -> Target {
    idle_target_with(directory, as_nobody, &[])
}

fn idle_target_with(directory: &Path, as_nobody: bool, arguments: &[&str]) -> Target {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, PermissionsExt::from_mode(0o777)).expect("a directory of ours");
    let [tool, program] = [pagetrace(), &compiled("idle", &[])].map(|file| copied_into(directory, file));
    let mut command = as_user(as_nobody, &tool);
    Target::started(command.args(["run-idle", "--"]).arg(program).args(arguments))
}

fn allocated(process: &Value, function: &str) -> u64 {
    let sites = process["sites"].as_array().expect("objects");
    let names = |site: &&Value| site["stack"][0].as_str().is_some_and(|frame| frame.starts_with(function));
    sites.iter().filter(names).map(|site| number(&site["allocated_objects"])).sum()
}
