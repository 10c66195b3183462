//! The golden traces, one for each version: committed bytes that every later reader must read as the committed
//! listing says.
//!
//! `PAGETRACE_BLESS=1 cargo test -p pagetrace-format --test golden` writes those of the present version anew. Within a
//! version that is right only when the listing gains something: the old bytes must go on being read as before.

mod listing;

use std::path::PathBuf;

use listing::listing;
use pagetrace_format::encode::{
    self, PackedChunk, PackedWordsChunk, TickClock, object_alloc_with_id, object_free_with_id, time_base,
};
use pagetrace_format::header::FILE_HEADER_BYTES;
use pagetrace_format::kernel_event::FaultAccess;
use pagetrace_format::records::*;
use pagetrace_format::snapshot::{
    CgroupFigures, KernelFigures, Mapping, PageFlags, Permissions, ResidencySource, ResidentRun, SnapshotReason,
};
use pagetrace_format::*;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The bytes and the listing of a version's golden trace.
fn golden(version: u32) -> (Vec<u8>, String) {
    let bytes = std::fs::read(path(&format!("v{version}.pagetrace"))).expect("the golden trace");
    (bytes, std::fs::read_to_string(path(&format!("v{version}.txt"))).expect("the listing"))
}

#[test]
fn the_golden_trace_is_read_as_its_listing_says() {
    let written = write_trace();
    if std::env::var_os("PAGETRACE_BLESS").is_some() {
        std::fs::write(path(&format!("v{VERSION}.pagetrace")), &written).expect("the golden trace can be written");
        std::fs::write(path(&format!("v{VERSION}.txt")), listing(&written)).expect("the listing can be written");
    }
    let (golden, expected) = golden(VERSION);
    check("the golden trace", &listing(&golden), &expected);
    // The bytes may differ, as compressors change; what they say may not.
    check("what today's writer writes", &listing(&written), &expected);
}

#[test]
fn the_golden_trace_of_sampled_objects_is_read_as_its_listing_says() {
    let written = write_sampled_trace();
    if std::env::var_os("PAGETRACE_BLESS").is_some() {
        std::fs::write(path(&format!("v{VERSION_SAMPLED}.pagetrace")), &written).expect("it can be written");
        std::fs::write(path(&format!("v{VERSION_SAMPLED}.txt")), listing(&written)).expect("it can be written");
    }
    let (golden, expected) = golden(VERSION_SAMPLED);
    check("the golden trace of sampled objects", &listing(&golden), &expected);
    check("what today's writer writes", &listing(&written), &expected);
    let version = Trace::open(&golden).expect("a trace").header().version;
    assert_eq!((version, expected.contains("Sampling")), (VERSION_SAMPLED, true));
}

/// What a reader of earlier versions would take for all that there was, it must not read.
#[test]
fn a_later_version_is_refused_by_name() {
    let header = FileHeader { version: VERSION_SAMPLED + 1, ..header() };
    let refused = Trace::open(&header.encode()).map(|_| ()).expect_err("a version that is not known");
    assert!(matches!(refused, FormatError::Newer { found, .. } if found == VERSION_SAMPLED + 1), "{refused}");
}

#[test]
fn the_golden_traces_of_earlier_versions_are_read_as_ever() {
    for version in 1..VERSION {
        let (golden, expected) = golden(version);
        check(&format!("the golden trace of version {version}"), &listing(&golden), &expected);
        assert_eq!(Trace::open(&golden).expect("a trace").header().version, version);
    }
}

#[test]
fn the_listing_covers_all_there_is() {
    let listing = listing(&write_trace());
    let words = "TimeSync PageAlloc PageFree PageScavenge ObjectAlloc ObjectFree Plain Calloc Realloc Aligned Other \
        Process ProcessEnd Stream Module StackNode Stack Loss Source TracerMemory End Command Fork Exec Found Unknown \
        Exited Signaled Replaced Running Thread GoProcessor BufferFull Reentered TooManyProcesses StackTableFull \
        Malformed Interval Growth Exit Asked PagemapScan Pagemap EVENTS PACKED_EVENTS RECORDS SNAPSHOT zstd stored \
        StackFrames Gap Bucket Buffer ObjectId KERNEL_EVENTS Machine MappedFile Symbol KernelBufferFull ThreadStart Cut \
        Fault Mapped Call Read Write Mmap Munmap Mremap Madvise Brk Mprotect Mlock Mlock2 Munlock Mlockall Munlockall \
        ProcessMadvise Filled OBJECT_EVENTS ACCESSES Epoch Armed Written Watched Discarded New AsyncWriteProtection \
        WriteProtection MissingPages NoPermission";
    for word in words.split_whitespace() {
        let whole = |found: &str| found == word;
        assert!(listing.split(|c: char| !c.is_alphanumeric() && c != '_').any(whole), "{word} is not in the listing");
    }
}

