//! Traces as a program with the tracer linked in writes them itself: ids, buckets, buffers of an allocator, times in
//! which it switched recording off, and snapshots that it took while it was running.

use std::fs;

use pagetrace_format::encode::{
    PackedChunk, PackedWordsChunk, TickClock, object_alloc_with_id, object_free_with_id, time_base,
};
use pagetrace_format::record_chunk::ProcessRef;
use pagetrace_format::records::{End, Gap, ProcessOrigin, StackEnd, Stream, StreamKind};
use pagetrace_format::snapshot::SnapshotReason;
use pagetrace_format::{
    Address, EventKind, FileHeader, ObjectAlloc, ObjectFree, ObjectFunction, ObjectId, Origin, PageCount, PageRun,
    PageShift, ProcessId, RecordChunk, StackId, StreamId, TraceNanos, TraceWriter, VERSION,
};
use serde_json::{Value, json};

use crate::made_trace::{HEAP, START, snapshot};
use crate::report::{report_of, report_text};
use crate::{as_text, output_of};

const PROCESS: ProcessId = ProcessId(0);
const SESSIONS: StackId = StackId(StackId::NAMED_BUCKET | 1);
const NAMELESS: StackId = StackId(StackId::NAMED_BUCKET | 2);
const STACK: StackId = StackId(1);
const A: u64 = HEAP + 16;
const B: u64 = HEAP + 4096 + 16;
const C: u64 = HEAP + 8192 + 16;
const D: u64 = HEAP + 8192 + 256;

/// What happened in it, nanoseconds since the start: objects 1 and 2 come to life at 10 and 20, recording is off from
/// 30 to 60, object 1 dies at 70, a buffer of the allocator has object 3 at 80. Object 4 was born while recording was
/// off, which is known only where account was kept. Snapshots are taken at 45 and 90.
fn self_written(kept: bool) -> Vec<u8> {
    let mut bytes = with_header(PageShift::KIB_4, |writer| {
        for time in [45, 90] {
            writer.snapshot(&snapshot(time, SnapshotReason::Interval, false)).expect("writing to memory");
        }
    });
    let gap = Gap { process: PROCESS, start: TraceNanos(START + 30), end: TraceNanos(START + 60), kept };
    records(&mut bytes, |chunk| {
        chunk.process(&ProcessRef {
            id: PROCESS,
            pid: 4242,
            parent: None,
            origin: ProcessOrigin::Command,
            start: TraceNanos(START),
            exe: b"/opt/linked",
            args: Some(b"linked\0-v\0"),
            malloc: Address(0),
        }) && chunk.stream(&stream(1, StreamKind::Thread(4242)))
            && chunk.stream(&stream(2, StreamKind::Buffer(3)))
            && chunk.stream(&stream(3, StreamKind::Buffer(9)))
            && chunk.bucket(PROCESS, SESSIONS, b"sessions")
            && chunk.stack_frames(PROCESS, STACK, &[0x7fff_1234, 0x7fff_0000], StackEnd::ThreadStart)
            && chunk.gap(&gap)
            && chunk.source("objects of the program", true, "")
    });
    let mut thread = time_base(START).to_vec();
    thread.extend(object_alloc_with_id(10, &object(A, 300, SESSIONS), ObjectId(1)));
    thread.extend(object_alloc_with_id(20, &object(B, 200, STACK), ObjectId(2)));
    let gone = ObjectFree { address: Address(A), function: ObjectFunction::Plain };
    thread.extend(object_free_with_id(70, &gone, ObjectId(1)));
    let mut buffer = time_base(START + 80).to_vec();
    buffer.extend(object_alloc_with_id(0, &object(C, 100, NAMELESS), ObjectId(3)));
    let mut made_up_for = time_base(START + 60).to_vec();
    made_up_for.extend(object_alloc_with_id(0, &object(D, 50, SESSIONS), ObjectId(4)));
    // A tracer that keeps no account of objects while recording is off has nothing to make up for.
    let made_up_for = kept.then_some((3, made_up_for));
    for (stream, words) in [(1, thread), (2, buffer)].into_iter().chain(made_up_for) {
        let mut memory = [0; 1024];
        let chunk = PackedWordsChunk::new(&mut memory, TickClock::NANOSECONDS, &words).expect("room for the words");
        bytes.extend_from_slice(chunk.finish(StreamId(stream)));
    }
    end(&mut bytes);
    bytes
}

fn with_header(page_shift: PageShift, write: impl FnOnce(&mut TraceWriter<Vec<u8>>)) -> Vec<u8> {
    let start = TraceNanos(START);
    let header = FileHeader { version: VERSION, page_shift, origin: Origin::Recorded, start, start_unix_ns: 0 };
    let mut writer = TraceWriter::new(Vec::new(), &header).expect("writing to memory");
    write(&mut writer);
    writer.into_inner().expect("writing to memory")
}

