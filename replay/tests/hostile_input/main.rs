//! Bytes of unknown origin: no panic, and no more memory than follows from their length. The seeds of the fuzz targets are
//! read again here, and traces that are made to need much memory.

mod attacks;
mod checkpoints;
mod go_attacks;
mod readers;
mod sys;
#[path = "../trace/mod.rs"]
mod trace;

use std::fs;
use std::path::Path;

use pagetrace_format::Trace;
use pagetrace_format::expansion::{RAW_BYTES_FREE, RAW_BYTES_PER_BYTE, raw_bytes_of};

use attacks::ATTACKS;
use sys::most_heap_bytes;

/// Heap that a replay may have in use for each byte of payload, and whatever the length: ARCHITECTURE.md says so too.
const HEAP_BYTES_PER_RAW_BYTE: usize = 1500;
const HEAP_BYTES_FREE: usize = 64 << 20;

/// Reads the bytes as what they are to be. What was needed is held against what the payloads allow.
fn read_within_bounds(name: &str, bytes: &[u8], reader: fn(&[u8])) {
    let raw_bytes: usize = match Trace::open(bytes) {
        Ok(trace) => trace.chunks().iter().map(|chunk| raw_bytes_of(&chunk.header) as usize).sum(),
        Err(_) => bytes.len(),
    };
    let allowed = RAW_BYTES_FREE as usize + RAW_BYTES_PER_BYTE as usize * bytes.len();
    assert!(raw_bytes <= allowed, "{name}: {} bytes became {raw_bytes}", bytes.len());
    let heap_bytes = most_heap_bytes(|| reader(bytes));
    let bound = HEAP_BYTES_FREE + HEAP_BYTES_PER_RAW_BYTE * (raw_bytes + bytes.len());
    if heap_bytes > HEAP_BYTES_FREE / 100 {
        println!("{name}: {} bytes, decompressed {raw_bytes}, needed {heap_bytes} of heap", bytes.len());
    }
    assert!(heap_bytes <= bound, "{name}: {heap_bytes} bytes of heap for {raw_bytes} of payload");
}

#[test]
fn attacks_need_no_more_memory_than_follows_from_their_length() {
    for (name, attack) in ATTACKS.iter().chain(checkpoints::ATTACKS) {
        let bytes = attack();
        read_within_bounds(name, &bytes, readers::native_trace);
    }
}

#[test]
fn go_attacks_need_no_more_memory_either() {
    for (name, attack) in go_attacks::ATTACKS {
        read_within_bounds(name, &attack(), readers::go_execution_trace);
    }
}

#[test]
fn seeds_of_native_traces() {
    read_seeds("native_trace", readers::native_trace);
    read_seeds("native_trace", readers::native_trace_with_checksums);
}

#[test]
fn seeds_of_go_page_traces() {
    read_seeds("go_page_trace", readers::go_page_trace);
}

#[test]
fn seeds_of_go_execution_traces() {
    read_seeds("go_execution_trace", readers::go_execution_trace);
}

#[test]
fn seeds_of_packed_words() {
    read_seeds("packed_words", readers::packed_words);
}

fn read_seeds(target: &str, reader: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut read = 0;
    for seed in fs::read_dir(&directory).expect("the seeds are in the repository").flatten() {
        let bytes = fs::read(seed.path()).expect("a seed");
        read_within_bounds(&seed.path().display().to_string(), &bytes, reader);
        read += 1;
    }
    assert!(read > 0, "no seeds in {}", directory.display());
}
