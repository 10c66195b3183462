//! What all processes have in memory together, as text.

use std::cmp::Reverse;
use std::io::{self, Write};

use super::quantities::{bytes, count, duration, percent};
use super::report_model::{Report, Tree};
use super::text::{HEADING, name_of, table, write_table};

const MEMBERS_SHOWN: usize = 12;
/// Two ways of counting that differ by more than this share are both shown.
const DIFFERENT: f64 = 0.01;

/// One line of a diagnosis.
///
/// # Errors
/// What `out` gives.
pub fn write_tree_line(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let Some(tree) = &report.tree else { return Ok(()) };
    let Some((distinct, sum)) = tree.distinct_bytes.zip(tree.rss_sum_bytes) else { return Ok(()) };
    let most = if tree.is_upper_bound { "at most " } else { "" };
    writeln!(
        out,
        "  {} processes had {most}{} together, each page counted once; the sum of their RSS is {}.",
        count(tree.processes),
        bytes(distinct),
        bytes(sum)
    )
}

/// The totals and the members.
///
/// # Errors
/// What `out` gives.
pub fn write_tree(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let Some(tree) = &report.tree else { return Ok(()) };
    let (at, took) = (duration(tree.time_ns), duration(tree.took_ns));
    let looked = match tree.at_once {
        true => format!("{at} after the start, looked at one right after the other in {took}"),
        false => format!("by the last look at each, {took} between the first and the last"),
    };
    writeln!(out, "\n{HEADING}All processes together{HEADING:#} ({looked})")?;
    let known = |figure: Option<u64>| figure.map_or("unknown".into(), bytes);
    let mut rows = table();
    let distinct = if tree.is_upper_bound { "each page once, at most" } else { "each page once" };
    rows.add_row([distinct.to_owned(), known(tree.distinct_bytes), how(tree).to_owned()]);
    let parts =
        [("  of one process", tree.private_bytes, "private"), ("  of several", tree.shared_bytes, "shared among them")];
    for (name, figure, meaning) in parts.into_iter().filter(|(_, figure, _)| figure.is_some()) {
        rows.add_row([name.to_owned(), known(figure), meaning.to_owned()]);
    }
    rows.add_row(["sum of RSS".into(), known(tree.rss_sum_bytes), "what is shared counts in each of them".into()]);
    let pss = "the kernel divides each page by all that map it, programs outside too";
    rows.add_row(["sum of PSS".into(), known(tree.pss_sum_bytes), pss.into()]);
    write_table(rows, &[1], out)?;
    let kinds = [
        ("anonymous", tree.anonymous_bytes),
        ("files", tree.file_bytes),
        ("shared memory", tree.shared_memory_bytes),
        ("pagetrace's own", tree.tracer_bytes),
    ];
    let kinds: Vec<String> = kinds
        .iter()
        .filter_map(|(name, part)| part.filter(|part| *part > 0).map(|part| format!("{} {name}", bytes(part))))
        .collect();
    if !kinds.is_empty() {
        writeln!(out, "  By file and offset, and by PSS of anonymous memory: {}.", kinds.join(", "))?;
    }
    if tree.at_once && !tree.steady {
        writeln!(out, "  Processes began or ended during the look: what PSS says of anonymous memory may be off.")?;
    }
    write_disagreement(tree, out)?;
    if let Some(group) = tree.cgroup.current {
        let beyond = "which has page cache and the kernel's own memory in it, and what is not of these processes";
        writeln!(out, "  Their control group has {}, {beyond}.", bytes(group))?;
    }
    match tree.unseen_processes {
        0 => {}
        unseen => writeln!(out, "  {} more that ran then are not in it.", count(unseen))?,
    }
    write_members(report, tree, out)
}

fn how(tree: &Tree) -> &'static str {
    match tree.counted_by {
        Some("frames") => "by the numbers of their page frames",
        Some(_) if tree.is_upper_bound => {
            "anonymous pages shared since a fork count in each: this kernel does not tell"
        }
        Some(_) => "files and shared memory by offset, anonymous memory by PSS",
        None => "their pages could not be looked at",
    }
}

fn write_disagreement(tree: &Tree, out: &mut dyn Write) -> io::Result<()> {
    let Some((frames, files)) = tree.frame_bytes.zip(tree.files_and_pss_bytes) else { return Ok(()) };
    let (most, least) = (frames.max(files) as f64, frames.min(files) as f64);
    match most - least > most * DIFFERENT {
        true => writeln!(
            out,
            "  The two ways of counting differ by {} ({}).",
            bytes(frames.abs_diff(files)),
            percent(most - least, most)
        ),
        false => Ok(()),
    }
}

fn write_members(report: &Report, tree: &Tree, out: &mut dyn Write) -> io::Result<()> {
    let mut members: Vec<_> = tree.members.iter().collect();
    members.sort_by_key(|member| Reverse(member.rss_bytes));
    let mut rows = table();
    let known = |name: &str, figure: Option<u64>| format!("{name} {}", figure.map_or("unknown".into(), bytes));
    for member in members.iter().take(MEMBERS_SHOWN) {
        let Some(process) = report.processes.get(member.process) else { continue };
        rows.add_row([
            name_of(process),
            known("RSS", member.rss_bytes),
            known("PSS", member.pss_bytes),
            known("private", member.private_bytes),
            known("shared", member.shared_bytes),
        ]);
    }
    write_table(rows, &[], out)?;
    match members.len().saturating_sub(MEMBERS_SHOWN) {
        0 => Ok(()),
        more => writeln!(out, "  and {more} more: --json has all"),
    }
}
