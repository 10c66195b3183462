//! Go's execution trace → this project's own format: spans as page runs, slots as objects, types as buckets.

use std::collections::BTreeMap;
use std::io::Write;

use pagetrace_format::go_execution_trace::{GoEvent, GoEvents, OriginId, TypeId};
use pagetrace_format::records::{
    Bucket, End, Loss, LossReason, Process, ProcessOrigin, Record, Source, Stream, StreamKind,
};
use pagetrace_format::{
    Address, Event, EventColumns, EventKind, FileHeader, FormatError, ObjectAlloc, ObjectFree, ObjectFunction, Origin,
    PageRun, ProcessId, StackId, StreamId, TraceNanos, TraceWriter, VERSION,
};

use super::observer::HeapObserver;
use super::sites::{SiteKey, Sites};
use super::state::{Heap, nothing_found};
use crate::error::ReplayError;

/// The one process of the trace.
const PROCESS: ProcessId = ProcessId(0);
/// Events of a chunk.
const CHUNK_EVENTS: usize = 1 << 15;
/// Records of a chunk.
const CHUNK_RECORDS: usize = 4096;
/// No machine runs for longer, 292 years: a later time is damage. Each event behind it has a time of its own all the same.
const LATEST: TraceNanos = TraceNanos(u64::MAX / 2);
/// Streams that hold back events; those of further Ps are written in one.
const STREAMS_MAX: usize = 1024;

/// Writes an execution trace of Go as a native trace. What that has no place for stays behind: goroutine stacks and the
/// sizes of objects that share a slot. The slots' sizes are those of the objects, and a site is a type with the function
/// that the goroutine runs.
///
/// # Errors
/// What [`replay_go_heap`](super::replay_go_heap) says of it, and what the output gives.
pub fn go_heap_to_native<W: Write>(bytes: &[u8], out: W) -> Result<W, ReplayError> {
    let mut events = GoEvents::open(bytes)?;
    let Some(first) = events.next_event() else { return Err(nothing_found(&events)) };
    let mut heap = Heap::new(&events, first.time);
    let start = first.time.min(LATEST);
    let start_unix_ns = events.wall_clock().map_or(0, |(time, unix_ns)| {
        let at_start = i128::from(unix_ns) + i128::from(first.time.0) - i128::from(time.0);
        u64::try_from(at_start).unwrap_or(0)
    });
    let header =
        FileHeader { version: VERSION, page_shift: heap.shift, origin: Origin::Recorded, start, start_unix_ns };
    let mut native = Native {
        writer: TraceWriter::new(out, &header)?,
        streams: BTreeMap::new(),
        sites: Sites::new(),
        error: None,
        start,
        last: start,
        is_begun: false,
    };
    native.writer.records(start, &first_records(start))?;
    let mut next = Some(first);
    while let Some(event) = next {
        heap.follow(&event, &mut native);
        if let Some(error) = native.error.take() {
            return Err(error.into());
        }
        next = events.next_event();
    }
    if events.layout().is_none() {
        return Err(nothing_found(&events));
    }
    Ok(native.finish(&events, start_unix_ns)?)
}

fn first_records(start: TraceNanos) -> [Record; 2] {
    let process = Process {
        id: PROCESS,
        pid: 0,
        parent: None,
        origin: ProcessOrigin::Found,
        start,
        exe: String::new(),
        args: None,
        malloc: Address(0),
    };
    let source = Source {
        name: "alloc/free events of Go's runtime".into(),
        active: true,
        missed: "stacks of objects, what was given back to the kernel, and memory outside the Go heap".into(),
    };
    [Record::Process(process), Record::Source(source)]
}

/// The trace that is being written.
struct Native<W: Write> {
    writer: TraceWriter<W>,
    /// By P: the number of its stream, and events that are to be written.
    streams: BTreeMap<i64, (StreamId, EventColumns)>,
    sites: Sites,
    error: Option<FormatError>,
    start: TraceNanos,
    /// Time of the last event, or of the start.
    last: TraceNanos,
    is_begun: bool,
}

impl<W: Write> Native<W> {
    fn push(&mut self, event: &GoEvent, kind: EventKind) {
        // Streams are merged by time: no two events have the same, so that they stay in the order in which they were followed.
        let after = if self.is_begun { self.last.0.saturating_add(1) } else { 0 };
        self.last = event.time.min(LATEST).max(TraceNanos(after));
        self.is_begun = true;
        let is_new = !self.streams.contains_key(&event.processor);
        let p = if is_new && self.streams.len() >= STREAMS_MAX { i64::MAX } else { event.processor };
        let number = self.streams.len() as u32 + 1;
        let (stream, columns) = self.streams.entry(p).or_insert_with(|| (StreamId(number), EventColumns::new()));
        columns.push(Event { time: self.last, kind });
        if columns.len() >= CHUNK_EVENTS {
            self.error = self.error.take().or(self.writer.events(*stream, columns).err());
            columns.clear();
        }
    }

    fn finish(mut self, events: &GoEvents<'_>, start_unix_ns: u64) -> Result<W, FormatError> {
        let mut records = Vec::new();
        for (&p, (stream, columns)) in &self.streams {
            self.writer.events(*stream, columns)?;
            let kind = StreamKind::GoProcessor(p);
            records.push(Record::Stream(Stream { id: *stream, process: PROCESS, kind, stack_range: None }));
        }
        for (site, key) in self.sites.keys.iter().enumerate() {
            let name = name_of(*key, events);
            records.push(Record::Bucket(Bucket { process: PROCESS, id: bucket(site as u32), name }));
        }
        records.push(match events.defects() {
            [] => {
                let lasted = self.last.0.saturating_sub(self.start.0);
                let unix_ns = if start_unix_ns == 0 { 0 } else { start_unix_ns.saturating_add(lasted) };
                Record::End(End { time: self.last, unix_ns })
            }
            _ => {
                let reason = LossReason::Malformed;
                Record::Loss(Loss { process: Some(PROCESS), reason, events: 0, time: self.last })
            }
        });
        for records in records.chunks(CHUNK_RECORDS) {
            self.writer.records(self.last, records)?;
        }
        self.writer.into_inner()
    }
}

impl<W: Write> HeapObserver for Native<W> {
    fn pages_taken(&mut self, event: &GoEvent, run: PageRun) {
        self.push(event, EventKind::PageAlloc(run));
    }

    fn pages_given_up(&mut self, event: &GoEvent, run: PageRun) {
        self.push(event, EventKind::PageFree(run));
    }

    fn object_born(&mut self, event: &GoEvent, address: Address, bytes: u64, key: SiteKey) {
        let stack = bucket(self.sites.find(key));
        let function = ObjectFunction::Other;
        self.push(event, EventKind::ObjectAlloc(ObjectAlloc { address, size: bytes, usable: bytes, stack, function }));
    }

    fn object_died(&mut self, event: &GoEvent, address: Address) {
        let function = ObjectFunction::Other;
        self.push(event, EventKind::ObjectFree(ObjectFree { address, function }));
    }
}

fn bucket(site: u32) -> StackId {
    StackId(StackId::NAMED_BUCKET | site)
}

fn name_of((of, origin): SiteKey, events: &GoEvents<'_>) -> String {
    let of = match events.types().get(of.0 as usize) {
        Some(it) if of != TypeId(0) => it.name,
        _ => "memory without a type",
    };
    match events.origin(origin).started.first() {
        Some(frame) if origin != OriginId(0) => format!("new {of} in {}", frame.function),
        _ => format!("new {of}"),
    }
}
