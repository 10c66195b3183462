//! The pictures: the page as one file and from its server, in a real browser, and the formats of others, read by their own readers.

mod story;

mod browser;

mod exports;

mod page_file;

mod server;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs `pagetrace` with these arguments, expecting success: its standard output.
fn output_of(arguments: &[&str]) -> Vec<u8> {
    let output = assert_cmd::cargo::cargo_bin_cmd!("pagetrace").args(arguments).output().expect("the binary runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?} ended with {}: {errors}", output.status);
    output.stdout
}

fn report_of(trace: &Path) -> serde_json::Value {
    serde_json::from_slice(&output_of(&["report", "--json", as_text(trace)])).expect("JSON")
}

/// The story in a file of a directory of its own.
fn story_file() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("story.pagetrace");
    std::fs::write(&path, story::story()).expect("a file");
    (directory, path)
}

/// Runs a reader that is not ours; `None`, which is said, where it is not there. `cargo xtask test` sees to it that all are.
fn read_by(mut command: Command) -> Option<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{command:?} ended with {}: {errors}{said}", output.status);
            Some(output)
        }
        Err(error) => {
            skip(&format!("{name}: {error}"));
            None
        }
    }
}

fn skip(why: &str) {
    assert!(std::env::var_os("PAGETRACE_NOTHING_SKIPPED").is_none(), "nothing may be skipped here: {why}");
    println!("skipped: {why}; `cargo xtask test` installs it");
}

/// Where `cargo xtask test` puts readers that come from package registries.
fn readers() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory").join("readers")
}

/// The sources of the page, with what npm has installed.
fn web() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../web")
}

fn as_text(path: &Path) -> &str {
    path.to_str().expect("paths of these tests are text")
}
