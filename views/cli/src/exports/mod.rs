//! The formats that a trace can be written in: one file each, behind one trait.

mod text;

mod access_lines;
mod kernel_lines;

mod go;

mod pagetrace;

mod site_samples;

mod folded;

mod flamegraph;

mod pprof;

mod speedscope;

mod perfetto;

mod firefox;

mod csv;

mod output;

use std::io::Write;

use crate::symbols::SymbolOptions;
use crate::trace_input::TraceInput;

pub use site_samples::BytesOf;

pub use output::write_output;

/// A format that a trace can be written in.
pub trait Export {
    /// Writes the whole trace to `out`. Returns how many damaged chunks of events were left out.
    ///
    /// # Errors
    /// What the output gives, and why the trace cannot be written in this format.
    fn export(&self, input: &TraceInput, options: &ExportOptions, out: &mut dyn Write) -> anyhow::Result<u64>;
}

/// What formats of call sites are made of.
#[derive(clap::Args)]
pub struct ExportOptions {
    /// Which bytes of call sites: for flamegraph and folded
    #[arg(long, value_name = "BYTES", default_value = "live")]
    pub bytes: BytesOf,
    #[command(flatten)]
    pub symbols: SymbolOptions,
}

/// The name of a format on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ExportFormat {
    /// One line an event, for people and line tools
    Text,
    /// The page trace format of Go 1.20 to 1.22
    Go,
    /// The native format of pagetrace
    Pagetrace,
    /// A flame graph as SVG, for browsers
    Flamegraph,
    /// One line a call stack: outermost;…;innermost bytes
    Folded,
    /// For pprof: live, pinned and allocated bytes by call site
    Pprof,
    /// For speedscope
    Speedscope,
    /// For Perfetto's viewer: RSS in classes over time, page events by processor
    Perfetto,
    /// For the Firefox Profiler: RSS over time, and what call sites hold
    Firefox,
    /// Comma-separated values: one line a call site
    Csv,
    /// Comma-separated values: one line a snapshot, RSS in classes
    CsvTimeline,
}

impl ExportFormat {
    /// What writes it.
    pub fn exporter(self) -> &'static dyn Export {
        match self {
            ExportFormat::Text => &text::TextExport,
            ExportFormat::Go => &go::GoExport,
            ExportFormat::Pagetrace => &pagetrace::PagetraceExport,
            ExportFormat::Flamegraph => &flamegraph::FlamegraphExport,
            ExportFormat::Folded => &folded::FoldedExport,
            ExportFormat::Pprof => &pprof::PprofExport,
            ExportFormat::Speedscope => &speedscope::SpeedscopeExport,
            ExportFormat::Perfetto => &perfetto::PerfettoExport,
            ExportFormat::Firefox => &firefox::FirefoxExport,
            ExportFormat::Csv => &csv::CsvExport,
            ExportFormat::CsvTimeline => &csv::CsvTimelineExport,
        }
    }
}
