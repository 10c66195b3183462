//! Properties of the encodings: whatever is written comes back, and no bytes make a reader panic.

mod arbitrary;

use arbitrary::{events, kind, nanos, process_id, record, text, times};
use pagetrace_format::columns::ColumnPositions;
use pagetrace_format::encode::{PackedChunk, TickClock};
use pagetrace_format::header::{ChunkHeader, FILE_HEADER_BYTES};
use pagetrace_format::records::*;
use pagetrace_format::snapshot::{
    CgroupFigures, KernelFigures, Mapping, PageFlags, Permissions, ResidencySource, ResidentRun, SnapshotReason,
};
use pagetrace_format::*;
use proptest::prelude::*;

fn file_header() -> FileHeader {
    FileHeader {
        version: VERSION,
        page_shift: PageShift::KIB_4,
        origin: Origin::Recorded,
        start: TraceNanos(5),
        start_unix_ns: 6,
    }
}

fn writer() -> TraceWriter<Vec<u8>> {
    TraceWriter::new(Vec::new(), &file_header()).expect("memory takes it")
}

fn read_events(bytes: &[u8]) -> Vec<Event> {
    let trace = Trace::open(bytes).expect("a trace");
    assert_eq!(trace.defects(), &[]);
    let mut events = Vec::new();
    for chunk in trace.chunks() {
        let mut cursor = trace.events(chunk).expect("a chunk of events");
        while let Some(event) = cursor.next_event().expect("an event") {
            events.push(event);
        }
        assert_eq!(chunk.header.count as usize, events.len());
        for max in [1, 7, events.len() + 1] {
            assert_eq!(in_batches(&trace, chunk, max), events, "batches of {max}");
        }
        let times = events.iter().map(|event| event.time);
        assert_eq!((Some(chunk.header.first), Some(chunk.header.last)), (times.clone().min(), times.max()));
    }
    events
}

fn in_batches(trace: &Trace<'_>, chunk: &Chunk, max: usize) -> Vec<Event> {
    let (mut events, mut batch) = (Vec::new(), EventBatch::new());
    let mut cursor = trace.events(chunk).expect("a chunk of events");
    loop {
        cursor.fill(&mut batch, max).expect("events");
        if batch.is_empty() {
            return events;
        }
        assert!(batch.len() <= max);
        assert_eq!(batch.columns().times.len(), batch.len());
        events.extend((0..batch.len()).map(|index| batch.event(index)));
    }
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    use SnapshotReason::*;
    let figure = || prop::option::of(any::<u64>());
    let figures = (figure(), figure(), figure(), figure(), figure(), figure(), figure(), (figure(), figure()))
        .prop_map(|(rss, anonymous, pss, swap, huge, peak_rss, page_tables, (rss_file, rss_shmem))| KernelFigures {
            rss,
            anonymous,
            pss,
            swap,
            huge,
            peak_rss,
            page_tables,
            rss_file,
            rss_shmem,
            pss_anonymous: pss,
            private: swap,
            shared: anonymous,
            cgroup: CgroupFigures { current: rss, limit: pss, kernel_stacks: huge, ..CgroupFigures::default() },
        });
    let mapping = (0_u64..1 << 40, 0_u64..1 << 40, any::<u8>(), any::<[u64; 3]>(), text());
    let run = (0_u64..1 << 20, 1_u64..1 << 20, any::<u8>());
    let sources = vec![ResidencySource::None, ResidencySource::PagemapScan, ResidencySource::Pagemap];
    (
        (process_id(), nanos(), prop::sample::select(vec![Interval, Growth, Exit, Asked]), any::<bool>()),
        (prop::sample::select(sources), 9_u32..22, figures),
        prop::collection::vec(mapping, 0..20),
        prop::collection::vec(run, 0..20),
    )
        .prop_map(|((process, time, reason, stopped), (residency_source, shift, kernel), mappings, runs)| {
            let (page_bytes, mut mapped, mut page) = (1 << shift, 0, 0);
            let mapping = |(gap, length, permissions, [file_offset, device, inode], path): (_, _, _, [u64; 3], _)| {
                let start = Address(mapped + gap);
                mapped = start.0 + length;
                let permissions = Permissions(permissions);
                Mapping { start, end: Address(mapped), permissions, file_offset, device, inode, path }
            };
            let mappings = mappings.into_iter().map(mapping).collect();
            let run = |(gap, pages, state)| {
                let start = Address((page + gap) * page_bytes);
                page += gap + pages;
                ResidentRun { start, pages: PageCount(pages), state: PageFlags(state) }
            };
            let resident = runs.into_iter().map(run).collect();
            Snapshot { process, time, reason, stopped, residency_source, page_bytes, kernel, mappings, resident }
        })
}

