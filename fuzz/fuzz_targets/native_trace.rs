//! Any bytes as a native trace: opened, every chunk read in every way, and replayed.
//!
//! `cargo +nightly fuzz run native_trace fuzz/corpus/native_trace format/tests/golden`
#![no_main]

use libfuzzer_sys::fuzz_target;
use pagetrace_format::checksum::crc32;
use pagetrace_format::header::{CHUNK_HEADER_BYTES, FILE_HEADER_BYTES};
use pagetrace_format::{ObjectId, Trace, native_to_go};
use pagetrace_replay::{Moment, replay};

fuzz_target!(|bytes: &[u8]| {
    read_all(bytes);
    read_all(&with_right_checksums(bytes));
});

fn read_all(bytes: &[u8]) {
    let Ok(trace) = Trace::open(bytes) else { return };
    let stepped_over: usize = trace.defects().iter().map(|defect| defect.bytes).sum();
    let stored: usize = trace.chunks().iter().map(|it| CHUNK_HEADER_BYTES + it.header.stored_bytes as usize).sum();
    assert_eq!(FILE_HEADER_BYTES + stepped_over + stored, bytes.len(), "every byte is a chunk's or a defect's");
    for chunk in trace.chunks() {
        if let Ok(mut cursor) = trace.events(chunk) {
            let mut events = 0;
            while let Ok(Some(_)) = cursor.next_event() {
                events += 1;
                assert_ne!(cursor.object_id(), Some(ObjectId(0)), "zero stands for none");
            }
            assert!(events <= chunk.header.count, "more events than the header gives");
        }
        if let Ok(mut cursor) = trace.kernel_events(chunk) {
            while let Ok(Some(_)) = cursor.next_event() {}
        }
        drop(trace.records(chunk));
        drop(trace.snapshot(chunk));
        drop(trace.checkpoint(chunk));
    }
    drop(native_to_go(&trace, Vec::new()));
    if let Ok(replayed) = replay(&trace, Moment::Peak, &mut |_| {}) {
        let agreements = replayed.processes.iter().filter_map(|process| process.page_events.as_ref()?.agreement);
        assert!(agreements.into_iter().all(|it| (0.0..=1.0).contains(&it.residency)), "a share is from 0 to 1");
    }
}

/// A fuzzer does not guess a checksum, so that without this it would not get beyond the headers.
fn with_right_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(header) = bytes.get_mut(..FILE_HEADER_BYTES) {
        let crc = crc32(&header[..60]);
        header[60..].copy_from_slice(&crc.to_le_bytes());
    }
    let mut offset = FILE_HEADER_BYTES;
    while let Some(payload) = bytes.get(offset + CHUNK_HEADER_BYTES..) {
        let stored = u32::from_le_bytes(std::array::from_fn(|index| bytes[offset + 32 + index])) as usize;
        let crc = crc32(&payload[..stored.min(payload.len())]);
        bytes[offset + 40..offset + 44].copy_from_slice(&crc.to_le_bytes());
        let crc = crc32(&bytes[offset..offset + 44]);
        bytes[offset + 44..offset + 48].copy_from_slice(&crc.to_le_bytes());
        offset = (offset + CHUNK_HEADER_BYTES).saturating_add(stored);
    }
    bytes
}
