//! Takes many snapshots of a process and prints how long it was stopped and where the time went: `stop_cost PID`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use pagetrace_format::ProcessId;
use pagetrace_format::snapshot::SnapshotReason;
use pagetrace_kernel::figures::{quick_rss, read_figures};
use pagetrace_kernel::proc_maps::read_mappings;
use pagetrace_kernel::{KernelError, ResidencyScanner, SnapshotTaker, Stopped};

fn main() -> ExitCode {
    let Some(pid) = std::env::args().nth(1).and_then(|pid| pid.parse::<u32>().ok()) else {
        eprintln!("usage: stop_cost PID");
        return ExitCode::from(2);
    };
    match measure(pid) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(pid: u32) -> Result<(), KernelError> {
    let mut taker = SnapshotTaker::open(pid)?;
    let mut scanner = ResidencyScanner::open(pid)?;
    let mut pagemap = ResidencyScanner::open(pid)?;
    pagemap.use_pagemap();
    let mappings = read_mappings(pid)?;
    scanner.scan(&mappings)?;
    report("whole stop", || Ok(taker.take(ProcessId(0), SnapshotReason::Asked, true)?.stopped_for))?;
    report("until stopped", || Ok(Stopped::stop(pid)?.stopped_for()))?;
    report("maps", || timed(|| read_mappings(pid).map(drop)))?;
    report("PAGEMAP_SCAN", || timed(|| scanner.scan(&mappings).map(drop)))?;
    report("pagemap", || timed(|| pagemap.scan(&mappings).map(drop)))?;
    report("figures", || timed(|| read_figures(pid).map(drop)))?;
    report("statm, opened", || timed(|| quick_rss(pid).map(drop)))
}

fn timed(work: impl FnOnce() -> Result<(), KernelError>) -> Result<Duration, KernelError> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

fn report(what: &str, mut work: impl FnMut() -> Result<Duration, KernelError>) -> Result<(), KernelError> {
    let mut times = (0..31).map(|_| work()).collect::<Result<Vec<_>, _>>()?;
    times.sort_unstable();
    println!("{what:14} least {:?}, median {:?}, worst {:?}", times[0], times[15], times[30]);
    Ok(())
}
