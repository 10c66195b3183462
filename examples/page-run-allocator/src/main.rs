//! Runs a workload on the allocator, records its page trace, and compares what the trace knows with its own books.
//!
//! ```text
//! page-run-allocator [FILE] [--go] [--off] [--threads N] [--operations N | --seconds N]
//!   FILE          where to record to; without it PAGETRACE or GODEBUG in the environment says so, or nothing does
//!   --go          in the format of Go's page traces
//!   --off         switches recording off before it looks at the figures, which stay
//! ```
//! It is there to be read by those who have an allocator to trace: `page_heap.rs` holds the three hooks for pages,
//! `lib.rs` the two for objects, and this file what starts and ends the recording. Then:
//! `page-run-allocator pages.pagetrace`, and `pagetrace report pages.pagetrace`. It exits with 1 if the tracer's figures
//! differ from the books.
#![forbid(unsafe_code)]

mod workload;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use page_run_allocator::{Allocator, PAGE_BYTES, PageCounts};
use pagetrace::{Builder, Guard, Off, State, TraceFormat};
use workload::Until;

/// What Go's runtime reserves at a time on 64-bit Linux.
const REGION_BYTES: usize = 64 << 20;
/// 2 MiB a shard.
const RETAINED_PAGES_MAX: usize = (2 << 20) / PAGE_BYTES;

struct Options {
    file: Option<OsString>,
    format: TraceFormat,
    off: bool,
    threads: usize,
    until: Until,
}

fn main() -> ExitCode {
    let options = match options(std::env::args_os().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("page-run-allocator: {message}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(agree) if agree => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("page-run-allocator: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the tracer's figures agree with the books.
fn run(options: &Options) -> Result<bool, Box<dyn std::error::Error>> {
    let _finishes_when_dropped = start_recording(options)?;
    let allocator = Allocator::new(options.threads, REGION_BYTES, RETAINED_PAGES_MAX)?;
    let held = workload::run(&allocator, options.threads, options.until);

    let books = allocator.pages();
    let PageCounts { in_use, free, scavenged, .. } = books;
    println!("books: in_use={in_use} free={free} scavenged={scavenged}");
    println!("objects: live={} bytes={}", held.len(), held.iter().map(|block| block.bytes()).sum::<usize>());
    if pagetrace::state() == State::Uninitialized {
        println!("statistics: nothing is recorded");
        return Ok(true);
    }
    if options.off {
        pagetrace::off(Off::Drop)?;
    }
    let pages = pagetrace::statistics().pages;
    println!("statistics: in_use={} free={} scavenged={}", pages.in_use, pages.free, pages.scavenged);
    let own = [in_use, free, scavenged].map(|count| count as u64);
    Ok([pages.in_use, pages.free, pages.scavenged] == own && pages.missed == 0)
}

fn start_recording(options: &Options) -> Result<Guard, Box<dyn std::error::Error>> {
    if let Some(file) = &options.file {
        return Ok(Builder::new(file).format(options.format).page_bytes(PAGE_BYTES).init()?);
    }
    // The environment has been looked at before `main`. It may ask for pages of a size that is not ours.
    let guard = pagetrace::init()?;
    let found = pagetrace::page_bytes();
    if pagetrace::state() != State::Uninitialized && found != PAGE_BYTES {
        return Err(format!(
            "expected a trace of pages of {PAGE_BYTES} bytes, found {found}: \
            set PAGETRACE=FILE,page_size={PAGE_BYTES}"
        )
        .into());
    }
    Ok(guard)
}

fn options(mut arguments: impl Iterator<Item = OsString>) -> Result<Options, String> {
    let mut options =
        Options { file: None, format: TraceFormat::Native, off: false, threads: 4, until: Until::Operations(20_000) };
    while let Some(argument) = arguments.next() {
        let mut number = |option: &str| -> Result<u64, String> {
            let value = arguments.next().unwrap_or_default();
            let number = value.to_str().and_then(|value| value.parse().ok()).filter(|number| *number > 0);
            number.ok_or(format!("{option}: expected a number above 0, found {value:?}"))
        };
        match argument.to_str() {
            Some("--go") => options.format = TraceFormat::Go,
            Some("--off") => options.off = true,
            Some(option @ "--threads") => options.threads = number(option)? as usize,
            Some(option @ "--operations") => options.until = Until::Operations(number(option)?),
            Some(option @ "--seconds") => {
                options.until = Until::Moment(Instant::now() + Duration::from_secs(number(option)?));
            }
            Some(option) if option.starts_with('-') => {
                return Err(format!(
                    "unknown option {option}; expected --go, --off, --threads, --operations, --seconds"
                ));
            }
            _ if options.file.is_some() => return Err(format!("one file only; found {argument:?} as well")),
            _ => options.file = Some(argument),
        }
    }
    Ok(options)
}
