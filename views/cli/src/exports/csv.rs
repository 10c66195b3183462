//! Comma-separated values (RFC 4180): the sites of all processes, or RSS in classes over time.

use std::io::{self, Write};

use pagetrace_replay::HistoryLimits;

use super::site_samples::{METRICS, analysed, class_names, process_name, values_of};
use super::{Export, ExportOptions};
use crate::reports::report_model::{Report, TimelinePoint};
use crate::trace_input::TraceInput;

/// Writes one line a site.
pub struct CsvExport;

/// Writes one line a snapshot.
pub struct CsvTimelineExport;

impl Export for CsvExport {
    fn export(&self, input: &TraceInput, options: &ExportOptions, out: &mut dyn Write) -> anyhow::Result<u64> {
        analysed(input, options, HistoryLimits::CLASSES, |_, report, _| {
            let heads = ["program", "pid"].into_iter().chain(METRICS.map(|(name, _)| name)).chain(["stack"]);
            write_row(out, heads.map(str::to_owned))?;
            for process in &report.processes {
                for site in &process.sites {
                    let numbers = values_of(site).map(|number| number.map_or_else(String::new, |it| it.to_string()));
                    let pid = process.pid.map_or_else(String::new, |pid| pid.to_string());
                    let first = [process_name(process), pid].into_iter();
                    // One function a line within the field: names hold anything else.
                    let stack = site.stack.join("\n");
                    write_row(out, first.chain(numbers).chain([stack]))?;
                }
            }
            Ok(report.defects.len() as u64)
        })
    }
}

impl Export for CsvTimelineExport {
    fn export(&self, input: &TraceInput, options: &ExportOptions, out: &mut dyn Write) -> anyhow::Result<u64> {
        analysed(input, options, HistoryLimits::whole(0), |_, report, _| {
            write_timeline(report, out)?;
            Ok(report.defects.len() as u64)
        })
    }
}

fn write_timeline(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let classes = class_names(report);
    let heads = ["time_ns", "program", "pid", "rss_bytes"].into_iter().chain(classes.iter().copied());
    write_row(out, heads.map(str::to_owned))?;
    let or_nothing = |number: Option<String>| number.unwrap_or_default();
    for TimelinePoint { time_ns, process, rss_bytes, classes: found } in &report.timeline {
        let process = process.map(|process| &report.processes[process]);
        let first = [
            time_ns.to_string(),
            or_nothing(process.map(process_name)),
            or_nothing(process.and_then(|process| process.pid).map(|pid| pid.to_string())),
            or_nothing(rss_bytes.map(|bytes| bytes.to_string())),
        ];
        let of = |name: &str| {
            let found = found.iter().flat_map(|classes| &classes.0).find(|(class, _)| *class == name);
            or_nothing(found.map(|(_, bytes)| bytes.to_string()))
        };
        write_row(out, first.into_iter().chain(classes.iter().map(|name| of(name))))?;
    }
    Ok(())
}

fn write_row(out: &mut dyn Write, fields: impl Iterator<Item = String>) -> io::Result<()> {
    let quoted = fields.map(|field| match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field,
    });
    write!(out, "{}\r\n", quoted.collect::<Vec<_>>().join(","))
}
