//! What CI runs and what all tests are. Each list is the one place that says so.

use std::path::Path;

use anyhow::Result;

use crate::process::cargo;
use crate::{agreement, debian, harmless, models, programs, readers, sanitize, tests_again, tidy, web};

/// The tracer crate is tested alone as well: in the workspace the preload library switches its feature on, and the
/// twin that is compiled out would never be built. So is the allocator that calls it.
const TESTS: &[&[&str]] = &[
    &["test", "--workspace"],
    &["test", "-p", "pagetrace"],
    &["test", "-p", "pagetrace", "--features", "enabled"],
    &["test", "-p", "page-run-allocator", "--no-default-features"],
    &["test", "-p", "traced-allocators", "--features", "jemalloc"],
];

/// The tests that have golden files.
const GOLDEN_TESTS: &[&[&str]] = &[
    &["test", "-p", "pagetrace-format", "--test", "golden"],
    &["test", "-p", "pagetrace-cli", "--test", "pictures", "browser"],
];

const LINTS: &[&[&str]] = &[
    &["fmt", "--all", "--check"],
    &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
    &["clippy", "-p", "pagetrace", "--all-targets", "--", "-D", "warnings"],
];

/// Everything, cheapest first. Nothing of other projects' tests and programs and of the comparison with the kernel may be skipped here.
pub fn ci(root: &Path) -> Result<()> {
    tidy::run(root)?;
    for arguments in LINTS {
        cargo(root, arguments, &[])?;
    }
    cargo(root, &["doc", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", "-Dwarnings")])?;
    test(root)?;
    harmless::run(root, &[], true)?;
    programs::run(root, &[], true)?;
    agreement::run(root, &[], true)
}

/// All tests of the project.
pub fn test(root: &Path) -> Result<()> {
    debian::provide()?;
    web::check(root)?;
    readers::provide(root)?;
    for arguments in TESTS {
        tests_again::run(root, arguments)?;
    }
    sanitize::under_valgrind(root)?;
    models::run(root)
}

/// Runs the tests that compare with golden files, which then write them instead.
pub fn bless(root: &Path) -> Result<()> {
    for arguments in GOLDEN_TESTS {
        cargo(root, arguments, &[("PAGETRACE_BLESS", "1")])?;
    }
    eprintln!("\nThe golden files are written; `git diff` shows what changed.");
    Ok(())
}
