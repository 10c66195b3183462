//! What a system call about pages costs when it is taken down by seccomp notification:
//! `cargo run --release -p pagetrace-kernel --example notified_calls`

use std::error::Error;
use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

use pagetrace_kernel::seccomp::CallNotifications;

const ROUNDS: usize = 5;
/// The child's argument.
const MEASURE: &str = "measure";
/// Allocations of so many bytes are mapped one by one and unmapped again, whatever the allocator has learnt (mallopt(3)): two
/// calls each.
const MAPPED_BYTES: usize = 64 << 20;
const ALLOCATIONS: u32 = 100;
/// On a busy machine the quickest of many short batches tells most.
const BATCHES: u32 = 100;
const CALLS: u32 = 2 * ALLOCATIONS * BATCHES;

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().nth(1).as_deref() == Some(MEASURE) {
        (0..BATCHES).for_each(|_| println!("{}", nanoseconds_a_call()));
        return Ok(());
    }
    let (mut alone, mut taken_down) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.extend(measured(false)?);
        taken_down.extend(measured(true)?);
    }
    for (which, all) in [("alone", &mut alone), ("taken down", &mut taken_down)] {
        all.sort_unstable();
        println!("{which}: least {} ns a call, median {}", all[0], all[all.len() / 2]);
    }
    println!("more: {} ns a call of the least", taken_down[0].saturating_sub(alone[0]));
    Ok(())
}

/// Nanoseconds a call, of each batch.
fn measured(notified: bool) -> Result<Vec<u64>, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(MEASURE);
    let mut notifications = if notified { Some(CallNotifications::prepare(&mut command)?) } else { None };
    let output = command.output()?;
    if let Some(notifications) = &mut notifications {
        notifications.installed()?;
        let mut seen = 0;
        notifications.take(|_| seen += 1);
        if seen < CALLS {
            return Err(format!("expected {CALLS} calls, found {seen}").into());
        }
    }
    let figures = String::from_utf8(output.stdout)?;
    Ok(figures.lines().map(str::parse).collect::<Result<_, _>>()?)
}

fn nanoseconds_a_call() -> u64 {
    let begun = Instant::now();
    for _ in 0..ALLOCATIONS {
        drop(black_box(Vec::<u8>::with_capacity(black_box(MAPPED_BYTES))));
    }
    begun.elapsed().as_nanos() as u64 / u64::from(2 * ALLOCATIONS)
}
