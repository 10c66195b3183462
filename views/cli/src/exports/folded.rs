//! Folded stacks: one line a stack, `outermost;…;innermost bytes`, as flame graph tools and `sort` take them.

use std::io::Write;

use pagetrace_replay::HistoryLimits;

use super::site_samples::{BytesOf, analysed, weighted_stacks};
use super::{Export, ExportOptions};
use crate::reports::report_model::Report;
use crate::trace_input::TraceInput;

/// Writes folded stacks.
pub struct FoldedExport;

impl Export for FoldedExport {
    fn export(&self, input: &TraceInput, options: &ExportOptions, out: &mut dyn Write) -> anyhow::Result<u64> {
        analysed(input, options, HistoryLimits::CLASSES, |_, report, _| {
            for line in folded_lines(report, options.bytes) {
                writeln!(out, "{line}")?;
            }
            Ok(report.defects.len() as u64)
        })
    }
}

/// The lines, equal stacks together, in order.
pub fn folded_lines(report: &Report, bytes_of: BytesOf) -> Vec<String> {
    let mut bytes_by_stack = std::collections::BTreeMap::new();
    for (stack, bytes) in weighted_stacks(report, bytes_of) {
        let names: Vec<String> = stack.iter().map(|name| name.replace(';', ":").replace(['\n', '\r'], " ")).collect();
        *bytes_by_stack.entry(names.join(";")).or_insert(0_u64) += bytes;
    }
    bytes_by_stack.into_iter().map(|(stack, bytes)| format!("{stack} {bytes}")).collect()
}
