//! Any bytes as an execution trace of Go: every event read, the heap replayed, converted to a native trace, and replayed again.
//!
//! `cargo +nightly fuzz run go_execution_trace fuzz/corpus/go_execution_trace fuzz/seeds/go_execution_trace`
#![no_main]

#[path = "../../replay/tests/hostile_input/readers.rs"]
mod readers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| readers::go_execution_trace(bytes));
