//! What a traced program writes without allocation: it is what the other writers write, whole items only, and no words
//! make it panic.

mod arbitrary;

use arbitrary::{address, kind, record, times};
use pagetrace_format::encode::{
    self, PackedReader, PackedWordsChunk, TickClock, object_alloc, object_alloc_with_id, object_free,
    object_free_with_id, time_base,
};
use pagetrace_format::event::kind_number;
use pagetrace_format::go_page_trace::GoBuffer;
use pagetrace_format::header::{CHUNK_HEADER_BYTES, PAYLOAD_BYTES_MAX};
use pagetrace_format::record_chunk::{ModuleRef, ProcessRef};
use pagetrace_format::records::*;
use pagetrace_format::*;
use proptest::prelude::*;

fn file(chunk: &[u8]) -> Vec<u8> {
    let header = FileHeader {
        version: VERSION,
        page_shift: PageShift::KIB_8,
        origin: Origin::Recorded,
        start: TraceNanos(0),
        start_unix_ns: 0,
    };
    [&header.encode()[..], chunk].concat()
}

/// Whether the record was appended; `None` for one that programs do not write.
fn append(chunk: &mut RecordChunk<'_>, record: &Record) -> Option<bool> {
    Some(match record {
        Record::Process(it) => {
            let args = it.args.as_ref().map(|args| args.iter().map(|arg| format!("{arg}\0")).collect::<String>());
            chunk.process(&ProcessRef {
                id: it.id,
                pid: it.pid,
                parent: it.parent,
                origin: it.origin,
                start: it.start,
                exe: it.exe.as_bytes(),
                args: args.as_ref().map(|args| args.as_bytes()),
                malloc: it.malloc,
            })
        }
        Record::ProcessEnd(it) => chunk.process_end(it),
        Record::Stream(it) => chunk.stream(it),
        Record::Module(Module { process, start, end, file_offset, path, build_id }) => chunk.module(&ModuleRef {
            process: *process,
            start: *start,
            end: *end,
            file_offset: *file_offset,
            path: path.as_bytes(),
            build_id,
        }),
        Record::Loss(it) => chunk.loss(it),
        Record::Source(it) => chunk.source(&it.name, it.active, &it.missed),
        Record::TracerMemory(it) => chunk.tracer_memory(it),
        Record::End(it) => chunk.end(it),
        Record::StackFrames(StackFrames { process, id, frames, end }) => {
            let addresses: Vec<u64> = frames.iter().map(|address| address.0).collect();
            chunk.stack_frames(*process, *id, &addresses, *end)
        }
        Record::Machine(it) => chunk.machine(it),
        Record::Sampling(it) => chunk.sampling(it),
        Record::Gap(it) => chunk.gap(it),
        Record::Bucket(it) => chunk.bucket(it.process, it.id, it.name.as_bytes()),
        _ => return None,
    })
}

/// Events with and without ids, as words without a time base in front of them.
fn items() -> impl Strategy<Value = Vec<(u32, EventKind, Option<ObjectId>)>> {
    let id = prop::option::of((1..=u64::MAX).prop_map(ObjectId));
    prop::collection::vec((any::<u32>(), kind(u64::from(u32::MAX)), id), 1..50)
}

fn words_of(ticks: u32, kind: &EventKind, id: Option<ObjectId>) -> Vec<u64> {
    match (kind, id) {
        (EventKind::PageAlloc(run), _) => encode::page_event(ticks, kind_number::PAGE_ALLOC, run).to_vec(),
        (EventKind::PageFree(run), _) => encode::page_event(ticks, kind_number::PAGE_FREE, run).to_vec(),
        (EventKind::PageScavenge(run), _) => encode::page_event(ticks, kind_number::PAGE_SCAVENGE, run).to_vec(),
        (EventKind::ObjectAlloc(object), Some(id)) => object_alloc_with_id(ticks, object, id).to_vec(),
        (EventKind::ObjectAlloc(object), None) => object_alloc(ticks, object).to_vec(),
        (EventKind::ObjectFree(object), Some(id)) => object_free_with_id(ticks, object, id).to_vec(),
        (EventKind::ObjectFree(object), None) => object_free(ticks, object).to_vec(),
        _ => unreachable!("packed words have no other event"),
    }
}

