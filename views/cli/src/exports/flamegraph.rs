//! A flame graph as an SVG that browsers zoom and search.

use std::io::Write;

use inferno::flamegraph::{self, Options};
use pagetrace_replay::HistoryLimits;

use super::folded::folded_lines;
use super::site_samples::{BytesOf, analysed};
use super::{Export, ExportOptions};
use crate::trace_input::TraceInput;

/// Writes an SVG.
pub struct FlamegraphExport;

impl Export for FlamegraphExport {
    fn export(&self, input: &TraceInput, options: &ExportOptions, out: &mut dyn Write) -> anyhow::Result<u64> {
        analysed(input, options, HistoryLimits::CLASSES, |_, report, _| {
            let lines = folded_lines(report, options.bytes);
            anyhow::ensure!(
                !lines.is_empty(),
                "there is nothing to draw: no site has such bytes; choose other --bytes"
            );
            let mut drawn = Options::default();
            drawn.title = match options.bytes {
                BytesOf::Live => "Live bytes at the peak",
                BytesOf::Pinned => "Bytes pinned at the peak",
                BytesOf::Allocated => "Bytes allocated in all",
                BytesOf::Touched => "Resident bytes at the peak by first touch",
            }
            .into();
            drawn.count_name = "bytes".into();
            // The same trace gives the same file.
            drawn.deterministic = true;
            drawn.hash = true;
            flamegraph::from_lines(&mut drawn, lines.iter().map(String::as_str), out)?;
            Ok(report.defects.len() as u64)
        })
    }
}
