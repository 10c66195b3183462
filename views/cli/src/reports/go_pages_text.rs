//! A Go page trace beside the states of pages, as text: the scavenger's pace, reuse, other goals, time, Ps.

use std::io::{self, Write};

use super::go_lanes_text::{LineOverTime, write_lanes, write_lines};
use super::quantities::{bytes, count, counted, duration, percent};
use super::report_model::{GoGoal, GoPages, GoReuseShare, Report};
use super::text::{HEADING, bar, table, write_table};

/// Writes it.
///
/// # Errors
/// What `out` gives.
pub fn write_go_pages(report: &Report, pages: &GoPages, out: &mut dyn Write) -> io::Result<()> {
    let line = |name, of: fn(&super::report_model::GoPagePoint) -> u64| LineOverTime {
        name,
        points: pages.timeline.iter().map(|point| (point.time_ns, of(point) * report.page_size)).collect(),
    };
    let lines = [
        line("in use", |it| it.pages_in_use),
        line("free, kept", |it| it.pages_free),
        line("given back", |it| it.pages_returned),
    ];
    write_lines(&lines, true, out)?;
    write_lanes(&pages.lanes, report.duration_ns, out)?;
    match pages.pace.runs {
        0 => writeln!(out, "\nThe scavenger gave nothing back.")?,
        _ => {
            write_pace(report, pages, out)?;
            write_reuse(pages, out)?;
        }
    }
    write_goals(pages, out)
}

fn write_pace(report: &Report, pages: &GoPages, out: &mut dyn Write) -> io::Result<()> {
    let pace = &pages.pace;
    writeln!(out, "\n{HEADING}The scavenger{HEADING:#}")?;
    writeln!(
        out,
        "  {} in {}, {} a second; at most {} within a millisecond, {} in one run.",
        bytes(pace.pages.saturating_mul(report.page_size)),
        counted(pace.runs, "run"),
        bytes(pace.bytes_per_second as u64),
        bytes(pace.most_bytes_in_a_millisecond),
        bytes(pace.longest_run_pages.saturating_mul(report.page_size)),
    )?;
    let background = pace.pages_by_processor.get(&-1).copied().unwrap_or(0);
    writeln!(
        out,
        "  It was at work in {} of {} ms; {} of the pages were given back without a P.",
        count(pace.active_milliseconds),
        count(report.duration_ns / 1_000_000 + 1),
        percent(background as f64, pace.pages as f64),
    )
}

fn write_reuse(pages: &GoPages, out: &mut dyn Write) -> io::Result<()> {
    let reuse = &pages.reuse;
    let all = reuse.reused_pages + reuse.not_reused_pages;
    writeln!(
        out,
        "\n{HEADING}Returned pages that were used again{HEADING:#}: {} of {} ({}), a page fault each",
        count(reuse.reused_pages),
        count(all),
        percent(reuse.reused_pages as f64, all as f64)
    )?;
    let mut rows = table();
    let most = reuse.by_time.iter().chain(&reuse.by_distance).map(|share| share.pages).max().unwrap_or(0);
    let mut add = |shares: &[GoReuseShare], name: fn(u64) -> String, beyond: &str| {
        for share in shares.iter().filter(|share| share.pages > 0) {
            let name = share.up_to.map_or_else(|| beyond.to_owned(), name);
            rows.add_row([name, count(share.pages), bar(share.pages as f64, most as f64)]);
        }
    };
    add(&reuse.by_time, |up_to| format!("within {}", duration(up_to)), "later");
    add(&reuse.by_distance, |up_to| format!("at most {} pages allocated between", count(up_to)), "more pages between");
    write_table(rows, &[1], out)
}

fn write_goals(pages: &GoPages, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n{HEADING}What other goals would have kept returned{HEADING:#}")?;
    let mut rows = table();
    rows.add_row(["free pages kept", "returned, on average", "at the end", "used again"]);
    let most = pages.goals.iter().chain([&pages.recorded]).map(|goal| goal.mean_returned_bytes).max().unwrap_or(0);
    let mut add = |name: String, goal: &GoGoal| {
        rows.add_row([
            name,
            bytes(goal.mean_returned_bytes),
            bytes(goal.final_returned_bytes),
            format!("{} pages", count(goal.reused_pages)),
            bar(goal.mean_returned_bytes as f64, most as f64),
        ]);
    };
    add("as recorded".into(), &pages.recorded);
    for goal in &pages.goals {
        add(format!("{} % of what was in use", goal.extra_percent.unwrap_or(0)), goal);
    }
    write_table(rows, &[1, 2, 3], out)?;
    writeln!(out, "  In use is the most within a second; what was free for longest is given back at once.")
}
