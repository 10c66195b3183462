//! The project's own commands, the same on a developer's machine and in CI: `cargo xtask COMMAND`.
#![deny(unsafe_code)]

mod agreement;
mod checks;
mod cost;
mod debian;
mod go_oracle;
mod harmless;
mod models;
mod overhead;
mod pictures;
mod process;
mod programs;
mod readers;
mod sanitize;
mod stress;
mod sys;
mod tests_again;
mod tidy;
mod web;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

const USAGE: &str = "\
usage: cargo xtask COMMAND
  ci                what CI runs: formatting, clippy, documentation, tidy, test, harmless, programs, agreement
  test              all tests of the project; installs what they need from Debian, or says what to install
  tidy              the project's rules on its own files
  loom              the models of the buffer hand-over, in all interleavings
  bless             writes the golden files anew from what the code does now; read the difference before you commit it
  stress [--seconds N]
                    a linked tracer under load: threads, forks and switching at once (default 60 seconds each)
  sanitize          the linked tracer's hazard programs under valgrind and the address sanitizer, where these are
  agreement [--all] [NAME...]
                    programs under the recorder, their pages as predicted and as the kernel has them; with --all nothing
                    may be skipped
  harmless [--all] [NAME...]
                    tests of CPython and redis, alone and recorded: python, redis, or parts of the names of Python's test
                    modules; with --all nothing may be skipped
  programs [--all] [NAME...]
                    redis, PostgreSQL, nginx, node, Java, Go and static programs, alone and recorded: the same answers,
                    and a trace that says what it must; with --all nothing may be skipped
  overhead [NAME...] [--rounds N] [--json]
                    what recording costs: programs plain, recorded, and under heaptrack where that is, in turn
                    (default 5 rounds of all), against what was asked for
  pictures          how long the pictures of `pagetrace view` take, against what was asked for
  web [--check]     builds the page of `pagetrace view` anew; with --check fails where the committed one is another
  cost              what an event costs in the program and in the recorder, stage by stage
  go-oracle [VERSION...]
                    execution traces of Go 1.23 to 1.27, made by toolchains from PyPI, as pagetrace and as Go's tool read them";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = project_root()?;
    match arguments.as_slice() {
        ["ci"] => checks::ci(&root),
        ["test"] => checks::test(&root),
        ["loom"] => models::run(&root),
        ["tidy"] => tidy::run(&root),
        ["bless"] => checks::bless(&root),
        ["sanitize"] => sanitize::run_all(&root),
        ["stress"] => stress::run(&root, stress::DEFAULT_SECONDS),
        ["stress", "--seconds", seconds] => {
            let seconds =
                seconds.parse().with_context(|| format!("--seconds: expected a whole number, found `{seconds}`"))?;
            stress::run(&root, seconds)
        }
        ["agreement", "--all"] => agreement::run(&root, &[], true),
        ["agreement", names @ ..] => agreement::run(&root, names, false),
        ["overhead", arguments @ ..] => overhead::run(&root, &overhead::options(arguments)?),
        ["pictures"] => pictures::run_all(&root),
        ["web"] => web::build(&root),
        ["web", "--check"] => web::check(&root),
        ["cost"] => cost::run(&root),
        ["go-oracle", versions @ ..] => go_oracle::compare(&root, versions),
        ["harmless", "--all"] => harmless::run(&root, &[], true),
        ["harmless", names @ ..] => harmless::run(&root, names, false),
        ["programs", "--all"] => programs::run(&root, &[], true),
        ["programs", names @ ..] => programs::run(&root, names, false),
        [] | ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        other => bail!("unknown command `{}`\n{USAGE}", other.join(" ")),
    }
}

/// The directory above this crate, as cargo tells it at run time: a checkout may have been moved since the build.
fn project_root() -> Result<PathBuf> {
    let crate_directory =
        env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`, so that cargo says where it is")?;
    let root = Path::new(&crate_directory).parent().context("xtask lies in the project's root")?;
    Ok(root.to_path_buf())
}
