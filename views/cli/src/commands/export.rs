//! `pagetrace export`: writes a trace in another format.

use std::path::PathBuf;
use std::process::ExitCode;

use anstream::eprintln;

use crate::exports::{ExportFormat, ExportOptions, write_output};
use crate::trace_input::TraceInput;

/// What to export, and where to.
#[derive(clap::Args)]
pub struct ExportArgs {
    /// The format to write
    #[arg(long, value_name = "FORMAT")]
    to: ExportFormat,
    /// Where to write; standard output without it. A file there is replaced when all is written
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    options: ExportOptions,
    /// A recording, or a page trace or execution trace of Go
    trace: PathBuf,
}

/// Runs `pagetrace export`.
///
/// # Errors
/// For unreadable traces, traces that do not fit the format, and failed writes.
pub fn run(args: ExportArgs) -> anyhow::Result<ExitCode> {
    let input = TraceInput::open(&args.trace)?;
    let mut damaged_chunks = 0;
    write_output(args.output.as_deref(), &args.trace, |out| {
        damaged_chunks = args.to.exporter().export(&input, &args.options, out)?;
        Ok(())
    })?;
    if damaged_chunks > 0 {
        eprintln!("pagetrace: {damaged_chunks} damaged chunks of {} were left out", input.path().display());
    }
    Ok(ExitCode::SUCCESS)
}
