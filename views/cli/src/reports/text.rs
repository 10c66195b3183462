//! A report as text: what a person needs to know first comes first.

use std::cmp::Reverse;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, Table, presets};

use super::account_text::{write_beside_rss, write_leaks, write_peak};
use super::advice::{advice, meaning};
use super::dropped_text::{write_dropped, write_dropped_peak};
use super::page_text::{write_buffers, write_pages};
use super::quantities::{bytes, count, counted, duration, percent, signed_bytes};
use super::report_model::{NamedBytes, Process, Report, Rss, Site};
use super::sampling_text::{class_within, live_of, write_sampled_objects, write_sampling};
use super::stack_text::write_object_stacks;
use super::timeline_text::write_timeline;
use super::touch_text::{write_agreement, write_touches};
use super::tree_text::{write_tree, write_tree_line};
use super::unseen_text::{write_past_allocator, write_unseen_objects};
use super::write_text::write_writes;
use super::{go_heap_text, go_text};

/// How headings look.
pub const HEADING: Style = Style::new().bold();
const WARNING: Style = AnsiColor::Yellow.on_default();
const BAR_COLUMNS: f64 = 30.0;
const SITES_SHOWN: usize = 5;
const FRAMES_SHOWN: usize = 4;
const RANGES_SHOWN: usize = 3;
const FRAME_COLUMNS: usize = 110;
const PROCESSES_SHOWN: usize = 12;

/// Writes the whole report.
///
/// # Errors
/// What `out` gives.
pub fn write_report(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    if report.format == go_text::FORMAT {
        go_text::write_diagnosis(report, out)?;
    } else if let Some(heap) = &report.go_heap {
        go_heap_text::write_diagnosis(report, heap, out)?;
    } else {
        write_diagnosis(report, out)?;
        if let Some(process) = largest(report) {
            write_process(report, process, out)?;
        }
        write_tree(report, out)?;
        write_processes(report, out)?;
        if report.peak.pages_in_use.is_some() {
            write_pages(report, out)?;
        }
    }
    if report.go_heap.is_none() {
        write_object_stacks(&report.stacks.object_events, out)?;
    }
    write_sources(report, out)?;
    write_buffers(report, out)?;
    write_gaps(report, out)?;
    write_dropped(report, out)?;
    write_missing(report, out)
}

/// The first lines of a report: what a recording ends with.
///
/// # Errors
/// What `out` gives.
pub fn write_diagnosis(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let Some(process) = largest(report) else { return writeln!(out, "The trace has no process.") };
    let Some((rss, whole)) = rss_of(process) else {
        let live = process.objects.live_bytes.map_or("an unknown amount".into(), bytes);
        let name = name_of(process);
        writeln!(out, "{HEADING}{name} held {live} in live objects; its RSS is not known.{HEADING:#}")?;
        return writeln!(out, "  No look at its pages was taken before it ended: record it with a shorter --interval.");
    };
    let moment = match report.at.moment {
        "peak" => format!("at the peak, {} after the start", duration(rss.time_ns)),
        "end" => format!("at the end, {} after the start", duration(rss.time_ns)),
        _ => format!("{} after the start", duration(rss.time_ns)),
    };
    writeln!(out, "{HEADING}{} held {} of RAM (RSS) {moment}.{HEADING:#}", name_of(process), bytes(whole))?;
    write_dropped_peak(report, out)?;
    let mut parts: Vec<_> = classes_of(rss).iter().filter(|(_, bytes)| *bytes > 0).collect();
    parts.sort_by_key(|(_, bytes)| -bytes);
    let parts: Vec<String> = parts
        .iter()
        .take(3)
        .map(|(class, part)| {
            let share = percent(*part as f64, whole as f64);
            let amount = format!("{}{}", bytes(part.unsigned_abs()), class_within(rss, class, *part));
            format!("{amount} ({share}) {}: {}", class.replace('_', " "), meaning(class))
        })
        .collect();
    for part in &parts {
        writeln!(out, "  {part}")?;
    }
    let fraction = |fraction: Option<f64>| fraction.map_or("an unknown part".into(), |part| percent(part, 1.0));
    match &report.sampling {
        None => writeln!(
            out,
            "  Explained: {} of the RSS, {} of the allocator's pages.",
            fraction(rss.explained_fraction),
            fraction(rss.allocator_explained_fraction)
        )?,
        Some(_) => writeln!(out, "  Explained: {} of the RSS.", fraction(rss.explained_fraction))?,
    }
    write_tree_line(report, out)?;
    write_sampling(report, out)?;
    if !rss.snapshot.stopped {
        let which = "The process was running while this was looked at";
        writeln!(out, "  {which}: what changed meanwhile is in the unexplained part, which can be negative.")?;
    }
    if rss.snapshot.recording_off {
        writeln!(out, "  Recording was switched off then: objects that came and went meanwhile were not seen.")?;
    }
    write_peak(report, process, out)?;
    if let Some(first) = advice(rss).first() {
        writeln!(out, "  {first}")?;
    }
    match process.advice.first() {
        Some(first) => writeln!(out, "  {}", first.what),
        None => Ok(()),
    }
}

