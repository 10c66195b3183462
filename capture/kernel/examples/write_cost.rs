//! What tracked writes cost: looks at 1 GiB of this process's own with nothing, a tenth and all of it written, and a write to an
//! armed page.
//!
//! `cargo run --release -p pagetrace-kernel --example write_cost`. With the word `write` it only writes, one page after the
//! other, so that `pagetrace record --no-objects --writes -- write_cost write` tells what that costs with thread, time and
//! instruction.

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use pagetrace_kernel::writes::{WriteProtection, own_descriptor};
use rustix::time::{ClockId, clock_gettime};

const PAGE: usize = 4096;
const BYTES: usize = 1 << 30;
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().nth(1).as_deref() == Some("write") {
        return write();
    }
    let mut memory = vec![1_u8; BYTES];
    let mut protection = WriteProtection::of(std::process::id(), own_descriptor()?, &[])?;
    for (what, step) in [("nothing", 0), ("a tenth", 10), ("all", 1)] {
        let mut looks = Vec::new();
        let mut per_page = Vec::new();
        for _ in 0..ROUNDS {
            let started = Instant::now();
            let mut written = 0;
            if step > 0 {
                memory.iter_mut().step_by(step * PAGE).for_each(|byte| *byte = byte.wrapping_add(1));
                written = BYTES / PAGE / step;
            }
            black_box(&mut memory);
            per_page.push(started.elapsed().checked_div(written as u32).unwrap_or_default());
            let started = Instant::now();
            let look = protection.look()?;
            looks.push(started.elapsed());
            let found: u64 = look.found.iter().map(|run| run.range.pages.0).sum();
            assert!(found as usize >= written, "{found} pages were found, {written} were written");
        }
        println!("{what} of 1 GiB written: look {:?}, a write {:?}", median(looks), median(per_page));
    }
    Ok(())
}

/// Writes when an epoch has ended, so that all is armed.
fn write() -> Result<(), Box<dyn Error>> {
    let mut memory = vec![1_u8; BYTES / 4];
    let mut per_page = Vec::new();
    for _ in 0..ROUNDS {
        std::thread::sleep(Duration::from_millis(2_200));
        let (started, on_processor) = (Instant::now(), processor_time());
        memory.iter_mut().step_by(PAGE).for_each(|byte| *byte = byte.wrapping_add(1));
        black_box(&mut memory);
        let pages = (memory.len() / PAGE) as u32;
        per_page.push((started.elapsed() / pages, (processor_time() - on_processor) / pages));
    }
    let (by_the_clock, on_processor) = per_page.into_iter().unzip();
    let (by_the_clock, on_processor) = (median(by_the_clock), median(on_processor));
    println!(
        "a write to each page of {} MiB: {by_the_clock:?} by the clock, {on_processor:?} on the processor",
        memory.len() >> 20
    );
    Ok(())
}

/// Of this thread: others that have its processor meanwhile do not count.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