fn check(what: &str, found: &str, expected: &str) {
    for (number, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "{what}, line {} of the listing", number + 1);
    }
    assert_eq!(found.lines().count(), expected.lines().count(), "{what}: lines of the listing");
}

fn header() -> FileHeader {
    FileHeader {
        version: VERSION,
        page_shift: PageShift::KIB_4,
        origin: Origin::Recorded,
        start: TraceNanos(1_000_000_000),
        start_unix_ns: 1_700_000_000_000_000_000,
    }
}

/// A trace with every kind of everything.
fn write_trace() -> Vec<u8> {
    let mut writer = TraceWriter::new(Vec::new(), &header()).expect("memory takes it");
    writer.records(TraceNanos(1_000_000_001), &records()).expect("memory takes it");
    let mut every_kind = EventColumns::new();
    kinds().into_iter().zip(1..).for_each(|(kind, n)| every_kind.push(Event { time: TraceNanos(n * 1000), kind }));
    writer.events(StreamId(1), &every_kind).expect("memory takes it");
    let mut times_going_back = EventColumns::new();
    for (time, page) in [(5_000, 9), (4_872, 0x7fff_ffff), (4_872, 1), (u64::MAX, 2)] {
        let kind = EventKind::PageAlloc(PageRun { base: Address(page << 12), pages: PageCount(page) });
        times_going_back.push(Event { time: TraceNanos(time), kind });
    }
    writer.events(StreamId(2), &times_going_back).expect("memory takes it");
    writer.objects(StreamId(5), &objects(), TimeRounding::Exact).expect("memory takes it");
    writer.kernel_events(ProcessId(0), &kernel_events()).expect("memory takes it");
    writer.accesses(ProcessId(0), PageShift::KIB_4, &accesses()).expect("memory takes it");
    snapshots().iter().for_each(|snapshot| writer.snapshot(snapshot).expect("memory takes it"));
    let mut bytes = writer.into_inner().expect("memory takes it");

    let mut memory = [0; 1024];
    let clock = TickClock { base_tick: 1_000, base: TraceNanos(2_000_000_000), mult: 3 << 9, shift: 10 };
    let mut packed = PackedChunk::new(&mut memory, clock).expect("room");
    for (kind, tick) in kinds().iter().zip([1_000, 1_001, 999, 1 << 40, (1 << 40) + 7, 1 << 40, 0, 1, 2, 3, 4, 5]) {
        assert!(packed.push(tick, kind));
    }
    bytes.extend_from_slice(packed.finish(StreamId(3)));
    bytes.extend(chunks_of_a_program(clock));
    let chunk = AccessChunk::write(&mut memory, ProcessId(1), PageShift::KIB_8, &accesses()[3..]).expect("room");
    bytes.extend_from_slice(chunk);

    let mut end = TraceWriter::new(Vec::new(), &header()).expect("memory takes it");
    let record = Record::End(End { time: TraceNanos(9_000_000_000), unix_ns: 1_700_000_008_000_000_000 });
    end.records(TraceNanos(9_000_000_000), &[record]).expect("memory takes it");
    bytes.extend_from_slice(&end.into_inner().expect("memory takes it")[FILE_HEADER_BYTES..]);
    bytes
}

/// What version 4 is for.
fn write_sampled_trace() -> Vec<u8> {
    let header = FileHeader { version: VERSION_SAMPLED, ..header() };
    let mut writer = TraceWriter::new(Vec::new(), &header).expect("memory takes it");
    let sampling = Record::Sampling(Sampling { mean_bytes: 512 << 10 });
    writer.records(TraceNanos(1_000_000_001), &[sampling]).expect("memory takes it");
    writer.objects(StreamId(5), &objects(), TimeRounding::Exact).expect("memory takes it");
    let end = Record::End(End { time: TraceNanos(9_000_000_000), unix_ns: 1_700_000_008_000_000_000 });
    writer.records(TraceNanos(9_000_000_000), &[end]).expect("memory takes it");
    writer.into_inner().expect("memory takes it")
}

