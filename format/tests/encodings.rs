//! Properties of the encodings: whatever is written comes back, and no bytes make a reader panic.

use pagetrace_format::columns::ColumnPositions;
use pagetrace_format::encode::{PackedChunk, TickClock};
use pagetrace_format::header::{ChunkHeader, FILE_HEADER_BYTES};
use pagetrace_format::records::*;
use pagetrace_format::snapshot::{
    KernelFigures, Mapping, PageFlags, Permissions, ResidencySource, ResidentRun, SnapshotReason,
};
use pagetrace_format::*;
use proptest::prelude::*;

fn address() -> impl Strategy<Value = Address> + Clone {
    prop_oneof![any::<u64>(), (0_u64..1 << 35).prop_map(|page| page << 13), 0_u64..4096].prop_map(Address)
}

fn function() -> impl Strategy<Value = ObjectFunction> {
    use ObjectFunction::*;
    prop::sample::select(vec![Plain, Calloc, Realloc, Aligned, Other])
}

/// Any event but a time sync, which packed words do not have. `extra` bounds usable bytes beyond the size.
fn kind(extra: u64) -> impl Strategy<Value = EventKind> {
    let run = (address(), any::<u64>()).prop_map(|(base, pages)| PageRun { base, pages: PageCount(pages) });
    let alloc = (address(), any::<u64>(), 0..=extra, any::<u32>(), function()).prop_map(
        |(address, size, extra, stack, function)| {
            let usable = size.saturating_add(extra);
            EventKind::ObjectAlloc(ObjectAlloc { address, size, usable, stack: StackId(stack), function })
        },
    );
    prop_oneof![
        run.clone().prop_map(EventKind::PageAlloc),
        run.clone().prop_map(EventKind::PageFree),
        run.prop_map(EventKind::PageScavenge),
        alloc,
        (address(), function()).prop_map(|(address, function)| EventKind::ObjectFree(ObjectFree { address, function })),
    ]
}

/// Times in order as a rule, else any.
fn times(count: usize) -> impl Strategy<Value = Vec<u64>> {
    let rising = (0_u64..1 << 60, prop::collection::vec(0_u64..1 << 20, count)).prop_map(|(mut time, gaps)| {
        let next = |gap| {
            time += gap;
            time
        };
        gaps.into_iter().map(next).collect::<Vec<u64>>()
    });
    prop_oneof![rising, prop::collection::vec(any::<u64>(), count)]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let kind = prop_oneof![9 => kind(u64::MAX), 1 => Just(EventKind::TimeSync)];
    prop::collection::vec(kind, 0..100).prop_flat_map(|kinds| {
        times(kinds.len()).prop_map(move |times| {
            times.into_iter().zip(&kinds).map(|(time, &kind)| Event { time: TraceNanos(time), kind }).collect()
        })
    })
}

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
        let times = events.iter().map(|event| event.time);
        assert_eq!((Some(chunk.header.first), Some(chunk.header.last)), (times.clone().min(), times.max()));
    }
    events
}

fn text() -> impl Strategy<Value = String> {
    "[a-z/é\n ]{0,20}"
}

fn process_id() -> impl Strategy<Value = ProcessId> + Clone {
    any::<u32>().prop_map(ProcessId)
}

fn nanos() -> impl Strategy<Value = TraceNanos> {
    any::<u64>().prop_map(TraceNanos)
}

fn record() -> impl Strategy<Value = Record> {
    use ProcessOrigin::*;
    let parent = prop::option::of(process_id());
    let args = prop::option::of(prop::collection::vec(text(), 0..4));
    let origin = prop::sample::select(vec![Command, Fork, Exec, Found]);
    let process = (process_id(), any::<u32>(), parent.clone(), origin, nanos(), text(), args, address()).prop_map(
        |(id, pid, parent, origin, start, exe, args, malloc)| {
            Record::Process(Process { id, pid, parent, origin, start, exe, args, malloc })
        },
    );
    let status = prop_oneof![
        Just(EndStatus::Unknown),
        any::<u8>().prop_map(EndStatus::Exited),
        any::<u8>().prop_map(EndStatus::Signaled),
        Just(EndStatus::Replaced),
        Just(EndStatus::Running),
    ];
    let end = (process_id(), nanos(), status, any::<bool>()).prop_map(|(id, time, status, snapshot_at_exit)| {
        Record::ProcessEnd(ProcessEnd { id, time, status, snapshot_at_exit })
    });
    let stream_kind =
        prop_oneof![any::<u32>().prop_map(StreamKind::Thread), (-1_i64..i64::MAX).prop_map(StreamKind::GoProcessor)];
    // One past the highest address of a stack is never zero.
    let range = prop::option::of((address(), (1..=u64::MAX).prop_map(Address)));
    let stream = (any::<u32>(), process_id(), stream_kind, range).prop_map(|(id, process, kind, stack_range)| {
        Record::Stream(Stream { id: StreamId(id), process, kind, stack_range })
    });
    let module = (process_id(), address(), address(), any::<u64>(), text(), any::<Vec<u8>>()).prop_map(
        |(process, start, end, file_offset, path, build_id)| {
            Record::Module(Module { process, start, end, file_offset, path, build_id })
        },
    );
    let node = (process_id(), any::<u32>(), any::<u32>(), address())
        .prop_map(|(process, node, parent, address)| Record::StackNode(StackNode { process, node, parent, address }));
    let stack = (process_id(), any::<u32>(), any::<u32>())
        .prop_map(|(process, id, node)| Record::Stack(Stack { process, id: StackId(id), node }));
    use LossReason::*;
    let known = prop::sample::select(vec![BufferFull, Reentered, TooManyProcesses, StackTableFull, Malformed]);
    let reason = prop_oneof![known, (100_u8..=255).prop_map(Other)];
    let loss = (parent, reason, any::<u64>(), nanos())
        .prop_map(|(process, reason, events, time)| Record::Loss(Loss { process, reason, events, time }));
    let source = (text(), any::<bool>(), text())
        .prop_map(|(name, active, missed)| Record::Source(Source { name, active, missed }));
    let memory = (process_id(), address(), address())
        .prop_map(|(process, start, end)| Record::TracerMemory(TracerMemory { process, start, end }));
    let end_record = (nanos(), any::<u64>()).prop_map(|(time, unix_ns)| Record::End(End { time, unix_ns }));
    prop_oneof![process, end, stream, module, node, stack, loss, source, memory, end_record]
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
        tag in 11_u8..0x80,
        more in prop::collection::vec(any::<u8>(), 0..0x40),
    ) {
        let mut payload = Vec::new();
        for record in &records {
            payload.extend([tag, more.len() as u8]);
            payload.extend(&more);
            // The same record with fields of a later version behind its own.
            let mut one = Vec::new();
            record.encode(&mut one);
            let mut input = varint::Input::new(&one);
            let (tag, fields) = (input.number().expect("a tag"), input.bytes().expect("fields"));
            varint::put(&mut payload, tag);
            varint::put_bytes(&mut payload, &[fields, &more[..]].concat());
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