fn is_object(kind: &EventKind) -> bool {
    matches!(kind, EventKind::ObjectAlloc(_) | EventKind::ObjectFree(_))
}

/// Events and ids of the only chunk of a trace.
fn read_back(bytes: &[u8]) -> Vec<(Event, Option<ObjectId>)> {
    let trace = Trace::open(bytes).expect("a trace");
    assert_eq!((trace.defects(), trace.chunks().len()), (&[][..], 1));
    let header = trace.chunks()[0].header;
    let mut cursor = trace.events(&trace.chunks()[0]).expect("a chunk of events");
    let mut events = Vec::new();
    while let Some(event) = cursor.next_event().expect("an event") {
        assert!((header.first..=header.last).contains(&event.time), "{event:?} is outside the header's times");
        events.push((event, cursor.object_id()));
    }
    assert_eq!(header.count as usize, events.len());
    events
}

proptest! {
    #[test]
    fn a_chunk_of_records_is_what_the_trace_writer_writes(records in prop::collection::vec(record(), 1..20)) {
        let mut memory = vec![0; 1 << 16];
        let mut chunk = RecordChunk::new(&mut memory).expect("room for a header");
        prop_assert!(chunk.is_empty());
        let mut expected = Vec::new();
        for record in records {
            if let Some(appended) = append(&mut chunk, &record) {
                prop_assert!(appended && !chunk.is_empty());
                expected.push(record);
            }
        }
        let bytes = file(chunk.finish(TraceNanos(7)));
        let trace = Trace::open(&bytes).expect("a trace");
        let header = trace.chunks()[0].header;
        prop_assert_eq!((header.count as usize, header.first, header.last), (expected.len(), TraceNanos(7), TraceNanos(7)));
        prop_assert_eq!(&trace.records(&trace.chunks()[0]).expect("records"), &expected);
        let mut payload = Vec::new();
        expected.iter().for_each(|record| record.encode(&mut payload));
        prop_assert!(bytes.ends_with(&payload), "fields in another order or of another length");
    }

    #[test]
    fn a_record_that_does_not_fit_leaves_no_trace(first in record(), second in record()) {
        let mut large = vec![0; 1 << 16];
        let mut chunk = RecordChunk::new(&mut large).expect("room for a header");
        prop_assume!(append(&mut chunk, &first) == Some(true));
        let one = chunk.finish(TraceNanos(7)).to_vec();
        for room in 0..one.len() + 40 {
            let mut memory = vec![0; room];
            let Some(mut chunk) = RecordChunk::new(&mut memory) else {
                prop_assert!(room < CHUNK_HEADER_BYTES);
                continue;
            };
            let taken = append(&mut chunk, &first) == Some(true);
            prop_assert_eq!(taken, room >= one.len(), "{} bytes", room);
            if taken && append(&mut chunk, &second) != Some(true) {
                prop_assert_eq!(chunk.finish(TraceNanos(7)), &one[..]);
            }
        }
    }

    #[test]
    fn packed_words_come_back_with_their_ids(
        items in items(),
        base in 0_u64..1 << 60,
        later in 0_u64..1 << 40,
        stack in prop::collection::vec(address(), 0..10),
    ) {
        let clock = TickClock { base_tick: base, base: TraceNanos(base), mult: 3 << 9, shift: 10 };
        let mut words = time_base(base).to_vec();
        let (mut expected, mut ends, mut tick) = (Vec::new(), Vec::new(), base);
        for (index, (ticks, kind, id)) in items.into_iter().enumerate() {
            if index == 7 {
                words.extend(encode::stack(stack.len() as u16, StackId(3), StackEnd::Cut));
                words.extend(stack.iter().map(|address| address.0));
                tick = base + later;
                words.extend(time_base(tick));
            }
            words.extend(words_of(ticks, &kind, id));
            ends.push(words.len());
            let time = clock.time_of(tick + u64::from(ticks));
            expected.push((Event { time, kind }, id.filter(|_| is_object(&kind))));
        }
        let mut memory = vec![0; CHUNK_HEADER_BYTES + encode::CLOCK_BYTES + words.len() * 8];
        let chunk = PackedWordsChunk::new(&mut memory, clock, &words).expect("just enough");
        prop_assert_eq!((chunk.events() as usize, chunk.words(), chunk.is_malformed()), (ends.len(), words.len(), false));
        prop_assert_eq!(read_back(&file(chunk.finish(StreamId(3)))), &expected[..]);
        let short = memory.len() - 1;
        prop_assert!(PackedWordsChunk::new(&mut memory[..short], clock, &words).is_none());
        // Cut at any word: the whole events in front of it, and it is told whether one was cut.
        for length in 0..words.len() {
            let chunk = PackedWordsChunk::new(&mut memory, clock, &words[..length]).expect("room");
            let whole = ends.iter().filter(|&&end| end <= length).count();
            prop_assert_eq!((chunk.events() as usize, chunk.is_malformed()), (whole, chunk.words() < length));
            prop_assert_eq!(read_back(&file(chunk.finish(StreamId(3)))), &expected[..whole]);
        }
    }

    #[test]
    fn any_words_are_copied_as_far_as_they_are_events(
        words in prop::collection::vec(prop_oneof![any::<u64>(), 0_u64..12, 0x10000_u64..0x4_000f], 0..60),
        mult: u16,
        shift in 0_u32..64,
    ) {
        let words = [&time_base(1 << 40)[..], &words].concat();
        let clock = TickClock { base_tick: 0, base: TraceNanos(1 << 50), mult: mult.into(), shift };
        let mut memory = vec![0; 4096];
        let chunk = PackedWordsChunk::new(&mut memory, clock, &words).expect("room");
        let (events, taken) = (chunk.events(), chunk.words());
        let mut reader = PackedReader::default();
        let mut rest = &words[..taken];
        while reader.next(&mut rest).expect("what was copied can be read").is_some() {}
        prop_assert!(rest.is_empty() && reader.base().is_some());
        let bytes = file(chunk.finish(StreamId(3)));
        let trace = Trace::open(&bytes).expect("a trace");
        let mut cursor = trace.events(&trace.chunks()[0]).expect("a chunk of events");
        let read = std::iter::from_fn(|| cursor.next_event().expect("an event")).count();
        prop_assert_eq!(read, events as usize);
    }

    #[test]
    fn a_programs_go_buffers_are_those_of_the_converter(
        kinds in prop::collection::vec((0_u64..1 << 35, prop_oneof![1_u64..1024, 1024_u64..1 << 30], 0_usize..3), 1..200),
        times in times(200),
        room_words in 5_usize..300,
    ) {
        let events: Vec<Event> = kinds.iter().zip(&times).map(|(&(page, pages, kind), &time)| {
            let run = PageRun { base: Address(page << 13), pages: PageCount(pages) };
            let kind = [EventKind::PageAlloc, EventKind::PageFree, EventKind::PageScavenge][kind](run);
            Event { time: TraceNanos(time), kind }
        }).collect();
        let mut memory = vec![0; room_words * 8];
        let mut bytes = Vec::new();
        let mut buffer = GoBuffer::new(&mut memory, 0);
        for event in &events {
            if !buffer.push(event.time, &event.kind) {
                prop_assert!(!buffer.is_empty(), "a buffer of five words takes any event");
                bytes.extend_from_slice(buffer.finish());
                buffer = GoBuffer::new(&mut memory, 0);
                prop_assert!(buffer.push(event.time, &event.kind));
            }
        }
        bytes.extend_from_slice(buffer.finish());
        let go = GoPageTrace::open(&bytes).expect("a Go page trace");
        prop_assert_eq!(go.defects(), &[]);
        let mut found = Vec::new();
        for run in go.runs() {
            prop_assert!(run.processor == 0 && run.bytes < room_words * 8);
            let mut cursor = go.events(run);
            found.extend(std::iter::from_fn(|| cursor.next_event().expect("it was checked")));
        }
        found.retain(|event| event.kind != EventKind::TimeSync);
        prop_assert!(found.iter().map(|event| event.kind).eq(events.iter().map(|event| event.kind)));
        if times.is_sorted() {
            for (found, event) in found.iter().zip(&events) {
                prop_assert!(event.time.0 - found.time.0 < 256, "{:?} became {:?}", event, found);
            }
        }
    }
}

