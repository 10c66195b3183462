//! Watched pages: what an access costs, and how soon two threads on one page are found.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pagetrace::{Access, Decision, Thread, Watch};

use crate::{PAGE, row, sys};

const PERIOD: Duration = Duration::from_millis(10);
const LASTS: Duration = Duration::from_secs(4);

static SEEN: Mutex<Vec<(u64, u32, bool)>> = Mutex::new(Vec::new());

fn note(access: &Access) -> Decision {
    SEEN.lock().expect("nobody panics with it").push((access.time.0, access.thread.0, access.modified_by.is_some()));
    Decision::Proceed
}

/// Runs all of it.
pub fn run() {
    cost();
    alone();
    ping_pong();
}

fn cost() {
    const PAGES: usize = 20_000;
    let memory = sys::map(PAGES * PAGE);
    (0..PAGES).for_each(|page| sys::write(memory + page * PAGE, 1));
    let watch =
        Watch::range(memory..memory + PAGES * PAGE).rearm_every(Duration::from_secs(3600)).system_calls_may_fail();
    let watching = watch.start().expect("it can be watched");
    let begun = sys::process_cpu_ns();
    (0..PAGES).for_each(|page| sys::write(memory + page * PAGE, 2));
    let spent = sys::process_cpu_ns() - begun;
    assert_eq!(watching.statistics().writes, PAGES as u64, "each of them is seen");
    row("a watched write, all threads, us", spent as f64 / PAGES as f64 / 1e3, "");
}

fn alone() {
    let memory = sys::map(64 * PAGE);
    let watching = Watch::range(memory..memory + 64 * PAGE).rearm_every(PERIOD).system_calls_may_fail().start();
    let watching = watching.expect("it can be watched");
    let end = Instant::now() + LASTS / 4;
    while Instant::now() < end {
        (0..64).for_each(|page| sys::write(memory + page * PAGE, 2));
    }
    let statistics = watching.statistics();
    assert!(statistics.writes > 0);
    row("one thread: foreign accesses reported", statistics.foreign as f64, "0");
}

fn ping_pong() {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let memory = sys::map(PAGE);
    let watching =
        Watch::range(memory..memory + PAGE).rearm_every(PERIOD).system_calls_may_fail().on_access(note).start();
    let watching = watching.expect("it can be watched");
    let end = Instant::now() + LASTS;
    let side = |own: usize| {
        let mut turns: Vec<u64> = Vec::new();
        while Instant::now() < end {
            if TURN.load(Ordering::Acquire) % 2 == own {
                sys::write(memory, 3);
                turns.push(sys::monotonic_ns());
                TURN.fetch_add(1, Ordering::Release);
            } else {
                thread::yield_now();
            }
        }
        (Thread::current().0, turns)
    };
    let sides = thread::scope(|scope| {
        let other = scope.spawn(|| side(1));
        [side(0), other.join().expect("it writes")]
    });
    drop(watching);
    let seen = SEEN.lock().expect("nobody panics with it");
    let [mut windows, mut found] = [0_u64; 2];
    for (tid, turns) in &sides {
        let times: Vec<u64> = seen.iter().filter(|it| it.1 == *tid && it.2).map(|it| it.0).collect();
        let both = 2 * PERIOD.as_nanos() as u64;
        // Two periods in each of which both sides were at work, as far as other programs let them.
        for window in (turns[0] + both..turns[turns.len() - 1] - both).step_by(both as usize) {
            let within = |time: &u64| (window..window + both).contains(time);
            let worked = |half: u64| {
                let half = window + half * both / 2..window + (half + 1) * both / 2;
                sides.iter().all(|(_, turns)| turns.iter().filter(|turn| half.contains(turn)).count() > 2)
            };
            if worked(0) && worked(1) {
                windows += 1;
                found += u64::from(times.iter().any(within));
            }
        }
    }
    row("ping-pong: a side found in two periods, %", 100.0 * found as f64 / windows as f64, "100");
    row("  pairs of periods looked at", windows as f64, "");
}
