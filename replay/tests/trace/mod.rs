//! Builds small traces for tests: events, records and snapshots in one line each.
#![allow(dead_code, reason = "each test program uses its part of it")]

use pagetrace_format::records::{
    End, EndStatus, Module, Process, ProcessEnd, ProcessOrigin, Record, Stack, StackEnd, StackNode, Stream, StreamKind,
};
use pagetrace_format::snapshot::{
    KernelFigures, Mapping, PageFlags, Permissions, ResidencySource, ResidentRun, SnapshotReason,
};
use pagetrace_format::{
    Access, Address, CheckpointTable, Event, EventColumns, EventKind, FileHeader, KernelColumns, KernelEvent,
    KernelEventKind, ObjectAlloc, ObjectColumns, ObjectFree, ObjectFunction, Origin, PageCount, PageShift, ProcessId,
    Snapshot, StackId, StreamId, TimeRounding, Trace, TraceNanos, TraceWriter, VERSION,
};
use pagetrace_replay::{Moment, Replayed, replay};

/// Where glibc is mapped in [`process`] and [`snapshot`].
pub const LIBC: u64 = 0x7f00_0000_0000;

pub struct Builder {
    writer: TraceWriter<Vec<u8>>,
}

impl Builder {
    pub fn new(page_shift: PageShift) -> Builder {
        let (version, start) = (VERSION, TraceNanos(1));
        let header = FileHeader { version, page_shift, origin: Origin::Recorded, start, start_unix_ns: 0 };
        Builder { writer: TraceWriter::new(Vec::new(), &header).unwrap() }
    }

    pub fn records(mut self, records: &[Record]) -> Builder {
        self.writer.records(TraceNanos(1), records).unwrap();
        self
    }

    pub fn events(mut self, stream: u32, events: &[Event]) -> Builder {
        let mut columns = EventColumns::new();
        events.iter().for_each(|event| columns.push(*event));
        self.writer.events(StreamId(stream), &columns).unwrap();
        self
    }

    /// Object events with rounded times, as recorders write them. Other events go into the chunks of before.
    pub fn objects(mut self, stream: u32, events: &[Event]) -> Builder {
        let mut columns = ObjectColumns::new();
        for event in events {
            match &event.kind {
                EventKind::ObjectAlloc(alloc) => columns.push_alloc(event.time, alloc),
                EventKind::ObjectFree(free) => columns.push_free(event.time, free),
                _ => return self.events(stream, events),
            }
        }
        self.writer.objects(StreamId(stream), &columns, TimeRounding::ToDistance).unwrap();
        self
    }

    /// What the kernel said of a process: time and event, in order.
    pub fn kernel_events(mut self, process: u32, events: &[(u64, KernelEventKind)]) -> Builder {
        let mut columns = KernelColumns::new();
        let tid = 100 + process;
        events.iter().for_each(|&(time, kind)| columns.push(KernelEvent { time: TraceNanos(time), tid, kind }));
        self.writer.kernel_events(ProcessId(process), &columns).unwrap();
        self
    }

    pub fn accesses(mut self, process: u32, accesses: &[Access]) -> Builder {
        self.writer.accesses(ProcessId(process), PageShift::KIB_4, accesses).unwrap();
        self
    }

    pub fn snapshot(mut self, snapshot: &Snapshot) -> Builder {
        self.writer.snapshot(snapshot).unwrap();
        self
    }

    pub fn checkpoint(mut self, table: &CheckpointTable) -> Builder {
        self.writer.checkpoint(table).unwrap();
        self
    }

    pub fn end(self, time: u64) -> Vec<u8> {
        self.records(&[Record::End(End { time: TraceNanos(time), unix_ns: 0 })]).cut()
    }

    /// A trace without an end.
    pub fn cut(self) -> Vec<u8> {
        self.writer.into_inner().unwrap()
    }
}

pub fn replayed(bytes: &[u8], at: Moment) -> Replayed {
    replay(&Trace::open(bytes).unwrap(), at, &mut |_| {}).unwrap()
}

pub fn alloc(time: u64, address: u64, size: u64, stack: u32) -> Event {
    let (address, stack, function) = (Address(address), StackId(stack), ObjectFunction::Plain);
    // As glibc does: 8 bytes of each chunk of a multiple of 16 are not usable.
    let usable = (size.max(24) + 8).next_multiple_of(16) - 8;
    Event {
        time: TraceNanos(time),
        kind: EventKind::ObjectAlloc(ObjectAlloc { address, size, usable, stack, function }),
    }
}