/// All functions, and addresses that are told in every way: as they are, by where they were met, and by what is in front of
/// them, near and far.
fn objects() -> ObjectColumns {
    let mut objects = ObjectColumns::new();
    let mut time = 7_000_000_000;
    let address = |index: u64| Address(0x5555_0000_1010 + index * 0x30);
    let functions = [
        ObjectFunction::Plain,
        ObjectFunction::Calloc,
        ObjectFunction::Realloc,
        ObjectFunction::Aligned,
        ObjectFunction::Other,
    ];
    let mut alloc = |index: u64, function| {
        time += 8 * (1 + index % 3);
        let (size, stack) = (33 + index % 8, StackId(index as u32 * 1_000));
        let usable = if index == 50 { 5_000_000_000 } else { 40 };
        objects.push_alloc(TraceNanos(time), &ObjectAlloc { address: address(index), size, usable, stack, function });
    };
    for (index, function) in (0..100).zip(functions.into_iter().cycle()) {
        alloc(index, function);
    }
    for index in [99, 0, 60] {
        time += 800;
        let function = functions[index as usize % 2 * 2];
        objects.push_free(TraceNanos(time), &ObjectFree { address: address(index), function });
    }
    let behind_far =
        ObjectAlloc { address: address(1), size: 1 << 33, usable: 1 << 34, stack: StackId(0), function: functions[0] };
    objects.push_alloc(TraceNanos(time + 16), &behind_far);
    objects
}

/// What a program writes by itself: words as they are in a block, and records made without allocation.
fn chunks_of_a_program(clock: TickClock) -> Vec<u8> {
    let (address, function, named) = (Address(0x5555_0000_3000), ObjectFunction::Plain, 1 << 31 | 2);
    let object = ObjectAlloc { address, size: 40, usable: 48, stack: StackId(named), function };
    let free = ObjectFree { address, function };
    let words = [
        &time_base(5_000)[..],
        // Not for readers of files, who step over it.
        &encode::stack(2, StackId(9), StackEnd::Unknown),
        &[0x5555_0000_0111, 0x5555_0000_0222],
        &object_alloc_with_id(1, &object, ObjectId(1)),
        &object_free_with_id(2, &free, ObjectId(1)),
        &time_base(6_000),
        &object_alloc_with_id(0, &object, ObjectId(u64::MAX)),
        &object_free_with_id(u32::MAX, &free, ObjectId(u64::MAX)),
        &encode::object_alloc(7, &object),
    ]
    .concat();
    let mut memory = [0; 1024];
    let chunk = PackedWordsChunk::new(&mut memory, clock, &words).expect("room");
    let mut bytes = chunk.finish(StreamId(4)).to_vec();
    let (process, start, end) = (ProcessId(0), TraceNanos(4_000_000_000), TraceNanos(5_000_000_000));
    let mut chunk = RecordChunk::new(&mut memory).expect("room");
    assert!(chunk.stream(&Stream { id: StreamId(4), process, kind: StreamKind::Buffer(u32::MAX), stack_range: None }));
    assert!(chunk.stack_frames(process, StackId(9), &[0x5555_0000_0111, u64::MAX, 0], StackEnd::Unknown));
    assert!(chunk.stack_frames(process, StackId(10), &[], StackEnd::Cut));
    assert!(chunk.bucket(process, StackId(named), "Ünit".as_bytes()));
    assert!(chunk.gap(&Gap { process, start, end, kept: true }));
    assert!(chunk.gap(&Gap { process: ProcessId(1), start: end, end, kept: false }));
    bytes.extend_from_slice(chunk.finish(TraceNanos(6_000_000_000)));
    bytes
}

