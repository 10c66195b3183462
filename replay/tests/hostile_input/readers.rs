//! Everything that readers do with bytes of unknown origin. The fuzz targets and the tests run these very functions.
#![allow(dead_code, reason = "each fuzz target uses its part of it")]

use pagetrace_format::checksum::crc32;
use pagetrace_format::encode::{PackedItem, PackedReader, PackedWordsChunk, TickClock};
use pagetrace_format::go_execution_trace::{GoEvents, GoTraceVersion};
use pagetrace_format::go_page_trace::GoBuffer;
use pagetrace_format::header::{CHUNK_HEADER_BYTES, FILE_HEADER_BYTES};
use pagetrace_format::{
    ChunkKind, FileHeader, GoPageTrace, ObjectId, Origin, PageShift, StreamId, Trace, TraceNanos, VERSION,
    go_to_native, native_to_go,
};
use pagetrace_replay::go_heap::go_heap_to_native;
use pagetrace_replay::history::BLOCK_PAGES;
use pagetrace_replay::{
    HistoryLimits, KernelTimeline, Metadata, Moment, Timeline, compact, go_pages, pages_in_detail, replay,
    replay_go_heap, replay_with_history,
};

/// Bytes of a history in [`look_back`].
const HISTORY_BYTES: usize = 1 << 20;

/// Any bytes as a native trace: opened, every chunk read in every way, merged by time, converted, and replayed up to a
/// moment that its length chooses; one with a checkpoint up to all of them, and cut again.
pub fn native_trace(bytes: &[u8]) {
    let Ok(trace) = Trace::open(bytes) else { return };
    read_chunks(&trace, bytes.len());
    let metadata = Metadata::read(&trace);
    drop(native_to_go(&trace, Vec::new()));
    let mut timeline = Timeline::new(&trace);
    while timeline.next_with_id().is_some() {}
    let mut kernel = KernelTimeline::new(&trace);
    let mut last = TraceNanos(0);
    while let Some(time) = kernel.next_time() {
        last = last.max(time);
        assert!(kernel.next().is_some(), "there was one with a time");
    }
    let start = trace.header().start;
    let middle = TraceNanos(last.0.saturating_sub(start.0) / 2);
    let moments = [Moment::Peak, Moment::End, Moment::At(middle)];
    let mut has_checkpoint = trace.chunks().iter().map(|chunk| chunk.header.kind);
    if has_checkpoint.any(|kind| kind == ChunkKind::CHECKPOINT) {
        let span = replay(&trace, Moment::End, &mut |_| {}).map(|it| (it.dropped, it.start, it.last));
        moments.into_iter().for_each(|moment| replay_at(&trace, &metadata, moment));
        if let Ok((dropped, start, last)) = span {
            let times = dropped.map(|dropped| dropped.before).into_iter().chain([last]);
            times.for_each(|time| replay_at(&trace, &metadata, Moment::At(TraceNanos(time.0.saturating_sub(start.0)))));
            cut_again(&trace, last);
        }
    } else {
        replay_at(&trace, &metadata, moments[bytes.len() % 3]);
    }
    look_back(&trace, moments[bytes.len() % 3]);
}

/// A checkpoint that is taken up is put down again, and what is written so is read.
fn cut_again(trace: &Trace, at: TraceNanos) {
    let Ok(writer) = compact(trace, at, Vec::new()) else { return };
    let Ok(bytes) = writer.into_inner() else { return };
    let again = Trace::open(&bytes).expect("what this crate writes it reads");
    replay_at(&again, &Metadata::read(&again), Moment::End);
}

fn replay_at(trace: &Trace, metadata: &Metadata, moment: Moment) {
    if let Ok(replayed) = replay(trace, moment, &mut |_| {}) {
        let agreements = replayed.processes.iter().filter_map(|process| process.page_events.as_ref()?.agreement);
        assert!(
            agreements.filter_map(|it| it.residency).all(|share| (0.0..=1.0).contains(&share)),
            "a share is from 0 to 1"
        );
        let whole = trace.defects().is_empty() && metadata.end.is_some();
        assert!(whole || !replayed.complete, "a damaged or cut trace was taken for a whole one");
    }
}

/// What pictures are made of: a history, and single pages of it.
fn look_back(trace: &Trace, moment: Moment) {
    let Ok((replayed, history)) = replay_with_history(trace, moment, HistoryLimits::whole(HISTORY_BYTES), &mut |_| {})
    else {
        return;
    };
    assert_eq!(history.processes.len(), replayed.processes.len());
    for process in &history.processes {
        assert!(process.pages.bytes() + process.touches.bytes() <= 2 * HISTORY_BYTES, "a history keeps to its limits");
        let Some(moment) = process.moments.last() else { continue };
        let run = moment.pages.iter().flatten().next();
        let page = run.map_or(0, |run| run.first.saturating_mul(BLOCK_PAGES));
        let known = pages_in_detail(trace, process.process, &[page, page.saturating_add(1)], moment.time);
        assert!(known.is_ok(), "a trace with a history has processes");
    }
}