/// The process that held the most at the moment of the report; one that ran then is preferred, and one whose RSS is
/// known.
fn largest(report: &Report) -> Option<&Process> {
    let held = |process: &Process| {
        let rss = rss_of(process).map(|(_, whole)| whole);
        (process.running && rss.is_some(), rss, process.objects.live_bytes)
    };
    // Of equal ones the first.
    report.processes.iter().rev().max_by_key(|process| held(process))
}

fn rss_of(process: &Process) -> Option<(&Rss, u64)> {
    let rss = process.rss.as_ref()?;
    Some((rss, rss.kernel_bytes?))
}

fn classes_of(rss: &Rss) -> &[(&'static str, i64)] {
    rss.classes.as_ref().map_or(&[], |classes| &classes.0)
}

/// A process by its program's name and pid.
pub fn name_of(process: &Process) -> String {
    let exe = process.exe.as_deref().unwrap_or("a program of unknown name");
    let name = exe.rsplit('/').next().unwrap_or(exe);
    process.pid.map_or_else(|| name.to_owned(), |pid| format!("{name} (pid {pid})"))
}

fn write_process(report: &Report, process: &Process, out: &mut dyn Write) -> io::Result<()> {
    let known = rss_of(process);
    if let Some((rss, whole)) = known {
        write_classes(rss, whole, out)?;
    }
    if let Some(place) = report.processes.iter().position(|it| std::ptr::eq(it, process)) {
        write_timeline(report, place, out)?;
    }
    write_agreement(process, out)?;
    write_objects(report, process, out)?;
    write_sites("Who holds the live memory", SiteOrder::Live, &process.sites, out)?;
    write_sites("Who pins sparse pages", SiteOrder::Pinned, &process.sites, out)?;
    write_touches(process, &format!("{HEADING}Who touched resident anonymous pages first{HEADING:#}"), out)?;
    write_writes(process, out)?;
    let Some((rss, whole)) = known else { return Ok(()) };
    write_largest("Largest runs of free pages that the allocator keeps", &rss.largest_retained, out)?;
    if classes_of(rss).iter().any(|(class, part)| *class == "other_anonymous" && *part * 20 > whole as i64) {
        write_largest("Largest anonymous memory past the allocator", &rss.largest_other_anonymous, out)?;
        write_past_allocator(process, out)?;
    }
    write_leaks(process, out)?;
    write_beside_rss(rss, out)?;
    let notes = advice(rss);
    if !notes.is_empty() || !process.advice.is_empty() {
        writeln!(out, "\n{HEADING}What to do{HEADING:#}")?;
        for sentence in process.advice.iter().map(|advice| &advice.what).chain(&notes) {
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
            format!("{}{}", signed_bytes(*part), class_within(rss, class, *part)),
            percent(*part as f64, whole as f64),
            meaning(class).to_owned(),
            bar(*part as f64, whole as f64),
        ]);
    }
    table.add_row(["RSS".into(), bytes(whole), "100 %".into(), snapshot_words(rss), String::new()]);
    write_table(table, &[1, 2], out)
}

