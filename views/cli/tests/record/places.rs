//! Where the trace goes: full disks, limits, files that are there already, users.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::{
    TIME_LIMIT, assert_whole, number, pagetrace, processes, program, record, record_with, report, text_of,
};

/// Allocates enough that its trace outgrows every limit of these tests.
const MUCH: &str = r#"
import hashlib
kept = [hashlib.sha256(b"%d" % i).hexdigest() * (i % 50) for i in range(300000)]
print(len(kept))
"#;

#[test]
fn a_full_disk_harms_the_trace_alone() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: mounting a small file system needs root");
        return;
    }
    // The mount is seen by this shell and its children alone, and goes with them; the trace is copied out before.
    let script = r#"mount -t tmpfs -o size=256k none "$1" || exit 90
"$2" record -o "$1/trace" -- /usr/bin/python3 -c "$3"
status=$?
cp "$1/trace" "$4" || exit 91
exit $status"#;
    let directory = tempfile::tempdir().expect("a directory");
    let (mount, kept) = (directory.path().join("mount"), directory.path().join("trace"));
    std::fs::create_dir(&mount).expect("a mount point");
    let words = [text_of(&mount), text_of(pagetrace()), MUCH.to_owned(), text_of(&kept)];
    let mut unshare = assert_cmd::Command::new("unshare");
    unshare.args(["-m", "sh", "-c", script, "sh"]).args(words).env("PYTHONMALLOC", "malloc").timeout(TIME_LIMIT);
    let output = unshare.output().expect("unshare runs: apt-get install util-linux");
    if output.status.code() == Some(90) || String::from_utf8_lossy(&output.stderr).contains("unshare failed") {
        println!("skipped: no mounts here: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    assert_trace_failed(&output, &kept);
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
    assert_trace_failed(&output, &trace);
}

fn assert_trace_failed(output: &Output, trace: &Path) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "300000\n", "{errors}");
    assert_eq!(output.status.code(), Some(125), "{errors}");
    assert!(errors.contains("failed to write page trace"), "{errors}");
    let report = report(trace);
    assert_eq!(report["complete"], false);
    assert!(number(&report["events"]["object_alloc"]) > 0, "{report:#}");
}

#[test]
fn a_failing_command_keeps_its_status_when_the_trace_fails() {
    let recorded = Command::new(pagetrace())
        .args(["record", "-o", "/dev/full", "--", "/bin/sh", "-c", "exit 7"])
        .output()
        .expect("the recorder runs");
    let errors = String::from_utf8_lossy(&recorded.stderr);
    // The header cannot be written, so the command is not started at all.
    assert_eq!(recorded.status.code(), Some(125), "{errors}");
    assert!(errors.contains("failed to write page trace"), "{errors}");
}

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
    let [tool, program] = [pagetrace(), Path::new(&command[0])].map(|file| {
        let copy = directory.path().join(file.file_name().expect("a file"));
        std::fs::copy(file, &copy).expect("a copy");
        text_of(&copy)
    });
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
    // The kernel tells root what it touches for a program besides.
    let [all, of_user] = [&mut own, &mut other].map(|report| number(&report["events"]["page_faults"].take()));
    assert!(of_user > 0 && all >= of_user, "{all} faults for root, {of_user} for a user");
    assert_eq!(own["events"], other["events"]);
    let [own, other] = [own, other].map(|report| processes(&report)[0].clone());
    assert_eq!(own["objects"], other["objects"]);
    assert_eq!(own["rss"]["snapshot"], other["rss"]["snapshot"]);
    for class in ["live_objects", "metadata", "unexplained"] {
        assert_eq!(own["rss"]["classes"][class], other["rss"]["classes"][class], "{class}");
    }
}