pub fn free(time: u64, address: u64) -> Event {
    let (address, function) = (Address(address), ObjectFunction::Plain);
    Event { time: TraceNanos(time), kind: EventKind::ObjectFree(ObjectFree { address, function }) }
}

/// Where glibc is, as recorders say it before any object.
pub fn libc_module(process: u32) -> Record {
    Record::Module(Module {
        process: ProcessId(process),
        start: Address(LIBC),
        end: Address(LIBC + 0x10000),
        file_offset: 0,
        path: "/lib/libc.so.6".into(),
        build_id: Vec::new(),
    })
}

/// A process with glibc's malloc.
pub fn process(id: u32, origin: ProcessOrigin, parent: Option<u32>, start: u64) -> Record {
    process_at(id, origin, parent, start, LIBC + 0x1000)
}

/// The command, its malloc at this address.
pub fn process_with_malloc(id: u32, malloc: u64) -> Record {
    process_at(id, ProcessOrigin::Command, None, 1, malloc)
}

fn process_at(id: u32, origin: ProcessOrigin, parent: Option<u32>, start: u64, malloc: u64) -> Record {
    Record::Process(Process {
        id: ProcessId(id),
        pid: 100 + id,
        parent: parent.map(ProcessId),
        origin,
        start: TraceNanos(start),
        exe: "/bin/program".into(),
        args: None,
        malloc: Address(malloc),
    })
}

pub fn ended(id: u32, time: u64, status: EndStatus) -> Record {
    let (id, time) = (ProcessId(id), TraceNanos(time));
    Record::ProcessEnd(ProcessEnd { id, time, status, snapshot_at_exit: true })
}

pub fn stream(id: u32, process: u32, stack_range: Option<(u64, u64)>) -> Record {
    let stack_range = stack_range.map(|(low, high)| (Address(low), Address(high)));
    let (id, process, kind) = (StreamId(id), ProcessId(process), StreamKind::Thread(id));
    Record::Stream(Stream { id, process, kind, stack_range })
}

/// A stack of one frame.
pub fn stack(process: u32, id: u32, address: u64) -> [Record; 2] {
    let (process, node) = (ProcessId(process), id);
    [
        Record::StackNode(StackNode { process, node, parent: 0, address: Address(address) }),
        Record::Stack(Stack { process, id: StackId(id), node, end: StackEnd::ThreadStart }),
    ]
}

/// Address, length, permissions as in /proc/PID/maps, path.
pub type Map = (u64, u64, &'static str, &'static str);

/// A snapshot of pages of 4 KiB. `resident`: address, pages, flags.
pub fn snapshot(process: u32, time: u64, rss: u64, maps: &[Map], resident: &[(u64, u64, u8)]) -> Snapshot {
    snapshot_of_pages(4096, process, time, rss, maps, resident)
}

pub fn snapshot_of_pages(
    page_bytes: u64,
    process: u32,
    time: u64,
    rss: u64,
    maps: &[Map],
    resident: &[(u64, u64, u8)],
) -> Snapshot {
    let libc = (LIBC, 0x10000, "r-xp", "/lib/libc.so.6");
    let mut maps: Vec<Map> = maps.iter().copied().chain([libc]).collect();
    maps.sort_unstable();
    Snapshot {
        process: ProcessId(process),
        time: TraceNanos(time),
        reason: SnapshotReason::Interval,
        stopped: true,
        residency_source: ResidencySource::PagemapScan,
        page_bytes,
        kernel: KernelFigures { rss: Some(rss), ..KernelFigures::default() },
        mappings: maps
            .iter()
            .map(|&(start, length, permissions, path)| mapping(start, length, permissions, path))
            .collect(),
        resident: resident
            .iter()
            .map(|&(start, pages, flags)| ResidentRun {
                start: Address(start),
                pages: PageCount(pages),
                state: PageFlags(flags | PageFlags::PRESENT),
            })
            .collect(),
    }
}

fn mapping(start: u64, length: u64, permissions: &str, path: &str) -> Mapping {
    let bits =
        [('r', Permissions::READ), ('w', Permissions::WRITE), ('x', Permissions::EXECUTE), ('s', Permissions::SHARED)];
    let permissions = bits.iter().filter(|(letter, _)| permissions.contains(*letter)).map(|(_, bit)| bit).sum();
    Mapping {
        start: Address(start),
        end: Address(start + length),
        permissions: Permissions(permissions),
        file_offset: 0,
        device: 0,
        inode: u64::from(path.starts_with('/')),
        path: path.into(),
    }
}
