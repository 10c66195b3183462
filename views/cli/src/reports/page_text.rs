//! What page events say, and which of an allocator's buffers they came through.

use std::cmp::Reverse;
use std::io::{self, Write};

use anstyle::Style;

use super::quantities::{bytes, count, counted};
use super::report_model::Report;
use super::text::{bar, name_of, table, write_table};

const HEADING: Style = Style::new().bold();
const BUFFERS_SHOWN: usize = 12;

/// Pages by their state and page events by their kind, of any trace that has page events.
///
/// # Errors
/// What `out` gives.
pub fn write_pages(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let size = |pages: Option<u64>| pages.map_or("unknown".into(), |pages| bytes(pages * report.page_size));
    let (peak, last) = (&report.peak, &report.last);
    writeln!(out, "\n{HEADING}Pages{HEADING:#} of {}", bytes(report.page_size))?;
    let rows = [
        ("in use at the peak", peak.pages_in_use),
        ("in use at the end", last.pages_in_use),
        ("free, kept, at the end", last.pages_free),
        ("given back, at the end", last.pages_returned),
    ];
    let whole = peak.pages_in_use.unwrap_or(0).max(1);
    let mut states = table();
    for (name, pages) in rows {
        let number = pages.map_or("unknown".into(), count);
        states.add_row([name.into(), number, size(pages), bar(pages.unwrap_or(0) as f64, whole as f64)]);
    }
    write_table(states, &[1, 2], out)?;
    if report.gaps.number > 0 {
        writeln!(out, "  The end counts pages of which something was recorded since recording was last off.")?;
    }

    writeln!(out, "\n{HEADING}Page events{HEADING:#}")?;
    let mut events = table();
    let rows = [
        ("alloc", report.events.alloc, report.pages.alloc),
        ("free", report.events.free, report.pages.free),
        ("scavenge", report.events.scavenge, report.pages.scavenge),
    ];
    for (name, number, pages) in rows {
        events.add_row([name.into(), count(number), format!("{} pages", count(pages))]);
    }
    write_table(events, &[1, 2], out)
}

/// The activity of buffers that allocators have beside those of their threads.
///
/// # Errors
/// What `out` gives.
pub fn write_buffers(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    if report.buffers.is_empty() {
        return Ok(());
    }
    let events = report.buffers.iter().map(|buffer| buffer.events).sum();
    let number = report.buffers.len() as u64;
    writeln!(
        out,
        "\n{HEADING}Buffers of allocators{HEADING:#}: {} in {}",
        counted(events, "event"),
        counted(number, "buffer")
    )?;
    let whole = report.buffers.iter().map(|buffer| buffer.events).max().unwrap_or(0);
    let mut buffers: Vec<_> = report.buffers.iter().collect();
    buffers.sort_by_key(|buffer| Reverse(buffer.events));
    let mut table = table();
    for buffer in buffers.iter().take(BUFFERS_SHOWN) {
        let of = buffer.process.and_then(|place| report.processes.get(place)).map_or_else(String::new, name_of);
        let (name, events) = (format!("B{}", buffer.buffer), counted(buffer.events, "event"));
        table.add_row([name, of, events, bar(buffer.events as f64, whole as f64)]);
    }
    write_table(table, &[2], out)?;
    match buffers.len().saturating_sub(BUFFERS_SHOWN) {
        0 => Ok(()),
        more => writeln!(out, "  and {more} more: --json has all"),
    }
}
