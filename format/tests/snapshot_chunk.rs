//! A snapshot written part by part into memory of a fixed size is the one that is written as a whole.

use pagetrace_format::header::PAYLOAD_BYTES_MAX;
use pagetrace_format::snapshot::{
    CHUNK_BYTES_MAX, ChunkError, KernelFigures, Mapping, MappingRef, PageFlags, Permissions, ResidencySource,
    ResidentRun, SnapshotChunk, SnapshotHead, SnapshotReason,
};
use pagetrace_format::{
    Address, ChunkHeader, ChunkKind, FileHeader, Origin, PageCount, PageShift, ProcessId, Snapshot, Trace, TraceNanos,
    VERSION,
};
use proptest::prelude::*;

const PAGE_BYTES: u64 = 4096;

fn head_of(snapshot: &Snapshot) -> SnapshotHead {
    let Snapshot { process, time, reason, stopped, residency_source, page_bytes, kernel, .. } = *snapshot;
    SnapshotHead { process, time, reason, stopped, residency_source, page_bytes, kernel }
}

/// Writes the snapshot part by part: its chunk.
fn write(snapshot: &Snapshot, memory: &mut [u8]) -> Result<Vec<u8>, ChunkError> {
    let mut chunk = SnapshotChunk::new(memory);
    for mapping in &snapshot.mappings {
        let Mapping { start, end, permissions, file_offset, device, inode, ref path } = *mapping;
        chunk.mapping(&MappingRef { start, end, permissions, file_offset, device, inode, path: path.as_bytes() });
    }
    let mut runs = chunk.runs(PAGE_BYTES)?;
    for run in &snapshot.resident {
        runs.pages(run.start.0, run.start.0 + run.pages.0 * PAGE_BYTES, run.state);
    }
    runs.finish(&head_of(snapshot)).map(|place| memory[place].to_vec())
}

fn payload_of(chunk: &[u8]) -> Vec<u8> {
    let header = FileHeader {
        version: VERSION,
        page_shift: PageShift::KIB_4,
        origin: Origin::Recorded,
        start: TraceNanos(0),
        start_unix_ns: 0,
    };
    let bytes = [&header.encode()[..], chunk].concat();
    let trace = Trace::open(&bytes).expect("a trace");
    assert!(trace.defects().is_empty());
    let [chunk] = trace.chunks() else { panic!("one chunk: {:?}", trace.chunks()) };
    let ChunkHeader { kind, count, first, last, .. } = chunk.header;
    assert_eq!((kind, count, first), (ChunkKind::SNAPSHOT, 1, last));
    let mut payload = Vec::new();
    trace.payload(chunk, &mut payload).expect("undamaged");
    payload
}

/// Mappings of some pages with gaps of some pages, and in each the states of its pages.
fn snapshots() -> impl Strategy<Value = Snapshot> {
    let state = prop_oneof![Just(0), Just(PageFlags::PRESENT), Just(PageFlags::SWAPPED), Just(9)];
    let part = (0..3_u64, prop::collection::vec(state, 1..20), any::<u8>(), "[/a-z]{0,9}", any::<u64>());
    let rss = prop::option::of(any::<u64>());
    (prop::collection::vec(part, 0..20), any::<u32>(), any::<u64>(), rss).prop_map(|(parts, process, time, rss)| {
        let mut snapshot = Snapshot {
            process: ProcessId(process),
            time: TraceNanos(time),
            reason: SnapshotReason::Exit,
            stopped: time % 2 == 0,
            residency_source: ResidencySource::PagemapScan,
            page_bytes: PAGE_BYTES,
            kernel: KernelFigures { rss, rss_shmem: Some(time), ..KernelFigures::default() },
            mappings: Vec::new(),
            resident: Vec::new(),
        };
        let mut page = 0;
        for (gap, states, permissions, path, number) in parts {
            page += gap;
            let start = page;
            for state in states.iter().map(|&state| PageFlags(state)) {
                match snapshot.resident.last_mut() {
                    Some(last)
                        if page > start && last.state == state && last.start.0 / PAGE_BYTES + last.pages.0 == page =>
                    {
                        last.pages.0 += 1;
                    }
                    _ if state.0 != 0 => {
                        let start = Address(page * PAGE_BYTES);
                        snapshot.resident.push(ResidentRun { start, pages: PageCount(1), state });
                    }
                    _ => {}
                }
                page += 1;
            }
            snapshot.mappings.push(Mapping {
                start: Address(start * PAGE_BYTES),
                end: Address(page * PAGE_BYTES),
                permissions: Permissions(permissions),
                file_offset: number,
                device: number,
                inode: number,
                path,
            });
        }
        snapshot
    })
}

