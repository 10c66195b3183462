//! Any bytes as a native trace, as they are and with right checksums: all that a reader does with one.
//!
//! `cargo +nightly fuzz run native_trace fuzz/corpus/native_trace fuzz/seeds/native_trace`
#![no_main]

#[path = "../../replay/tests/hostile_input/readers.rs"]
mod readers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    readers::native_trace(bytes);
    readers::native_trace_with_checksums(bytes);
});
