//! `pagetrace doctor`: which sources of data work here, for this user, and what to do about those that do not.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use pagetrace_kernel::doctor::{Probe, probe};

/// How to answer.
#[derive(clap::Args)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs `pagetrace doctor`. It has done its work also where sources do not work.
///
/// # Errors
/// What standard output gives.
pub fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let probes = probe();
    let mut printed = Vec::new();
    if args.json {
        let sources: Vec<SourceAnswer<'_>> = probes.iter().map(SourceAnswer::of).collect();
        serde_json::to_writer_pretty(&mut printed, &sources)?;
        printed.push(b'\n');
    } else {
        write_table(&probes, &mut printed)?;
    }
    let mut out = anstream::stdout().lock();
    out.write_all(&printed).and_then(|()| out.flush()).context("cannot write the answer")?;
    Ok(ExitCode::SUCCESS)
}

/// A source in JSON.
#[derive(serde::Serialize)]
struct SourceAnswer<'p> {
    name: &'p str,
    works: bool,
    used: bool,
    detail: &'p str,
    /// `None` where there is nothing to do.
    advice: Option<&'p str>,
}

impl SourceAnswer<'_> {
    fn of(probe: &Probe) -> SourceAnswer<'_> {
        SourceAnswer {
            name: &probe.name,
            works: probe.works,
            used: probe.used,
            detail: &probe.detail,
            advice: Some(probe.advice.as_str()).filter(|advice| !advice.is_empty()),
        }
    }
}

fn write_table(probes: &[Probe], out: &mut dyn Write) -> io::Result<()> {
    let (used, unused): (Vec<&Probe>, Vec<&Probe>) = probes.iter().partition(|probe| probe.used);
    let works = used.iter().filter(|probe| probe.works).count();
    writeln!(out, "{works} of the {} sources that pagetrace uses work here, for this user.", used.len())?;
    write_probes(&used, out)?;
    if !unused.is_empty() {
        writeln!(out, "\nTried for information; nothing is recorded with them:")?;
        write_probes(&unused, out)?;
    }
    Ok(())
}

fn write_probes(probes: &[&Probe], out: &mut dyn Write) -> io::Result<()> {
    let name_columns = probes.iter().map(|probe| probe.name.chars().count()).max().unwrap_or(0);
    for probe in probes {
        let works = if probe.works { "works" } else { "fails" };
        writeln!(out, "  {:name_columns$}  {works}  {}", probe.name, probe.detail)?;
        if !probe.advice.is_empty() {
            writeln!(out, "  {:name_columns$}         → {}", "", probe.advice)?;
        }
    }
    Ok(())
}
