//! Any bytes as packed words of a traced program: made a chunk, and a buffer of Go's page traces, and both read again.
//!
//! `cargo +nightly fuzz run packed_words fuzz/corpus/packed_words fuzz/seeds/packed_words`
#![no_main]

#[path = "../../replay/tests/hostile_input/readers.rs"]
mod readers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| readers::packed_words(bytes));
