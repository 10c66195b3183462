//! Why nothing is known of a process's objects, and what there is in their place, as text.

use std::io::{self, Write};

use super::report_model::{Process, Report};

/// What the recorder calls the source of objects.
const OBJECTS: &str = "objects";

/// In the place of what would be said of objects.
///
/// # Errors
/// What `out` gives.
pub fn write_unseen_objects(report: &Report, process: &Process, out: &mut dyn Write) -> io::Result<()> {
    match why_unseen(report, process) {
        Some(why) => writeln!(out, "\nObjects of this process are not visible: {why}.")?,
        None => writeln!(out, "\nObjects of this process are not visible.")?,
    }
    let touched = if process.touches.is_some() { ", and by what touched them first" } else { "" };
    writeln!(out, "  Its pages count by the mappings that they are in{touched}.")
}

/// Beside anonymous memory that no object is known in, of a process whose objects are seen otherwise.
///
/// # Errors
/// What `out` gives.
pub fn write_past_allocator(process: &Process, out: &mut dyn Write) -> io::Result<()> {
    let is_runtimes = "the program's own, or the heap of a runtime (V8, the Java VM, Go)";
    match process.objects.live {
        Some(_) => writeln!(out, "  What lies in it is not visible: it did not come from malloc. It is {is_runtimes}."),
        None => Ok(()),
    }
}

/// What the recorder said of this program: of several reasons the one that names it.
fn why_unseen<'a>(report: &'a Report, process: &Process) -> Option<&'a str> {
    let source = report.sources.iter().find(|source| source.name == OBJECTS)?;
    let exe = process.exe.as_deref().unwrap_or_default();
    let reasons = || source.missed.split("; ");
    let named = reasons().find(|reason| !exe.is_empty() && reason.contains(exe));
    named.or_else(|| reasons().next()).filter(|why| !why.is_empty())
}