fn kinds() -> Vec<EventKind> {
    use ObjectFunction::*;
    let run = |page: u64, pages| PageRun { base: Address(page << 12), pages: PageCount(pages) };
    let alloc = |address, size, usable, stack, function| {
        let (address, stack) = (Address(address), StackId(stack));
        EventKind::ObjectAlloc(ObjectAlloc { address, size, usable, stack, function })
    };
    let free = |address, function| EventKind::ObjectFree(ObjectFree { address: Address(address), function });
    vec![
        EventKind::PageAlloc(run(0x7_f000_0000, 16)),
        EventKind::PageFree(run(0x7_f000_0004, 4)),
        EventKind::PageScavenge(run(0x7_f000_0004, 2)),
        EventKind::TimeSync,
        alloc(0x5555_0000_1010, 24, 24, 1, Plain),
        alloc(0x5555_0000_1030, 0, 24, 0, Calloc),
        alloc(0x5555_0000_1050, 100_000_000, 100_003_824, 2, Realloc),
        alloc(0x5555_0000_2000, 4096, 4104, u32::MAX, Aligned),
        alloc(0x5555_0000_1090, 1, 24, 7, Other),
        free(0x5555_0000_1010, Plain),
        free(0x5555_0000_1030, Realloc),
        free(u64::MAX, Other),
    ]
}

fn records() -> Vec<Record> {
    let [p0, p1, p2, p3] = [0, 1, 2, 3].map(ProcessId);
    let process = |id, pid, parent, origin, exe: &str, args: Option<&[&str]>, malloc| {
        let args = args.map(|args| args.iter().map(|&arg| arg.to_owned()).collect());
        let (exe, malloc) = (exe.to_owned(), Address(malloc));
        Record::Process(Process { id, pid, parent, origin, start: TraceNanos(u64::from(pid)), exe, args, malloc })
    };
    let end = |id, status, snapshot_at_exit| {
        Record::ProcessEnd(ProcessEnd { id, time: TraceNanos(8_000_000_000), status, snapshot_at_exit })
    };
    let stream = |id, kind, stack_range| Record::Stream(Stream { id: StreamId(id), process: p0, kind, stack_range });
    let loss = |process, reason, events| Record::Loss(Loss { process, reason, events, time: TraceNanos(77) });
    vec![
        process(p0, 100, None, ProcessOrigin::Command, "/usr/bin/é", Some(&["é", "", "-x"]), 0x7fff_1234),
        process(p1, 101, Some(p0), ProcessOrigin::Fork, "/usr/bin/é", None, 0),
        process(p2, 101, Some(p1), ProcessOrigin::Exec, "", Some(&[]), 0),
        process(p3, u32::MAX, None, ProcessOrigin::Found, "/bin/true", None, u64::MAX),
        stream(1, StreamKind::Thread(100), Some((Address(0x7ffc_0000_0000), Address(0x7ffc_0080_0000)))),
        stream(2, StreamKind::GoProcessor(-1), None),
        stream(3, StreamKind::GoProcessor(8), None),
        Record::Module(Module {
            process: p0,
            start: Address(0x7f12_0000_0000),
            end: Address(0x7f12_0010_0000),
            file_offset: 0x28000,
            path: "/usr/lib/libc.so.6".into(),
            build_id: vec![0xde, 0xad, 0xbe, 0xef],
        }),
        Record::StackNode(StackNode { process: p0, node: 1, parent: 0, address: Address(0x5555_0000_0abc) }),
        Record::StackNode(StackNode { process: p0, node: 2, parent: 1, address: Address(0x5555_0000_0def) }),
        Record::Stack(Stack { process: p0, id: StackId(1), node: 2, end: StackEnd::Unknown }),
        Record::Stack(Stack { process: p0, id: StackId(2), node: 1, end: StackEnd::ThreadStart }),
        Record::Machine(Machine { huge_pages: HugePages::Madvise, huge_page_bytes: 2 << 20, memory_bytes: 24 << 30 }),
        Record::MappedFile(MappedFile {
            id: FileId(1),
            device: 8 << 32 | 1,
            inode: 4711,
            path: "/usr/lib/libc.so.6".into(),
        }),
        Record::Symbol(Symbol {
            process: p0,
            address: Address(0x5555_0000_0def),
            functions: vec![
                SymbolFunction { name: "inner".into(), file: "/src/a.c".into(), line: 7, inlined: true },
                SymbolFunction { name: "outer".into(), file: String::new(), line: 0, inlined: false },
            ],
        }),
        loss(None, LossReason::KernelBufferFull, 9),
        loss(Some(p0), LossReason::BufferFull, 12),
        loss(Some(p1), LossReason::Reentered, 1),
        loss(None, LossReason::TooManyProcesses, 0),
        loss(Some(p0), LossReason::StackTableFull, 3),
        loss(Some(p2), LossReason::Malformed, 4),
        loss(None, LossReason::Other(200), u64::MAX),
        Record::Source(Source { name: "objects".into(), active: true, missed: String::new() }),
        Record::Source(Source { name: "perf".into(), active: false, missed: "not permitted".into() }),
        Record::TracerMemory(TracerMemory { process: p0, start: Address(0x1000), end: Address(0x9000) }),
        end(p0, EndStatus::Exited(3), true),
        end(p1, EndStatus::Replaced, false),
        end(p2, EndStatus::Signaled(9), false),
        end(p3, EndStatus::Unknown, false),
        end(p3, EndStatus::Running, true),
    ]
}

