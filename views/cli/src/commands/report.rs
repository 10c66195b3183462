//! `pagetrace report`: says where the memory of a recorded program is.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use pagetrace_replay::{HistoryLimits, replay_go_heap};

use super::at::At;
use crate::analysis::{Analysis, on_terminal};
use crate::exports::write_output;
use crate::pictures;
use crate::pictures::single_page::single_page;
use crate::reports::report_model::Report;
use crate::reports::{report_of_go_heap, text};
use crate::symbols::{SymbolOptions, Symbols};
use crate::trace_input::TraceInput;

/// Bytes of pages and sites in a page that is one file, before it is compressed.
const PAGE_HISTORY_BYTES: usize = 8 << 20;

/// What to report.
#[derive(clap::Args)]
pub struct ReportArgs {
    /// The moment to show: `peak` of memory, `end` of each process, or a time since the start such as 1.5, 2s or 200ms.
    /// By default the peak; of execution traces of Go the end
    #[arg(long, value_name = "MOMENT")]
    at: Option<At>,
    /// Print JSON with all that is known
    #[arg(long)]
    json: bool,
    /// Write a page with pictures to this file: all in one, to be opened by any browser, also without a network
    #[arg(long, value_name = "OUT", conflicts_with = "json")]
    html: Option<PathBuf>,
    #[command(flatten)]
    symbols: SymbolOptions,
    /// A recording, or a page trace or execution trace of Go
    trace: PathBuf,
}

/// Runs `pagetrace report`.
///
/// # Errors
/// For traces of which nothing can be analysed, and for failed output.
pub fn run(args: ReportArgs) -> anyhow::Result<ExitCode> {
    let input = TraceInput::open(&args.trace)?;
    if let Some(out) = &args.html {
        return write_page(&input, &args, out);
    }
    let report = report(&input, args.at, Some(&args.symbols))?;
    let mut printed = Vec::new();
    if args.json {
        serde_json::to_writer_pretty(&mut printed, &report)?;
        printed.push(b'\n');
    } else {
        text::write_report(&report, &mut printed)?;
    }
    let mut out = anstream::stdout().lock();
    out.write_all(&printed).and_then(|()| out.flush()).context("cannot write the report")?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the page with pictures.
fn write_page(input: &TraceInput, args: &ReportArgs, out: &Path) -> anyhow::Result<ExitCode> {
    let limits = HistoryLimits::whole(PAGE_HISTORY_BYTES);
    let at = At::or_default(args.at, input);
    let analysis = Analysis::of(input, at.moment(), Some(limits), &mut on_terminal())?;
    let symbols = analysis.symbols(Some(&args.symbols));
    let report = report_beside(&analysis, input, at, &symbols)?;
    let pages = pictures::told_pages(&analysis, &args.symbols)?;
    let data = pictures::bytes_of(&analysis, &report, &symbols, pages, false)?;
    let page = single_page(&data)?;
    write_output(Some(out), input.path(), |file| Ok(file.write_all(page.as_bytes())?))?;
    Ok(ExitCode::SUCCESS)
}

/// A few lines on a trace: what a recording ends with. Colours are in it and left to the caller's stream.
///
/// # Errors
/// As [`run`].
pub fn short_diagnosis(path: &Path) -> anyhow::Result<String> {
    let mut diagnosis = Vec::new();
    // It names no function, and its user waits.
    let report = report(&TraceInput::open(path)?, None, None)?;
    text::write_diagnosis(&report, &mut diagnosis)?;
    Ok(String::from_utf8_lossy(&diagnosis).into_owned())
}

/// Without `symbols` no function has a name, and the timeline no classes.
fn report(input: &TraceInput, at: Option<At>, symbols: Option<&SymbolOptions>) -> anyhow::Result<Report> {
    let at = At::or_default(at, input);
    if let Some(bytes) = input.go_execution_trace() {
        return report_of_go(input.path(), bytes, at);
    }
    let analysis = Analysis::of(input, at.moment(), symbols.map(|_| HistoryLimits::CLASSES), &mut on_terminal())?;
    Ok(analysis.report(at.name(), &analysis.symbols(symbols)))
}

/// The report of a trace that has been analysed for pictures.
///
/// # Errors
/// As [`run`].
pub fn report_beside(
    analysis: &Analysis<'_>,
    input: &TraceInput,
    at: At,
    symbols: &Symbols<'_>,
) -> anyhow::Result<Report> {
    match input.go_execution_trace() {
        Some(bytes) => report_of_go(input.path(), bytes, at),
        None => Ok(analysis.report(at.name(), symbols)),
    }
}

/// The heap of a Go program.
fn report_of_go(path: &Path, bytes: &[u8], at: At) -> anyhow::Result<Report> {
    let length = bytes.len() as u64;
    let mut progress = on_terminal();
    let heap = replay_go_heap(bytes, at.moment(), &mut |done| progress(done, length));
    let heap = heap.with_context(|| format!("cannot analyse {}", path.display()))?;
    Ok(report_of_go_heap(&heap, at.name()))
}
