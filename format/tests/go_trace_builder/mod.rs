//! Builds execution traces of Go, byte by byte, for tests.
#![allow(dead_code, reason = "each test uses its part of it")]

use pagetrace_format::varint::{put, put_bytes};

/// Where the heap of built traces begins.
pub const HEAP_BASE: u64 = 0xc0_0000_0000;

/// A frame of a stack: the ids of its function's name and its file's, and its line.
pub type Frame = (u64, u64, u64);

/// A trace in the making.
pub struct GoTraceBuilder {
    minor: u32,
    bytes: Vec<u8>,
}

impl GoTraceBuilder {
    pub fn new(minor: u32) -> GoTraceBuilder {
        GoTraceBuilder { minor, bytes: format!("go 1.{minor} trace\0\0\0").into_bytes() }
    }

    /// A trace with the tables that a generation of alloc/free events needs.
    pub fn with_heap(minor: u32) -> GoTraceBuilder {
        let mut builder = GoTraceBuilder::new(minor);
        builder.clock(1, 1_000_000_000).layout(1);
        builder
    }

    pub fn batch(&mut self, generation: u64, m: u64, time: u64, payload: &[u8]) -> &mut Self {
        self.bytes.push(1);
        self.rest_of_batch(generation, m, time, payload)
    }

    pub fn experimental_batch(&mut self, generation: u64, payload: &[u8]) -> &mut Self {
        self.bytes.extend([49, 1]);
        self.rest_of_batch(generation, 7, 1, payload)
    }

    fn rest_of_batch(&mut self, generation: u64, m: u64, time: u64, payload: &[u8]) -> &mut Self {
        for number in [generation, m, time] {
            put(&mut self.bytes, number);
        }
        put_bytes(&mut self.bytes, payload);
        self
    }

    pub fn clock(&mut self, generation: u64, units_per_second: u64) -> &mut Self {
        let mut payload = if self.minor >= 25 { vec![50, 8] } else { vec![8] };
        put(&mut payload, units_per_second);
        if self.minor >= 25 {
            payload.push(51);
            [0, 1, 1_700_000_000, 5].iter().for_each(|number| put(&mut payload, *number));
        }
        self.batch(generation, u64::MAX, 1, &payload)
    }

    pub fn layout(&mut self, generation: u64) -> &mut Self {
        let mut payload = vec![1];
        [HEAP_BASE, 8192, 8, 2048].iter().for_each(|number| put(&mut payload, *number));
        self.experimental_batch(generation, &payload)
    }

    /// Ids and names; each type has its id times 64 as its address, 16 bytes, and no pointers.
    pub fn types(&mut self, generation: u64, types: &[(u64, &str)]) -> &mut Self {
        let mut payload = vec![0];
        for (id, name) in types {
            [*id, *id * 64, 16, 0].iter().for_each(|number| put(&mut payload, *number));
            put_bytes(&mut payload, name.as_bytes());
        }
        self.experimental_batch(generation, &payload)
    }

    pub fn strings(&mut self, generation: u64, strings: &[(u64, &str)]) -> &mut Self {
        let mut payload = vec![4];
        for (id, string) in strings {
            payload.push(5);
            put(&mut payload, *id);
            put_bytes(&mut payload, string.as_bytes());
        }
        self.batch(generation, u64::MAX, 1, &payload)
    }

    /// Ids and frames.
    pub fn stacks(&mut self, generation: u64, stacks: &[(u64, &[Frame])]) -> &mut Self {
        let mut payload = vec![2];
        for (id, frames) in stacks {
            payload.push(3);
            put(&mut payload, *id);
            put(&mut payload, frames.len() as u64);
            for (function, file, line) in *frames {
                [0x40_0000 + line, *function, *file, *line].iter().for_each(|number| put(&mut payload, *number));
            }
        }
        self.batch(generation, u64::MAX, 1, &payload)
    }

    /// The generation is whole.
    pub fn end(&mut self, generation: u64) -> &mut Self {
        self.strings(generation, &[(1, "main.main"), (2, "main.go")]);
        if self.minor >= 26 {
            self.bytes.push(52);
        }
        self
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Appends an event: its type, the time since the one before, its arguments.
pub fn event(payload: &mut Vec<u8>, kind: u8, after: u64, arguments: &[u64]) {
    payload.push(kind);
    put(payload, after);
    arguments.iter().for_each(|argument| put(payload, *argument));
}