/// Every kind of kernel event, and every call.
fn kernel_events() -> KernelColumns {
    let page = Address(0x7f12_3000_0010);
    let fault = |access, in_kernel, instruction, stack| {
        let (instruction, stack) = (Address(instruction), StackId(stack));
        KernelEventKind::Fault(PageFault { address: page, instruction, stack, access, in_kernel })
    };
    let range = |low, high| Some((Address(low), Address(high)));
    let mapped = MappedRange {
        start: Address(0x7f12_0000_0000),
        bytes: 0x10_0000,
        file_offset: 0x28000,
        protection: 5,
        flags: 2,
        file: FileId(1),
    };
    let mut kinds = vec![
        KernelEventKind::Exec { arguments: range(0x7ffc_0080_0100, 0x7ffc_0080_1000), table: range(0x7fff, 0x8fff) },
        KernelEventKind::Exec { arguments: None, table: None },
        KernelEventKind::Fork { parent: ProcessId(2) },
        KernelEventKind::Mapped(mapped),
        fault(FaultAccess::Unknown, false, 0x5555_0000_0abc, 1 << 30),
        fault(FaultAccess::Read, false, 0x5555_0000_0ab0, 0),
        fault(FaultAccess::Write, true, 0xffff_ffff_8100_0000, 0),
    ];
    for (number, call) in (0..).zip(PageCall::ALL) {
        let mut arguments = [0x7f12_3000_0000, 4096, 3, 0x22, u64::MAX, 0];
        arguments[call.arguments()..].fill(0);
        let (file, stack) = (FileId(u32::from(number == 0)), StackId(number as u32));
        kinds.push(KernelEventKind::Call(SystemCall { call, arguments, result: number - 12, file, stack }));
    }
    let mut columns = KernelColumns::new();
    for (time, kind) in (0..).zip(kinds) {
        let tid = if time % 4 == 3 { 0 } else { 100 + (time % 2) as u32 };
        columns.push(KernelEvent { time: TraceNanos(2_000_000_000 + time * time * 100), tid, kind });
    }
    columns
}

/// Every kind of access, label and source.
fn accesses() -> Vec<Access> {
    let range = |first, pages| PageRange { first: PageIndex(first), pages: PageCount(pages) };
    let epoch = |number, begin, end, source, ranges_follow| {
        let (begin, end) = (TraceNanos(begin), TraceNanos(end));
        Access::Epoch(WriteEpoch { number, begin, end, source, ranges_follow })
    };
    let writer = |time, span_ns, tid, task| {
        let (instruction, stack) = (Address(0x5555_0000_0abc), StackId(tid % 2));
        Some(FirstWriter { time: TraceNanos(time), span_ns, tid, instruction, stack, task })
    };
    let written = |range, label, writer| Access::Written(WrittenRun { range, label, writer });
    let watched = |time, tid, write, source, task, foreign: Option<(u32, u64)>| {
        let (address, instruction) = (Address(0x7f12_3000_0010), Address(0x5555_0000_0abc));
        let foreign = foreign.map(|(tid, time)| Modification { tid, time: TraceNanos(time) });
        let (time, stack) = (TraceNanos(time), StackId(tid));
        Access::Watched(WatchedAccess { time, tid, address, instruction, stack, task, write, source, foreign })
    };
    vec![
        epoch(1, 3_000_000_000, 4_000_000_000, AccessSource::AsyncWriteProtection, true),
        Access::Armed(range(0x5_5550_0000, 33)),
        Access::Armed(range(0x7_f123_0000, 1 << 20)),
        epoch(2, 3_999_000_000, 5_000_000_000, AccessSource::WriteProtection, false),
        written(range(0x5_5550_0003, 1), WriteLabel::Written, writer(4_000_000_500, 0, 100, None)),
        written(range(0x5_5550_0004, 9), WriteLabel::Written, None),
        written(range(0x7_f123_0000, 512), WriteLabel::Written, writer(4_000_000_100, 80_000, 101, Some(u64::MAX - 1))),
        written(range(0x7_f123_0200, 2), WriteLabel::Discarded, None),
        written(range(0x7_f123_0300, 1), WriteLabel::New, writer(4_100_000_000, 0, 101, Some(0))),
        watched(5_000_000_000, 100, true, AccessSource::MissingPages, Some(17), None),
        watched(5_000_010_000, 101, false, AccessSource::NoPermission, None, Some((100, 5_000_000_000))),
        watched(5_000_020_000, 0, true, AccessSource::Unknown, None, Some((u32::MAX, 0))),
        epoch(u64::MAX, 0, 6_000_000_000, AccessSource::Unknown, false),
    ]
}

