//! What tracking writes and watching accesses cost, and how right they are, against what was asked for:
//! `cargo run --release -p pagetrace --features enabled --example access_cost [MIB]`.
//!
//! Times are processor time, the least of some repeats: other programs may be at work.

mod pattern;
mod sys;
mod watched;

use std::time::Duration;

use pagetrace::{WriteTracking, end_write_epoch, write_statistics};

const PAGE: usize = 4096;

fn main() {
    let mib: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1024);
    let pages = mib * 256;
    let memory = sys::map(pages * PAGE);
    (0..pages).for_each(|page| sys::write(memory + page * PAGE, 1));
    println!("{:52}{:>12}{:>14}", format!("{mib} MiB, user {}", sys::user()), "measured", "asked for");
    row("a write without tracking, ns", per_write(memory, pages).0, "");
    WriteTracking::range(memory..memory + pages * PAGE)
        .epoch(Duration::from_secs(3600))
        .start()
        .expect("it can be tracked");
    row("first arming, ms", last_scan_ms(), "");
    armed_writes(memory, pages);
    scans(memory, pages);
    pattern::run(memory, pages);
    pagetrace::stop_tracking_writes();
    watched::run();
}

/// A line of the table.
fn row(what: &str, measured: f64, asked: &str) {
    println!("{what:52}{measured:12.3}{asked:>14}");
}

fn armed_writes(memory: usize, pages: usize) {
    let mut best = (f64::MAX, f64::MAX);
    for _ in 0..7 {
        let (thread, process) = per_write(memory, pages.min(60_000));
        best = (best.0.min(thread), best.1.min(process));
        end_write_epoch().expect("it is tracked");
    }
    row("an armed write with thread, time, instruction, us", best.0 / 1e3, "<= 2.5");
    row("  with what the tracer's thread does for it, us", best.1 / 1e3, "");
}

/// What is written before a look, what was asked for, and whether a page is.
type Case = (&'static str, &'static str, fn(usize) -> bool);

fn scans(memory: usize, pages: usize) {
    let cases: [Case; 4] = [
        ("nothing written", "", |_| false),
        ("10 % written, each tenth page", "<= 5", |page| page.is_multiple_of(10)),
        ("10 % written, runs of 64", "<= 5", |page| page / 64 % 10 == 3),
        ("all written", "", |_| true),
    ];
    for (name, asked, chosen) in cases {
        let mut best = f64::MAX;
        for _ in 0..7 {
            (0..pages).filter(|&page| chosen(page)).for_each(|page| sys::write(memory + page * PAGE, 2));
            // What is drained before the end of the epoch is no part of the look.
            std::thread::sleep(Duration::from_millis(40));
            let begun = sys::thread_cpu_ns();
            end_write_epoch().expect("it is tracked");
            best = best.min((sys::thread_cpu_ns() - begun) as f64 / 1e6);
        }
        row(&format!("scan and rearm, {name}, ms"), best, asked);
    }
}

/// Nanoseconds of a write: of this thread, and of the process.
fn per_write(memory: usize, pages: usize) -> (f64, f64) {
    let begun = (sys::thread_cpu_ns(), sys::process_cpu_ns());
    (0..pages).for_each(|page| sys::write(memory + page * PAGE, 1));
    let per = |nanos: u64| nanos as f64 / pages as f64;
    (per(sys::thread_cpu_ns() - begun.0), per(sys::process_cpu_ns() - begun.1))
}

fn last_scan_ms() -> f64 {
    write_statistics().last_scan_ns as f64 / 1e6
}
