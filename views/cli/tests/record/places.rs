//! Where the trace goes: files that are there already, names, users.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::harness::{
    TIME_LIMIT, assert_whole, copied_into, number, pagetrace, processes, program, record, record_with, report, text_of,
};

#[test]
fn what_was_there_stays_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("trace");
    let record_there = |command: &str| {
        let mut recorder = Command::new(pagetrace());
        recorder.args(["record", "--quiet", "-o"]).arg(&path).args(["--", command]).output().expect("the recorder runs")
    };

    std::fs::write(&path, "a letter").expect("a foreign file");
    let refused = record_there("true");
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(125), "{errors}");
    assert!(errors.contains("no trace"), "{errors}");
    assert_eq!(std::fs::read(&path).expect("the letter"), b"a letter");

    std::fs::write(&path, "").expect("an empty file");
    assert!(record_there("true").status.success());
    let first = std::fs::read(&path).expect("a trace");
    assert_eq!(record_there("/no/such/program").status.code(), Some(127));
    assert!(std::fs::read(&path).expect("the trace") == first, "a command that never ran replaced a trace");
    assert!(record_there("true").status.success());
    assert!(std::fs::read(&path).expect("a trace") != first, "the trace was not replaced");
    let left: Vec<_> = std::fs::read_dir(directory.path()).expect("the directory").flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let mode = std::fs::metadata(&path).expect("the trace").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_trace_has_no_name_but_the_programs_and_its_pid() {
    let directory = tempfile::tempdir().expect("a directory");
    let recorder = Command::new(pagetrace()).args(["record", "--", "true"]).current_dir(&directory).output();
    let output = recorder.expect("the recorder runs");
    let names: Vec<String> = std::fs::read_dir(&directory)
        .expect("the directory")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let [name] = &names[..] else { panic!("expected one file, found {names:?}") };
    let pid = name.strip_prefix("true.").and_then(|rest| rest.strip_suffix(".pagetrace"));
    assert!(pid.is_some_and(|pid| pid.parse::<u32>().is_ok()), "{name}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(name), "{output:?}");
}

#[test]
fn arguments_can_stay_out_of_the_trace() {
    for (options, expected) in [(&["--quiet"][..], true), (&["--quiet", "--no-args"], false)] {
        let recorded = record_with(options, &[], &["/bin/sh", "-c", "exit 0 # a secret"]);
        let bytes = std::fs::read(recorded.trace()).expect("a trace");
        let args = processes(&recorded.report())[0]["args"].to_string();
        assert_eq!(args.contains("a secret"), expected, "{options:?}: {args}");
        assert!(!bytes.windows(9).any(|bytes| bytes == b"LD_PRELOA"), "the environment is in the trace");
    }
}

#[test]
fn an_ordinary_user_sees_what_root_sees() {
    let command = [program("family"), "longjmp".to_owned()];
    let mut own = record(&[&command[0], &command[1]]).report();
    if !rustix::process::geteuid().is_root() {
        println!("skipped: becoming another user needs root");
        return;
    }
    // Neither the build nor the sources need be open to others: the programs are copied to where they are.
    let directory = tempfile::tempdir_in("/var/tmp").expect("a directory");
    let open_to_all = PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(directory.path(), open_to_all).expect("a directory of ours");
    let [tool, program] =
        [pagetrace(), Path::new(&command[0])].map(|file| text_of(&copied_into(directory.path(), file)));
    let trace = directory.path().join("trace");
    let mut user = assert_cmd::Command::new("setpriv");
    user.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    user.args([&tool, "record", "-o", &text_of(&trace), "--", &program, "longjmp"]).timeout(TIME_LIMIT);
    let output = user.output().expect("setpriv runs: apt-get install util-linux");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut other = report(&trace);
    for report in [&own, &other] {
        assert_whole(report, "longjmp");
    }
    // The kernel tells root what it touches for a program besides, so of calls that fill memory less is recorded. Where mappings begin is random, and with it how many
    // pages of tables and stacks are touched.
    const OF_LAYOUT: u64 = 8;
    let [all, of_user] = [&mut own, &mut other].map(|report| number(&report["events"]["page_faults"].take()));
    assert!(of_user > 0 && all + OF_LAYOUT >= of_user, "{all} faults for root, {of_user} for a user");
    let fills = [&mut own, &mut other].map(|report| report["events"]["page_calls"]["filled"].take());
    assert!(fills[0].as_u64().unwrap_or(0) <= fills[1].as_u64().unwrap_or(0), "{fills:?}");
    own["events"]["page_calls"]["filled"] = other["events"]["page_calls"]["filled"].take();
    assert_eq!(own["events"], other["events"]);
    let [own, other] = [own, other].map(|report| processes(&report)[0].clone());
    assert_eq!(own["objects"], other["objects"]);
    assert_eq!(own["rss"]["snapshot"], other["rss"]["snapshot"]);
    for class in ["live_objects", "metadata", "unexplained"] {
        assert_eq!(own["rss"]["classes"][class], other["rss"]["classes"][class], "{class}");
    }
}
