//! How fast page traces of Go are decoded: opening one, which reads every word, and then its events.
//!
//! `cargo run --release -p pagetrace-format --example go_page_bench [TRACE…]`; without a trace those of the tests.

use std::error::Error;
use std::hint::black_box;
use std::path::Path;

use pagetrace_format::{GoPageTrace, Trace, go_to_native};

/// A trace is decoded so often that there are at least so many events.
const EVENTS_MIN: u64 = 100_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut paths: Vec<String> = std::env::args().skip(1).collect();
    if paths.is_empty() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/go-page-trace");
        let samples = ["go1.22-churn", "go1.22-gofmt", "go1.22-large-scavenge"];
        paths = samples.iter().map(|name| data.join(format!("{name}.pagetrace")).display().to_string()).collect();
    }
    for path in paths {
        let bytes = std::fs::read(&path)?;
        let trace = GoPageTrace::open(&bytes)?;
        let events: u64 = trace.runs().iter().map(|run| u64::from(run.events)).sum();
        let rounds = EVENTS_MIN.div_ceil(events.max(1));
        let all = (events * rounds) as f64 / 1e6;

        let began = cpu_seconds()?;
        for _ in 0..rounds {
            black_box(GoPageTrace::open(black_box(&bytes))?.runs().len());
        }
        let opened = cpu_seconds()? - began;

        let began = cpu_seconds()?;
        for _ in 0..rounds {
            for run in trace.runs() {
                let mut cursor = trace.events(black_box(run));
                while let Some(event) = cursor.next_event()? {
                    black_box(&event);
                }
            }
        }
        let read = cpu_seconds()? - began;

        let began = cpu_seconds()?;
        let converted = rounds.div_ceil(20);
        for _ in 0..converted {
            black_box(Trace::open(&go_to_native(&trace, Vec::new())?)?.chunks().len());
        }
        let converting = cpu_seconds()? - began;
        println!(
            "{path}: {events} events: opened {:.0}M events/s, read {:.0}M events/s, converted {:.0}M events/s of CPU time",
            all / opened,
            all / read,
            (events * converted) as f64 / 1e6 / converting
        );
    }
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