fn snapshot_words(rss: &Rss) -> String {
    let when = match rss.snapshot.reason {
        "exit" => "taken at its exit",
        "growth" => "taken as it had grown",
        "interval" => "taken at an interval",
        "asked" => "taken as asked for",
        other => other,
    };
    let running = if rss.snapshot.stopped { "" } else { ", while it was running" };
    let off = if rss.snapshot.recording_off { ", with recording off" } else { "" };
    let stands_in = if rss.snapshot.stands_in_for_end { ", the last before its end" } else { "" };
    format!("{when}{running}{off}{stands_in}")
}

fn write_objects(report: &Report, process: &Process, out: &mut dyn Write) -> io::Result<()> {
    let objects = &process.objects;
    let allocator = process.rss.as_ref().and_then(|rss| rss.allocator.kind);
    if allocator == Some("in_program") && objects.allocated == Some(0) {
        return write_unseen_objects(report, process, out);
    }
    let (Some(live), Some(live_bytes)) = (objects.live, objects.live_bytes) else {
        return write_unseen_objects(report, process, out);
    };
    if objects.errors.live_samples.is_some() {
        return write_sampled_objects(process, out);
    }
    write!(out, "\n{} live with {}", counted(live, "object"), bytes(live_bytes))?;
    if let (Some(allocated), Some(freed)) = (objects.allocated, objects.freed) {
        write!(out, "; {} allocated and {} freed in the whole recording", count(allocated), count(freed))?;
    }
    match objects.unknown_frees {
        Some(frees) if frees > 0 => writeln!(out, "; {} of what was not known to be live.", counted(frees, "free"))?,
        _ => writeln!(out, ".")?,
    }
    match (objects.forgotten.unwrap_or(0), objects.unknown_frees_after_gap.unwrap_or(0)) {
        (0, 0) => Ok(()),
        (forgotten, frees) => writeln!(
            out,
            "{} from before recording was switched off are not known any more; {} since may be theirs.",
            counted(forgotten, "object"),
            counted(frees, "free")
        ),
    }
}

fn write_sites(title: &str, by: SiteOrder, sites: &[Site], out: &mut dyn Write) -> io::Result<()> {
    let key = |site: &Site| match by {
        SiteOrder::Live => site.live_bytes,
        SiteOrder::Pinned => site.pinned_bytes.unwrap_or(0),
    };
    let mut sites: Vec<&Site> = sites.iter().filter(|site| key(site) > 0).collect();
    if sites.is_empty() {
        return Ok(());
    }
    sites.sort_by_key(|site| Reverse(key(site)));
    writeln!(
        out,
        "\n{HEADING}{title}{HEADING:#} ({} of {})",
        sites.len().min(SITES_SHOWN),
        counted_sites(sites.len())
    )?;
    for site in sites.iter().take(SITES_SHOWN) {
        let objects = counted(site.live_objects, "live object");
        match by {
            SiteOrder::Live => writeln!(out, "  {}", live_of(site))?,
            SiteOrder::Pinned => {
                let (live, pinned) = (bytes(site.live_bytes), bytes(key(site)));
                writeln!(out, "  {pinned} pinned by {objects} of {live}")?;
            }
        }
        for frame in interesting(&site.stack) {
            writeln!(out, "      {frame}")?;
        }
    }
    Ok(())
}

/// What makes one site come before another.
#[derive(Clone, Copy)]
enum SiteOrder {
    Live,
    Pinned,
}

fn counted_sites(number: usize) -> String {
    counted(number as u64, "site")
}

