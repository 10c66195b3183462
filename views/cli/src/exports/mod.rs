//! The formats that a trace can be written in: one file each, behind one trait.

mod text;

mod access_lines;
mod kernel_lines;

mod go;

mod pagetrace;

mod output;

use std::io::Write;

use crate::trace_input::TraceInput;

pub use output::write_output;

/// A format that a trace can be written in.
pub trait Export {
    /// Writes the whole trace to `out`. Returns how many damaged chunks of events were left out.
    ///
    /// # Errors
    /// What the output gives, and why the trace cannot be written in this format.
    fn export(&self, input: &TraceInput, out: &mut dyn Write) -> anyhow::Result<u64>;
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
}

impl ExportFormat {
    /// What writes it.
    pub fn exporter(self) -> &'static dyn Export {
        match self {
            ExportFormat::Text => &text::TextExport,
            ExportFormat::Go => &go::GoExport,
            ExportFormat::Pagetrace => &pagetrace::PagetraceExport,
        }
    }
}