fn records(bytes: &mut Vec<u8>, write: impl FnOnce(&mut RecordChunk<'_>) -> bool) {
    let mut memory = [0; 1024];
    let mut chunk = RecordChunk::new(&mut memory).expect("room for a header");
    assert!(write(&mut chunk), "the records fit");
    bytes.extend_from_slice(chunk.finish(TraceNanos(START)));
}

fn end(bytes: &mut Vec<u8>) {
    records(bytes, |chunk| chunk.end(&End { time: TraceNanos(START + 100), unix_ns: 0 }));
}

fn stream(id: u32, kind: StreamKind) -> Stream {
    Stream { id: StreamId(id), process: PROCESS, kind, stack_range: None }
}

fn object(address: u64, size: u64, stack: StackId) -> ObjectAlloc {
    ObjectAlloc { address: Address(address), size, usable: size + 8, stack, function: ObjectFunction::Plain }
}

/// The report's values at these places.
fn check(report: &Value, expected: &[(&str, Value)]) {
    for (pointer, value) in expected {
        assert_eq!(report.pointer(pointer), Some(value), "{pointer} of {report:#}");
    }
}

#[test]
fn gaps_buckets_and_buffers_are_in_the_json() {
    let report = report_of(&self_written(false), &["--at", "90ns"]);
    let gap = json!({"process": 0, "start_ns": 30, "end_ns": 60, "kept": false});
    check(
        &report,
        &[
            ("/complete", json!(true)),
            ("/gaps", json!({"number": 1, "total_ns": 30, "intervals": [gap]})),
            ("/buffers", json!([{"process": 0, "buffer": 3, "events": 1}])),
            ("/sources", json!([{"name": "objects of the program", "active": true, "missed": ""}])),
            ("/processes/0/args", json!(["linked", "-v"])),
            ("/processes/0/objects/live", json!(1)),
            ("/processes/0/objects/allocated", json!(3)),
            ("/processes/0/objects/freed", json!(0)),
            ("/processes/0/objects/forgotten", json!(2)),
            ("/processes/0/objects/unknown_frees", json!(0)),
            ("/processes/0/objects/unknown_frees_after_gap", json!(1)),
            ("/processes/0/sites/0/stack", json!(["bucket 2"])),
            ("/processes/0/sites/0/bucket", json!(true)),
            ("/processes/0/sites/0/live_bytes", json!(100)),
            ("/processes/0/rss/snapshot/stopped", json!(false)),
            ("/processes/0/rss/snapshot/recording_off", json!(false)),
        ],
    );
    let sites = report["processes"][0]["sites"].as_array().expect("sites");
    let stacks: Vec<_> = sites.iter().map(|site| (site["stack"].to_string(), site["bucket"].clone())).collect();
    assert!(stacks.contains(&(json!(["sessions"]).to_string(), json!(true))), "{stacks:?}");
    assert!(
        stacks.contains(&(
            json!(["[unknown region 0x7fff1234]", "[unknown region 0x7fff0000]"]).to_string(),
            json!(false)
        )),
        "{stacks:?}"
    );
}

#[test]
fn objects_that_were_kept_account_of_are_exact_after_a_gap() {
    let report = report_of(&self_written(true), &["--at", "end"]);
    let expected = [("live", 3), ("freed", 1), ("forgotten", 0), ("unknown_frees", 0), ("unknown_frees_after_gap", 0)];
    for (name, number) in expected {
        check(&report, &[(&format!("/processes/0/objects/{name}"), json!(number))]);
    }
    check(
        &report,
        &[
            ("/gaps/intervals/0/kept", json!(true)),
            ("/processes/0/sites/0/stack/0", json!("[unknown region 0x7fff1234]")),
            ("/processes/0/sites/2/stack", json!(["sessions"])),
            ("/processes/0/sites/2/live_bytes", json!(50)),
            // What made up for the gap is not counted as events of a buffer.
            ("/buffers", json!([{"process": 0, "buffer": 3, "events": 1}])),
        ],
    );
}

/// Taken by a program of itself: it cannot stop, and the classes still sum to the kernel's figure.
#[test]
fn snapshots_of_a_running_program_are_said_to_be_so() {
    for (at, recording_off) in [("45ns", true), ("90ns", false)] {
        let trace = self_written(false);
        let report = report_of(&trace, &["--at", at]);
        let snapshot = report.pointer("/processes/0/rss/snapshot").expect("a snapshot");
        assert_eq!((&snapshot["stopped"], &snapshot["recording_off"]), (&json!(false), &json!(recording_off)), "{at}");
        let classes = report["processes"][0]["rss"]["classes"].as_object().expect("classes");
        assert_eq!(classes.values().filter_map(Value::as_i64).sum::<i64>(), 5 * 4096, "{at}");
        let text = report_text(&trace, &["--at", at]);
        assert!(text.contains("taken at an interval, while it was running"), "{text}");
        assert!(text.contains("The process was running while this was looked at"), "{text}");
        assert_eq!(text.contains("Recording was switched off then"), recording_off, "{text}");
    }
}

#[test]
fn the_text_names_buckets_and_counts_gaps_and_buffers() {
    let text = report_text(&self_written(false), &["--at", "end"]);
    for expected in [
        "Recording was switched off 1 time, 0.0 ms in all.",
        "After 1 of these nothing is known of earlier objects and pages.",
        "2 objects from before recording was switched off are not known any more; 1 free since may be theirs.",
        "      bucket 2\n",
        "Buffers of allocators: 1 event in 1 buffer",
        "B3",
        "objects of the program: active",
    ] {
        assert!(text.contains(expected), "expected {expected:?} in {text}");
    }
    let text = report_text(&self_written(true), &["--at", "20ns"]);
    for expected in ["      sessions\n", "Objects were kept account of meanwhile: those after it are exact."] {
        assert!(text.contains(expected), "expected {expected:?} in {text}");
    }
}

#[test]
fn exported_text_has_the_ids_of_objects_and_the_buffers() {
    let check = |kept: bool, after_the_gap: &[&str]| {
        let text = export("text", &self_written(kept), |out| fs::read_to_string(out).expect("text"));
        let events: Vec<&str> = text.lines().skip(5).collect();
        let before_the_gap = [
            "10 4242 object_alloc 0x555500000010 300 bytes id 1",
            "20 4242 object_alloc 0x555500001010 200 bytes id 2",
        ];
        let end = ["80 B3 object_alloc 0x555500002010 100 bytes id 3", "end date: unknown"];
        assert_eq!(events, [&before_the_gap, after_the_gap, &end].concat());
    };
    let made_up_for = "60 B9 object_alloc 0x555500002100 50 bytes id 4";
    check(true, &[made_up_for, "70 4242 object_free 0x555500000010 300 bytes id 1"]);
    // What lived before the gap is not known after it.
    check(false, &["70 4242 object_free 0x555500000010 unknown bytes id 1"]);
}

fn export<T>(format: &str, trace: &[u8], read: impl FnOnce(&std::path::Path) -> T) -> T {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, out) = (directory.path().join("trace"), directory.path().join("out"));
    fs::write(&path, trace).expect("a file");
    output_of(&["export", "--to", format, "-o", as_text(&out), as_text(&path)]);
    read(&out)
}

