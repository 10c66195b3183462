//! The diagnosis of a page trace of Go: pages in use at the peak and at the end, and what was given back.

use std::io::{self, Write};

use anstyle::Style;

use super::go_pages_text::write_go_pages;
use super::page_text::write_pages;
use super::quantities::{bytes, duration, percent};
use super::report_model::Report;

/// The format that these traces have in reports.
pub const FORMAT: &str = "go-page-trace";

const HEADING: Style = Style::new().bold();

/// Writes it.
///
/// # Errors
/// What `out` gives.
pub fn write_diagnosis(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let size = |pages: Option<u64>| pages.map_or("unknown".into(), |pages| bytes(pages * report.page_size));
    let (peak, last) = (&report.peak, &report.last);
    let when = peak.time_ns.map_or(String::new(), |time| format!(", {} after the start", duration(time)));
    writeln!(
        out,
        "{HEADING}This Go program had {} of pages in use at its peak{when}.{HEADING:#}",
        size(peak.pages_in_use)
    )?;
    writeln!(
        out,
        "  At the end {} were in use, {} free but kept, {} given back to the kernel.",
        size(last.pages_in_use),
        size(last.pages_free),
        size(last.pages_returned)
    )?;
    if let (Some(used), Some(free)) = (last.pages_in_use, last.pages_free) {
        let held = used + free;
        let share = percent(free as f64, held as f64);
        writeln!(out, "  Of what the runtime then held, {share} was free: {}", free_words(free, held))?;
    }
    writeln!(out, "  The trace covers {}; it has no stacks, objects or RSS.", duration(report.duration_ns))?;

    write_pages(report, out)?;
    match &report.go_pages {
        Some(pages) => write_go_pages(report, pages, out),
        None => Ok(()),
    }
}

fn free_words(free: u64, held: u64) -> &'static str {
    if free * 4 > held {
        "debug.FreeOSMemory or a GOMEMLIMIT gives it back sooner."
    } else {
        "little to gain by giving more back."
    }
}
