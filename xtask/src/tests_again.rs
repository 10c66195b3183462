//! Runs tests, and those that failed once more, by name.
//!
//! They start programs, stop them and kill them, on machines that may be busy. What fails twice fails; what fails once
//! is told at the end.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{cargo_command, shown};

/// What is provided before must be found: the tests of pictures and exports then skip nothing.
const NOTHING_SKIPPED: &[(&str, &str)] = &[("PAGETRACE_NOTHING_SKIPPED", "1")];

/// Runs `cargo` with these arguments, a `cargo test`.
pub fn run(root: &Path, arguments: &[&str]) -> Result<()> {
    let whole: Vec<&str> = arguments.iter().copied().chain(["--no-fail-fast"]).collect();
    let first = run_once(root, &whole)?;
    if first.passed {
        return Ok(());
    }
    let shown = shown("cargo", &whole, &[]);
    if first.failed.is_empty() {
        bail!("`{shown}` failed, and not by a test that has a name");
    }
    eprintln!("\nxtask: failed: {}; once more, these alone", first.failed.join(", "));
    let names = first.failed.iter().map(String::as_str);
    let again: Vec<&str> = whole.iter().copied().chain(["--", "--exact"]).chain(names).collect();
    let second = run_once(root, &again)?;
    ensure!(second.passed, "`{shown}` failed twice: {}", second.failed.join(", "));
    // A name that nothing answers to would pass as well.
    let missing: Vec<&String> = first.failed.iter().filter(|name| !second.succeeded.contains(name)).collect();
    ensure!(missing.is_empty(), "`{shown}` failed, and these did not run again: {missing:?}");
    eprintln!("xtask: passed at the second try: {}", first.failed.join(", "));
    Ok(())
}

struct Ran {
    passed: bool,
    failed: Vec<String>,
    succeeded: Vec<String>,
}

/// What the tests print goes on to standard output.
fn run_once(root: &Path, arguments: &[&str]) -> Result<Ran> {
    let shown = shown("cargo", arguments, NOTHING_SKIPPED);
    eprintln!("\n$ {shown}");
    let mut command: Command = cargo_command(root, arguments, NOTHING_SKIPPED);
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{shown}`"))?;
    let printed = child.stdout.take().context("standard output is a pipe")?;
    let mut ran = Ran { passed: false, failed: Vec::new(), succeeded: Vec::new() };
    for line in BufReader::new(printed).split(b'\n') {
        let line = line.with_context(|| format!("what `{shown}` prints"))?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        match result_of(&line) {
            Some((name, true)) => ran.succeeded.push(name.to_owned()),
            Some((name, false)) => ran.failed.push(name.to_owned()),
            None => {}
        }
    }
    ran.passed = child.wait().with_context(|| format!("waiting for `{shown}`"))?.success();
    Ok(ran)
}

/// A test's name and whether it passed, from the line that libtest prints of it.
fn result_of(line: &str) -> Option<(&str, bool)> {
    let (name, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    // What a test that may panic is called by.
    let name = name.strip_suffix(" - should panic").unwrap_or(name);
    match result {
        "FAILED" => Some((name, false)),
        _ if result == "ok" || result.starts_with("ok ") => Some((name, true)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::result_of;

    #[test]
    fn lines_of_tests_are_told_from_others() {
        for (line, expected) in [
            ("test statuses::exit_codes ... ok", Some(("statuses::exit_codes", true))),
            ("test statuses::exit_codes ... FAILED", Some(("statuses::exit_codes", false))),
            ("test a::b - should panic ... FAILED", Some(("a::b", false))),
            ("test daemon in C++ ... FAILED", Some(("daemon in C++", false))),
            ("test handler in C ... ok (3 events lost, and counted)", Some(("handler in C", true))),
            ("test src/lib.rs - off (line 10) ... ok", Some(("src/lib.rs - off (line 10)", true))),
            ("test root in C ... skipped: only root can", None),
            ("test result: FAILED. 65 passed; 1 failed", None),
            ("running 3 tests", None),
        ] {
            assert_eq!(result_of(line), expected, "{line}");
        }
    }
}
