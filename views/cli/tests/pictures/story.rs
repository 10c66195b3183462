//! A trace made here: a heap that grows, is emptied but for one object a page, and partly given back. One function has a name that
//! would be markup if anyone took it for that. Writes are recorded: two threads take turns on some pages, the kernel writes others.

mod writes;

pub use writes::{CALL_PAGES, READ_PAGES, SHARED_PAGES};

use pagetrace_format::kernel_event::FaultAccess;
use pagetrace_format::records::{
    End, EndStatus, Module, Process, ProcessEnd, ProcessOrigin, Record, Sampling, Stack, StackEnd, StackNode, Stream,
    StreamKind, Symbol, SymbolFunction,
};
use pagetrace_format::snapshot::{
    KernelFigures, Mapping, PageFlags, Permissions, ResidencySource, ResidentRun, Snapshot, SnapshotReason,
};
use pagetrace_format::{
    Access, Address, Event, EventColumns, EventKind, FileHeader, KernelColumns, KernelEvent, KernelEventKind,
    ObjectAlloc, ObjectFree, ObjectFunction, Origin, PageCount, PageFault, PageShift, ProcessId, StackId, StreamId,
    TraceNanos, TraceWriter, VERSION, VERSION_SAMPLED,
};

/// What a careless page would run.
pub const MARKUP: &str =
    "parse<img src=x onerror=\"document.title='taken'\"></script><script>document.title='taken'</script>";
/// The first page of the heap.
pub const HEAP_PAGE: u64 = HEAP / PAGE;
/// A page with one object left on it at the peak.
pub const SPARSE_PAGE: u64 = HEAP_PAGE + 40;

const START: u64 = 1_000_000_000;
const MILLI: u64 = 1_000_000;
const PAGE: u64 = 4096;
const HEAP: u64 = 0x5555_0000_0000;
const HEAP_PAGES: u64 = 1200;
const CODE: u64 = 0x40_0000;
const LIBC: u64 = 0x7f00_0000_0000;
const STEPS: u64 = 10;
const PAGES_A_STEP: u64 = 100;
const OBJECTS_A_PAGE: u64 = 36;
const CHUNK: u64 = 112;
const PROCESS: ProcessId = ProcessId(0);
const KEPT: StackId = StackId(1);
const PARSED: StackId = StackId(2);

/// The bytes of the trace.
pub fn story() -> Vec<u8> {
    told(&writes::accesses(), None)
}

/// The same without writes.
pub fn story_without_writes() -> Vec<u8> {
    told(&[], None)
}

/// The same as if its objects were samples of more.
pub fn story_of_samples() -> Vec<u8> {
    told(&[], Some(Sampling { mean_bytes: 1000 }))
}

fn told(accesses: &[Access], sampling: Option<Sampling>) -> Vec<u8> {
    let header = FileHeader {
        version: if sampling.is_some() { VERSION_SAMPLED } else { VERSION },
        page_shift: PageShift::KIB_4,
        origin: Origin::Recorded,
        start: TraceNanos(START),
        start_unix_ns: 1_767_366_245_000_000_000,
    };
    let mut writer = TraceWriter::new(Vec::new(), &header).expect("writing to memory");
    let records: Vec<Record> = sampling.map(Record::Sampling).into_iter().chain(records()).collect();
    writer.records(TraceNanos(START), &records).expect("writing to memory");
    let mut objects = EventColumns::new();
    let mut faults = KernelColumns::new();
    for page in 0..STEPS * PAGES_A_STEP {
        let time = START + (page / PAGES_A_STEP * 100 + page % PAGES_A_STEP / 2) * MILLI;
        let (instruction, stack) = (Address(CODE + 0x30), if page % 10 == 0 { PARSED } else { StackId::UNKNOWN });
        let (address, access) = (Address(HEAP + page * PAGE), FaultAccess::Write);
        let kind = KernelEventKind::Fault(PageFault { address, instruction, stack, access, in_kernel: false });
        faults.push(KernelEvent { time: TraceNanos(time), tid: 4242, kind });
        for place in 0..OBJECTS_A_PAGE {
            let stack = if place == 7 { KEPT } else { PARSED };
            objects.push(born(time + place, HEAP + page * PAGE + 16 + place * CHUNK, stack));
        }
    }
    let emptied = START + STEPS * 100 * MILLI;
    for page in 0..STEPS * PAGES_A_STEP {
        // Of the last part nothing stays, of the rest one object a page.
        for place in (0..OBJECTS_A_PAGE).filter(|place| *place != 7 || page >= 900) {
            objects.push(died(emptied + page, HEAP + page * PAGE + 16 + place * CHUNK));
        }
    }
    writer.events(StreamId(1), &objects).expect("writing to memory");
    if !accesses.is_empty() {
        writer.accesses(PROCESS, PageShift::KIB_4, accesses).expect("writing to memory");
    }
    writer.kernel_events(PROCESS, &faults).expect("writing to memory");
    for step in 0..STEPS {
        let pages = (step + 1) * PAGES_A_STEP;
        writer.snapshot(&snapshot(step * 100 + 60, pages, SnapshotReason::Interval)).expect("writing to memory");
    }
    // The peak: a page of the file more.
    writer.snapshot(&snapshot(STEPS * 100 + 60, STEPS * PAGES_A_STEP + 1, SnapshotReason::Growth)).expect("in memory");
    writer.snapshot(&snapshot(STEPS * 100 + 160, 950, SnapshotReason::Exit)).expect("writing to memory");
    let end = TraceNanos(START + (STEPS * 100 + 170) * MILLI);
    let ended = ProcessEnd { id: PROCESS, time: end, status: EndStatus::Exited(0), snapshot_at_exit: true };
    let ends = [Record::ProcessEnd(ended), Record::End(End { time: end, unix_ns: 0 })];
    writer.records(end, &ends).expect("writing to memory");
    writer.into_inner().expect("writing to memory")
}

