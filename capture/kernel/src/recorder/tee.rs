//! Where chunks go: to the trace's file as long as it has room and, while a shorter one is made of it, to memory.

use std::io::{self, Write};
use std::sync::Arc;

use pagetrace_format::{ChunkHeader, ChunkKind};

/// A file that is written, and what was written since a cut began or since the file had no room.
#[derive(Debug)]
pub struct Tee<W> {
    out: W,
    /// Bytes in the file.
    written: u64,
    room: Room,
    memory: Option<Memory>,
    /// What had no room in the file before the cut began that is being made; the shorter file will have it.
    behind: Arc<[u8]>,
    refused: bool,
}

/// How far the file may grow, and what is done with a chunk for which it has no room.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// The file gets no longer.
    pub most: u64,
    /// Whether a chunk beyond that waits in memory; otherwise it is refused.
    pub may_wait: bool,
}

/// What there was no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missed {
    /// Events.
    pub events: u64,
    /// Whether there were records too: nobody knows how many events depend on them.
    pub records: bool,
}

impl Missed {
    /// What is in a chunk. One snapshot more or less is nothing that is missed.
    pub fn of_chunk(header: &ChunkHeader) -> Missed {
        let has_events =
            header.kind.has_events() || [ChunkKind::KERNEL_EVENTS, ChunkKind::ACCESSES].contains(&header.kind);
        let events = if has_events { u64::from(header.count) } else { 0 };
        Missed { events, records: header.kind == ChunkKind::RECORDS }
    }

    /// Adds to it.
    pub fn add(&mut self, other: Missed) {
        self.events += other.events;
        self.records |= other.records;
    }
}

#[derive(Debug, Default)]
struct Memory {
    chunks: Vec<u8>,
    /// So many bytes of them are in the file as well: the first ones.
    in_file: u64,
}

impl Memory {
    /// What is in memory alone.
    fn beside_file(&self) -> &[u8] {
        &self.chunks[self.in_file as usize..]
    }
}

impl<W: Write> Tee<W> {
    /// To this file, which is empty.
    pub fn new(out: W) -> Tee<W> {
        let room = Room { most: u64::MAX, may_wait: false };
        Tee { out, written: 0, room, memory: None, behind: Arc::new([]), refused: false }
    }

    /// Bytes in the file.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Whether what is written goes to memory.
    pub fn is_in_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// Bytes in memory.
    pub fn memory_bytes(&self) -> u64 {
        self.behind.len() as u64 + self.memory.as_ref().map_or(0, |memory| memory.chunks.len() as u64)
    }

    /// For the next chunk.
    pub fn set_room(&mut self, room: Room) {
        self.room = room;
    }

    /// Whether the last chunk was refused.
    pub fn take_refused(&mut self) -> bool {
        std::mem::take(&mut self.refused)
    }

    /// A cut begins: from now on all goes to memory as well. Gives what was in memory alone, which belongs behind the file.
    pub fn begin(&mut self) -> Arc<[u8]> {
        let memory = self.memory.replace(Memory::default()).unwrap_or_default();
        self.behind = memory.beside_file().into();
        Arc::clone(&self.behind)
    }

    /// There is no shorter file yet: all waits for the next try.
    pub fn wait_on(&mut self) {
        if let Some(memory) = &mut self.memory
            && !self.behind.is_empty()
        {
            memory.chunks.splice(..0, self.behind.iter().copied());
            self.behind = Arc::new([]);
        }
    }

    /// The other file takes the place of this one. Gives what was in memory, which is to be written behind it.
    pub fn go_over_to(&mut self, out: W, bytes: u64) -> Vec<u8> {
        // The old file's blocks are free before more are taken.
        (self.out, self.written) = (out, bytes);
        self.behind = Arc::new([]);
        self.memory.take().unwrap_or_default().chunks
    }

    /// There is no other file. Gives what this one lacks of what was in memory, which is to be written behind it.
    pub fn go_on(&mut self) -> Vec<u8> {
        self.wait_on();
        let mut memory = self.memory.take().unwrap_or_default();
        memory.chunks.split_off(memory.in_file as usize)
    }
}

impl<W: Write> Write for Tee<W> {
    /// Takes a chunk as a whole.
    fn write(&mut self, chunk: &[u8]) -> io::Result<usize> {
        let bytes = chunk.len() as u64;
        // What is in the file is a prefix of what is in memory.
        let is_behind =
            !self.behind.is_empty() || self.memory.as_ref().is_some_and(|memory| !memory.beside_file().is_empty());
        let fits = !is_behind && self.written + bytes <= self.room.most;
        if !fits && self.memory.is_none() {
            if !self.room.may_wait {
                self.refused = true;
                return Ok(chunk.len());
            }
            self.memory = Some(Memory::default());
        }
        if fits {
            self.out.write_all(chunk)?;
            self.written += bytes;
        }
        if let Some(memory) = &mut self.memory {
            memory.chunks.extend_from_slice(chunk);
            memory.in_file += if fits { bytes } else { 0 };
        }
        Ok(chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
