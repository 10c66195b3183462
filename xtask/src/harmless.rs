//! Do other projects' own tests give the same results while they are recorded? CPython's tests of processes, threads and
//! memory, and redis.

mod python;
mod redis;
pub mod runs;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::process::{cargo, target_directory};
use runs::Bench;

/// What compares: with the names of modules, none for all.
type Compare = fn(&Bench, &[&str]) -> Result<Tally>;

/// What is tried.
const PARTS: &[(&str, Compare)] = &[("python", python::compare), ("redis", redis::compare)];

/// What came of it.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    /// Results that are the same.
    pub same: usize,
    /// Results that are not, or traces that are not whole.
    pub other: usize,
    /// What is not installed.
    pub skipped: usize,
}

/// Runs all, or those that are named; of Python's tests those whose modules are named. With `all` nothing may be skipped.
pub fn run(root: &Path, wanted: &[&str], all: bool) -> Result<()> {
    cargo(root, &["build", "--release", "-p", "pagetrace-cli"], &[])?;
    let directory = std::env::temp_dir().join(format!("pagetrace-harmless.{}", std::process::id()));
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let bench = Bench {
        pagetrace: target_directory(root).join("release/pagetrace"),
        directory: directory.clone(),
        scripts: root.join("xtask/harmless"),
    };
    let done = run_parts(&bench, wanted);
    fs::remove_dir_all(&directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    let tally = done?;
    println!("\nharmless: {} results are the same, {} are not, {} skipped", tally.same, tally.other, tally.skipped);
    ensure!(tally.other == 0, "{} results differ while recorded", tally.other);
    ensure!(tally.same > 0, "nothing was compared");
    ensure!(!all || tally.skipped == 0, "{} parts were skipped, and none may be here", tally.skipped);
    Ok(())
}

fn run_parts(bench: &Bench, wanted: &[&str]) -> Result<Tally> {
    let mut sum = Tally::default();
    let of_part = |name: &&str| PARTS.iter().any(|(part, _)| part == name);
    let modules: Vec<&str> = wanted.iter().copied().filter(|name| !of_part(name)).collect();
    for (name, part) in PARTS {
        let by_module = *name == "python" && !modules.is_empty();
        if wanted.is_empty() || wanted.contains(name) || by_module {
            let tally = part(bench, &modules)?;
            sum.same += tally.same;
            sum.other += tally.other;
            sum.skipped += tally.skipped;
        }
    }
    Ok(sum)
}