#[test]
fn an_event_before_any_time_base_is_left_out() {
    let free = object_free(3, &ObjectFree { address: Address(0x1000), function: ObjectFunction::Plain });
    let mut memory = [0; 256];
    for (words, taken) in [(free.to_vec(), 0), ([encode::stack(0, StackId(1), StackEnd::Unknown), free].concat(), 2)] {
        let chunk = PackedWordsChunk::new(&mut memory, TickClock::NANOSECONDS, &words).expect("room");
        assert_eq!((chunk.events(), chunk.words(), chunk.is_malformed()), (0, taken, true));
        assert_eq!(read_back(&file(chunk.finish(StreamId(1)))), &[]);
    }
}

#[test]
fn a_go_buffer_says_what_it_cannot_hold() {
    let run = |base| EventKind::PageAlloc(PageRun { base: Address(base), pages: PageCount(1) });
    for (processor, base, taken) in [(0, 0x2000, true), (0, 0x1000, false), (0, 1 << 48, false), (1 << 60, 0, false)] {
        let mut memory = [0; 64];
        let mut buffer = GoBuffer::new(&mut memory, processor);
        assert_eq!(buffer.push(TraceNanos(1000), &run(base)), taken, "{processor} {base:#x}");
        assert_eq!(buffer.is_empty(), !taken);
    }
    // Objects have no place in it and are passed over.
    let free = ObjectFree { address: Address(1), function: ObjectFunction::Plain };
    let mut buffer = GoBuffer::new(&mut [], 0);
    assert!(buffer.push(TraceNanos(1000), &EventKind::ObjectFree(free)));
    assert!(!buffer.push(TraceNanos(1000), &run(0)));
    assert_eq!(buffer.finish(), &[]);
}

