//! The subcommands, one file each.

mod export;

use std::process::ExitCode;

/// What `pagetrace` can be asked to do.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Write a trace in another format
    Export(export::ExportArgs),
}

impl Command {
    /// Runs it.
    ///
    /// # Errors
    /// What stopped it, with what to do.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Command::Export(args) => export::run(args),
        }
    }
}
