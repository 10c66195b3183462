//! What a hook costs, on two threads at once: bursts that fit the buffers, in rounds that take each variant in turn, so
//! that a machine that grows slower or faster meanwhile does so for all. Processor time; medians of the rounds' differences.
//!
//! `cargo run --release -p pagetrace --features enabled --example hook_cost`

mod paths;
mod sys;

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pagetrace::{Builder, Caller, Function, Guard, Off, PageTraceBuf};

const THREADS: usize = 2;
const ROUNDS: usize = 9;
/// Operations that are timed together. Their events fit the buffers.
const BURST: usize = 20_000;
const BURSTS: usize = 10;
const BUFFER_BYTES: usize = 64 << 20;
/// The flusher is not to run during a burst: what is measured is the hook.
const NEVER: Duration = Duration::from_secs(3600);
/// Page runs and objects of a thread, over and over.
const PLACES: usize = 64;
/// Where they lie: no mapping is ever there.
const INVENTED: usize = 0x10_0000_0000;

/// The states in which a hook does nothing.
const IDLE: [&str; 2] = ["not initialized", "after off(Drop)"];

type PathOf = fn(usize) -> u64;
/// By which paths of calls objects come.
const PATHS: [(&str, PathOf); 2] = [("one path", |_| 0x5a), ("random paths", paths::random)];

const SWITCH_THREADS: usize = 64;
const SWITCHES: usize = 20;

/// The most that a page event may cost beyond reading the time, and a hook that does nothing beyond an empty loop.
const PAGE_EVENT_NS_MAX: f64 = 8.0;
const IDLE_NS_MAX: f64 = 1.0;
/// The most that an object with its stack may cost, both hooks, where each comes by another path.
const OBJECT_NS_MAX: f64 = 70.0;
const ON_MAX: Duration = Duration::from_millis(1);