/// The first frames that say something about the program: those of allocators and containers are the same everywhere.
pub fn interesting(stack: &[String]) -> Vec<String> {
    const PLUMBING: [&str; 12] = [
        // The tracer, where a program has it linked in.
        "pagetrace::",
        "malloc",
        "calloc",
        "realloc",
        "__libc_",
        "operator new",
        "alloc::",
        "__rust_alloc",
        "__rustc::",
        "__rdl_",
        "std::",
        "core::",
    ];
    // Where Rust's own library has its sources, whatever the names of its inlined functions.
    const LIBRARY: [&str; 4] = ["library/alloc/src/", "library/core/src/", "library/std/src/", "(hashbrown-"];
    let says_something = |frame: &&String| {
        let name = frame.trim_start_matches('<');
        !PLUMBING.iter().any(|start| name.starts_with(start)) && !LIBRARY.iter().any(|path| frame.contains(path))
    };
    if stack.is_empty() {
        return vec!["(no stack was recorded)".into()];
    }
    let mut shown: Vec<&String> = stack.iter().filter(says_something).take(FRAMES_SHOWN).collect();
    if shown.is_empty() {
        // A stack of nothing else is still a stack.
        shown = stack.iter().take(FRAMES_SHOWN).collect();
    }
    shown.into_iter().map(|frame| shortened(frame)).collect()
}

/// Names with many type arguments lose their middle; the JSON has them whole.
fn shortened(frame: &str) -> String {
    let length = frame.chars().count();
    if length <= FRAME_COLUMNS {
        return frame.to_owned();
    }
    let half = FRAME_COLUMNS / 2;
    let (start, end): (String, String) =
        (frame.chars().take(half).collect(), frame.chars().skip(length - half + 1).collect());
    format!("{start}…{end}")
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
        let began_later = report.at.time_ns.zip(process.start_ns).is_some_and(|(at, start)| start > at);
        let state = match &process.end_status {
            _ if process.running => "running then",
            _ if began_later => "began later",
            Some(status) => status,
            None => "end unknown",
        };
        table.add_row([name_of(process), format!("RSS {rss}"), format!("live {live}"), state.to_owned()]);
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
    let gaps = &report.gaps;
    if gaps.number == 0 {
        return Ok(());
    }
    let dropped = gaps.intervals.iter().filter(|gap| !gap.kept).count() as u64;
    let times = counted(gaps.number, "time");
    writeln!(out, "\nRecording was switched off {times}, {} in all.", duration(gaps.total_ns))?;
    let kept = "  Objects were kept account of meanwhile: those after it are exact.";
    match dropped {
        0 => writeln!(out, "{kept}"),
        _ => writeln!(out, "  After {dropped} of these nothing is known of earlier objects and pages."),
    }
}

fn write_missing(report: &Report, out: &mut dyn Write) -> io::Result<()> {
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
    write_unresolved(report, out)
}

fn write_unresolved(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    if report.unresolved_modules.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{HEADING}Files without symbols here{HEADING:#}")?;
    for (module, why) in &report.unresolved_modules {
        writeln!(out, "  {module}: {why}")?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_libraries_are_left_out_of_the_text() {
        fn check(stack: &[&str], expected: &[&str]) {
            let stack: Vec<String> = stack.iter().map(|frame| (*frame).to_owned()).collect();
            assert_eq!(interesting(&stack), expected);
        }
        check(&[], &["(no stack was recorded)"]);
        check(&["malloc (libc.so.6)", "main (a.c:3)"], &["main (a.c:3)"]);
        check(
            &[
                "alloc (library/alloc/src/alloc.rs:95)",
                "grow (cache.rs:7)",
                "<core::option::Option<T>>::map (x.rs:1)",
                "main",
            ],
            &["grow (cache.rs:7)", "main"],
        );
        check(
            &["<pagetrace::traced::Traced<A> as GlobalAlloc>::alloc (a.rs:1)", "serve (b.rs:2)"],
            &["serve (b.rs:2)"],
        );
        check(&["malloc (libc.so.6)"], &["malloc (libc.so.6)"]);
        let long = "f".repeat(300);
        check(&[&long], &[&format!("{}…{}", "f".repeat(55), "f".repeat(54))]);
    }
}
