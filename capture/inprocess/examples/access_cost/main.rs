//! What tracking writes costs and how right it is: `cargo run --release -p pagetrace --features enabled --example access_cost`.
//!
//! Four threads write to pages of 1 GiB (or as many MiB as the first argument says), each to its own and some of a part that all
//! write; then what the tracker knows is held against what they did.

mod sys;

use std::collections::HashMap;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use pagetrace::{Thread, WriteTracking, end_write_epoch, page_info, write_statistics};

const PAGE: usize = 4096;
const THREADS: usize = 4;

fn main() {
    let mib: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1024);
    let pages = mib * 256;
    let memory = sys::map(pages * PAGE);
    (0..pages).for_each(|page| sys::write(memory + page * PAGE, 1));
    let plain = time_of_writes(memory, pages);
    println!("a write without tracking                     {plain:8.1} ns");
    WriteTracking::range(memory..memory + pages * PAGE).epoch(Duration::from_secs(3600)).start().expect("tracking");
    println!("first arming of {mib} MiB                      {:8.3} ms", millis(write_statistics().last_scan_ns));

    for _ in 0..3 {
        let armed = time_of_writes(memory, pages.min(100_000));
        end_write_epoch().expect("it is tracked");
        println!("an armed write with thread, time, instruction{armed:8.1} ns");
    }
    end_write_epoch().expect("it is tracked");
    println!("scan and rearm, nothing written              {:8.3} ms", millis(write_statistics().last_scan_ns));
    for (name, step) in [("10 % written, a page in ten", 10), ("10 % written, runs of 64", 0), ("all written", 1)] {
        let chosen = |page: &usize| if step == 0 { page / 64 % 10 == 3 } else { page.is_multiple_of(step) };
        (0..pages).filter(chosen).for_each(|page| sys::write(memory + page * PAGE, 2));
        end_write_epoch().expect("it is tracked");
        println!("scan and rearm, {name:29}{:8.3} ms", millis(write_statistics().last_scan_ns));
    }
    pattern(memory, pages);
    println!("{:?}", write_statistics());
    pagetrace::stop_tracking_writes();
}

/// Rounds of writes by four threads, each held against what is known after it.
fn pattern(memory: usize, pages: usize) {
    let before = write_statistics();
    let (mut written, mut right, mut wrong, mut nobody, mut missing, mut false_ones) =
        (0_u64, 0_u64, 0_u64, 0_u64, 0, 0);
    for round in 0..4_usize {
        let barrier = Arc::new(Barrier::new(THREADS));
        let begun = Instant::now();
        let handles: Vec<_> = (0..THREADS)
            .map(|index| {
                let barrier = Arc::clone(&barrier);
                thread::spawn(move || {
                    barrier.wait();
                    let own = |page: &usize| owner(*page, round) == Some(index);
                    (0..pages).filter(own).for_each(|page| sys::write(memory + page * PAGE + 8, 3));
                    Thread::current()
                })
            })
            .collect();
        let threads: Vec<Thread> = handles.into_iter().map(|handle| handle.join().expect("it writes")).collect();
        let lasted = begun.elapsed();
        let counts: HashMap<usize, u32> =
            (0..pages).filter_map(|page| Some((page, page_info(memory + page * PAGE)?.epochs_written))).collect();
        end_write_epoch().expect("it is tracked");
        for page in 0..pages {
            let info = page_info(memory + page * PAGE).expect("it is tracked");
            let was_written = info.epochs_written != counts[&page];
            match owner(page, round) {
                Some(owner) => {
                    written += 1;
                    missing += u64::from(!was_written);
                    match info.first_writer_of_last_epoch {
                        Some(thread) if thread == threads[owner] => right += 1,
                        Some(_) => wrong += 1,
                        None => nobody += 1,
                    }
                }
                None => false_ones += u64::from(was_written),
            }
        }
        println!("round {round}: {lasted:?}, {:?}", write_statistics().last_scan_ns);
    }
    println!("pages written {written}, missing {missing}, reported though not written {false_ones}");
    println!("first writer right {:.4} %, wrong {wrong}, not known {nobody}", 100.0 * right as f64 / written as f64);
    println!("records lost {}", write_statistics().faults_lost - before.faults_lost);
}

/// Who writes a page in a round; a third of the pages nobody does.
fn owner(page: usize, round: usize) -> Option<usize> {
    let mixed = (page ^ round << 20).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    (!mixed.is_multiple_of(3)).then_some(mixed / 3 % THREADS)
}

fn time_of_writes(memory: usize, pages: usize) -> f64 {
    let begun = Instant::now();
    (0..pages).for_each(|page| sys::write(memory + page * PAGE, 1));
    begun.elapsed().as_nanos() as f64 / pages as f64
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}
