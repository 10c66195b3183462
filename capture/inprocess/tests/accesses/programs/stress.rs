//! Everything at once: threads that read, write and give back watched pages and hold each byte against what it must be, while
//! pages are armed each millisecond, writes are tracked, recording goes off and on, and children are forked.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pagetrace::{Builder, Off, Watch, WriteTracking, write_statistics};

use crate::memory::{PAGE, Pages};
use crate::sys;

const THREADS: usize = 4;
/// Pages that a thread has for itself, on each of which it writes and reads.
const OWN: usize = 25;
const GIVES_BACK_EVERY: Duration = Duration::from_millis(120);
const LASTS: Duration = Duration::from_secs(3);

pub fn watched(file: &Path) {
    stress(file, false);
}

pub fn watched_by_signals(file: &Path) {
    sys::forbid_userfaultfd();
    stress(file, true);
}

fn stress(file: &Path, by_signals: bool) {
    let guard = Builder::new(file).flush_interval(Duration::from_millis(5)).init().expect("a recording");
    if !by_signals {
        WriteTracking::all_writable().epoch(Duration::from_millis(3)).start().expect("writes can be tracked here");
    }
    let pages = Pages::written(THREADS * OWN + 1);
    let (done, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let watch = || {
        let watch = Watch::range(pages.base..pages.base + pages.count * PAGE).rearm_every(Duration::from_millis(1));
        let watch = if by_signals { watch.by_signals() } else { watch.system_calls_may_fail() };
        watch.start().expect("it can be watched")
    };
    let end = Instant::now() + LASTS;
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (done, rounds) = (&done, &rounds);
            scope.spawn(move || work(&pages, number, done, rounds));
        }
        let (mut accesses, mut failed) = (0, 0);
        for turn in 0.. {
            if Instant::now() >= end {
                break;
            }
            let watching = watch();
            thread::sleep(Duration::from_millis(30));
            let status = sys::forked(|| {
                // What the threads have there is as it was at some moment: whole bytes of theirs, or zeros.
                for page in 0..THREADS * OWN {
                    let (first, second) = (sys::read(pages.at(page)), sys::read(pages.at(page) + 4095));
                    assert!(first == second || first.wrapping_sub(second) == 1 || second == 0 || first == 0);
                    pages.write(page);
                }
            });
            failed += i32::from(status != 0);
            if turn % 3 == 2 {
                pagetrace::off(Off::Keep).expect("no hook takes a second");
                thread::sleep(Duration::from_millis(3));
                pagetrace::on().expect("it was off");
            }
            accesses += watching.statistics().writes;
        }
        done.store(true, Ordering::Relaxed);
        assert!(accesses > 100 && failed == 0, "{accesses} accesses, {failed} children failed");
    });
    assert!(rounds.load(Ordering::Relaxed) >= THREADS, "{rounds:?}");
    assert!(by_signals || write_statistics().epochs > 0);
    drop(guard);
}

/// Counts up on its pages, gives some back now and then, and shares the last page with the other threads.
fn work(pages: &Pages, number: usize, done: &AtomicBool, rounds: &AtomicUsize) {
    let (mut expected, mut given_back) = ([0_u8; OWN], Instant::now());
    let own = |index: usize| pages.at(number * OWN + index);
    (0..OWN).for_each(|index| {
        sys::write(own(index), 0);
        sys::write(own(index) + 4095, 0);
    });
    for round in 0_usize.. {
        if done.load(Ordering::Relaxed) {
            break;
        }
        for (index, expected) in expected.iter_mut().enumerate() {
            assert_eq!(
                (sys::read(own(index)), sys::read(own(index) + 4095)),
                (*expected, *expected),
                "{number}, {index}"
            );
            *expected = expected.wrapping_add(1);
            sys::write(own(index), *expected);
            sys::write(own(index) + 4095, *expected);
        }
        sys::write(pages.at(THREADS * OWN) + number, round as u8);
        assert_eq!(sys::read(pages.at(THREADS * OWN) + number), round as u8);
        // Pages that were given back are not moved away for a second: most of them are to be.
        if given_back.elapsed() > GIVES_BACK_EVERY {
            given_back = Instant::now();
            let index = round % OWN;
            sys::discard(own(index), PAGE);
            expected[index] = 0;
        }
        rounds.fetch_add(1, Ordering::Relaxed);
        if round % 50 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
}
