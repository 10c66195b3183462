//! Everything at once, for a while: threads that start and end, pages and objects, forks, and switching.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pagetrace::{Builder, Off, PageTraceBuf, WriteTracking};

use super::{invented_place, page_rounds, work_of};
use crate::counts;
use crate::sys;

/// A variable with how many seconds a stress lasts.
const SECONDS_VARIABLE: &str = "HAZARD_SECONDS";
const SECONDS: u64 = 4;
const THREADS: usize = 64;
const FORK_INTERVAL: Duration = Duration::from_millis(40);
/// A thread rests between its pieces of work, so that a trace of a minute can still be replayed.
const REST: Duration = Duration::from_millis(4);

/// How long a stress lasts.
pub fn lasts() -> Duration {
    let seconds = std::env::var(SECONDS_VARIABLE).ok().and_then(|value| value.parse().ok());
    Duration::from_secs(seconds.unwrap_or(SECONDS))
}

/// Every event is in the file.
pub fn exact(file: &Path) {
    let guard = Builder::new(file).init().expect("a recording");
    under_stress(|| thread::sleep(FORK_INTERVAL));
    drop(guard);
    counts::tell();
}

/// The same while all writes are tracked, in epochs as short as can be.
pub fn tracked(file: &Path) {
    let writes = WriteTracking::all_writable().epoch(Duration::from_millis(1));
    let guard = Builder::new(file).track_writes(writes).init().expect("a recording");
    under_stress(|| thread::sleep(FORK_INTERVAL));
    let statistics = pagetrace::write_statistics();
    assert!(statistics.epochs > 10 && statistics.pages_written > 1000, "{statistics:?}");
    drop(guard);
    counts::tell();
}

/// Recording goes off and on meanwhile: what is in the file fits together.
pub fn switched(file: &Path) {
    let guard = Builder::new(file).init().expect("a recording");
    let mut number = 0;
    under_stress(|| {
        number += 1;
        pagetrace::off(if number % 3 == 0 { Off::Drop } else { Off::Keep }).expect("no hook takes a second");
        thread::sleep(FORK_INTERVAL / 4);
        pagetrace::on().expect("it was initialized");
        thread::sleep(FORK_INTERVAL / 4);
    });
    drop(guard);
    counts::tell();
}

/// Keeps the threads busy, and forks each time that `between` returns, until the time is over.
fn under_stress(mut between: impl FnMut()) {
    let (start, done) = (Instant::now(), AtomicBool::new(false));
    let (mut forks, threads) = (0, AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            // Each of these has one thread at a time, which starts, works and ends.
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    threads.fetch_add(1, Ordering::Relaxed);
                    thread::spawn(a_thread).join().expect("it ends");
                }
            });
        }
        while start.elapsed() < lasts() {
            between();
            forks += 1;
            let child = sys::fork(|| {
                counts::restart();
                a_thread();
                counts::tell();
                if forks % 2 == 0 { sys::end_without_exit(0) } else { sys::end_with_exit(0) }
            });
            assert_eq!(sys::wait(child), 0, "the child failed");
        }
        done.store(true, Ordering::Relaxed);
    });
    counts::note(&format!("{} threads, {forks} forks in {:?}", threads.into_inner(), start.elapsed()));
}

fn a_thread() {
    let place = invented_place();
    let mut buffer = PageTraceBuf::new();
    for _ in 0..3 {
        work_of(9);
        page_rounds(&mut buffer, place, 5);
        thread::sleep(REST);
    }
}