proptest! {
    #[test]
    fn the_parts_make_the_whole(snapshot in snapshots()) {
        let mut memory = vec![0xaa; 64 * 1024];
        let chunk = write(&snapshot, &mut memory).expect("there is room");
        prop_assert_eq!(payload_of(&chunk), snapshot.encode());
    }

    #[test]
    fn too_little_memory_is_refused_with_a_size_that_leads_there(snapshot in snapshots()) {
        let mut size = 0;
        for attempt in 0.. {
            prop_assert!(attempt <= 2, "once for the mappings, once for the runs");
            match write(&snapshot, &mut vec![0xaa; size]) {
                Ok(chunk) => {
                    prop_assert_eq!(payload_of(&chunk), snapshot.encode());
                    break;
                }
                Err(ChunkError::TooSmall { bytes_min }) if bytes_min > size => {
                    let one_less = write(&snapshot, &mut vec![0xaa; bytes_min - 1]);
                    prop_assert_eq!(one_less, Err(ChunkError::TooSmall { bytes_min }));
                    size = bytes_min;
                }
                Err(error) => prop_assert!(false, "{error:?}"),
            }
        }
    }
}

/// Mappings of one page, each with this path, and every other resident.
fn many(count: u64, path: &str) -> Snapshot {
    let start = |index: u64| Address(index * 3 * PAGE_BYTES);
    let mapping = |index| Mapping {
        start: start(index),
        end: Address(start(index).0 + PAGE_BYTES),
        permissions: Permissions(Permissions::READ),
        file_offset: 0,
        device: 0,
        inode: 0,
        path: path.to_owned(),
    };
    let run = |index| ResidentRun { start: start(index), pages: PageCount(1), state: PageFlags(PageFlags::PRESENT) };
    Snapshot {
        process: ProcessId(1),
        time: TraceNanos(1),
        reason: SnapshotReason::Interval,
        stopped: false,
        residency_source: ResidencySource::Pagemap,
        page_bytes: PAGE_BYTES,
        kernel: KernelFigures::default(),
        mappings: (0..count).map(mapping).collect(),
        resident: (0..count).step_by(2).map(run).collect(),
    }
}

#[test]
fn many_mappings_have_room_and_too_many_are_refused_whatever_the_memory() {
    let mut memory = vec![0; CHUNK_BYTES_MAX + 4096];
    let fits = many(70_000, "/usr/lib/x86_64-linux-gnu/libexample.so.6");
    let chunk = write(&fits, &mut memory).expect("there is room");
    assert_eq!(Snapshot::decode(&payload_of(&chunk)).expect("decodes"), fits);
    // 52 000 mappings of 300 bytes and their runs are below what a chunk may hold, 54 000 are above with their runs only.
    let path = "a".repeat(300);
    assert!(write(&many(52_000, &path), &mut memory).is_ok());
    for count in [54_000, 60_000, 70_000] {
        match write(&many(count, &path), &mut memory) {
            Err(ChunkError::TooLarge { payload_bytes }) => {
                assert!(payload_bytes > PAYLOAD_BYTES_MAX, "{payload_bytes}")
            }
            other => panic!("{:?} for {count}", other.map(|chunk| chunk.len())),
        }
    }
    // Small memory first tells of the mappings alone; what that leads to is refused.
    let refused = write(&many(70_000, &path), &mut [0; 1000]);
    assert!(matches!(refused, Err(ChunkError::TooLarge { .. })), "{:?}", refused.map(|chunk| chunk.len()));
}

#[test]
fn pages_are_cut_at_the_borders_of_mappings() {
    let snapshot = many(3, "");
    let mut memory = vec![0; 4096];
    let mut chunk = SnapshotChunk::new(&mut memory);
    for (start, end) in [(2, 4), (4, 6), (9, 10)] {
        chunk.mapping(&MappingRef {
            start: Address(start * PAGE_BYTES),
            end: Address(end * PAGE_BYTES),
            permissions: Permissions(0),
            file_offset: 0,
            device: 0,
            inode: 0,
            path: b"",
        });
    }
    let mut runs = chunk.runs(PAGE_BYTES).expect("there is room");
    let mut cursor = runs.first_mapping();
    let starts: Vec<u64> =
        std::iter::from_fn(|| runs.next_mapping(&mut cursor).map(|it| it.start.0 / PAGE_BYTES)).collect();
    assert_eq!(starts, [2, 4, 9]);
    for (start, end, state) in [(0, 3, 1), (3, 5, 1), (5, 12, 2), (12, 14, 1)] {
        runs.pages(start * PAGE_BYTES, end * PAGE_BYTES, PageFlags(state));
    }
    assert_eq!(runs.in_rss(), PageCount(3));
    let place = runs.finish(&head_of(&snapshot)).expect("there is room");
    let found = Snapshot::decode(&payload_of(&memory[place])).expect("decodes").resident;
    let found: Vec<_> = found.iter().map(|it| (it.start.0 / PAGE_BYTES, it.pages.0, it.state.0)).collect();
    assert_eq!(found, [(2, 2, 1), (4, 1, 1), (5, 1, 2), (9, 1, 2)]);
}
