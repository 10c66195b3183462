//! The models of the buffer hand-over, which loom runs through all interleavings.

use std::path::Path;

use anyhow::{Context, Result};

use crate::process::{cargo, target_directory};

/// Builds and runs them. Optimized, since there are many interleavings; in a directory of their own, since the flag
/// would make cargo build everything anew, each time that it changes.
pub fn run(root: &Path) -> Result<()> {
    let target = target_directory(root).join("loom");
    let target = target.to_str().with_context(|| format!("{}: expected UTF-8", target.display()))?;
    let arguments = ["test", "-p", "pagetrace-format", "--no-default-features", "--release", "--test", "loom"];
    cargo(root, &arguments, &[("RUSTFLAGS", "--cfg loom"), ("CARGO_TARGET_DIR", target)])
}