proptest! {
    #[test]
    fn events_in_columns_come_back(events in events()) {
        // Usable bytes beyond 64 bits cannot be: kind() saturates them, so any event is a valid one.
        let mut columns = EventColumns::new();
        events.iter().for_each(|event| columns.push(*event));
        let mut writer = writer();
        writer.events(StreamId(3), &columns).expect("memory takes it");
        let bytes = writer.into_inner().expect("memory takes it");
        prop_assert_eq!(read_events(&bytes), events);
    }

    #[test]
    fn packed_events_come_back(
        kinds in prop::collection::vec(kind(u64::from(u32::MAX)), 1..100),
        ticks in times(100),
        memory in 200_usize..5000,
        base in 0_u64..1 << 60,
    ) {
        let mut memory = vec![0; memory];
        let clock = TickClock { base_tick: base, base: TraceNanos(base), mult: 1 << 10, shift: 10 };
        let mut chunk = PackedChunk::new(&mut memory, clock).expect("room for an event");
        let mut pushed = Vec::new();
        for (&kind, &tick) in kinds.iter().zip(&ticks) {
            let tick = tick >> 2;
            if !chunk.push(tick, &kind) {
                break;
            }
            pushed.push(Event { time: clock.time_of(tick), kind });
        }
        prop_assert!(!pushed.is_empty());
        let mut bytes = file_header().encode().to_vec();
        bytes.extend_from_slice(chunk.finish(StreamId(9)));
        prop_assert_eq!(read_events(&bytes), pushed);
    }

    #[test]
    fn records_come_back(records in prop::collection::vec(record(), 1..20)) {
        let mut writer = writer();
        writer.records(TraceNanos(1), &records).expect("memory takes it");
        let bytes = writer.into_inner().expect("memory takes it");
        let trace = Trace::open(&bytes).expect("a trace");
        prop_assert_eq!(trace.records(&trace.chunks()[0]).expect("records"), records);
    }

    #[test]
    fn unknown_records_and_fields_are_skipped(
        records in prop::collection::vec(record(), 1..5),
        tag in 40_u8..0x80,
        more in prop::collection::vec(any::<u8>(), 0..0x40),
    ) {
        let mut payload = Vec::new();
        for record in &records {
            payload.extend([tag, more.len() as u8]);
            payload.extend(&more);
            // The same record with fields of a later version behind its own, where all of its own are written.
            let mut one = Vec::new();
            record.encode(&mut one);
            let mut input = varint::Input::new(&one);
            let (tag, fields) = (input.number().expect("a tag"), input.bytes().expect("fields"));
            varint::put(&mut payload, tag);
            let left_out = match record {
                Record::Stack(Stack { end, .. }) | Record::StackFrames(StackFrames { end, .. }) => {
                    *end == StackEnd::Unknown
                }
                _ => false,
            };
            varint::put_bytes(&mut payload, &[fields, if left_out { &[] } else { &more[..] }].concat());
        }
        prop_assert_eq!(Record::decode_all(&payload).expect("records"), records);
    }

    #[test]
    fn snapshots_come_back(snapshot in snapshot()) {
        let mut writer = writer();
        writer.snapshot(&snapshot).expect("memory takes it");
        let bytes = writer.into_inner().expect("memory takes it");
        let trace = Trace::open(&bytes).expect("a trace");
        prop_assert_eq!(trace.snapshot(&trace.chunks()[0]).expect("a snapshot"), snapshot);
    }

    #[test]
    fn random_payloads_never_panic(payload: Vec<u8>, count in 0_u32..50) {
        if let Ok(mut positions) = ColumnPositions::open(&payload, count, TraceNanos(7)) {
            let mut read = 0;
            while let Ok(Some(_)) = positions.next(&payload) {
                read += 1;
            }
            prop_assert!(read <= count);
        }
        if let Ok(records) = Record::decode_all(&payload) {
            prop_assert!(records.len() <= payload.len());
        }
        if let Ok(snapshot) = Snapshot::decode(&payload) {
            prop_assert!(snapshot.resident.len() + snapshot.mappings.len() <= payload.len());
        }
    }

    #[test]
    fn random_files_never_panic(header in 0_usize..=FILE_HEADER_BYTES, chunks: [[u8; 60]; 3]) {
        let mut bytes = file_header().encode()[..header].to_vec();
        chunks.iter().for_each(|chunk| bytes.extend([b"PGCK", &chunk[..]].concat()));
        match Trace::open(&bytes) {
            Ok(trace) => prop_assert_eq!(trace.chunks().len(), 0, "random bytes passed for a chunk"),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
        prop_assert!(ChunkHeader::decode(&bytes).is_err());
    }
}
