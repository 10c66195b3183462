//! All that a trace says, as text that is compared with golden files.

use std::fmt::Write as _;

use pagetrace_format::snapshot::CgroupFigures;
use pagetrace_format::{Chunk, ChunkKind, Compression, Snapshot, Trace};

/// Everything that a trace says, as text.
pub fn listing(bytes: &[u8]) -> String {
    let trace = Trace::open(bytes).expect("a trace");
    assert_eq!(trace.defects(), &[]);
    let mut out = format!("{:?}\n", trace.header());
    for chunk in trace.chunks() {
        let header = &chunk.header;
        let (name, contents) = match header.kind {
            ChunkKind::RECORDS => ("RECORDS", lines(trace.records(chunk).expect("records"))),
            ChunkKind::SNAPSHOT => ("SNAPSHOT", snapshot_lines(&trace.snapshot(chunk).expect("a snapshot"))),
            ChunkKind::PACKED_EVENTS => ("PACKED_EVENTS", events_of(&trace, chunk)),
            ChunkKind::EVENTS => ("EVENTS", events_of(&trace, chunk)),
            ChunkKind::OBJECT_EVENTS => ("OBJECT_EVENTS", events_of(&trace, chunk)),
            ChunkKind::KERNEL_EVENTS => ("KERNEL_EVENTS", kernel_events_of(&trace, chunk)),
            ChunkKind::ACCESSES => ("ACCESSES", accesses_of(&trace, chunk)),
            other => panic!("{other:?} is not in the golden trace"),
        };
        let stored = if header.compression == Compression::Zstd { "zstd" } else { "stored" };
        let (stream, count, first, last) = (header.stream.0, header.count, header.first.0, header.last.0);
        writeln!(out, "\n{name} {stored} stream={stream} count={count} first={first} last={last}").expect("a string");
        out.push_str(&contents);
    }
    out
}

fn kernel_events_of(trace: &Trace<'_>, chunk: &Chunk) -> String {
    let mut cursor = trace.kernel_events(chunk).expect("kernel events");
    let mut events = Vec::new();
    while let Some(event) = cursor.next_event().expect("an event") {
        events.push(event);
    }
    lines(events)
}

fn accesses_of(trace: &Trace<'_>, chunk: &Chunk) -> String {
    let mut cursor = trace.accesses(chunk).expect("accesses");
    let mut items = Vec::new();
    while let Some(item) = cursor.next_access().expect("an access") {
        items.push(item);
    }
    format!("  {:?}\n", cursor.page_shift()) + &lines(items)
}

fn lines<T: std::fmt::Debug>(items: Vec<T>) -> String {
    items.iter().map(|item| format!("  {}\n", said(item))).collect()
}

/// What came later is left out where it says nothing, so that the listings of earlier versions stay as they were.
fn said(item: &impl std::fmt::Debug) -> String {
    let nothing = format!(", cgroup: {:?}", CgroupFigures::default());
    let of_trees = ", pss_anonymous: None, private: None, shared: None";
    format!("{item:?}").replace(", end: Unknown }", " }").replace(&nothing, "").replace(of_trees, "")
}

fn snapshot_lines(snapshot: &Snapshot) -> String {
    let Snapshot { process, time, reason, stopped, residency_source, page_bytes, kernel, mappings, resident } =
        snapshot;
    format!("  {process:?} {time:?} {reason:?} stopped={stopped} {residency_source:?} page_bytes={page_bytes}\n")
        + &format!("  {}\n", said(kernel))
        + &lines(mappings.clone())
        + &lines(resident.clone())
}

/// Each event, and behind it the id of its object where there is one.
fn events_of(trace: &Trace, chunk: &Chunk) -> String {
    let mut cursor = trace.events(chunk).expect("events");
    let mut out = String::new();
    while let Some(event) = cursor.next_event().expect("an event") {
        let id = cursor.object_id().map_or(String::new(), |id| format!(" {id:?}"));
        writeln!(out, "  {event:?}{id}").expect("a string");
    }
    out
}
