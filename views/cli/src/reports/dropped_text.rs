//! What a recording that is kept within bounds has no events of any more, for people.

use std::io::{self, Write};

use super::quantities::{bytes, counted, duration};
use super::report_model::{Dropped, Report};

/// Where the peak lies before what was kept: that it does.
///
/// # Errors
/// What `out` gives.
pub fn write_dropped_peak(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let Some(Dropped { rss_peak_bytes: Some(peak), rss_peak_time_ns: Some(time), .. }) = report.dropped else {
        return Ok(());
    };
    let running = report.processes.iter().filter(|process| process.running);
    let shown: u64 = running.filter_map(|process| process.rss.as_ref()?.kernel_bytes).sum();
    if report.at.moment != "peak" || peak <= shown {
        return Ok(());
    }
    let (peak, time) = (bytes(peak), duration(time));
    writeln!(out, "  All processes held more, {peak}, {time} after the start: of then nothing else was kept.")
}

/// What was dropped, and what that means for the figures.
///
/// # Errors
/// What `out` gives.
pub fn write_dropped(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let Some(Dropped { before_ns, cuts, .. }) = report.dropped else { return Ok(()) };
    let (before, cuts) = (duration(before_ns), counted(cuts, "cut"));
    writeln!(out, "\nEvents of the first {before} were dropped to keep the recording within its bounds ({cuts}).")?;
    writeln!(out, "  Counts include them. From then on all is exact; of processes that ended before, figures are left.")
}
