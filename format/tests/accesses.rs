//! Chunks of accesses: what is written comes back, written in a program or by a recorder, and no bytes make a reader panic.

use pagetrace_format::access::AccessCursor;
use pagetrace_format::header::CHUNK_HEADER_BYTES;
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

fn range() -> impl Strategy<Value = PageRange> {
    let far = (0_u64..1 << 50, 0_u64..1 << 50);
    let near = (0_u64..10_000, 0_u64..20);
    prop_oneof![far, near].prop_map(|(first, pages)| PageRange { first: PageIndex(first), pages: PageCount(pages) })
}

fn source() -> impl Strategy<Value = AccessSource> {
    (0_u8..6).prop_map(AccessSource::from_number)
}

fn run() -> impl Strategy<Value = WrittenRun> {
    let label = prop::sample::select(vec![WriteLabel::Written, WriteLabel::Discarded, WriteLabel::New]);
    let task = prop::option::of(0..u64::MAX);
    let writer =
        (any::<[u64; 3]>(), any::<[u32; 2]>(), task).prop_map(|([time, span_ns, instruction], [tid, stack], task)| {
            FirstWriter {
                time: TraceNanos(time),
                span_ns,
                tid,
                instruction: Address(instruction),
                stack: StackId(stack),
                task,
            }
        });
    (range(), label, prop::option::of(writer)).prop_map(|(range, label, writer)| WrittenRun { range, label, writer })
}

fn watched() -> impl Strategy<Value = WatchedAccess> {
    let foreign = prop::option::of((1..=u32::MAX, any::<u64>()));
    let task = prop::option::of(0..u64::MAX);
    (any::<[u64; 2]>(), any::<[u32; 2]>(), any::<bool>(), source(), task, foreign).prop_map(
        |([address, instruction], [tid, stack], write, source, task, foreign)| WatchedAccess {
            time: TraceNanos(0),
            tid,
            address: Address(address),
            instruction: Address(instruction),
            stack: StackId(stack),
            task,
            write,
            source,
            foreign: foreign.map(|(tid, time)| Modification { tid, time: TraceNanos(time) }),
        },
    )
}

/// An epoch with its ranges and runs, or a watched access, its time still to be given.
fn group() -> impl Strategy<Value = Vec<Access>> {
    let epoch = (any::<u64>(), any::<u64>(), source(), prop::collection::vec(range(), 0..3)).prop_flat_map(
        |(number, length, source, ranges)| {
            prop::collection::vec(run(), 0..20).prop_map(move |runs| {
                let (begin, ranges_follow) = (TraceNanos(length), !ranges.is_empty());
                let epoch = WriteEpoch { number, begin, end: TraceNanos(0), source, ranges_follow };
                let ranges = ranges.iter().copied().map(Access::Armed);
                std::iter::once(Access::Epoch(epoch))
                    .chain(ranges)
                    .chain(runs.into_iter().map(Access::Written))
                    .collect()
            })
        },
    );
    prop_oneof![epoch, watched().prop_map(|access| vec![Access::Watched(access)])]
}

fn items() -> impl Strategy<Value = Vec<Access>> {
    (prop::collection::vec(group(), 1..8), prop::collection::vec(any::<u64>(), 8)).prop_map(|(groups, mut times)| {
        times.sort_unstable();
        let mut items = groups.into_iter().zip(times).flat_map(|(mut group, time)| {
            match &mut group[0] {
                Access::Epoch(epoch) => {
                    epoch.begin = TraceNanos(epoch.begin.0.min(time));
                    epoch.end = TraceNanos(time);
                }
                Access::Watched(access) => access.time = TraceNanos(time),
                _ => unreachable!("a group begins with one of these"),
            }
            group
        });
        items.by_ref().collect()
    })
}

