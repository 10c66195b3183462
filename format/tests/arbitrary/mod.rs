//! Events and records of every kind, for tests of properties.
#![allow(dead_code, reason = "each test uses some of them")]

use pagetrace_format::records::*;
use pagetrace_format::*;
use proptest::prelude::*;

pub fn address() -> impl Strategy<Value = Address> + Clone {
    prop_oneof![any::<u64>(), (0_u64..1 << 35).prop_map(|page| page << 13), 0_u64..4096].prop_map(Address)
}

pub fn function() -> impl Strategy<Value = ObjectFunction> {
    use ObjectFunction::*;
    prop::sample::select(vec![Plain, Calloc, Realloc, Aligned, Other])
}

/// Any event but a time sync, which packed words do not have. `extra` bounds usable bytes beyond the size.
pub fn kind(extra: u64) -> impl Strategy<Value = EventKind> {
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
pub fn times(count: usize) -> impl Strategy<Value = Vec<u64>> {
    let rising = (0_u64..1 << 60, prop::collection::vec(0_u64..1 << 20, count)).prop_map(|(mut time, gaps)| {
        let next = |gap| {
            time += gap;
            time
        };
        gaps.into_iter().map(next).collect::<Vec<u64>>()
    });
    prop_oneof![rising, prop::collection::vec(any::<u64>(), count)]
}

pub fn events() -> impl Strategy<Value = Vec<Event>> {
    let kind = prop_oneof![9 => kind(u64::MAX), 1 => Just(EventKind::TimeSync)];
    prop::collection::vec(kind, 0..100).prop_flat_map(|kinds| {
        times(kinds.len()).prop_map(move |times| {
            times.into_iter().zip(&kinds).map(|(time, &kind)| Event { time: TraceNanos(time), kind }).collect()
        })
    })
}

pub fn text() -> impl Strategy<Value = String> {
    "[a-z/é\n ]{0,20}"
}

pub fn process_id() -> impl Strategy<Value = ProcessId> + Clone {
    any::<u32>().prop_map(ProcessId)
}

pub fn nanos() -> impl Strategy<Value = TraceNanos> {
    any::<u64>().prop_map(TraceNanos)
}

pub fn record() -> impl Strategy<Value = Record> {
    use ProcessOrigin::*;
    let parent = prop::option::of(process_id());
    let args = prop::option::of(prop::collection::vec(text(), 0..4));
    let origin = prop::sample::select(vec![Command, Fork, Exec, Found, Attached]);
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
    let stream_kind = prop_oneof![
        any::<u32>().prop_map(StreamKind::Thread),
        (-1_i64..i64::MAX).prop_map(StreamKind::GoProcessor),
        any::<u32>().prop_map(StreamKind::Buffer),
    ];
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
    let stack = (process_id(), any::<u32>(), any::<u32>(), stack_end())
        .prop_map(|(process, id, node, end)| Record::Stack(Stack { process, id: StackId(id), node, end }));
    use LossReason::*;
    let known = prop::sample::select(vec![
        BufferFull,
        Reentered,
        TooManyProcesses,
        StackTableFull,
        Malformed,
        KernelBufferFull,
        SizeLimit,
    ]);
    let reason = prop_oneof![known, (100_u8..=255).prop_map(Other)];
    let loss = (parent, reason, any::<u64>(), nanos())
        .prop_map(|(process, reason, events, time)| Record::Loss(Loss { process, reason, events, time }));
    let source = (text(), any::<bool>(), text())
        .prop_map(|(name, active, missed)| Record::Source(Source { name, active, missed }));
    let memory = (process_id(), address(), address())
        .prop_map(|(process, start, end)| Record::TracerMemory(TracerMemory { process, start, end }));
    let end_record = (nanos(), any::<u64>()).prop_map(|(time, unix_ns)| Record::End(End { time, unix_ns }));
    let frames = (process_id(), any::<u32>(), prop::collection::vec(address(), 0..20), stack_end()).prop_map(
        |(process, id, frames, end)| Record::StackFrames(StackFrames { process, id: StackId(id), frames, end }),
    );
    let machine = (0_u8..4, any::<u64>(), any::<u64>()).prop_map(|(huge_pages, huge_page_bytes, memory_bytes)| {
        Record::Machine(Machine { huge_pages: HugePages::from_number(huge_pages), huge_page_bytes, memory_bytes })
    });
    let file = (any::<u32>(), any::<u64>(), any::<u64>(), text())
        .prop_map(|(id, device, inode, path)| Record::MappedFile(MappedFile { id: FileId(id), device, inode, path }));
    let gap = (process_id(), nanos(), nanos(), any::<bool>())
        .prop_map(|(process, start, end, kept)| Record::Gap(Gap { process, start, end, kept }));
    let bucket = (process_id(), any::<u32>(), text())
        .prop_map(|(process, id, name)| Record::Bucket(Bucket { process, id: StackId(id), name }));
    let function = (text(), text(), any::<u32>(), any::<bool>())
        .prop_map(|(name, file, line, inlined)| SymbolFunction { name, file, line, inlined });
    let symbol = (process_id(), address(), prop::collection::vec(function, 0..4))
        .prop_map(|(process, address, functions)| Record::Symbol(Symbol { process, address, functions }));
    let sampling = (2..=u64::MAX).prop_map(|mean_bytes| Record::Sampling(Sampling { mean_bytes }));
    let bytes = || prop::option::of(0..u64::MAX);
    let members = prop::collection::vec(process_id(), 0..4);
    let look = (nanos(), nanos(), bytes(), bytes(), bytes(), members).prop_map(
        |(start, end, anonymous_once, frames, frames_of_several, members)| {
            Record::TreeLook(TreeLook { start, end, anonymous_once, frames, frames_of_several, members })
        },
    );
    let of_version_1 = prop_oneof![process, end, stream, module, node, stack, loss, source, memory, end_record];
    prop_oneof![10 => of_version_1, 5 => prop_oneof![frames, gap, bucket, machine, file, symbol, sampling, look]]
}

fn stack_end() -> impl Strategy<Value = StackEnd> {
    (0_u8..3).prop_map(StackEnd::from_number)
}
