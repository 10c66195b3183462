//! How fast execution traces of Go are read and replayed, with types and sites, on one core; what memory that takes.
//!
//! `cargo run --release -p pagetrace-replay --example go_heap_bench [TRACE…]`; without a trace those of the tests.

use std::error::Error;
use std::path::Path;

use pagetrace_format::go_execution_trace::GoEvents;
use pagetrace_replay::{Moment, replay_go_heap};

/// A trace is replayed so often that there are at least so many events.
const EVENTS_MIN: u64 = 5_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut paths: Vec<String> = std::env::args().skip(1).collect();
    if paths.is_empty() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../format/tests/data/go-execution-trace");
        let samples = ["go1.23-allocfree.trace", "go1.25-allocfree.trace", "go1.27-allocfree.trace"];
        paths = samples.iter().map(|name| data.join(name).display().to_string()).collect();
    }
    for path in paths {
        measure(&path)?;
    }
    Ok(())
}

fn measure(path: &str) -> Result<(), Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    let before = resident_bytes()?;
    let heap = replay_go_heap(&bytes, Moment::End, &mut |_| {})?;
    let memory = resident_bytes()?.saturating_sub(before);
    let events: u64 = heap.events.named().iter().map(|(_, count)| count).sum();
    let rounds = EVENTS_MIN.div_ceil(events.max(1));
    let began = cpu_seconds()?;
    for _ in 0..rounds {
        let mut reader = GoEvents::open(&bytes)?;
        while reader.next_event().is_some() {}
    }
    let read = cpu_seconds()? - began;
    let began = cpu_seconds()?;
    for _ in 0..rounds {
        replay_go_heap(&bytes, Moment::End, &mut |_| {})?;
    }
    let replayed = cpu_seconds()? - began;
    println!(
        "{path}: {events} alloc/free events, {:.1} MiB: read {:.1}M events/s, replayed {:.1}M events/s of CPU time; {} live \
         objects, {:.1} MiB of memory beside the trace",
        bytes.len() as f64 / f64::from(1 << 20),
        (events * rounds) as f64 / read / 1e6,
        (events * rounds) as f64 / replayed / 1e6,
        heap.state.live_objects,
        memory as f64 / f64::from(1 << 20),
    );
    Ok(())
}

/// Time that all threads of this process spent on a processor: other work on the machine does not count.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    // Ticks of 1/100 s (proc(5)); the name in front may hold spaces.
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("stat has no name")?;
    let times = fields.split_ascii_whitespace().skip(11).take(2);
    Ok(times.map(str::parse::<f64>).sum::<Result<f64, _>>()? / 100.0)
}

/// The resident memory of this process by statm, bytes.
fn resident_bytes() -> Result<u64, Box<dyn Error>> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split(' ').nth(1).ok_or("statm has no second field")?.parse()?;
    Ok(pages * 4096)
}
