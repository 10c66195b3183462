//! A linked tracer under stress: threads, forks, pages, objects and switching at once, and the replay of the traces.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::process::cargo;

/// How long each of its programs runs unless told otherwise. The tests run them for a few seconds.
pub const DEFAULT_SECONDS: u64 = 60;

/// Runs those of the hazard programs that are about load. Optimized, for more of it.
pub fn run(root: &Path, seconds: u64) -> Result<()> {
    ensure!(seconds > 0, "--seconds: expected at least 1");
    let arguments =
        ["test", "--release", "-p", "pagetrace", "--features", "enabled", "--test", "hazards", "--", "stress"];
    cargo(root, &arguments, &[("HAZARD_SECONDS", &seconds.to_string())])
}
