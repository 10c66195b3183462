//! The subcommands, one file each.

mod record;

mod report;

mod view;

mod at;

mod export;

mod doctor;

use std::process::ExitCode;

/// What `pagetrace` can be asked to do.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Run a command and record where its memory goes
    Record(record::RecordArgs),
    /// Run a command that `record -p` can look into later: its tracer is there and does nothing until then
    RunIdle(record::RunIdleArgs),
    /// Say where the memory of a recorded program is
    Report(report::ReportArgs),
    /// Show a trace in the browser: memory over time, page by page, by call site
    View(view::ViewArgs),
    /// Write a trace in another format
    Export(export::ExportArgs),
    /// Say which sources of data work here, and what to do about those that do not
    Doctor(doctor::DoctorArgs),
}

impl Command {
    /// Runs it.
    ///
    /// # Errors
    /// What stopped it, with what to do.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Command::Record(args) => record::run(args),
            Command::RunIdle(args) => record::run_idle(args),
            Command::Report(args) => report::run(args),
            Command::View(args) => view::run(args),
            Command::Export(args) => export::run(args),
            Command::Doctor(args) => doctor::run(args),
        }
    }
}
