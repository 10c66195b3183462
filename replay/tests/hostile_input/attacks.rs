//! Traces that are made to need much memory for their length, each in another way.

use pagetrace_format::checksum::crc32;
use pagetrace_format::header::ChunkHeader;
use pagetrace_format::kernel_event::{FaultAccess, KernelEventKind, MappedRange, PageCall, PageFault, SystemCall};
use pagetrace_format::records::{
    Bucket, Gap, Loss, LossReason, Process, ProcessOrigin, Record, Stack, StackEnd, StackFrames, StackNode, Stream,
    StreamKind, Symbol, SymbolFunction,
};
use pagetrace_format::{
    Access, AccessSource, FirstWriter, Modification, PageIndex, PageRange, WatchedAccess, WriteEpoch, WriteLabel,
    WrittenRun,
};
use pagetrace_format::{
    Address, ChunkKind, Compression, Event, EventKind, FileId, PageCount, PageRun, PageShift, ProcessId, StackId,
    StreamId, TraceNanos,
};

use crate::trace::{Builder, alloc, free, process, snapshot, stream};

/// Things in each trace, so that it has some hundred kilobytes before it is compressed.
const MANY: u64 = 5_000;
/// The same of what takes long.
const FEWER: u64 = MANY / 4;

/// A name and the bytes of a trace.
pub type Attack = (&'static str, fn() -> Vec<u8>);

/// All of them.
pub const ATTACKS: &[Attack] = &[
    ("bombs", bombs),
    ("objects, each on pages of its own", sparse_objects),
    ("objects, each with a stack of its own", sites),
    ("large objects", large_objects),
    ("objects in columns, each on pages of its own", sparse_columns),
    ("page runs, each on pages of its own", sparse_runs),
    ("page runs of all memory", huge_runs),
    ("page runs as long as one may be", long_runs),
    ("streams of one event", streams),
    ("streams that interleave", interleaved),
    ("stacks of a tree with a loop", looped_stacks),
    ("stacks of a deep tree", deep_stacks),
    ("flat stacks", flat_stacks),
    ("processes", processes),
    ("forks of a process with many objects", forks),
    ("forks of a large address space", kernel_forks),
    ("gaps", gaps),
    ("mappings", mappings),
    ("runs of resident pages", resident_runs),
    ("faults, each on pages of its own", sparse_faults),
    ("calls about all memory", huge_calls),
    ("mappings by calls", mapped_ranges),
    ("names", names),
    ("counts that are not there", counts),
    ("written pages that lie alone", lone_writes),
    ("written runs of all memory", huge_writes),
    ("written runs with two writers in turn", contended_writes),
    ("written pages while children live", writes_of_forks),
    ("watched accesses, each to a page of its own", watched),
];

fn started() -> Builder {
    Builder::new(PageShift::KIB_4).records(&[process(0, ProcessOrigin::Command, None, 1), stream(1, 0, None)])
}

fn in_chunks<T>(
    items: impl IntoIterator<Item = T>,
    mut builder: Builder,
    add: impl Fn(Builder, &[T]) -> Builder,
) -> Builder {
    let items: Vec<T> = items.into_iter().collect();
    for chunk in items.chunks(2000) {
        builder = add(builder, chunk);
    }
    builder
}

fn events(events: impl IntoIterator<Item = Event>) -> Vec<u8> {
    in_chunks(events, started(), |builder, events| builder.events(1, events)).end(1 << 40)
}

fn records(records: impl IntoIterator<Item = Record>) -> Builder {
    in_chunks(records, started(), |builder, records| builder.records(records))
}

/// A chunk of zeros as long as one may be, in a few hundred bytes, of every kind and again and again.
fn bombs() -> Vec<u8> {
    const RAW_BYTES: usize = 16 << 20;
    let stored = zstd::bulk::compress(&vec![0; RAW_BYTES], 1).expect("room");
    let mut bytes = started().cut();
    for number in 0..500_u32 {
        let header = ChunkHeader {
            kind: ChunkKind([1, 2, 3, 4, 5][number as usize % 5]),
            compression: Compression::Zstd,
            stream: StreamId(number),
            count: RAW_BYTES as u32,
            first: TraceNanos(1),
            last: TraceNanos(2),
            stored_bytes: stored.len() as u32,
            raw_bytes: RAW_BYTES as u32,
            payload_crc: crc32(&stored),
        };
        bytes.extend(header.encode());
        bytes.extend(&stored);
    }
    bytes
}

fn sparse_objects() -> Vec<u8> {
    events((0..MANY).map(|number| alloc(number, number << 30, 24, 0)))
}

fn sites() -> Vec<u8> {
    events((0..MANY).map(|number| alloc(number, 64 * number, 24, number as u32)))
}

fn large_objects() -> Vec<u8> {
    events((0..MANY).flat_map(|number| [alloc(number, number << 33, 1 << 32, 0), free(number, (number / 2) << 33)]))
}

/// In chunks that hold as many as one may, so alike that nothing is left of them.
fn sparse_columns() -> Vec<u8> {
    let objects: Vec<Event> = (0..4 * MANY).map(|number| alloc(number, number << 30, 24, 0)).collect();
    started().objects(1, &objects).objects(1, &objects).end(1 << 40)
}

fn run(time: u64, base: u64, pages: u64) -> Event {
    let run = PageRun { base: Address(base), pages: PageCount(pages) };
    let kind = [EventKind::PageAlloc(run), EventKind::PageFree(run), EventKind::PageScavenge(run)];
    Event { time: TraceNanos(time), kind: kind[time as usize % 3] }
}

fn sparse_runs() -> Vec<u8> {
    events((0..MANY).map(|number| run(number, number << 30, 1)))
}

fn huge_runs() -> Vec<u8> {
    events((0..MANY).map(|number| run(number, number << 33, u64::MAX >> (number % 40))))
}

fn long_runs() -> Vec<u8> {
    events((0..20).map(|number| run(3 * number, number << 40, 1 << 24)))
}

fn streams() -> Vec<u8> {
    let mut builder = started();
    for number in 0..MANY as u32 / 4 {
        builder = builder.events(number, &[alloc(1, 64 * u64::from(number), 24, 0)]);
    }
    builder.end(9)
}

fn interleaved() -> Vec<u8> {
    let mut builder = started();
    for number in 0..MANY as u32 / 100 {
        let events: Vec<Event> = (0..3000).map(|time| free(time * 1000, 64)).collect();
        builder = builder.events(number, &events);
    }
    builder.end(9)
}

fn stack(node: u32) -> Record {
    Record::Stack(Stack { process: ProcessId(0), id: StackId(node), node, end: StackEnd::Unknown })
}

fn node(node: u32, parent: u32) -> Record {
    Record::StackNode(StackNode { process: ProcessId(0), node, parent, address: Address(64) })
}

fn with_sites(builder: Builder) -> Vec<u8> {
    let sites = (0..FEWER).map(|number| alloc(number, 64 * number, 24, number as u32));
    in_chunks(sites, builder, |builder, events| builder.events(1, events)).end(1 << 40)
}

fn looped_stacks() -> Vec<u8> {
    let loops = [node(1, 2), node(2, 3), node(3, 1)];
    let stacks = (0..FEWER as u32).map(|id| match stack(1) {
        Record::Stack(stack) => Record::Stack(Stack { id: StackId(id), ..stack }),
        other => other,
    });
    with_sites(records(loops.into_iter().chain(stacks)))
}

fn deep_stacks() -> Vec<u8> {
    with_sites(records((1..FEWER as u32).flat_map(|number| [node(number, number - 1), stack(number)])))
}

fn flat_stacks() -> Vec<u8> {
    let frames = vec![Address(64); 60_000];
    let stack = |id| StackFrames { process: ProcessId(0), id: StackId(id), frames: frames.clone(), end: StackEnd::Cut };
    let mut builder = started();
    for id in 0..20 {
        builder = builder.records(&[Record::StackFrames(stack(id))]);
    }
    with_sites(builder)
}

fn processes() -> Vec<u8> {
    let of = |id: u32, record: Process| Record::Process(Process { id: ProcessId(id), ..record });
    let one = Process {
        id: ProcessId(0),
        pid: 1,
        parent: Some(ProcessId(0)),
        origin: ProcessOrigin::Fork,
        start: TraceNanos(1),
        exe: String::new(),
        args: Some(vec![String::new(); 20]),
        malloc: Address(0),
    };
    let mut builder = records((1..MANY as u32 / 2).map(|id| of(id, one.clone())));
    for id in 1..1500 {
        builder = builder.kernel_events(id, &[(7, KernelEventKind::Fork { parent: ProcessId(id - 1) })]);
    }
    builder.end(1 << 40)
}

fn forks() -> Vec<u8> {
    const CHILDREN: u32 = 1500;
    let objects = (0..MANY).map(|number| alloc(number, 64 * number, 24, number as u32 % 16));
    let mut builder = in_chunks(objects, started(), |builder, events| builder.events(1, events));
    for id in 1..CHILDREN {
        let records = [process(id, ProcessOrigin::Fork, Some(0), MANY), stream(id + 1, id, None)];
        builder = builder.records(&records).events(id + 1, &[free(MANY + 1, 64)]);
    }
    builder.end(1 << 40)
}

fn kernel_forks() -> Vec<u8> {
    const CHILDREN: u32 = 1500;
    let ranges = (1..MANY).map(|number| (number, mapped(number << 20, 0x1000)));
    let mut builder = in_chunks(ranges, started(), |builder, events| builder.kernel_events(0, events));
    for id in 1..CHILDREN {
        let forked = [(MANY, KernelEventKind::Fork { parent: ProcessId(0) }), (MANY + 1, fault(64))];
        builder = builder.records(&[process(id, ProcessOrigin::Fork, Some(0), MANY)]).kernel_events(id, &forked);
    }
    builder.end(1 << 40)
}

fn gaps() -> Vec<u8> {
    let gap = |number: u64| {
        Record::Gap(Gap {
            process: ProcessId(number as u32),
            start: TraceNanos(number),
            end: TraceNanos(u64::MAX - number),
            kept: number.is_multiple_of(2),
        })
    };
    let loss = |number: u64| {
        Record::Loss(Loss { process: None, reason: LossReason::BufferFull, events: u64::MAX, time: TraceNanos(number) })
    };
    records((0..MANY).flat_map(|number| [gap(number), loss(number)])).end(1 << 40)
}

fn mappings() -> Vec<u8> {
    let maps: Vec<_> = (0..MANY).map(|number| (number * 0x2000, 0x1000, "rw", "")).collect();
    let mut builder = started();
    for time in 0..20 {
        builder = builder.snapshot(&snapshot(0, time, 1 << 30, &maps, &[]));
    }
    builder.end(1 << 40)
}

fn resident_runs() -> Vec<u8> {
    let resident: Vec<_> = (0..4 * MANY).map(|number| (number * 0x2000, 1, 0)).collect();
    let mut builder = started();
    for process in 0..20 {
        let all = (0, 1 << 40, "rw", "[heap]");
        builder = builder.snapshot(&snapshot(process, 7, 1 << 30, &[all], &resident));
    }
    builder.end(1 << 40)
}

fn fault(address: u64) -> KernelEventKind {
    KernelEventKind::Fault(PageFault {
        address: Address(address),
        instruction: Address(address),
        stack: StackId(0),
        access: FaultAccess::Write,
        in_kernel: false,
    })
}

fn mapped(start: u64, bytes: u64) -> KernelEventKind {
    let (protection, flags) = (3, 0x22);
    KernelEventKind::Mapped(MappedRange {
        start: Address(start),
        bytes,
        file_offset: 0,
        protection,
        flags,
        file: FileId(0),
    })
}

fn kernel(events: impl IntoIterator<Item = (u64, KernelEventKind)>) -> Vec<u8> {
    in_chunks(events, started(), |builder, events| builder.kernel_events(0, events)).end(1 << 40)
}

fn sparse_faults() -> Vec<u8> {
    let all = (1, mapped(0x10_0000, 1 << 46));
    kernel(std::iter::once(all).chain((1..FEWER).map(|number| (number, fault(number << 21)))))
}

fn mapped_ranges() -> Vec<u8> {
    kernel((1..MANY).map(|number| (number, mapped(number << 20, 0x1000))))
}

fn huge_calls() -> Vec<u8> {
    let all = (1, mapped(0x10_0000, 1 << 46));
    let call = |number: u64| {
        let call = PageCall::ALL[number as usize % PageCall::ALL.len()];
        let arguments = [number << 20, 1 << 45, 4 + number % 30, 0x8022, u64::MAX, 0];
        let (file, stack) = (FileId(0), StackId(number as u32));
        (number, KernelEventKind::Call(SystemCall { call, arguments, result: (number << 20) as i64, file, stack }))
    };
    kernel(std::iter::once(all).chain((1..MANY / 10).map(call)))
}

fn names() -> Vec<u8> {
    let function = || SymbolFunction { name: String::new(), file: String::new(), line: 1, inlined: false };
    records((0..MANY as u32).flat_map(|number| {
        let (process, address) = (ProcessId(number), Address(1));
        let kind = StreamKind::Buffer(number);
        [
            Record::Symbol(Symbol { process, address, functions: vec![function(); 10] }),
            Record::Bucket(Bucket { process, id: StackId(1 << 31), name: String::new() }),
            Record::Stream(Stream { id: StreamId(number), process, kind, stack_range: None }),
        ]
    }))
    .end(1 << 40)
}

/// Counts of what would follow, if it did.
fn counts() -> Vec<u8> {
    let mut bytes = started().cut();
    let many: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    for kind in [1_u16, 2, 3, 4, 5] {
        for lead in 0..24 {
            // Records of every tag, and other payloads that begin in every way.
            let fields = [&[1; 8][..lead.min(8)], &many.repeat(3)].concat();
            let payload = [&[lead as u8, fields.len() as u8][..], &fields].concat();
            let header = ChunkHeader {
                kind: ChunkKind(kind),
                compression: Compression::None,
                stream: StreamId(1),
                count: u32::MAX,
                first: TraceNanos(1),
                last: TraceNanos(u64::MAX),
                stored_bytes: payload.len() as u32,
                raw_bytes: payload.len() as u32,
                payload_crc: crc32(&payload),
            };
            bytes.extend(header.encode());
            bytes.extend(payload);
        }
    }
    bytes
}

fn an_epoch(number: u64) -> Access {
    let (begin, end, source) = (TraceNanos(number), TraceNanos(number + 2), AccessSource::AsyncWriteProtection);
    Access::Epoch(WriteEpoch { number, begin, end, source, ranges_follow: number.is_multiple_of(2) })
}

fn a_write(first: u64, pages: u64, tid: u32) -> Access {
    let range = PageRange { first: PageIndex(first), pages: PageCount(pages) };
    let (time, instruction, stack) = (TraceNanos(first), Address(first), StackId(first as u32));
    let writer = FirstWriter { time, span_ns: 0, tid, instruction, stack, task: None };
    Access::Written(WrittenRun { range, label: WriteLabel::Written, writer: (tid != 0).then_some(writer) })
}

/// Each with the epoch in front that it needs.
fn accesses_in_chunks(builder: Builder, items: impl IntoIterator<Item = Access>) -> Vec<u8> {
    let builder = in_chunks(items, builder, |builder, items| builder.accesses(0, &[&[an_epoch(1)], items].concat()));
    builder.end(10 * MANY)
}

fn lone_writes() -> Vec<u8> {
    accesses_in_chunks(started(), (0..20 * MANY).map(|number| a_write(600 * number, 1, 0)))
}

fn huge_writes() -> Vec<u8> {
    let items = (1..FEWER).flat_map(|number| {
        [
            an_epoch(number),
            Access::Armed(PageRange { first: PageIndex(number), pages: PageCount(1 << 50) }),
            a_write(number, 1 << 50, 0),
        ]
    });
    accesses_in_chunks(started(), items)
}

fn contended_writes() -> Vec<u8> {
    let items =
        (1..FEWER).flat_map(|number| [an_epoch(number), a_write(number << 20, 1 << 40, 1 + (number % 2) as u32)]);
    accesses_in_chunks(started(), items)
}

fn writes_of_forks() -> Vec<u8> {
    let children: Vec<Record> =
        (1..FEWER).map(|child| process(child as u32, ProcessOrigin::Fork, Some(0), 1)).collect();
    let items = (0..FEWER).map(|number| a_write(600 * (number * 7 % FEWER), 1, 0));
    accesses_in_chunks(started().records(&children), items)
}

fn watched() -> Vec<u8> {
    let items = (0..20 * MANY).map(|number| {
        Access::Watched(WatchedAccess {
            time: TraceNanos(number),
            tid: 1,
            address: Address(number << 30),
            instruction: Address(number),
            stack: StackId(0),
            task: None,
            write: true,
            source: AccessSource::MissingPages,
            foreign: Some(Modification { tid: 2, time: TraceNanos(0) }),
        })
    });
    accesses_in_chunks(started(), items)
}