fn records() -> Vec<Record> {
    let module = |start, path: &str| {
        let (start, end) = (Address(start), Address(start + 0x10000));
        Record::Module(Module {
            process: PROCESS,
            start,
            end,
            file_offset: 0,
            path: path.into(),
            build_id: vec![1; 20],
        })
    };
    let node = |node, parent, offset| {
        Record::StackNode(StackNode { process: PROCESS, node, parent, address: Address(CODE + offset) })
    };
    let stack = |id, node| Record::Stack(Stack { process: PROCESS, id, node, end: StackEnd::ThreadStart });
    let symbol = |offset, name: &str, line| {
        let function = SymbolFunction { name: name.into(), file: "story.c".into(), line, inlined: false };
        Record::Symbol(Symbol { process: PROCESS, address: Address(CODE + offset), functions: vec![function] })
    };
    vec![
        Record::Process(Process {
            id: PROCESS,
            pid: 4242,
            parent: None,
            origin: ProcessOrigin::Command,
            start: TraceNanos(START),
            exe: "/opt/story".into(),
            args: None,
            malloc: Address(LIBC + 0x1000),
        }),
        Record::Stream(Stream { id: StreamId(1), process: PROCESS, kind: StreamKind::Thread(4242), stack_range: None }),
        module(CODE, "/nonexistent/story"),
        module(LIBC, "/lib/x86_64-linux-gnu/libc.so.6"),
        node(1, 0, 0x10),
        node(2, 1, 0x20),
        node(3, 1, 0x31),
        stack(KEPT, 2),
        stack(PARSED, 3),
        symbol(0x10, "main", 3),
        symbol(0x20, "keep_one", 7),
        symbol(0x31, MARKUP, 11),
    ]
}

fn born(time: u64, address: u64, stack: StackId) -> Event {
    let (address, function) = (Address(address), ObjectFunction::Plain);
    let object = ObjectAlloc { address, size: 100, usable: CHUNK - 8, stack, function };
    Event { time: TraceNanos(time), kind: EventKind::ObjectAlloc(object) }
}

fn died(time: u64, address: u64) -> Event {
    let object = ObjectFree { address: Address(address), function: ObjectFunction::Plain };
    Event { time: TraceNanos(time), kind: EventKind::ObjectFree(object) }
}

fn snapshot(millis: u64, heap_pages: u64, reason: SnapshotReason) -> Snapshot {
    let mapping = |start: u64, pages: u64, permissions: u8, path: &str| Mapping {
        start: Address(start),
        end: Address(start + pages * PAGE),
        permissions: Permissions(permissions),
        file_offset: 0,
        device: 0,
        inode: 0,
        path: path.into(),
    };
    let run = |start: u64, pages: u64, state: u8| ResidentRun {
        start: Address(start),
        pages: PageCount(pages),
        state: PageFlags(state | PageFlags::PRESENT),
    };
    // At the end the first pages are gone.
    let gone = if reason == SnapshotReason::Exit { 50 } else { 0 };
    let heap_pages = heap_pages.min(STEPS * PAGES_A_STEP);
    let file_pages = if reason == SnapshotReason::Growth { 5 } else { 4 };
    let resident = heap_pages - gone;
    Snapshot {
        process: PROCESS,
        time: TraceNanos(START + millis * MILLI),
        reason,
        stopped: true,
        residency_source: ResidencySource::PagemapScan,
        page_bytes: PAGE,
        kernel: KernelFigures { rss: Some((resident + file_pages) * PAGE), ..KernelFigures::default() },
        mappings: vec![
            mapping(CODE, 16, Permissions::READ | Permissions::EXECUTE, "/nonexistent/story"),
            mapping(HEAP, HEAP_PAGES, Permissions::READ | Permissions::WRITE, "[heap]"),
            // 64 GiB of addresses that nobody touches.
            mapping(0x6000_0000_0000, 1 << 24, Permissions::READ | Permissions::WRITE, ""),
            mapping(LIBC, 16, Permissions::READ | Permissions::EXECUTE, "/lib/x86_64-linux-gnu/libc.so.6"),
        ],
        resident: vec![run(CODE, file_pages, PageFlags::FILE), run(HEAP + gone * PAGE, resident, 0)],
    }
}
