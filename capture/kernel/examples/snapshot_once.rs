//! Takes one snapshot of a process and prints a summary of it: `snapshot_once PID [--running] [--pagemap]`.

use std::process::ExitCode;

use pagetrace_format::ProcessId;
use pagetrace_format::snapshot::{PageFlags, SnapshotReason};
use pagetrace_kernel::{KernelError, SnapshotTaker};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(pid) = args.first().and_then(|pid| pid.parse::<u32>().ok()) else {
        eprintln!("usage: snapshot_once PID [--running] [--pagemap]");
        return ExitCode::from(2);
    };
    let asked = |name: &str| args.iter().any(|arg| arg == name);
    match summarize(pid, !asked("--running"), asked("--pagemap")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn summarize(pid: u32, stop: bool, pagemap: bool) -> Result<(), KernelError> {
    let mut taker = SnapshotTaker::open(pid)?;
    if pagemap {
        taker.use_pagemap();
    }
    let taken = taker.take(ProcessId(1), SnapshotReason::Asked, stop)?;
    let snapshot = &taken.snapshot;
    let bytes_of = |wanted: &dyn Fn(PageFlags) -> bool| {
        let runs = snapshot.resident.iter().filter(|run| wanted(run.state));
        runs.map(|run| run.pages.0).sum::<u64>() * snapshot.page_bytes
    };
    println!("mappings        {}", snapshot.mappings.len());
    println!("runs            {} by {:?}", snapshot.resident.len(), snapshot.residency_source);
    println!("in RSS          {}", bytes_of(&PageFlags::in_rss));
    println!("  of files      {}", bytes_of(&|it| it.in_rss() && it.has(PageFlags::FILE)));
    println!("  huge          {}", bytes_of(&|it| it.in_rss() && it.has(PageFlags::HUGE)));
    println!("page of zeros   {}", bytes_of(&|it| it.has(PageFlags::ZERO)));
    println!("swapped         {}", bytes_of(&|it| it.has(PageFlags::SWAPPED)));
    println!("kernel          {:?}", snapshot.kernel);
    println!("stopped for     {:?}", taken.stopped_for);
    if !taker.missed().is_empty() {
        println!("missed          {}", taker.missed());
    }
    Ok(())
}
