//! A report as text: what a person needs to know first comes first.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, Table, presets};

use super::advice::{advice, meaning};
use super::go_text;
use super::quantities::{bytes, count, counted, duration, percent, signed_bytes};
use super::report_model::{NamedBytes, Process, Report, Rss, Site};

const HEADING: Style = Style::new().bold();
const WARNING: Style = AnsiColor::Yellow.on_default();
const BAR_COLUMNS: f64 = 30.0;
const SITES_SHOWN: usize = 5;
const FRAMES_SHOWN: usize = 4;
const RANGES_SHOWN: usize = 3;
const PROCESSES_SHOWN: usize = 12;

/// Writes the whole report.
///
/// # Errors
/// What `out` gives.
pub fn write_report(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    if report.format == go_text::FORMAT {
        go_text::write_diagnosis(report, out)?;
    } else {
        write_diagnosis(report, out)?;
        if let Some(process) = largest(report) {
            write_process(process, out)?;
        }
        write_processes(report, out)?;
    }
    write_sources(report, out)?;
    write_gaps(report, out)
}

/// The first lines of a report: what a recording ends with.
///
/// # Errors
/// What `out` gives.
pub fn write_diagnosis(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let Some(process) = largest(report) else {
        return writeln!(out, "Nothing is known of the memory of this program: no snapshot was taken while it ran.");
    };
    let Some((rss, whole)) = rss_of(process) else { return Ok(()) };
    let moment = match report.at.moment {
        "peak" => format!("at the peak, {} after the start", duration(rss.time_ns)),
        "end" => format!("at the end, {} after the start", duration(rss.time_ns)),
        _ => format!("{} after the start", duration(rss.time_ns)),
    };
    writeln!(out, "{HEADING}{} held {} of RAM (RSS) {moment}.{HEADING:#}", name_of(process), bytes(whole))?;
    let mut parts: Vec<_> = classes_of(rss).iter().filter(|(_, bytes)| *bytes > 0).collect();
    parts.sort_by_key(|(_, bytes)| -bytes);
    let parts: Vec<String> = parts
        .iter()
        .take(3)
        .map(|(class, part)| {
            let share = percent(*part as f64, whole as f64);
            format!("{} ({share}) {}: {}", bytes(part.unsigned_abs()), class.replace('_', " "), meaning(class))
        })
        .collect();
    for part in &parts {
        writeln!(out, "  {part}")?;
    }
    let fraction = |fraction: Option<f64>| fraction.map_or("an unknown part".into(), |part| percent(part, 1.0));
    writeln!(
        out,
        "  Explained: {} of the RSS, {} of the allocator's pages.",
        fraction(rss.explained_fraction),
        fraction(rss.allocator_explained_fraction)
    )?;
    if let Some(first) = advice(rss).first() {
        writeln!(out, "  {first}")?;
    }
    Ok(())
}

/// The process that held the most at the moment of the report.
fn largest(report: &Report) -> Option<&Process> {
    let largest = |running: bool| {
        let candidates = report.processes.iter().filter(|process| process.running || !running);
        // Of equal ones the first.
        candidates.rev().filter_map(|process| Some((rss_of(process)?.1, process))).max_by_key(|(bytes, _)| *bytes)
    };
    largest(true).or_else(|| largest(false)).map(|(_, process)| process)
}

fn rss_of(process: &Process) -> Option<(&Rss, u64)> {
    let rss = process.rss.as_ref()?;
    Some((rss, rss.kernel_bytes?))
}

