//! A service whose RSS stays high after a burst of requests although its live heap is small.
//!
//! ```text
//! burst-service            each session leaves one small record, and that pins the page it lies on
//! burst-service retained   nothing of a session stays, but malloc keeps the pages
//! ```
//! A heap profiler finds no leak here, and it is right. The answer is in the pages:
//! `pagetrace record -o burst.pagetrace -- burst-service`, then `pagetrace report --at end burst.pagetrace`.
#![forbid(unsafe_code)]

mod session;
mod worker;

use std::process::ExitCode;
use std::{env, fs};

use worker::{Mode, Worker};

const WORKERS: u64 = 4;
const QUIET_SESSIONS: u64 = 200;
const BURST_SESSIONS: u64 = 50_000;

fn main() -> ExitCode {
    let mode = match env::args().nth(1).as_deref() {
        None | Some("pinned") => Mode::Pinned,
        Some("retained") => Mode::Retained,
        Some(other) => {
            eprintln!("burst-service: unknown mode {other:?}; expected `pinned` (the default) or `retained`");
            return ExitCode::from(2);
        }
    };
    let workers: Vec<Worker> = (0..WORKERS).map(|_| Worker::start(mode)).collect();

    serve(&workers, QUIET_SESSIONS);
    print_state("before the burst", &workers);
    open_sessions(&workers, BURST_SESSIONS);
    print_state("in the burst", &workers);
    close_sessions(&workers);
    print_state("after the burst", &workers);

    // A service does not tear itself down: it ends in the state that it ran in, and so it is seen at its exit.
    std::process::exit(0)
}

/// An ordinary day: sessions come and go one after the other.
fn serve(workers: &[Worker], sessions: u64) {
    for id in 0..sessions {
        workers[(id % WORKERS) as usize].open(id);
        workers[(id % WORKERS) as usize].close_all();
    }
}

/// The burst: all sessions are open at the same time.
fn open_sessions(workers: &[Worker], sessions: u64) {
    for id in 0..sessions {
        workers[(id % WORKERS) as usize].open(id);
    }
}

fn close_sessions(workers: &[Worker]) {
    for worker in workers {
        worker.close_all();
    }
}

fn print_state(moment: &str, workers: &[Worker]) {
    let live_bytes: u64 = workers.iter().map(Worker::live_bytes).sum();
    let rss = rss_bytes().map_or("unknown".to_owned(), megabytes);
    println!("{moment:>16}: the service holds {}, its RSS is {rss}", megabytes(live_bytes));
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// `VmRSS` of proc_pid_status(5), which is in units of 1024 bytes.
fn rss_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}
