//! Any bytes as packed words of a traced program: made a chunk, and a buffer of Go's page traces, and both read again.
//!
//! `cargo +nightly fuzz run packed_words`
#![no_main]

use libfuzzer_sys::fuzz_target;
use pagetrace_format::encode::{PackedItem, PackedReader, PackedWordsChunk, TickClock};
use pagetrace_format::go_page_trace::GoBuffer;
use pagetrace_format::{FileHeader, GoPageTrace, Origin, PageShift, StreamId, Trace, TraceNanos, VERSION};

fuzz_target!(|bytes: &[u8]| {
    let words: Vec<u64> = bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let mut memory = vec![0; bytes.len() + 128];
    let chunk = PackedWordsChunk::new(&mut memory, TickClock::NANOSECONDS, &words).expect("room for all words");
    let (events, taken) = (chunk.events(), chunk.words());
    assert_eq!(chunk.is_malformed(), taken < words.len());
    let header = FileHeader {
        version: VERSION,
        page_shift: PageShift::KIB_8,
        origin: Origin::Recorded,
        start: TraceNanos(0),
        start_unix_ns: 0,
    };
    let file = [&header.encode()[..], chunk.finish(StreamId(1))].concat();
    let trace = Trace::open(&file).expect("what this crate writes it reads");
    let mut cursor = trace.events(&trace.chunks()[0]).expect("its checksum is right");
    let mut read = 0;
    while cursor.next_event().expect("only events were taken").is_some() {
        read += 1;
    }
    assert_eq!(read, events);
    go_buffer(&words[..taken], &mut memory);
});

fn go_buffer(words: &[u64], memory: &mut [u8]) {
    let (mut reader, mut rest) = (PackedReader::default(), words);
    let mut buffer = GoBuffer::new(memory, 0);
    while let Some(item) = reader.next(&mut rest).expect("only events were taken") {
        if let PackedItem::Event(tick, kind) = item
            && !buffer.push(TraceNanos(tick), &kind)
        {
            break;
        }
    }
    let bytes = buffer.finish();
    if let Ok(go) = GoPageTrace::open(bytes) {
        assert_eq!(go.defects(), &[]);
    } else {
        assert!(bytes.is_empty());
    }
}