fn snapshots() -> Vec<Snapshot> {
    let kernel = KernelFigures {
        rss: Some(40 << 10),
        anonymous: Some(28 << 10),
        pss: Some(30 << 10),
        swap: Some(8 << 10),
        huge: Some(0),
        peak_rss: Some(44 << 10),
        page_tables: Some(64 << 10),
        rss_file: Some(12 << 10),
        rss_shmem: Some(u64::MAX),
        cgroup: CgroupFigures {
            current: Some(1 << 30),
            limit: Some(2 << 30),
            anonymous: Some(700 << 20),
            file: Some(300 << 20),
            shmem: Some(4 << 20),
            slab: Some(16 << 20),
            page_tables: Some(2 << 20),
            kernel_stacks: Some(0),
        },
        ..KernelFigures::default()
    };
    let mapping = |start, end, permissions, file_offset, device, inode, path: &str| Mapping {
        start: Address(start),
        end: Address(end),
        permissions: Permissions(permissions),
        file_offset,
        device,
        inode,
        path: path.into(),
    };
    let (read, write, execute) = (Permissions::READ, Permissions::WRITE, Permissions::EXECUTE);
    let run = |start, pages, state| ResidentRun { start: Address(start), pages: PageCount(pages), state };
    let full = Snapshot {
        process: ProcessId(0),
        time: TraceNanos(3_000_000_000),
        reason: SnapshotReason::Exit,
        stopped: true,
        residency_source: ResidencySource::PagemapScan,
        page_bytes: 4096,
        kernel,
        mappings: vec![
            mapping(0x1000, 0x3000, read | execute, 0x28000, 8 << 32 | 1, 4711, "/usr/bin/é"),
            mapping(0x3000, 0x9000, read | write, 0, 0, 0, "[heap]"),
            mapping(0x10000, 0x20000, read | Permissions::SHARED, 0, 1, 2, ""),
        ],
        resident: vec![
            run(0x1000, 2, PageFlags(PageFlags::PRESENT | PageFlags::FILE)),
            run(0x3000, 1, PageFlags(PageFlags::PRESENT)),
            run(0x4000, 1, PageFlags(PageFlags::SWAPPED)),
            run(0x8000, 1, PageFlags(PageFlags::PRESENT | PageFlags::ZERO)),
            run(0x10000, 16, PageFlags(PageFlags::PRESENT | PageFlags::HUGE)),
        ],
    };
    let empty = |reason, residency_source, stopped, page_bytes| Snapshot {
        process: ProcessId(2),
        time: TraceNanos(3_000_000_001),
        reason,
        stopped,
        residency_source,
        page_bytes,
        kernel: KernelFigures::default(),
        mappings: Vec::new(),
        resident: Vec::new(),
    };
    vec![
        full,
        empty(SnapshotReason::Interval, ResidencySource::None, false, 4096),
        empty(SnapshotReason::Growth, ResidencySource::Pagemap, true, 16384),
        empty(SnapshotReason::Asked, ResidencySource::None, true, 65536),
    ]
}