#[test]
fn more_than_a_chunk_may_hold_is_not_begun() {
    let mut memory = vec![0; PAYLOAD_BYTES_MAX + (1 << 20)];
    let words = vec![time_base(1)[0]; PAYLOAD_BYTES_MAX / 8 - 2];
    assert!(PackedWordsChunk::new(&mut memory, TickClock::NANOSECONDS, &words).is_none());
    assert!(PackedWordsChunk::new(&mut memory, TickClock::NANOSECONDS, &words[1..]).is_some());
    let mut chunk = RecordChunk::new(&mut memory).expect("room");
    let name = vec![b'x'; PAYLOAD_BYTES_MAX / 2];
    let mut bucket = || chunk.bucket(ProcessId(0), StackId(1 << 31), &name);
    assert!(bucket());
    assert!(!bucket());
    assert!(chunk.finish(TraceNanos(1)).len() <= PAYLOAD_BYTES_MAX + CHUNK_HEADER_BYTES);
}

#[test]
fn arguments_are_split_as_in_proc() {
    let cases: &[(&[u8], &[&str])] = &[
        (b"", &[]),
        (b"a\0", &["a"]),
        (b"\0", &[""]),
        (b"a\0\0b\0", &["a", "", "b"]),
        // What was read into memory that was too small ends anywhere.
        (b"a\0-lon", &["a", "-lon"]),
        (b"\xff\0", &["\u{fffd}"]),
    ];
    for &(args, expected) in cases {
        let mut memory = [0; 256];
        let mut chunk = RecordChunk::new(&mut memory).expect("room");
        assert!(chunk.process(&ProcessRef {
            id: ProcessId(0),
            pid: 1,
            parent: None,
            origin: ProcessOrigin::Command,
            start: TraceNanos(0),
            exe: b"/bin/x",
            args: Some(args),
            malloc: Address(0),
        }));
        let bytes = file(chunk.finish(TraceNanos(1)));
        let trace = Trace::open(&bytes).expect("a trace");
        let records = trace.records(&trace.chunks()[0]).expect("records");
        let [Record::Process(Process { args: Some(found), .. })] = &records[..] else { panic!("{records:?}") };
        assert_eq!(found, expected);
    }
}
