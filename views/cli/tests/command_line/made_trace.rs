//! A small native trace, made here: two threads of one process, whose events interleave.

use pagetrace_format::header::FILE_HEADER_BYTES;
use pagetrace_format::kernel_event::FaultAccess;
use pagetrace_format::records::{
    End, EndStatus, MappedFile, Module, Process, ProcessEnd, ProcessOrigin, Record, Source, Stack, StackEnd, StackNode,
    Stream, StreamKind,
};
use pagetrace_format::snapshot::{
    KernelFigures, Mapping, PageFlags, Permissions, ResidencySource, ResidentRun, Snapshot, SnapshotReason,
};
use pagetrace_format::{
    Address, Event, EventColumns, EventKind, FileHeader, FileId, KernelColumns, KernelEvent, KernelEventKind,
    MappedRange, ObjectAlloc, ObjectFree, ObjectFunction, Origin, PageCall, PageCount, PageFault, PageShift, ProcessId,
    StackId, StreamId, SystemCall, TraceNanos, TraceWriter, VERSION,
};

/// CLOCK_MONOTONIC at its start.
pub const START: u64 = 5_000_000_000;
/// The same moment, 2026-01-02 15:04:05.678 UTC.
const START_UNIX_NS: u64 = 1_767_366_245_678_000_000;
/// Where its heap is.
pub const HEAP: u64 = 0x5555_0000_0000;
const STACK: StackId = StackId(1);
const PROCESS: ProcessId = ProcessId(0);

/// The trace; without its end it is what a killed recorder leaves.
pub fn made_trace(with_end: bool) -> Vec<u8> {
    let header = FileHeader {
        version: VERSION,
        page_shift: PageShift::KIB_4,
        origin: Origin::Recorded,
        start: TraceNanos(START),
        start_unix_ns: START_UNIX_NS,
    };
    let mut writer = TraceWriter::new(Vec::new(), &header).expect("writing to memory");
    writer.records(TraceNanos(START), &first_records()).expect("writing to memory");
    let first = [alloc(10, HEAP + 16, 100), alloc(30, HEAP + 4096 + 16, 200), free(50, HEAP + 16)];
    let second = [alloc(20, HEAP + 8192 + 16, 300), free(40, 0xdead0)];
    for (stream, events) in [(1, &first[..]), (2, &second[..])] {
        let mut columns = EventColumns::new();
        events.iter().for_each(|event| columns.push(*event));
        writer.events(StreamId(stream), &columns).expect("writing to memory");
    }
    writer.snapshot(&snapshot(1_000_000_000, SnapshotReason::Exit, true)).expect("writing to memory");
    if with_end {
        let end = TraceNanos(START + 2_000_000_000);
        let status = EndStatus::Exited(0);
        let ended = Record::ProcessEnd(ProcessEnd { id: PROCESS, time: end, status, snapshot_at_exit: true });
        let end_of_trace = Record::End(End { time: end, unix_ns: START_UNIX_NS + 2_000_000_000 });
        writer.records(end, &[ended, end_of_trace]).expect("writing to memory");
    }
    writer.into_inner().expect("writing to memory")
}

fn first_records() -> Vec<Record> {
    let stream = |id, tid| {
        let kind = StreamKind::Thread(tid);
        Record::Stream(Stream { id: StreamId(id), process: PROCESS, kind, stack_range: None })
    };
    vec![
        Record::Process(Process {
            id: PROCESS,
            pid: 4242,
            parent: None,
            origin: ProcessOrigin::Command,
            start: TraceNanos(START),
            exe: "/opt/my program".into(),
            args: None,
            malloc: Address(0),
        }),
        stream(1, 4242),
        stream(2, 4243),
        Record::Module(Module {
            process: PROCESS,
            start: Address(0x40_0000),
            end: Address(0x41_0000),
            file_offset: 0x1000,
            path: "/nonexistent/my program".into(),
            build_id: vec![0xab; 20],
        }),
        Record::StackNode(StackNode { process: PROCESS, node: 1, parent: 0, address: Address(0x7fff_0000) }),
        Record::StackNode(StackNode { process: PROCESS, node: 2, parent: 1, address: Address(0x40_0234) }),
        Record::Stack(Stack { process: PROCESS, id: STACK, node: 2, end: StackEnd::ThreadStart }),
        Record::Source(Source { name: "objects".into(), active: true, missed: String::new() }),
    ]
}