fn classes_of(rss: &Rss) -> &[(&'static str, i64)] {
    rss.classes.as_ref().map_or(&[], |classes| &classes.0)
}

fn name_of(process: &Process) -> String {
    let exe = process.exe.as_deref().unwrap_or("a program of unknown name");
    let name = exe.rsplit('/').next().unwrap_or(exe);
    process.pid.map_or_else(|| name.to_owned(), |pid| format!("{name} (pid {pid})"))
}

fn write_process(process: &Process, out: &mut dyn Write) -> io::Result<()> {
    let Some((rss, whole)) = rss_of(process) else { return Ok(()) };
    write_classes(rss, whole, out)?;
    write_objects(process, out)?;
    write_sites("Who holds the live memory", &process.sites, |site| site.live_bytes, out)?;
    write_sites("Who pins sparse pages", &process.sites, |site| site.pinned_bytes, out)?;
    write_largest("Largest runs of free pages that the allocator keeps", &rss.largest_retained, out)?;
    if classes_of(rss).iter().any(|(class, part)| *class == "other_anonymous" && *part * 20 > whole as i64) {
        write_largest("Largest anonymous memory past the allocator", &rss.largest_other_anonymous, out)?;
    }
    let advice = advice(rss);
    if !advice.is_empty() {
        writeln!(out, "\n{HEADING}What to do{HEADING:#}")?;
        for sentence in advice {
            writeln!(out, "  · {sentence}")?;
        }
    }
    Ok(())
}

fn write_classes(rss: &Rss, whole: u64, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n{HEADING}Where the memory is{HEADING:#}")?;
    let mut table = table();
    for (class, part) in classes_of(rss).iter().filter(|(_, bytes)| *bytes != 0) {
        table.add_row([
            class.replace('_', " "),
            signed_bytes(*part),
            percent(*part as f64, whole as f64),
            meaning(class).to_owned(),
            bar(*part as f64, whole as f64),
        ]);
    }
    table.add_row(["RSS".into(), bytes(whole), "100 %".into(), snapshot_words(rss), String::new()]);
    write_table(table, &[1, 2], out)
}

fn snapshot_words(rss: &Rss) -> String {
    let when = match (rss.snapshot.reason, rss.snapshot.at_exit) {
        (_, true) => "taken at its exit",
        ("growth", _) => "taken as it had grown",
        ("interval", _) => "taken at an interval",
        (other, _) => other,
    };
    let running = if rss.snapshot.stopped { "" } else { ", while it ran" };
    let stands_in = if rss.snapshot.stands_in_for_end { ", the last before its end" } else { "" };
    format!("{when}{running}{stands_in}")
}

fn write_objects(process: &Process, out: &mut dyn Write) -> io::Result<()> {
    let objects = &process.objects;
    let (Some(live), Some(live_bytes)) = (objects.live, objects.live_bytes) else {
        return writeln!(out, "\nObjects of this process were not seen.");
    };
    write!(out, "\n{} live with {}", counted(live, "object"), bytes(live_bytes))?;
    if let (Some(allocated), Some(freed)) = (objects.allocated, objects.freed) {
        write!(out, "; {} allocated and {} freed in the whole recording", count(allocated), count(freed))?;
    }
    match objects.unknown_frees {
        Some(frees) if frees > 0 => writeln!(out, "; {} of what was not known to be live.", counted(frees, "free")),
        _ => writeln!(out, "."),
    }
}

fn write_sites(title: &str, sites: &[Site], key: impl Fn(&Site) -> u64, out: &mut dyn Write) -> io::Result<()> {
    let mut sites: Vec<&Site> = sites.iter().filter(|site| key(site) > 0).collect();
    if sites.is_empty() {
        return Ok(());
    }
    sites.sort_by_key(|site| std::cmp::Reverse(key(site)));
    writeln!(
        out,
        "\n{HEADING}{title}{HEADING:#} ({} of {})",
        sites.len().min(SITES_SHOWN),
        counted_sites(sites.len())
    )?;
    for site in sites.iter().take(SITES_SHOWN) {
        write!(out, "  {} live in {}", bytes(site.live_bytes), counted(site.live_objects, "object"))?;
        match site.pinned_bytes {
            0 => writeln!(out)?,
            pinned => writeln!(out, ", {} pinned", bytes(pinned))?,
        }
        for frame in interesting(&site.stack) {
            writeln!(out, "      {frame}")?;
        }
    }
    Ok(())
}

fn counted_sites(number: usize) -> String {
    counted(number as u64, "site")
}

/// The first frames that say something about the program: those of allocators and containers are the same everywhere.
fn interesting(stack: &[String]) -> Vec<&str> {
    const PLUMBING: [&str; 16] = [
        "malloc",
        "calloc",
        "realloc",
        "__libc_",
        "operator new",
        "alloc::",
        "<alloc::",
        "__rust_alloc",
        "__rustc::",
        "__rdl_",
        "core::",
        "<core::",
        "std::",
        "<std::",
        "hashbrown::",
        "<hashbrown::",
    ];
    let plumbing = stack.iter().take_while(|frame| PLUMBING.iter().any(|start| frame.starts_with(start))).count();
    // A stack of nothing else is still a stack.
    let from = if plumbing == stack.len() { 0 } else { plumbing };
    match stack {
        [] => vec!["(no stack was recorded)"],
        _ => stack[from..].iter().take(FRAMES_SHOWN).map(String::as_str).collect(),
    }
}

fn write_largest(title: &str, ranges: &[NamedBytes], out: &mut dyn Write) -> io::Result<()> {
    if ranges.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{HEADING}{title}{HEADING:#}")?;
    for range in ranges.iter().take(RANGES_SHOWN) {
        writeln!(out, "  {} of {}", bytes(range.bytes), range.name)?;
    }
    Ok(())
}

fn write_processes(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    if report.processes.len() < 2 {
        return Ok(());
    }
    writeln!(out, "\n{HEADING}Processes{HEADING:#}")?;
    let mut table = table();
    for process in report.processes.iter().take(PROCESSES_SHOWN) {
        let rss = rss_of(process).map_or("unknown".into(), |(_, whole)| bytes(whole));
        let live = process.objects.live_bytes.map_or("unknown".into(), bytes);
        let end = process.end_status.clone().unwrap_or_else(|| "end unknown".into());
        let state = if process.running { "running then".into() } else { end };
        table.add_row([name_of(process), format!("RSS {rss}"), format!("live {live}"), state]);
    }
    write_table(table, &[], out)?;
    match report.processes.len().saturating_sub(PROCESSES_SHOWN) {
        0 => Ok(()),
        more => writeln!(out, "  and {more} more: --json has all"),
    }
}

fn write_sources(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    if report.sources.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{HEADING}Sources{HEADING:#}")?;
    for source in &report.sources {
        let active = if source.active { "active" } else { "not active" };
        match source.missed.as_str() {
            "" => writeln!(out, "  {}: {active}", source.name)?,
            missed => writeln!(out, "  {}: {active}; missed: {missed}", source.name)?,
        }
    }
    Ok(())
}

fn write_gaps(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    if !report.complete {
        writeln!(out, "\n{WARNING}This trace is not complete: figures may be too low or too high.{WARNING:#}")?;
    }
    for (reason, events) in &report.lost.reasons {
        let events = if *events == 0 { "some events".into() } else { counted(*events, "event") };
        writeln!(out, "  lost: {events} ({})", reason.replace('_', " "))?;
    }
    for (anomaly, number) in report.anomalies.iter().filter(|(_, number)| **number > 0) {
        writeln!(out, "  contradictions: {} {}", count(*number), anomaly.replace('_', " "))?;
    }
    for defect in &report.defects {
        let bytes = defect.bytes.map_or(String::new(), |bytes| format!(", {}", counted(bytes, "byte")));
        let events = match defect.events_lost {
            0 => String::new(),
            events => format!(", {} lost", counted(events, "event")),
        };
        writeln!(out, "  damaged: {} at offset {}{bytes}{events}", defect.what, defect.offset)?;
    }
    for (module, why) in &report.unresolved_modules {
        writeln!(out, "  no symbols of {module}: {why}")?;
    }
    Ok(())
}

/// A table without borders.
pub fn table() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table
}

/// Writes a table, these columns set right.
///
/// # Errors
/// What `out` gives.
pub fn write_table(mut table: Table, right: &[usize], out: &mut dyn Write) -> io::Result<()> {
    for &column in right {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for line in table.lines() {
        writeln!(out, " {}", line.trim_end())?;
    }
    Ok(())
}

/// A bar for a share of the whole, in eighths of a column.
pub fn bar(part: f64, whole: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (part / whole.max(1.0) * BAR_COLUMNS * 8.0).clamp(0.0, BAR_COLUMNS * 8.0).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}