/// Nanoseconds of one operation, by variant, for each round.
#[derive(Default)]
struct Table {
    rows: Vec<(String, Vec<f64>)>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::temp_dir().join(format!("pagetrace-hook-cost-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let measured = measure(&directory.join("hook_cost.pagetrace"));
    std::fs::remove_dir_all(&directory)?;
    measured
}

fn measure(file: &Path) -> Result<(), Box<dyn Error>> {
    let mut table = Table::default();
    for round in 0..ROUNDS {
        eprintln!("round {} of {ROUNDS}", round + 1);
        one_round(file, &mut table)?;
    }
    println!("load of the machine: {}", std::fs::read_to_string("/proc/loadavg")?.trim_end());
    table.print();
    let mut switches = switch_times(file, Off::Drop)?;
    println!("\non() after off(Drop), {SWITCH_THREADS} threads in hooks: {}", shown(&mut switches));
    let dropped = median_time(&switches);
    let mut switches = switch_times(file, Off::Keep)?;
    println!("on() after off(Keep), {SWITCH_THREADS} threads in hooks: {}", shown(&mut switches));
    let kept = median_time(&switches);

    println!();
    let page_event = table.difference("page event, own buffer", "time stamp counter");
    verdict("page event beyond the time stamp", page_event, PAGE_EVENT_NS_MAX, "ns");
    for (name, _) in PATHS {
        let object = table.difference(&format!("20 calls, {name}, object"), &format!("20 calls, {name}"));
        verdict(&format!("object alloc + free, stacks of {name}"), object, OBJECT_NS_MAX, "ns");
    }
    for (idle, _) in table.rows.iter().filter(|(name, _)| IDLE.iter().any(|state| name.ends_with(state))) {
        verdict(idle, table.difference(idle, "empty loop"), IDLE_NS_MAX, "ns");
    }
    verdict("on() after off(Drop)", dropped.as_secs_f64() * 1e3, ON_MAX.as_secs_f64() * 1e3, "ms");
    verdict("on() after off(Keep)", kept.as_secs_f64() * 1e3, ON_MAX.as_secs_f64() * 1e3, "ms");
    Ok(())
}

fn one_round(file: &Path, table: &mut Table) -> Result<(), Box<dyn Error>> {
    table.note("empty loop", |thread, index| {
        black_box(page_run(thread, index));
    });
    table.note("time stamp counter", |thread, index| {
        black_box((page_run(thread, index), sys::time_stamp_counter()));
    });
    table.idle_hooks(IDLE[0]);

    let guard = start(file, true)?;
    table.note("now()", |thread, index| {
        black_box((page_run(thread, index), pagetrace::now()));
    });
    table.note_with("page event, own buffer", PageTraceBuf::new, page_event);
    table.note("page event, thread_buf()", |thread, index| {
        let (base, buffer) = (page_run(thread, index), pagetrace::thread_buf());
        if index.is_multiple_of(2) { buffer.alloc(base, 4) } else { buffer.free(base, 4) }
    });
    table.note("object alloc + free, live table", object_pair);
    pagetrace::off(Off::Drop)?;
    table.idle_hooks(IDLE[1]);
    drop(guard);
    pagetrace::reset()?;

    let guard = start(file, false)?;
    table.note("object alloc + free, no table", object_pair);
    for (name, path) in PATHS {
        table.note(&format!("20 calls, {name}"), |_, index| paths::along(path(index), None));
        table.note(&format!("20 calls, {name}, object"), |thread, index| {
            paths::along(path(index), Some(object_address(thread, index)));
        });
    }
    drop(guard);
    pagetrace::reset()?;
    Ok(())
}

fn start(file: &Path, live_table: bool) -> Result<Guard, pagetrace::Error> {
    Builder::new(file).buffer_bytes(BUFFER_BYTES).flush_interval(NEVER).snapshots(false).live_table(live_table).init()
}

#[inline(always)]
fn page_run(thread: usize, index: usize) -> usize {
    INVENTED * (thread + 1) + (index / 2 % PLACES) * 4 * 4096
}

/// Takes a run and frees it, in turn.
#[inline(always)]
fn page_event(buffer: &mut PageTraceBuf, thread: usize, index: usize) {
    let base = page_run(thread, index);
    if index.is_multiple_of(2) { buffer.alloc(base, 4) } else { buffer.free(base, 4) }
}

#[inline(always)]
fn object_address(thread: usize, index: usize) -> usize {
    INVENTED * (thread + 1) + (index % PLACES) * 64
}

/// Both hooks of one object.
#[inline(always)]
fn object_pair(thread: usize, index: usize) {
    let address = object_address(thread, index);
    pagetrace::object_alloc(address, 40, 40, Function::Plain, Caller::UNKNOWN);
    pagetrace::object_free(address, Function::Plain);
}

impl Table {
    /// Each hook where nothing is recorded.
    fn idle_hooks(&mut self, state: &str) {
        self.note(&format!("object alloc, {state}"), |thread, index| {
            pagetrace::object_alloc(page_run(thread, index), 40, 40, Function::Plain, Caller::UNKNOWN);
        });
        self.note(&format!("object free, {state}"), |thread, index| {
            pagetrace::object_free(page_run(thread, index), Function::Plain);
        });
        self.note_with(&format!("page, own buffer, {state}"), PageTraceBuf::new, |buffer, thread, index| {
            buffer.alloc(page_run(thread, index), 4);
        });
        self.note(&format!("page, thread_buf(), {state}"), |thread, index| {
            pagetrace::thread_buf().alloc(page_run(thread, index), 4);
        });
    }

    fn note(&mut self, name: &str, operation: impl Fn(usize, usize) + Sync) {
        self.note_with(name, || (), |(), thread, index| operation(thread, index));
    }

    /// Measures one variant: all threads at once, each with a state of its own.
    fn note_with<S>(
        &mut self,
        name: &str,
        state: impl Fn() -> S + Sync,
        operation: impl Fn(&mut S, usize, usize) + Sync,
    ) {
        let barrier = Barrier::new(THREADS);
        let busy = |thread: usize| {
            let mut state = state();
            let mut busy = Duration::ZERO;
            // The first burst takes blocks and touches their memory.
            for burst in 0..=BURSTS {
                barrier.wait();
                let start = sys::thread_cpu_time();
                for index in 0..BURST {
                    operation(&mut state, black_box(thread), index);
                }
                busy += if burst == 0 { Duration::ZERO } else { sys::thread_cpu_time() - start };
                if barrier.wait().is_leader() {
                    // Nothing to flush where it is not recording.
                    let _ = pagetrace::flush();
                }
            }
            busy
        };
        let all: Duration = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || busy(thread))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_default()).sum()
        });
        let each = all.as_nanos() as f64 / (THREADS * BURSTS * BURST) as f64;
        match self.rows.iter_mut().find(|(row, _)| *row == name) {
            Some((_, rounds)) => rounds.push(each),
            None => self.rows.push((name.to_owned(), vec![each])),
        }
    }

    fn rounds(&self, name: &str) -> &[f64] {
        self.rows.iter().find(|(row, _)| *row == name).map_or(&[], |(_, rounds)| rounds)
    }

    fn difference(&self, name: &str, base: &str) -> f64 {
        median(self.rounds(name).iter().zip(self.rounds(base)).map(|(one, other)| one - other).collect())
    }

    fn print(&self) {
        println!("{:36} {:>9} {:>16} {:>16}", "ns an operation, 2 threads", "median", "- empty loop", "- time stamp");
        for (name, rounds) in &self.rows {
            println!(
                "{name:36} {:>9.2} {:>16.2} {:>16.2}",
                median(rounds.clone()),
                self.difference(name, "empty loop"),
                self.difference(name, "time stamp counter")
            );
        }
    }
}

/// How long `on` takes while threads are in hooks.
fn switch_times(file: &Path, off: Off) -> Result<Vec<Duration>, Box<dyn Error>> {
    let guard = Builder::new(file).init()?;
    let done = AtomicBool::new(false);
    let times = thread::scope(|scope| {
        for thread in 0..SWITCH_THREADS {
            let done = &done;
            scope.spawn(move || {
                for index in 0.. {
                    object_pair(thread, index);
                    if index % 100 == 99 {
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                        // Busy enough for any moment to find threads in hooks, on few processors too.
                        thread::sleep(Duration::from_micros(200));
                    }
                }
            });
        }
        let times = (0..SWITCHES).map(|_| {
            thread::sleep(Duration::from_millis(5));
            pagetrace::off(off)?;
            thread::sleep(Duration::from_millis(2));
            let start = Instant::now();
            pagetrace::on()?;
            Ok(start.elapsed())
        });
        let times: Result<Vec<Duration>, pagetrace::Error> = times.collect();
        done.store(true, Ordering::Relaxed);
        times
    });
    drop(guard);
    pagetrace::reset()?;
    Ok(times?)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn median_time(sorted: &[Duration]) -> Duration {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn shown(times: &mut [Duration]) -> String {
    times.sort();
    let (first, last) = (times.first().copied().unwrap_or_default(), times.last().copied().unwrap_or_default());
    format!("median {:?}, {first:?} to {last:?}", median_time(times))
}

fn verdict(what: &str, found: f64, most: f64, unit: &str) {
    let word = if found <= most { "kept" } else { "MISSED" };
    println!("{word:6} {what}: {found:.2} {unit}, at most {most} asked");
}