fn alloc(time: u64, address: u64, size: u64) -> Event {
    let object = ObjectAlloc {
        address: Address(address),
        size,
        usable: size.next_multiple_of(16) + 8,
        stack: STACK,
        function: ObjectFunction::Plain,
    };
    Event { time: TraceNanos(START + time), kind: EventKind::ObjectAlloc(object) }
}

fn free(time: u64, address: u64) -> Event {
    let object = ObjectFree { address: Address(address), function: ObjectFunction::Plain };
    Event { time: TraceNanos(START + time), kind: EventKind::ObjectFree(object) }
}

/// Four resident pages of a heap of eight, and one of a file, so long after the start.
pub fn snapshot(since_start: u64, reason: SnapshotReason, stopped: bool) -> Snapshot {
    let mapping = |start: u64, pages: u64, permissions: u8, path: &str| Mapping {
        start: Address(start),
        end: Address(start + pages * 4096),
        permissions: Permissions(permissions),
        file_offset: 0,
        device: 0,
        inode: 0,
        path: path.into(),
    };
    let run = |start: u64, pages: u64, state: u8| ResidentRun {
        start: Address(start),
        pages: PageCount(pages),
        state: PageFlags(state),
    };
    Snapshot {
        process: PROCESS,
        time: TraceNanos(START + since_start),
        reason,
        stopped,
        residency_source: ResidencySource::PagemapScan,
        page_bytes: 4096,
        kernel: KernelFigures { rss: Some(5 * 4096), anonymous: Some(4 * 4096), ..KernelFigures::default() },
        mappings: vec![
            mapping(0x40_0000, 16, Permissions::READ | Permissions::EXECUTE, "/nonexistent/my program"),
            mapping(HEAP, 8, Permissions::READ | Permissions::WRITE, "[heap]"),
        ],
        resident: vec![run(0x40_0000, 1, PageFlags::PRESENT | PageFlags::FILE), run(HEAP, 4, PageFlags::PRESENT)],
    }
}

/// The trace, with what the kernel said of its pages.
pub fn trace_with_kernel_events() -> Vec<u8> {
    use FaultAccess::{Unknown, Write};
    let fault = |address, instruction, access, in_kernel| {
        let (address, instruction, stack) = (Address(address), Address(instruction), StackId::UNKNOWN);
        KernelEventKind::Fault(PageFault { address, instruction, stack, access, in_kernel })
    };
    let call = |call, arguments, result| {
        let (file, stack) = (FileId::NONE, StackId::UNKNOWN);
        KernelEventKind::Call(SystemCall { call, arguments, result, file, stack })
    };
    let mapped = MappedRange {
        start: Address(0x40_0000),
        bytes: 0x1_0000,
        file_offset: 0,
        protection: 5,
        flags: 2,
        file: FileId(1),
    };
    let none = u64::from(u32::MAX);
    let events = [
        (
            5,
            4242,
            KernelEventKind::Exec {
                arguments: Some((Address(0x7ffc_0000_1000), Address(0x7ffc_0000_3000))),
                table: None,
            },
        ),
        (6, 4242, KernelEventKind::Mapped(mapped)),
        (15, 4242, fault(HEAP + 16, 0x40_0234, Write, false)),
        (25, 4242, fault(HEAP + 4096 + 16, 0xffff_ffff_8100_0000, Unknown, true)),
        (60, 4242, call(PageCall::Mmap, [0, 8192, 3, 0x22, none, 0], 0x7f00_0000_0000)),
        (61, 0, call(PageCall::Madvise, [0x7f00_0000_0000, 8192, 4, 0, 0, 0], -22)),
        (62, 4242, call(PageCall::Munlockall, [0; 6], 0)),
    ];
    let mut columns = KernelColumns::new();
    for (time, tid, kind) in events {
        columns.push(KernelEvent { time: TraceNanos(START + time), tid, kind });
    }
    let path = "/nonexistent/my program".into();
    let file = Record::MappedFile(MappedFile { id: FileId(1), device: 1, inode: 2, path });
    let mut trace = made_trace(true);
    let header = pagetrace_format::Trace::open(&trace).expect("a trace").header().to_owned();
    let mut more = TraceWriter::new(Vec::new(), &header).expect("writing to memory");
    more.records(TraceNanos(START), &[file]).expect("writing to memory");
    more.kernel_events(PROCESS, &columns).expect("writing to memory");
    trace.extend_from_slice(&more.into_inner().expect("writing to memory")[FILE_HEADER_BYTES..]);
    trace
}
