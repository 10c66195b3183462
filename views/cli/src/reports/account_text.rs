//! What a report says beside the classes of RSS: the allocator's heaps, leaks, page tables, swap and the control group.

use std::io::{self, Write};

use super::quantities::{bytes, counted, duration, percent};
use super::report_model::{Process, Report, Rss};
use super::sampling_text::bytes_within;
use super::text::{HEADING, interesting};

/// From this share of a control group's limit on it is said that the limit is near.
const NEAR_LIMIT: f64 = 0.9;
const LEAKS_SHOWN: usize = 5;
/// Below this share of the kernel's mark the largest snapshot is not the peak.
const PEAK_SEEN: f64 = 0.95;

/// Where the peak is shown: whether it is the end of a plateau, and whether the largest RSS was seen at all.
///
/// # Errors
/// What `out` gives.
pub fn write_peak(report: &Report, process: &Process, out: &mut dyn Write) -> io::Result<()> {
    if report.at.moment != "peak" {
        return Ok(());
    }
    if let Some(since) = report.peak.near_since_ns {
        let seconds = since as f64 / 1e9;
        let emptied = match &process.rss {
            Some(rss) if rss.snapshot.reason == "exit" => "; this is the exit, where much may have been freed",
            _ => "",
        };
        writeln!(
            out,
            "  RSS was within 2 % of this from {} on{emptied}: --at {seconds:.3} shows what it grew for.",
            duration(since)
        )?;
    }
    if let Some(share) = process.peak_share_of_hwm.filter(|share| *share < PEAK_SEEN) {
        let share = percent(share, 1.0);
        writeln!(
            out,
            "  The largest look is {share} of the largest RSS by the kernel: it grew and shrank in between."
        )?;
    }
    Ok(())
}

/// Sites that look as if they leaked.
///
/// # Errors
/// What `out` gives.
pub fn write_leaks(process: &Process, out: &mut dyn Write) -> io::Result<()> {
    if process.leaks.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{HEADING}What looks leaked at its end{HEADING:#}")?;
    for leak in process.leaks.iter().take(LEAKS_SHOWN) {
        let age = duration(leak.oldest_ns);
        let amount = bytes_within(leak.bytes, leak.bytes_error);
        writeln!(out, "  {amount} in {}, up to {age} old", counted(leak.objects, "object"))?;
        writeln!(out, "    {}", leak.why)?;
        for frame in interesting(&leak.stack) {
            writeln!(out, "      {frame}")?;
        }
    }
    Ok(())
}

/// What a process costs beside its RSS.
///
/// # Errors
/// What `out` gives.
pub fn write_beside_rss(rss: &Rss, out: &mut dyn Write) -> io::Result<()> {
    let kernel = &rss.kernel;
    let figures = [("page tables", kernel.page_tables), ("swap", kernel.swap.or(rss.swapped_bytes))];
    let shown: Vec<String> = figures
        .iter()
        .filter_map(|(name, figure)| {
            figure.filter(|bytes| *bytes > 0).map(|figure| format!("{} {name}", bytes(figure)))
        })
        .collect();
    if !shown.is_empty() {
        writeln!(out, "\nBeside RSS: {}.", shown.join(", "))?;
    }
    let cgroup = &kernel.cgroup;
    let Some(current) = cgroup.current else { return Ok(()) };
    let parts = [
        ("anonymous", cgroup.anonymous),
        ("page cache", cgroup.file),
        ("shared memory", cgroup.shmem),
        ("slab", cgroup.slab),
        ("page tables", cgroup.page_tables),
        ("kernel stacks", cgroup.kernel_stacks),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter_map(|(name, part)| part.filter(|bytes| *bytes > 0).map(|part| format!("{} {name}", bytes(part))))
        .collect();
    let parts = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
    match cgroup.limit.filter(|limit| *limit > 0) {
        None => writeln!(out, "Its control group has {}{parts} and no limit.", bytes(current)),
        Some(limit) => {
            let share = percent(current as f64, limit as f64);
            writeln!(
                out,
                "Its control group has {}{parts}, {share} of its limit of {}.",
                bytes(current),
                bytes(limit)
            )?;
            match current as f64 >= limit as f64 * NEAR_LIMIT {
                true => writeln!(
                    out,
                    "  The limit is near: beyond it the kernel drops page cache, and then it ends a process of the group."
                ),
                false => Ok(()),
            }
        }
    }
}
