//! Runs the binary as a user does: arguments in, output and exit status out.

mod made_trace;

mod bad_input;

mod hostile_input;

mod export;

mod report;

mod self_written;

mod go_execution_traces;
mod go_page_traces;

mod doctor;

use std::path::Path;
use std::process::Output;

/// Runs `pagetrace` with these arguments.
fn pagetrace<A: AsRef<std::ffi::OsStr>>(arguments: &[A]) -> Output {
    assert_cmd::cargo::cargo_bin_cmd!("pagetrace").args(arguments).output().expect("the binary runs")
}

/// The same, expecting success: its standard output.
fn output_of<A: AsRef<std::ffi::OsStr> + std::fmt::Debug>(arguments: &[A]) -> String {
    let output = pagetrace(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?} ended with {}: {errors}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

fn as_text(path: &Path) -> &str {
    path.to_str().expect("paths of these tests are text")
}
