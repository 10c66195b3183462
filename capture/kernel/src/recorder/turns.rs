//! Where the recorder runs while the recorded programs keep every processor busy: on each in turn.

use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// So long it stays on one processor: going over costs some microseconds, and what lies in the caches.
const TURN: Duration = Duration::from_millis(20);

/// The turns of the calling thread.
#[derive(Debug)]
pub struct Turns {
    began: Instant,
    processor: usize,
    /// The most threads that had events at a time, in this turn.
    recorded_threads: usize,
}

impl Turns {
    /// The first one begins now.
    pub fn new() -> Turns {
        Turns { began: Instant::now(), processor: 0, recorded_threads: 0 }
    }

    /// So many threads had events since the last look.
    pub fn note_recorded(&mut self, threads: usize) {
        self.recorded_threads = self.recorded_threads.max(threads);
    }

    /// Goes over to another processor when it is time to, and the recorded programs have a thread for each.
    ///
    /// The kernel wakes a thread where it ran last. So it would always be the same of these threads that makes room for the
    /// recorder, and all others would wait for that one in the end. With fewer threads there is a better place, where the kernel has
    /// put the recorder: beside what the program does not wait for.
    pub fn take(&mut self) {
        if self.began.elapsed() < TURN {
            return;
        }
        self.began = Instant::now();
        let recorded_threads = std::mem::take(&mut self.recorded_threads);
        if recorded_threads < 2 {
            return;
        }
        let Ok(allowed) = sched_getaffinity(None) else { return };
        let processors = allowed.count() as usize;
        if recorded_threads >= processors && runnable_threads().is_some_and(|threads| threads > processors) {
            self.go_over(&allowed);
        }
    }

    /// To the next processor of those that are allowed. All of them still are afterwards.
    fn go_over(&mut self, allowed: &CpuSet) {
        let behind = (1..=CpuSet::MAX_CPU).map(|step| (self.processor + step) % CpuSet::MAX_CPU);
        let Some(next) = behind.into_iter().find(|&processor| allowed.is_set(processor)) else { return };
        self.processor = next;
        let mut there = CpuSet::new();
        there.set(next);
        // Where it is refused the kernel chooses, as without.
        if sched_setaffinity(None, &there).is_ok() {
            let _ = sched_setaffinity(None, allowed);
        }
    }
}

/// How many threads of the machine run or are ready to (proc_loadavg(5)).
fn runnable_threads() -> Option<usize> {
    runnable_in(&std::fs::read_to_string("/proc/loadavg").ok()?)
}

fn runnable_in(loadavg: &str) -> Option<usize> {
    loadavg.split(' ').nth(3)?.split('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use rustix::thread::sched_getcpu;

    use super::*;

    #[test]
    fn every_processor_has_its_turn_and_all_stay_allowed() {
        let allowed = sched_getaffinity(None).unwrap();
        let mut turns = Turns::new();
        let mut seen = CpuSet::new();
        for _ in 0..allowed.count() {
            turns.go_over(&allowed);
            assert!(allowed.is_set(turns.processor) && !seen.is_set(turns.processor), "{turns:?}");
            seen.set(turns.processor);
            assert!(sched_getaffinity(None).unwrap() == allowed);
        }
        assert!(seen == allowed);
        assert!(allowed.is_set(sched_getcpu()));
    }

    #[test]
    fn ready_threads_stand_in_front_of_all() {
        assert_eq!(runnable_in("0.20 0.18 0.12 3/80 11206\n"), Some(3));
        assert_eq!(runnable_in(""), None);
        assert!(runnable_threads().is_some_and(|threads| threads > 0), "this thread runs");
    }
}
