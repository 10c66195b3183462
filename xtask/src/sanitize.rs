//! The hazard programs under checkers of memory: valgrind, and the address sanitizer of a nightly compiler. What is not
//! installed is skipped, and said to be.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::process::{cargo, run, target_directory};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// valgrind runs one thread at a time and each instruction a hundred times slower: these are quick.
const UNDER_VALGRIND: &[&str] = &[
    "one_run",
    "init_twice",
    "finish_early_and_twice",
    "hooks_before_and_after",
    "reset_and_again",
    "unknown_frees",
    "started_by_environment",
    "off_keep_resumes",
    "off_drop_forgets",
    "guard_leaked",
    "panic_in_thread",
    "fork_exits",
    "fork_of_fork",
];

const VALGRIND: &str = "valgrind --quiet --error-exitcode=99 --vgdb=no";

/// A checker that is there runs, and fails where it finds something.
pub fn run_all(root: &Path) -> Result<()> {
    let mut skipped = 0;
    for checker in [valgrind, address_sanitizer] {
        if let Some(why) = checker(root)? {
            println!("skipped: {why}");
            skipped += 1;
        }
    }
    println!("sanitize: {} of 2 checkers ran, {skipped} skipped", 2 - skipped);
    Ok(())
}

fn valgrind(root: &Path) -> Result<Option<String>> {
    if !runs(Command::new("valgrind").arg("--version")) {
        return Ok(Some("valgrind is not installed".to_owned()));
    }
    under_valgrind(root).map(|()| None)
}

/// The quick hazard programs under valgrind.
pub fn under_valgrind(root: &Path) -> Result<()> {
    let mut arguments = vec!["test", "-p", "pagetrace", "--features", "enabled", "--test", "hazards", "--"];
    arguments.extend(UNDER_VALGRIND);
    cargo(root, &arguments, &[("HAZARD_RUNNER", VALGRIND)])
}

fn address_sanitizer(root: &Path) -> Result<Option<String>> {
    if !runs(Command::new("rustc").args(["+nightly", "--version"])) {
        return Ok(Some("the address sanitizer needs a nightly compiler, and none is installed".to_owned()));
    }
    let sysroot = Command::new("rustc").args(["+nightly", "--print", "sysroot"]).output().context("rustc")?;
    let sysroot = String::from_utf8(sysroot.stdout).context("a path in UTF-8")?;
    let library = Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).join("lib/librustc-nightly_rt.asan.a");
    if !library.exists() {
        return Ok(Some(format!("the nightly compiler has no address sanitizer: {}", library.display())));
    }
    let mut command = Command::new("cargo");
    command.current_dir(root).args([
        "+nightly",
        "test",
        "-p",
        "pagetrace",
        "--features",
        "enabled",
        "--test",
        "hazards",
    ]);
    command.args(["--target", TARGET]).env("CARGO_TARGET_DIR", target_directory(root).join("sanitize"));
    // Objects are left alive on purpose, and a program is to die of the signal that it asks for.
    command.env("RUSTFLAGS", "-Zsanitizer=address -Cforce-frame-pointers=yes");
    command.env("ASAN_OPTIONS", "detect_leaks=0:handle_segv=0:handle_abort=0");
    for (name, _) in std::env::vars_os() {
        // Those that the toolchain's proxy has set for this task's own compiler.
        if name == "CARGO" || name == "RUSTUP_TOOLCHAIN" || name == "RUSTC" {
            command.env_remove(name);
        }
    }
    run(&mut command, "cargo +nightly test -p pagetrace --test hazards, with -Zsanitizer=address")?;
    Ok(None)
}

fn runs(command: &mut Command) -> bool {
    // Within `cargo xtask` the toolchain is chosen already, and `+nightly` would not be understood.
    command.env_remove("RUSTUP_TOOLCHAIN").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
