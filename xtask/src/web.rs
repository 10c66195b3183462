//! The page of `pagetrace view`: built by npm's packages, committed as it is built, so that cargo needs neither.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process::run;

const SOURCES: &str = "views/web";
const BUILT: &str = "dist/pagetrace.html";

/// Installs what the page and its tests are made with, as the lock file has it.
pub fn provide(root: &Path) -> Result<()> {
    let lock = fs::read(sources(root).join("package-lock.json")).context("views/web/package-lock.json")?;
    let mark = sources(root).join("node_modules/.installed");
    if fs::read(&mark).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    let arguments = ["ci", "--no-audit", "--no-fund", "--ignore-scripts"];
    npm(root, &arguments).context("the front end's packages: npm is of the Debian package npm, or of Node.js")?;
    fs::write(mark, lock).context("views/web/node_modules")
}

/// Builds the page.
pub fn build(root: &Path) -> Result<()> {
    provide(root)?;
    npm(root, &["run", "build"])
}

/// Fails where the committed page is not what the sources make.
pub fn check(root: &Path) -> Result<()> {
    let page = sources(root).join(BUILT);
    let committed = fs::read(&page).with_context(|| format!("{}: run `cargo xtask web`", page.display()))?;
    build(root)?;
    let built = fs::read(&page).with_context(|| page.display().to_string())?;
    ensure!(built == committed, "{} was not up to date: commit what has been built now", page.display());
    Ok(())
}

fn npm(root: &Path, arguments: &[&str]) -> Result<()> {
    let shown = format!("npm {}", arguments.join(" "));
    run(Command::new("npm").args(arguments).current_dir(sources(root)), &shown)
}

fn sources(root: &Path) -> PathBuf {
    root.join(SOURCES)
}
