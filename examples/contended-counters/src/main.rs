//! Counters of two threads, on one page or on two: the program asks its own tracer who wrote to them.
//!
//! ```text
//! contended-counters            both counters lie on one page
//! contended-counters apart      each has a page of its own
//! ```
//! `PAGETRACE=counters.pagetrace contended-counters`, then `pagetrace report counters.pagetrace`, shows the same from outside.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use pagetrace::{AccessError, Watch, WriteTracking, end_write_epoch, page_info};

const EPOCHS: usize = 200;
const WATCHED: Duration = Duration::from_millis(400);

/// A page of counters.
#[repr(align(4096))]
struct CounterPage([AtomicU64; 512]);

/// Where the counters of the two threads are: page and place on it.
type Places = [(usize, usize); 2];

const TOGETHER: Places = [(0, 0), (0, 1)];
const APART: Places = [(0, 0), (1, 0)];

fn main() -> ExitCode {
    let places = match std::env::args().nth(1).as_deref() {
        None | Some("together") => TOGETHER,
        Some("apart") => APART,
        Some(other) => {
            eprintln!("contended-counters: unknown mode {other:?}; expected `together` (the default) or `apart`");
            return ExitCode::from(2);
        }
    };
    match run(places) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("contended-counters: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(places: Places) -> Result<(), AccessError> {
    let pages: Box<[CounterPage; 2]> =
        Box::new(std::array::from_fn(|_| CounterPage([const { AtomicU64::new(0) }; 512])));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for (page, place) in places {
            let (counter, done) = (&pages[page].0[place], &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let found = by_epochs(&pages).and_then(|()| by_accesses(&pages));
        done.store(true, Ordering::Relaxed);
        found
    })
}

/// Who wrote to each page first, epoch after epoch.
fn by_epochs(pages: &[CounterPage; 2]) -> Result<(), AccessError> {
    WriteTracking::all_writable().epoch(Duration::from_secs(3600)).start()?;
    let mut writers = [BTreeSet::new(), BTreeSet::new()];
    for _ in 0..EPOCHS {
        thread::sleep(Duration::from_millis(2));
        end_write_epoch()?;
        for (page, writers) in pages.iter().zip(&mut writers) {
            writers.extend(page_info((&raw const *page).addr()).and_then(|info| info.first_writer_of_last_epoch));
        }
    }
    pagetrace::stop_tracking_writes();
    println!("first writers in {EPOCHS} epochs: of page 0 {}, of page 1 {}", writers[0].len(), writers[1].len());
    Ok(())
}

/// Single accesses, of which each to a page that the other thread modified is counted. The counters are not given to system
/// calls, so an ordinary user can watch them, too.
fn by_accesses(pages: &[CounterPage; 2]) -> Result<(), AccessError> {
    let range = pages.as_ptr_range();
    let watching = Watch::range(range.start.addr()..range.end.addr()).system_calls_may_fail().start()?;
    thread::sleep(WATCHED);
    let seen = watching.statistics();
    println!("{} accesses seen, {} to a page that the other thread modified", seen.reads + seen.writes, seen.foreign);
    Ok(())
}
