//! `pagetrace report`: says where the memory of a recorded program is.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use pagetrace_format::{Trace, TraceNanos};
use pagetrace_replay::{Moment, replay, replay_go_heap};

use crate::reports::report_model::Report;
use crate::reports::{report_of, report_of_go_heap, text};
use crate::symbols::SymbolOptions;
use crate::trace_input::TraceInput;

/// After so many events the part of the trace that has been read is taken out of memory: some megabytes.
const GIVE_BACK_EVENTS: u64 = 1 << 20;

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
    let report = report(&args.trace, args.at, Some(&args.symbols))?;
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

/// A few lines on a trace: what a recording ends with. Colours are in it and left to the caller's stream.
///
/// # Errors
/// As [`run`].
pub fn short_diagnosis(path: &Path) -> anyhow::Result<String> {
    let mut diagnosis = Vec::new();
    // It names no function, and its user waits.
    text::write_diagnosis(&report(path, None, None)?, &mut diagnosis)?;
    Ok(String::from_utf8_lossy(&diagnosis).into_owned())
}

/// Without `symbols` no function has a name.
fn report(path: &Path, at: Option<At>, symbols: Option<&SymbolOptions>) -> anyhow::Result<Report> {
    let input = TraceInput::open(path)?;
    if let Some(bytes) = input.go_execution_trace() {
        return report_of_go(path, bytes, at.unwrap_or(At::End));
    }
    let at = at.unwrap_or(At::Peak);
    let trace = input.trace()?;
    let progress = progress_bar(event_count(&trace));
    let mut given_back = 0;
    let replayed = replay(&trace, at.moment(), &mut |done| {
        progress.set_position(done);
        // The first call comes when all but the events has been read.
        if done == 0 || done - given_back >= GIVE_BACK_EVENTS {
            given_back = done;
            input.give_back_memory();
        }
    });
    progress.finish_and_clear();
    let replayed = replayed.with_context(|| format!("cannot analyse {}", path.display()))?;
    Ok(report_of(&trace, &replayed, at.name(), symbols))
}

/// The heap of a Go program.
fn report_of_go(path: &Path, bytes: &[u8], at: At) -> anyhow::Result<Report> {
    let progress = progress_bar(bytes.len() as u64);
    let heap = replay_go_heap(bytes, at.moment(), &mut |done| progress.set_position(done));
    progress.finish_and_clear();
    let heap = heap.with_context(|| format!("cannot analyse {}", path.display()))?;
    Ok(report_of_go_heap(&heap, at.name()))
}

fn event_count(trace: &Trace<'_>) -> u64 {
    let chunks = trace.chunks().iter().map(|chunk| chunk.header);
    chunks.filter(|header| header.kind.has_events()).map(|header| u64::from(header.count)).sum()
}

/// Shown on standard error, and only where that is a terminal.
fn progress_bar(length: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{wide_bar} {percent} % {eta}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}

/// A moment, as it is written on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Peak,
    End,
    Time(Duration),
}

impl At {
    fn name(self) -> &'static str {
        match self {
            At::Peak => "peak",
            At::End => "end",
            At::Time(_) => "time",
        }
    }

    fn moment(self) -> Moment {
        match self {
            At::Peak => Moment::Peak,
            At::End => Moment::End,
            At::Time(time) => Moment::At(TraceNanos(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))),
        }
    }
}

impl FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<At, String> {
        match text {
            "peak" => return Ok(At::Peak),
            "end" => return Ok(At::End),
            _ => {}
        }
        let (number, unit) = match text.find(|c: char| c.is_ascii_alphabetic()) {
            Some(place) => text.split_at(place),
            None => (text, "s"),
        };
        let nanos = match unit {
            "s" => 1e9,
            "ms" => 1e6,
            "us" => 1e3,
            "ns" => 1.0,
            _ => return Err("expected peak, end, or a time since the start such as 1.5, 2s or 200ms".into()),
        };
        let number: f64 = number.trim().parse().map_err(|_| format!("expected peak, end or a time, found {text:?}"))?;
        Duration::try_from_secs_f64(number * nanos / 1e9)
            .map(At::Time)
            .map_err(|_| format!("expected a time since the start, at least 0, found {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_so() {
        fn check(text: &str, expected: Option<At>) {
            assert_eq!(text.parse::<At>().ok(), expected, "{text}");
        }
        let time = |millis| Some(At::Time(Duration::from_millis(millis)));
        check("peak", Some(At::Peak));
        check("end", Some(At::End));
        check("0", time(0));
        check("1.5", time(1500));
        check("1.5s", time(1500));
        check("200ms", time(200));
        check("2000us", time(2));
        check("3000000ns", time(3));
        check("", None);
        check("-1", None);
        check("5 minutes", None);
        check("1h", None);
        check("nan", None);
        check("1e30", None);
    }
}