/// The same bytes with the checksums that they should have: a fuzzer does not guess one, so that without this it would
/// not get beyond the headers.
pub fn native_trace_with_checksums(bytes: &[u8]) {
    native_trace(&with_right_checksums(bytes));
}

fn read_chunks(trace: &Trace, file_bytes: usize) {
    let stepped_over: usize = trace.defects().iter().map(|defect| defect.bytes).sum();
    let stored: usize = trace.chunks().iter().map(|it| CHUNK_HEADER_BYTES + it.header.stored_bytes as usize).sum();
    assert_eq!(FILE_HEADER_BYTES + stepped_over + stored, file_bytes, "every byte is a chunk's or a defect's");
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
        if let Ok(mut cursor) = trace.accesses(chunk) {
            while let Ok(Some(_)) = cursor.next_access() {}
        }
        drop(trace.records(chunk));
        drop(trace.snapshot(chunk));
        drop(trace.checkpoint(chunk));
    }
}

/// The bytes with the checksums that the file header, the chunk headers and the payloads should have.
pub fn with_right_checksums(bytes: &[u8]) -> Vec<u8> {
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

/// Any bytes as an execution trace of Go, behind a header that is taken where theirs is not: every event read, the heap
/// replayed up to a moment that their length chooses, converted to a native trace, and that replayed.
pub fn go_execution_trace(bytes: &[u8]) {
    let headers: [&[u8]; 3] = [b"go 1.23 trace\0\0\0", b"go 1.25 trace\0\0\0", b"go 1.26 trace\0\0\0"];
    let behind_header;
    let bytes = if GoTraceVersion::read(bytes).is_ok() {
        bytes
    } else {
        behind_header = [headers[bytes.len() % 3], bytes].concat();
        &behind_header
    };
    let mut events = GoEvents::open(bytes).expect("the header is whole");
    let mut last = TraceNanos(0);
    while let Some(event) = events.next_event() {
        assert!(event.time >= last, "times go back");
        last = event.time;
        let origin = events.origin(event.origin);
        assert!(origin.started.len() + origin.created_by.len() <= 256);
    }
    assert!(events.defects().iter().all(|defect| defect.offset <= bytes.len()), "a defect behind the end");
    let is_whole = events.defects().is_empty();
    let moment = [Moment::Peak, Moment::End, Moment::At(TraceNanos(1000))][bytes.len() / 3 % 3];
    let Ok(heap) = replay_go_heap(bytes, moment, &mut |_| {}) else { return };
    assert!(is_whole || !heap.complete, "a damaged trace was taken for a whole one");
    let state = &heap.state;
    assert_eq!(state.classes.iter().map(|class| class.live_slots).sum::<u64>(), state.live_objects);
    assert_eq!(state.sites.iter().map(|site| site.live).sum::<u64>(), state.live_objects);
    let native = go_heap_to_native(bytes, Vec::new()).expect("what was replayed is converted");
    let trace = Trace::open(&native).expect("what this crate writes it reads");
    assert_eq!(trace.defects(), &[]);
    let replayed = replay(&trace, Moment::End, &mut |_| {}).expect("it has a process");
    let live = replayed.processes[0].objects.map_or(0, |objects| objects.live);
    if moment == Moment::End {
        assert_eq!(live, state.live_objects, "the native trace has other objects");
    }
}

/// Any bytes as a page trace of Go: every event read, converted to a native trace, replayed, and converted back.
pub fn go_page_trace(bytes: &[u8]) {
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
    let moment = [Moment::Peak, Moment::End][bytes.len() / 8 % 2];
    let replayed = replay(&trace, moment, &mut |_| {}).expect("it has a process and its end");
    let events: u64 = go.runs().iter().map(|run| u64::from(run.events)).sum();
    let counts = replayed.events;
    let counted = counts.page_alloc + counts.page_free + counts.page_scavenge + counts.time_sync;
    assert_eq!(counted, events, "events were lost on the way");
    let pages = go_pages(&trace);
    assert!(pages.reuse.reused <= pages.pace.pages.saturating_mul(2), "pages are used again that were not returned");
    let mut back = Vec::new();
    match native_to_go(&trace, &mut back) {
        Ok(()) => assert!(back == bytes, "not what it was"),
        Err(error) => assert!(!go.defects().is_empty(), "a whole trace did not come back: {error}"),
    }
}

/// Any bytes as packed words of a traced program: made a chunk, and a buffer of Go's page traces, and both read again.
pub fn packed_words(bytes: &[u8]) {
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
    native_trace(&file);
}

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