fn read(bytes: &[u8]) -> Vec<Access> {
    let trace = Trace::open(bytes).expect("a trace");
    let [chunk] = trace.chunks() else { panic!("one chunk: {:?}", trace.chunks()) };
    assert_eq!((trace.defects(), chunk.header.kind, chunk.header.stream), (&[][..], ChunkKind::ACCESSES, StreamId(7)));
    let mut cursor = trace.accesses(chunk).expect("accesses");
    assert_eq!(cursor.page_shift(), PageShift::KIB_8);
    let mut items = Vec::new();
    while let Some(item) = cursor.next_access().expect("an access") {
        let time = match item {
            Access::Epoch(epoch) => epoch.end,
            Access::Watched(access) => access.time,
            _ => chunk.header.first,
        };
        assert!((chunk.header.first..=chunk.header.last).contains(&time));
        items.push(item);
    }
    assert_eq!(chunk.header.count as usize, items.len());
    items
}

proptest! {
    #[test]
    fn accesses_come_back(items in items()) {
        let mut writer = TraceWriter::new(Vec::new(), &file_header()).expect("memory takes it");
        writer.accesses(ProcessId(7), PageShift::KIB_8, &items).expect("memory takes it");
        prop_assert_eq!(&read(&writer.into_inner().expect("memory takes it")), &items);

        let mut memory = vec![0xaa; AccessChunk::bytes_max(items.len())];
        let chunk = AccessChunk::write(&mut memory, ProcessId(7), PageShift::KIB_8, &items).expect("room").to_vec();
        prop_assert_eq!(&read(&[&file_header().encode()[..], &chunk].concat()), &items);
        let mut exact = vec![0; chunk.len()];
        prop_assert!(AccessChunk::write(&mut exact, ProcessId(7), PageShift::KIB_8, &items) == Some(&chunk[..]));
        let mut short = vec![0; chunk.len() - 1];
        prop_assert!(AccessChunk::write(&mut short, ProcessId(7), PageShift::KIB_8, &items).is_none());
    }

    #[test]
    fn any_bytes_are_accesses_or_an_error(payload: Vec<u8>, lengths in prop::collection::vec(0_u8..9, 8), count in 0_u32..9) {
        let with_head = [&[1, 12, 8], &lengths[..], &payload].concat();
        for payload in [payload, with_head] {
            if let Ok(mut cursor) = AccessCursor::open(payload, count, TraceNanos(5)) {
                while let Ok(Some(_)) = cursor.next_access() {}
            }
        }
    }
}

#[test]
fn nothing_is_written_for_nothing() {
    let mut memory = [0; 256];
    assert!(AccessChunk::write(&mut memory, ProcessId(0), PageShift::KIB_4, &[]).is_none());
    let mut writer = TraceWriter::new(Vec::new(), &file_header()).expect("memory takes it");
    writer.accesses(ProcessId(0), PageShift::KIB_4, &[]).expect("memory takes it");
    assert_eq!(writer.bytes_written(), file_header().encode().len() as u64);
}

#[test]
fn a_page_without_its_like_costs_few_bytes() {
    // What a random writer leaves in an epoch: lone pages of four threads at one place of the program.
    let mut items = vec![Access::Epoch(WriteEpoch {
        number: 1,
        begin: TraceNanos(1_000_000_000),
        end: TraceNanos(2_000_000_000),
        source: AccessSource::AsyncWriteProtection,
        ranges_follow: false,
    })];
    let mut state = 1_u64;
    for index in 0..20_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let range = PageRange { first: PageIndex(0x7_f000_0000 + index * 5), pages: PageCount(1) };
        let writer = Some(FirstWriter {
            time: TraceNanos(1_000_000_000 + (state >> 36)),
            span_ns: 0,
            tid: 100 + (state >> 20 & 3) as u32,
            instruction: Address(0x5555_0000_1234),
            stack: StackId(0),
            task: None,
        });
        items.push(Access::Written(WrittenRun { range, label: WriteLabel::Written, writer }));
    }
    let mut memory = vec![0; AccessChunk::bytes_max(items.len())];
    let chunk = AccessChunk::write(&mut memory, ProcessId(0), PageShift::KIB_4, &items).expect("room");
    assert!(chunk.len() - CHUNK_HEADER_BYTES <= 13 * 20_000, "{} bytes", chunk.len());
}
