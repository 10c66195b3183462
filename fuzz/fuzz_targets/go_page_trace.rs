//! Any bytes as a page trace of Go: opened, every event read, converted to a native trace, replayed, and converted back.
//!
//! `cargo +nightly fuzz run go_page_trace fuzz/corpus/go_page_trace fuzz/seeds/go_page_trace`
#![no_main]

#[path = "../../replay/tests/hostile_input/readers.rs"]
mod readers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| readers::go_page_trace(bytes));
