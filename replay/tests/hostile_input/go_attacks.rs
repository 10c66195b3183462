//! Execution traces of Go that are made to need much memory.

use pagetrace_format::varint::put;

use crate::attacks::Attack;
use go_trace_builder::{Frame, GoTraceBuilder, event};

#[path = "../../../format/tests/go_trace_builder/mod.rs"]
mod go_trace_builder;

/// What each is called, and its bytes.
pub const ATTACKS: &[Attack] = &[
    ("spans far apart with an object each", spans_far_apart),
    ("the longest spans over each other", longest_spans),
    ("a P and an M for each event", endless_threads),
    ("origins of all pairs of long stacks", pairs_of_stacks),
    ("types with ids far apart", types_far_apart),
    ("frees that never come", frees_that_never_come),
];

const SPAN_ALLOC: u8 = 129;
const OBJECT_ALLOC: u8 = 132;
const GO_CREATE: u8 = 14;
const PROC_START: u8 = 10;

/// Batches of at most so many bytes, each of an M of its own.
fn in_batches(builder: &mut GoTraceBuilder, events: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut payload = Vec::new();
    for bytes in events {
        if payload.len() + bytes.len() > 60_000 {
            builder.batch(1, 3, 0, &payload);
            payload.clear();
        }
        payload.extend(bytes);
    }
    builder.batch(1, 3, 0, &payload).end(1);
    builder.bytes().to_vec()
}

fn one(kind: u8, arguments: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    event(&mut bytes, kind, 0, arguments);
    bytes
}

fn spans_far_apart() -> Vec<u8> {
    let mut builder = GoTraceBuilder::with_heap(26);
    // A leaf of the page map and a thousand slots for each.
    let spans = (0..20_000_u64).map(|number| {
        let page = number * 512;
        [one(SPAN_ALLOC, &[page, 1, 1 << 2]), one(OBJECT_ALLOC, &[page * 1024, 0])].concat()
    });
    in_batches(&mut builder, spans)
}

fn longest_spans() -> Vec<u8> {
    let mut builder = GoTraceBuilder::with_heap(26);
    let spans = (0..20_000_u64).map(|number| one(SPAN_ALLOC, &[number, 1 << 26, 0]));
    in_batches(&mut builder, spans)
}

fn endless_threads() -> Vec<u8> {
    let mut builder = GoTraceBuilder::with_heap(26);
    for number in 0..10_000 {
        let payload = [one(PROC_START, &[number, 1]), one(OBJECT_ALLOC, &[number, 0])].concat();
        builder.batch(1, 100 + number, number << 40, &payload);
    }
    builder.end(1);
    builder.bytes().to_vec()
}

fn pairs_of_stacks() -> Vec<u8> {
    let mut builder = GoTraceBuilder::with_heap(26);
    for id in 1..100_u64 {
        let frames: Vec<Frame> = (0..128).map(|line| (1, 2, id * 128 + line)).collect();
        builder.stacks(1, &[(id, &frames)]);
    }
    let goroutines = (0..9800_u64).map(|number| one(GO_CREATE, &[number, 1 + number % 99, 1 + number / 99]));
    in_batches(&mut builder, goroutines)
}

fn types_far_apart() -> Vec<u8> {
    let mut builder = GoTraceBuilder::with_heap(26);
    for part in 0..20_u64 {
        let mut payload = vec![0];
        for number in 0..2000 {
            let id = (part * 2000 + number) << 40;
            [id, id, 8, 0, 0].iter().for_each(|number| put(&mut payload, *number));
        }
        builder.experimental_batch(1, &payload);
    }
    let objects = (0..1000_u64).map(|number| one(OBJECT_ALLOC, &[number, number << 40]));
    in_batches(&mut builder, objects)
}

fn frees_that_never_come() -> Vec<u8> {
    let mut builder = GoTraceBuilder::with_heap(26);
    // A full span, over and over again: whatever was in it is owed.
    let spans = (0..200_u64).flat_map(|round| {
        let class = if round % 2 == 0 { 1 << 2 } else { 3 << 2 };
        let objects = (0..300).map(|slot| one(OBJECT_ALLOC, &[slot * 3, 0]));
        std::iter::once(one(SPAN_ALLOC, &[0, 1, class])).chain(objects).collect::<Vec<_>>()
    });
    in_batches(&mut builder, spans)
}
