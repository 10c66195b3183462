//! Any bytes as a page trace of Go: opened, every event read, converted to a native trace and back.
//!
//! `cargo +nightly fuzz run go_page_trace fuzz/corpus/go_page_trace format/tests/data/go-page-trace`
#![no_main]

use libfuzzer_sys::fuzz_target;
use pagetrace_format::{GoPageTrace, Trace, go_to_native, native_to_go};

fuzz_target!(|bytes: &[u8]| {
    let Ok(go) = GoPageTrace::open(bytes) else { return };
    for run in go.runs() {
        let mut cursor = go.events(run);
        let mut events = 0;
        while cursor.next_event().expect("opening has checked it").is_some() {
            events += 1;
        }
        assert_eq!(events, run.events);
    }
    let Ok(native) = go_to_native(&go, Vec::new()) else { return };
    let trace = Trace::open(&native).expect("what this crate writes it reads");
    assert_eq!(trace.defects(), &[]);
    let mut back = Vec::new();
    match native_to_go(&trace, &mut back) {
        Ok(()) => assert!(back == bytes, "not what it was"),
        Err(error) => assert!(!go.defects().is_empty(), "a whole trace did not come back: {error}"),
    }
});
