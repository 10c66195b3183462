//! The part of a report on who wrote pages, and what was not written for long.

use std::io::{self, Write};

use super::quantities::{bytes, count, counted, duration, percent};
use super::report_model::{Fork, Process, WriteSite, Writes, WrittenPage, WrittenResident};
use super::text::{HEADING, interesting};

const SITES_SHOWN: usize = 5;
const PAGES_SHOWN: usize = 5;
const FORKS_SHOWN: usize = 5;

/// What is known of the writes of a process.
///
/// # Errors
/// What `out` gives.
pub fn write_writes(process: &Process, out: &mut dyn Write) -> io::Result<()> {
    let Some(writes) = &process.writes else { return Ok(()) };
    let Writes { epochs, epoch_ns, written_pages, without_writer_pages, page_bytes, .. } = *writes;
    if epochs > 0 {
        let tracked_ns = writes.until_ns.saturating_sub(writes.since_ns);
        let each = epoch_ns.map_or(String::new(), |each| format!(" of {}", duration(each)));
        writeln!(out, "\n{HEADING}Writes, in {}{each}{HEADING:#}", counted(epochs, "epoch"))?;
        let rate = (written_pages * page_bytes) as f64 * 1e9 / tracked_ns.max(1) as f64;
        writeln!(
            out,
            "  {} were written a second, counting a page once an epoch; {} in the busiest epoch, {} in the last.",
            bytes(rate as u64),
            bytes(writes.most_in_epoch_pages * page_bytes),
            bytes(writes.last_epoch_pages * page_bytes)
        )?;
        let known = written_pages - without_writer_pages;
        writeln!(
            out,
            "  The first writer of an epoch is known of {}; the kernel's writes have no thread.",
            percent(known as f64, written_pages as f64)
        )?;
    }
    write_beside(writes, out)?;
    if let Some(resident) = &writes.resident {
        write_cold(resident, out)?;
    }
    write_sites(&writes.sites, out)?;
    write_forks(&writes.forks, out)?;
    write_hot(writes, out)?;
    write_contended(writes, out)
}

fn write_beside(writes: &Writes, out: &mut dyn Write) -> io::Result<()> {
    let page_bytes = writes.page_bytes;
    if writes.discarded_pages > 0 {
        let discarded = bytes(writes.discarded_pages * page_bytes);
        writeln!(out, "  {discarded} more were written and given back within an epoch.")?;
    }
    if writes.new_pages > 0 {
        let new = bytes(writes.new_pages * page_bytes);
        writeln!(out, "  {new} came into memory that was not tracked yet, by writes or reads.")?;
    }
    let watched = &writes.watched;
    if watched.reads + watched.writes > 0 {
        writeln!(
            out,
            "  {} and {} of watched memory were seen, {} to pages that another thread had modified.",
            counted(watched.reads, "read"),
            counted(watched.writes, "write"),
            count(watched.foreign)
        )?;
    }
    Ok(())
}

fn write_cold(resident: &WrittenResident, out: &mut dyn Write) -> io::Result<()> {
    let WrittenResident { bytes: all, never_written_bytes, tracked_ns, .. } = *resident;
    let mut parts: Vec<String> = Vec::new();
    for cold in &resident.cold {
        if let Some(cold_bytes) = cold.bytes {
            let share = percent(cold_bytes as f64, all as f64);
            parts.push(format!("{} ({share}) for {}", bytes(cold_bytes), duration(cold.for_ns)));
        }
    }
    let never = percent(never_written_bytes as f64, all as f64);
    parts.push(format!("{} ({never}) since they are tracked, {}", bytes(never_written_bytes), duration(tracked_ns)));
    writeln!(out, "  Cold: of {} tracked and resident were not written {}.", bytes(all), parts.join(", "))
}

fn write_sites(sites: &[WriteSite], out: &mut dyn Write) -> io::Result<()> {
    let shown = sites.len().min(SITES_SHOWN);
    if shown > 0 {
        writeln!(out, "\n{HEADING}Who writes pages{HEADING:#} ({shown} of {})", counted(sites.len() as u64, "site"))?;
    }
    for site in sites.iter().take(SITES_SHOWN) {
        let rate = site.pages_per_second.map_or(String::new(), |rate| format!(", {rate:.0} a second"));
        writeln!(out, "  {}{rate}", counted(site.pages, "page"))?;
        for frame in interesting(&site.stack) {
            writeln!(out, "      {frame}")?;
        }
    }
    Ok(())
}

fn write_forks(forks: &[Fork], out: &mut dyn Write) -> io::Result<()> {
    if forks.is_empty() {
        return Ok(());
    }
    let mut largest: Vec<&Fork> = forks.iter().collect();
    largest.sort_by_key(|fork| std::cmp::Reverse(fork.written_bytes));
    let shown = largest.len().min(FORKS_SHOWN);
    writeln!(
        out,
        "\n{HEADING}What was copied for forked children{HEADING:#} ({shown} of {})",
        counted(forks.len() as u64, "fork")
    )?;
    for fork in largest.iter().take(FORKS_SHOWN) {
        let pid = fork.pid.map_or("unknown".into(), |pid| pid.to_string());
        let unclear = match fork.unclear_bytes {
            0 => String::new(),
            unclear => format!(", and up to {} more in the epoch of the fork", bytes(unclear)),
        };
        writeln!(
            out,
            "  {} written while pid {pid} lived, {} from {} on{unclear}",
            bytes(fork.written_bytes),
            duration(fork.lived_ns),
            duration(fork.time_ns)
        )?;
    }
    Ok(())
}

fn write_hot(writes: &Writes, out: &mut dyn Write) -> io::Result<()> {
    let pages: Vec<&WrittenPage> = writes.hot_pages.iter().take(PAGES_SHOWN).collect();
    if pages.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{HEADING}Pages written in the most epochs{HEADING:#}")?;
    for page in pages {
        writeln!(out, "  {} in {} of {}", page.address, page.epochs_written, count(writes.epochs))?;
        write_objects(page, out)?;
    }
    Ok(())
}

fn write_contended(writes: &Writes, out: &mut dyn Write) -> io::Result<()> {
    let pages: Vec<&WrittenPage> = writes.contended_pages.iter().take(PAGES_SHOWN).collect();
    if pages.is_empty() {
        return Ok(());
    }
    let all = counted(writes.contended_page_count, "page");
    writeln!(out, "\n{HEADING}Pages that several threads write{HEADING:#} ({} of {all})", pages.len())?;
    for page in pages {
        let threads: Vec<String> = page.threads.iter().map(u32::to_string).collect();
        let hand_overs = counted(page.hand_overs, "hand-over");
        writeln!(out, "  {} {hand_overs} between threads {}", page.address, threads.join(", "))?;
        write_objects(page, out)?;
    }
    Ok(())
}

fn write_objects(page: &WrittenPage, out: &mut dyn Write) -> io::Result<()> {
    let Some(first) = page.objects.first() else { return Ok(()) };
    let others = match page.objects.len() {
        1 => String::new(),
        sites => format!(", and of {} more", counted(sites as u64 - 1, "site")),
    };
    writeln!(out, "      {} of objects from{others}", bytes(first.bytes))?;
    for frame in interesting(&first.stack) {
        writeln!(out, "        {frame}")?;
    }
    Ok(())
}
