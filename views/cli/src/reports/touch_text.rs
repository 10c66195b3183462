//! The part of a report on page events: who touched the resident pages first, and how far scans agree.

use std::io::{self, Write};

use super::quantities::{bytes, count, counted, percent};
use super::report_model::{Process, TouchSite, Touches};
use super::text::interesting;

const SITES_SHOWN: usize = 5;

/// Says how far what events tell is what scans found.
///
/// # Errors
/// What `out` gives.
pub fn write_agreement(process: &Process, out: &mut dyn Write) -> io::Result<()> {
    let (Some(rss), Some(touches)) = (&process.rss, &process.touches) else { return Ok(()) };
    let Some(residency) = rss.residency_agreement else { return Ok(()) };
    let changes = rss.change_agreement.map_or(String::new(), |it| format!(", {} of changes", agreement(it)));
    writeln!(
        out,
        "\nPage events predict {} of resident anonymous pages{changes}, at the worst of {}.",
        agreement(residency),
        counted(touches.scans, "scan")
    )
}

/// Who touched the resident pages first, and what is known of all touches.
///
/// # Errors
/// What `out` gives.
pub fn write_touches(process: &Process, heading: &str, out: &mut dyn Write) -> io::Result<()> {
    let Some(touches) = &process.touches else { return Ok(()) };
    let shown = touches.sites.len().min(SITES_SHOWN);
    if shown > 0 {
        writeln!(out, "\n{heading} ({shown} of {})", counted(touches.sites.len() as u64, "site"))?;
    }
    for site in touches.sites.iter().take(SITES_SHOWN) {
        writeln!(out, "  {} {}", bytes(site.resident_bytes), cause_words(site))?;
        let frames = if site.cause == "resident_at_attach" { Vec::new() } else { interesting(&site.stack) };
        for frame in frames {
            writeln!(out, "      {frame}")?;
        }
    }
    write_shares(touches, out)
}

fn write_shares(touches: &Touches, out: &mut dyn Write) -> io::Result<()> {
    let Touches { events, full, cut, instruction_only, unknown, .. } = *touches;
    let scan_only = touches.scan_only.as_ref().map_or(0, |it| it.anonymous + it.file);
    let all = (events + scan_only) as f64;
    if all <= 0.0 {
        return Ok(());
    }
    let parts = [
        (full, "with stacks to the thread's start"),
        (cut, "with cut stacks"),
        (instruction_only, "with the instruction alone"),
        (unknown, "with nothing"),
        (scan_only, "seen by scans alone, thread unknown"),
    ];
    let parts = parts.iter().filter(|(part, _)| *part > 0);
    let parts: Vec<String> = parts.map(|(part, what)| format!("{} {what}", percent(*part as f64, all))).collect();
    writeln!(out, "  Of {} touches of pages: {}.", count(events + scan_only), parts.join(", "))
}

fn cause_words(site: &TouchSite) -> String {
    match site.cause {
        "fault" => "touched by the program".into(),
        "kernel_fault" => "touched by the kernel in a system call".into(),
        "exec" => "filled as the program started".into(),
        "filled" => "filled by a read".into(),
        "resident_at_attach" => "resident at attach, first touch not seen".into(),
        call => format!("filled by {call}"),
    }
}

/// Two digits of what is missing: of 99.996 % it matters that it is not all.
fn agreement(share: f64) -> String {
    if share >= 1.0 { "100 %".into() } else { format!("{:.2} %", (share * 1e4).floor() / 1e2) }
}

#[cfg(test)]
mod tests {
    use super::agreement;

    #[test]
    fn what_is_not_all_is_not_shown_as_all() {
        let check = |share: f64, expected: &str| assert_eq!(agreement(share), expected);
        check(1.0, "100 %");
        check(0.999_996, "99.99 %");
        check(0.5, "50.00 %");
        check(0.0, "0.00 %");
    }
}
