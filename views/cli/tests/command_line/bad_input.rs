//! What cannot be read: a message that says what was found and what to do, and a status to rely on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::made_trace::made_trace;
use crate::{as_text, pagetrace};

#[test]
fn wrong_usage_is_2() {
    fn check(arguments: &[&str]) {
        let output = pagetrace(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    check(&[]);
    check(&["unknown-command"]);
    check(&["export", "trace"]);
    check(&["export", "--to", "no-such-format", "trace"]);
}

#[test]
fn unreadable_files_are_1_with_what_to_do() {
    let directory = tempfile::tempdir().expect("a directory");
    let trace = made_trace(true);
    let mut newer = trace.clone();
    newer[8..12].copy_from_slice(&77_u32.to_le_bytes());
    let mut flipped = trace.clone();
    flipped[24] ^= 1;
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).expect("a file");
        path
    };
    check(&file("empty", b""), &["empty"]);
    check(&file("foreign", b"\x7fELF and so on, for some more bytes"), &["not a trace"]);
    check(&file("short", &trace[..40]), &["header", "expected 64 bytes, found 40"]);
    check(&file("newer", &newer), &["version 77", "newer pagetrace"]);
    check(&file("flipped", &flipped), &["header", "checksum"]);
    check(&file("execution", b"go 1.25 trace\0\0\0rest"), &["no alloc/free event", "offset 16", "Record again"]);
    check(
        &file("old", b"go 1.21 trace\0\0\0"),
        &["offset 5", "1.23 to 1.26", "found 1.21", "GODEBUG=traceallocfree=1"],
    );
    check(&file("new", b"go 1.99 trace\0\0\0"), &["found 1.99", "newer pagetrace"]);
    check(&file("no events", b"go 1.26 trace\0\0\0"), &["no alloc/free events", "GODEBUG=traceallocfree=1"]);
    check(&directory.path().join("missing"), &["no such file"]);
    check(directory.path(), &["directory"]);
    let private = file("private", &trace);
    fs::set_permissions(&private, fs::Permissions::from_mode(0o000)).expect("permissions");
    if fs::File::open(&private).is_ok() {
        println!("skipped: no permission, since this user may read everything");
    } else {
        check(&private, &["permission denied"]);
    }

    fn check(path: &Path, expected: &[&str]) {
        for arguments in [&["export", "--to", "text"][..], &["export", "--to", "pagetrace"]] {
            let arguments = [arguments, &[as_text(path)]].concat();
            let output = pagetrace(&arguments);
            let message = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
            assert_eq!(message.lines().count(), 1, "{arguments:?}: {message}");
            for words in expected.iter().chain([&as_text(path)]) {
                assert!(message.contains(words), "{arguments:?}: expected {words:?}, found {message}");
            }
        }
    }
}
