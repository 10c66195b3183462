//! Many events and many threads, and signals in the middle of hooks.

use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pagetrace::{Builder, PageTraceBuf, WhenFull};

use super::{INVENTED_PAGES, page_rounds, work};
use crate::counts::{self, Tagged};
use crate::sys;

/// Page runs that the signal handler has told of.
static HANDLED: AtomicU64 = AtomicU64::new(0);

/// Tells of pages that nobody else tells of, as an allocator that is called in a handler would.
fn handler() {
    let number = HANDLED.fetch_add(1, Ordering::Relaxed) as usize;
    pagetrace::thread_buf().scav(2 * INVENTED_PAGES + number * 4096, 1);
}

/// A handler runs in the middle of hooks: what it would record then is lost and counted.
pub fn signal_handler(file: &Path) {
    const LASTS: Duration = Duration::from_secs(2);
    const ENOUGH_SIGNALS: u64 = 2000;
    let guard = Builder::new(file).init().expect("a recording");
    sys::handle_timer_signals(handler, Duration::from_micros(100));
    let (start, buffer) = (Instant::now(), pagetrace::thread_buf());
    let mut rounds = 0;
    // Long enough for some to hit a hook; statistics tell when one has.
    while pagetrace::statistics().lost_events == 0 || HANDLED.load(Ordering::Relaxed) < ENOUGH_SIGNALS {
        assert!(start.elapsed() < LASTS * 10, "no signal in the middle of a hook for so long");
        for _ in 0..500 {
            let base = INVENTED_PAGES + (rounds % 1000) * 4096;
            rounds += 1;
            buffer.alloc(base, 1);
            buffer.free(base, 1);
        }
    }
    sys::stop_timer_signals();
    let handled = HANDLED.load(Ordering::Relaxed);
    counts::page_events(2 * rounds as u64 + handled);
    drop(guard);
    counts::note(&format!(
        "{handled} signals, {} events lost in the middle of hooks",
        pagetrace::statistics().lost_events
    ));
    counts::tell();
}

pub fn threads_start_and_end(file: &Path) {
    const ROUNDS: usize = 10;
    const THREADS: usize = 64;
    let guard = Builder::new(file).init().expect("a recording");
    for _ in 0..ROUNDS {
        let threads: Vec<_> = (0..THREADS).map(|_| thread::spawn(work)).collect();
        threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
    }
    drop(guard);
    counts::tell();
}

/// Each has recorded one object and holds what it got for that.
pub fn many_idle_threads(file: &Path) {
    const THREADS: usize = 3000;
    const STACK_BYTES: usize = 64 << 10;
    let guard = Builder::new(file).init().expect("a recording");
    let barrier = Barrier::new(THREADS + 1);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let builder = thread::Builder::new().stack_size(STACK_BYTES);
            let idle = || {
                Tagged::new().leak();
                barrier.wait();
                barrier.wait();
                drop(Tagged::new());
            };
            builder.spawn_scoped(scope, idle).expect("a thread");
        }
        barrier.wait();
        pagetrace::flush().expect("it records");
        work();
        barrier.wait();
    });
    drop(guard);
    counts::tell();
}

/// Nobody waits: what does not fit is lost, and counted.
pub fn small_buffers_lose(file: &Path) {
    let builder = Builder::new(file).buffer_bytes(512 << 10).when_full(WhenFull::Lose);
    let guard = builder.flush_interval(Duration::from_secs(60)).init().expect("a recording");
    thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                let base = INVENTED_PAGES * (number + 1);
                page_rounds(&mut PageTraceBuf::new(), base, 20_000);
                work();
            });
        }
    });
    counts::note(&format!("{} events lost", pagetrace::statistics().lost_events));
    drop(guard);
    counts::tell();
}
