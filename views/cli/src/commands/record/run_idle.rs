//! `pagetrace run-idle`: runs a command with the tracer in it that does nothing until `record -p` wakes it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anstream::eprintln;
use pagetrace_format::idle::IDLE_VARIABLE;
use pagetrace_kernel::elf::{ElfKind, Executable};
use pagetrace_kernel::recorder::UnseenProgram;

use super::library::{self, Library};
use super::{EXIT_RECORDER, Failure, cannot_run, found_program};

/// Options of `run-idle`.
#[derive(clap::Args)]
pub struct RunIdleArgs {
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Becomes the command: same pid, nothing in between.
///
/// # Errors
/// None: what goes wrong has exit statuses of its own and is printed here.
pub fn run_idle(args: RunIdleArgs) -> anyhow::Result<ExitCode> {
    let name = &args.command[0];
    tell_what_cannot_be_seen(&found_program(name));
    let library = match Library::install_to_stay() {
        Ok(library) => library,
        Err(error) => {
            eprintln!("pagetrace: {error:#}");
            return Ok(ExitCode::from(EXIT_RECORDER));
        }
    };
    let mut command = Command::new(name);
    command.args(&args.command[1..]);
    if library::starts_with_library(&found_program(name)) {
        command.env(IDLE_VARIABLE, "1");
        command.env("LD_PRELOAD", library::preload_list(&library.path, std::env::var_os("LD_PRELOAD")));
    }
    let Failure { status, error } = cannot_run(name, command.exec());
    drop(library);
    eprintln!("pagetrace: {error:#}");
    Ok(ExitCode::from(status))
}

fn tell_what_cannot_be_seen(program: &Path) {
    let is_unseen =
        |it: &Executable| it.gains_rights || matches!(it.kind, ElfKind::Static | ElfKind::OtherArchitecture { .. });
    if Executable::inspect(program).is_ok_and(|it| is_unseen(&it)) || !library::starts_with_library(program) {
        let unseen = UnseenProgram { program: program.to_string_lossy().into_owned(), hidden: false };
        eprintln!("pagetrace: {}: {}", program.display(), library::why_unseen(&unseen));
    }
}
