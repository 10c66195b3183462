//! `pagetrace export`: what it writes, and what it never destroys.

use std::fs;

use crate::made_trace::{made_trace, trace_with_kernel_events};
use crate::{as_text, output_of, pagetrace};

#[test]
fn text_has_the_lines_in_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("trace");
    fs::write(&path, made_trace(true)).expect("a file");
    let text = output_of(&["export", "--to", "text", as_text(&path)]);
    let expected = "\
start profile: Jan 02 15:04:05.678
execname and pid: my_program 4242
pagesize: 4096
start date: 1767366245 (Jan  2 15:04:05 2026 UTC)
samples and events:
10 4242 object_alloc 0x555500000010 100 bytes
20 4243 object_alloc 0x555500002010 300 bytes
30 4242 object_alloc 0x555500001010 200 bytes
40 4243 object_free 0xdead0 unknown bytes
50 4242 object_free 0x555500000010 100 bytes
end date: 1767366247 (Jan  2 15:04:07 2026 UTC)
";
    assert_eq!(text, expected);
}

#[test]
fn text_has_what_the_kernel_said_among_the_events() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("trace");
    fs::write(&path, trace_with_kernel_events()).expect("a file");
    let text = output_of(&["export", "--to", "text", as_text(&path)]);
    let expected = "\
5 4242 exec arguments 0x7ffc00001000 to 0x7ffc00003000
6 4242 mapped 0x400000 65536 bytes offset 0 protection 5 flags 0x2 file \"/nonexistent/my program\"
10 4242 object_alloc 0x555500000010 100 bytes
15 4242 fault 0x555500000010 by 0x400234 write
20 4243 object_alloc 0x555500002010 300 bytes
25 4242 fault 0x555500001010 by 0xffffffff81000000 in the kernel
30 4242 object_alloc 0x555500001010 200 bytes
40 4243 object_free 0xdead0 unknown bytes
50 4242 object_free 0x555500000010 100 bytes
60 4242 mmap 0x0 8192 bytes protection 3 flags 0x22 descriptor -1 offset 0 = 0x7f0000000000
61 unknown madvise 0x7f0000000000 8192 bytes advice 4 = -22
62 4242 munlockall = 0
";
    let lines = text.split_once("samples and events:\n").expect("lines of events").1;
    assert_eq!(lines.split_once("end date").expect("an end").0, expected);
}

#[test]
fn what_is_missing_is_unknown() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("trace");
    fs::write(&path, made_trace(false)).expect("a file");
    let text = output_of(&["export", "--to", "text", as_text(&path)]);
    assert_eq!(text.lines().last(), Some("end date: unknown"));
}

#[test]
fn damage_costs_one_chunk_and_is_said() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("trace");
    let mut trace = made_trace(true);
    let chunk = pagetrace_format::Trace::open(&trace).expect("a trace").chunks()[1];
    trace[chunk.payload_offset] ^= 0xff;
    fs::write(&path, &trace).expect("a file");
    let output = pagetrace(&["export", "--to", "text", as_text(&path)]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 damaged chunk"), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(text.lines().filter(|line| line.contains("object_")).count(), 2, "{text}");
}

#[test]
fn native_stays_native() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, copy) = (directory.path().join("trace"), directory.path().join("copy"));
    fs::write(&path, made_trace(true)).expect("a file");
    output_of(&["export", "--to", "pagetrace", "-o", as_text(&copy), as_text(&path)]);
    assert_eq!(fs::read(&copy).expect("a copy"), made_trace(true));
}

#[test]
fn failed_writes_are_said_and_destroy_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, old) = (directory.path().join("trace"), directory.path().join("old"));
    fs::write(&path, made_trace(true)).expect("a file");
    fs::write(&old, "precious").expect("a file");
    let foreign = directory.path().join("foreign");
    fs::write(&foreign, "no trace at all").expect("a file");

    let check = |output: &str, trace: &std::path::Path, expected: &str| {
        let output = pagetrace(&["export", "--to", "text", "-o", output, as_text(trace)]);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains(expected), "{message}");
    };
    check("/dev/full", &path, "failed to write page trace: ");
    check("/nonexistent/directory/file", &path, "failed to write page trace: ");
    check(as_text(&path), &path, "is the trace that is read");
    check(as_text(&old), &foreign, "not a trace");
    assert_eq!(fs::read_to_string(&old).expect("the old file"), "precious");
    assert_eq!(fs::read(&path).expect("the trace"), made_trace(true));
    assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 3, "a temporary file was left");
}

#[test]
fn a_full_standard_output_is_said() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("trace");
    fs::write(&path, made_trace(true)).expect("a file");
    for format in ["text", "pagetrace"] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let output = std::process::Command::new(assert_cmd::cargo::cargo_bin!("pagetrace"))
            .args(["export", "--to", format, as_text(&path)])
            .stdout(full)
            .output()
            .expect("the binary runs");
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains("failed to write page trace: "), "{message}");
    }
}
