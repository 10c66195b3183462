//! Page events in the format of Go's page tracer: each batch of a stream is one buffer of a P.

use core::sync::atomic::Ordering;

use pagetrace_format::StreamId;
use pagetrace_format::encode::{PackedItem, PackedReader, TickClock};
use pagetrace_format::go_page_trace::GoBuffer;

use super::process::INHERITED;
use super::trace_file;

/// Whether the file has that format.
#[inline]
pub fn wanted() -> bool {
    INHERITED.go_format.load(Ordering::Relaxed)
}

/// Writes the page events among packed words. Objects have no place in the format.
pub fn write(words: &[u64], clock: &TickClock, stream: StreamId, memory: &mut [u8]) {
    // Streams are numbered from 1, Ps from 0.
    let processor = i64::from(stream.0) - 1;
    let mut reader = PackedReader::default();
    let mut rest = words;
    let mut buffer = GoBuffer::new(memory, processor);
    while let Ok(Some(item)) = reader.next(&mut rest) {
        let PackedItem::Event(tick, kind) = item else { continue };
        let time = clock.time_of(tick);
        if !buffer.push(time, &kind) {
            trace_file::append(buffer.finish());
            buffer = GoBuffer::new(memory, processor);
            // What does not fit an empty buffer fits none: an address that the format cannot hold.
            let _ = buffer.push(time, &kind);
        }
    }
    if !buffer.is_empty() {
        trace_file::append(buffer.finish());
    }
}