#[test]
fn page_events_are_told_and_each_buffer_of_an_allocator_is_a_p_in_go_s_format() {
    let mut bytes = with_header(PageShift::KIB_8, |_| ());
    let kinds = [(1, StreamKind::Buffer(0)), (2, StreamKind::Buffer(1)), (3, StreamKind::Thread(4242))];
    records(&mut bytes, |chunk| kinds.iter().all(|&(id, kind)| chunk.stream(&stream(id, kind))));
    for (id, _) in kinds {
        let mut memory = [0; 1024];
        let mut chunk = PackedChunk::new(&mut memory, TickClock::NANOSECONDS).expect("room for an event");
        for event in 0..u64::from(id) {
            let run = PageRun { base: Address((u64::from(id) << 32) + event * 8192), pages: PageCount(1) };
            assert!(chunk.push(START + event * 1000, &EventKind::PageAlloc(run)), "room for a few events");
        }
        bytes.extend_from_slice(chunk.finish(StreamId(id)));
    }
    end(&mut bytes);
    let text = report_text(&bytes, &[]);
    for expected in
        ["Pages of 8.0 KiB", "in use at the end       6  48.0 KiB", "Buffers of allocators: 3 events in 2 buffers"]
    {
        assert!(text.contains(expected), "expected {expected:?} in {text}");
    }
    let go = export("go", &bytes, |out| fs::read(out).expect("an export"));
    let report = report_of(&go, &[]);
    check(
        &report,
        &[
            ("/format", json!("go-page-trace")),
            ("/events/alloc", json!(6)),
            ("/final/pages_in_use", json!(6)),
            ("/anomalies", json!({})),
            ("/go_processors", json!({"0": 1, "1": 2, "2": 3})),
        ],
    );
}
