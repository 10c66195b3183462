//! Runs the commands that the tasks are made of, and says which one failed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A step: `cargo` with these arguments and environment, in `root`.
pub fn cargo(root: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    run(&mut cargo_command(root, arguments, environment), &shown("cargo", arguments, environment))
}

/// The command of such a step.
pub fn cargo_command(root: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    // The cargo that runs us, so that a chosen toolchain stays chosen.
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(program);
    command.current_dir(root).args(arguments).envs(environment.iter().copied());
    // Cargo sets these for `cargo run`; a build script that sees them change would be run again each time.
    for (name, _) in std::env::vars_os() {
        let ours =
            name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
        if ours {
            command.env_remove(name);
        }
    }
    command
}

/// Prints what is run, runs it, and fails if it does.
pub fn run(command: &mut Command, shown: &str) -> Result<()> {
    eprintln!("\n$ {shown}");
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    ensure!(status.success(), "`{shown}` failed ({status})");
    Ok(())
}

/// What a person would type for it.
pub fn shown(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let settings = environment.iter().map(|(name, value)| format!("{name}='{value}' "));
    format!("{}{program} {}", settings.collect::<String>(), arguments.join(" "))
}

/// Where cargo puts what it builds.
pub fn target_directory(root: &Path) -> PathBuf {
    // Relative to where cargo runs, which is the root.
    root.join(std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from))
}
