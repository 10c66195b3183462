//! What a program counts of its own doing, and tells the driver: the traces are compared with it.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// The size in bytes of the objects that are counted: nothing else asks for so many.
pub const TAGGED_BYTES: usize = 4321;

static MADE: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);
static PAGE_EVENTS: AtomicU64 = AtomicU64::new(0);

/// An object that is counted.
pub struct Tagged(Box<[u8; TAGGED_BYTES]>);

impl Tagged {
    /// Makes one, which the tracer sees as any allocation.
    pub fn new() -> Tagged {
        MADE.fetch_add(1, Ordering::Relaxed);
        Tagged(Box::new([7; TAGGED_BYTES]))
    }

    /// Where it lies.
    pub fn address(&self) -> usize {
        self.0.as_ptr() as usize
    }

    /// Leaves it alive for good.
    pub fn leak(self) {
        assert_eq!(self.0[TAGGED_BYTES - 1], 7, "an object was written over");
        std::mem::forget(self);
    }
}

impl Drop for Tagged {
    fn drop(&mut self) {
        assert_eq!(self.0[0], 7, "an object was written over");
        FREED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts page events that are about to be recorded.
pub fn page_events(count: u64) {
    PAGE_EVENTS.fetch_add(count, Ordering::Relaxed);
}

/// Starts again: a forked child counts for itself.
pub fn restart() {
    for counter in [&MADE, &FREED, &PAGE_EVENTS] {
        counter.store(0, Ordering::Relaxed);
    }
}

/// Prints this process's counts so far. The last such line of a process stands.
pub fn tell() {
    let [made, freed, page_events] = [&MADE, &FREED, &PAGE_EVENTS].map(|counter| counter.load(Ordering::Relaxed));
    let mut output = std::io::stdout().lock();
    writeln!(output, "counts {} {made} {freed} {page_events}", std::process::id()).expect("the driver reads this");
    output.flush().expect("the driver reads this");
}

/// A figure for the person who reads the test's output.
pub fn note(text: &str) {
    println!("note {text}");
}

/// The counts of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Objects of [`TAGGED_BYTES`] made.
    pub made: u64,
    /// Of these, freed.
    pub freed: u64,
    /// Page events.
    pub page_events: u64,
}

/// What a program printed: counts by pid.
pub fn told(printed: &str) -> Vec<(u32, Counts)> {
    let mut told: Vec<(u32, Counts)> = Vec::new();
    for line in printed.lines().filter_map(|line| line.strip_prefix("counts ")) {
        let numbers: Vec<u64> = line.split(' ').map(|word| word.parse().expect("a number")).collect();
        let [pid, made, freed, page_events] = numbers[..] else { panic!("a line of counts: {line:?}") };
        told.retain(|(other, _)| u64::from(*other) != pid);
        told.push((pid as u32, Counts { made, freed, page_events }));
    }
    told
}
