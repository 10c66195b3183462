//! A whole snapshot chunk written part by part into memory of a fixed size: header, head, mappings, runs.
//!
//! ```text
//! memory:  │ unused │ chunk header │ head │ count │ mappings … │ count │ runs … │ unused │
//!                   ◀── end where the mappings begin, ─────────▶
//!                       written last
//! ```
//! What comes first in the payload is known last: how many mappings there are, where the residency comes from, the
//! figures. So room for the longest of it is left free, and it is written so that it ends where the mappings begin.

use core::ops::Range;

use super::layout::{HEAD_BYTES_MAX, MappingReader, MappingRef, MappingWriter, RunWriter, SnapshotHead};
use super::{PageFlags, ResidentRun};
use crate::checksum::crc32;
use crate::header::{CHUNK_HEADER_BYTES, ChunkHeader, ChunkKind, Compression, PAYLOAD_BYTES_MAX};
use crate::units::{Address, PageCount, StreamId};
use crate::varint::{Input, NUMBER_BYTES_MAX, SliceOutput, put};

/// Where the mappings begin in the memory.
const MAPPINGS_AT: usize = CHUNK_HEADER_BYTES + HEAD_BYTES_MAX + NUMBER_BYTES_MAX;

/// Memory of this size is never too small: a snapshot that does not fit is one that no chunk may hold.
pub const CHUNK_BYTES_MAX: usize = MAPPINGS_AT + NUMBER_BYTES_MAX + PAYLOAD_BYTES_MAX;

/// Why there is no chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkError {
    /// The memory is too small. At least so many bytes are needed; of what comes after the part that did not fit
    /// nothing is known, so the next attempt may fail as well.
    TooSmall {
        /// More than there was, at most [`CHUNK_BYTES_MAX`].
        bytes_min: usize,
    },
    /// It needs this many bytes of payload, or more: above the limit of the format ([`PAYLOAD_BYTES_MAX`]).
    TooLarge {
        /// In bytes.
        payload_bytes: usize,
    },
}

impl ChunkError {
    fn of(bytes_min: usize) -> ChunkError {
        match bytes_min {
            0..=CHUNK_BYTES_MAX => ChunkError::TooSmall { bytes_min },
            _ => ChunkError::TooLarge { payload_bytes: bytes_min - MAPPINGS_AT - NUMBER_BYTES_MAX },
        }
    }
}

/// A snapshot chunk whose mappings are being written.
#[derive(Debug)]
pub struct SnapshotChunk<'a> {
    memory: &'a mut [u8],
    length: usize,
    writer: MappingWriter,
    count: u64,
}

impl<'a> SnapshotChunk<'a> {
    /// Begins in this memory.
    #[must_use]
    pub fn new(memory: &'a mut [u8]) -> SnapshotChunk<'a> {
        SnapshotChunk { memory, length: MAPPINGS_AT, writer: MappingWriter::new(), count: 0 }
    }

    /// Appends a mapping. They must come in order of address, none overlapping another.
    pub fn mapping(&mut self, mapping: &MappingRef<'_>) {
        let mut out = SliceOutput::behind(self.memory, self.length);
        self.writer.put(&mut out, mapping);
        self.length = out.length();
        self.count += 1;
    }

    /// Goes on to the runs.
    ///
    /// # Errors
    /// If the memory was too small for the mappings.
    pub fn runs(self, page_bytes: u64) -> Result<SnapshotRuns<'a>, ChunkError> {
        let runs_at = self.length.saturating_add(NUMBER_BYTES_MAX);
        if self.memory.len() < runs_at || runs_at > CHUNK_BYTES_MAX {
            return Err(ChunkError::of(runs_at));
        }
        Ok(SnapshotRuns {
            memory: self.memory,
            mappings_end: self.length,
            mapping_count: self.count,
            seen: MappingCursor { at: MAPPINGS_AT, end: 0 },
            page_bytes,
            length: runs_at,
            writer: RunWriter::new(page_bytes),
            open: None,
            count: 0,
            in_rss: PageCount(0),
        })
    }
}

/// A place between two mappings of a [`SnapshotRuns`].
#[derive(Clone, Copy, Debug)]
pub struct MappingCursor {
    at: usize,
    end: u64,
}

/// A snapshot chunk with all of its mappings, whose runs are being written.
#[derive(Debug)]
pub struct SnapshotRuns<'a> {
    memory: &'a mut [u8],
    mappings_end: usize,
    mapping_count: u64,
    /// In front of the first mapping that does not lie before all pages to come.
    seen: MappingCursor,
    page_bytes: u64,
    length: usize,
    writer: RunWriter,
    /// The last run: more may be joined to it.
    open: Option<ResidentRun>,
    count: u64,
    /// Pages added so far that the kernel counts in RSS.
    in_rss: PageCount,
}

impl SnapshotRuns<'_> {
    /// In front of the first mapping.
    #[must_use]
    pub fn first_mapping(&self) -> MappingCursor {
        MappingCursor { at: MAPPINGS_AT, end: 0 }
    }

    /// The mapping behind the cursor, which moves on; `None` behind the last one.
    #[must_use]
    pub fn next_mapping(&self, cursor: &mut MappingCursor) -> Option<MappingRef<'_>> {
        let input = Input::new(self.memory.get(cursor.at..self.mappings_end)?);
        let mut reader = MappingReader::behind(input, cursor.end);
        let mapping = reader.next()?;
        *cursor = MappingCursor { at: self.mappings_end - reader.input().rest().len(), end: mapping.end.0 };
        Some(mapping)
    }

    /// Adds the pages of `start..end`, which are in one state. They must come in order of address. What lies in no
    /// mapping is left out, a run that reaches over the border of two mappings becomes two, and runs of one mapping
    /// that touch become one. Pages without any state are absent, and are left out.
    pub fn pages(&mut self, mut start: u64, end: u64, state: PageFlags) {
        if state.0 == 0 {
            return;
        }
        let mut cursor = self.seen;
        while let Some(mapping) = self.next_mapping(&mut cursor) {
            let (first, last) = (start.max(mapping.start.0), end.min(mapping.end.0));
            let (opens_mapping, mapping_end) = (first == mapping.start.0, mapping.end.0);
            if first < last {
                self.add(first, last, state, opens_mapping);
                start = last;
            }
            if end < mapping_end {
                return;
            }
            self.seen = cursor;
        }
    }

    /// The pages added so far that the kernel counts in RSS.
    #[must_use]
    pub const fn in_rss(&self) -> PageCount {
        self.in_rss
    }

    fn add(&mut self, start: u64, end: u64, state: PageFlags, opens_mapping: bool) {
        let pages = PageCount((end - start) / self.page_bytes);
        if state.in_rss() {
            self.in_rss.0 += pages.0;
        }
        match &mut self.open {
            Some(run)
                if !opens_mapping && run.state == state && run.start.0 + run.pages.0 * self.page_bytes == start =>
            {
                run.pages.0 += pages.0;
            }
            _ => {
                self.write_open();
                self.open = Some(ResidentRun { start: Address(start), pages, state });
            }
        }
    }

    fn write_open(&mut self) {
        if let Some(run) = self.open.take() {
            let mut out = SliceOutput::behind(self.memory, self.length);
            self.writer.put(&mut out, &run);
            self.length = out.length();
            self.count += 1;
        }
    }
}

impl SnapshotRuns<'_> {
    /// Finishes the chunk: where it is in the memory. `head` says the page size that [`SnapshotChunk::runs`] was given.
    ///
    /// # Errors
    /// If the memory was too small for the runs, or the snapshot is too large for any.
    pub fn finish(mut self, head: &SnapshotHead) -> Result<Range<usize>, ChunkError> {
        self.write_open();
        let SnapshotRuns { memory, mappings_end, mapping_count, length, count, .. } = self;
        if memory.len() < length || length > CHUNK_BYTES_MAX {
            return Err(ChunkError::of(length));
        }
        // How many runs there are, and the runs close up behind it.
        let runs_at = mappings_end + NUMBER_BYTES_MAX;
        let mut out = SliceOutput::behind(memory, mappings_end);
        put(&mut out, count);
        let counted = out.length();
        memory.copy_within(runs_at..length, counted);
        let end = length - (runs_at - counted);

        let mut room = [0; MAPPINGS_AT];
        let mut out = SliceOutput::new(&mut room);
        head.encode(&mut out);
        put(&mut out, mapping_count);
        let head_bytes = out.length();
        let payload_at = MAPPINGS_AT - head_bytes;
        memory[payload_at..MAPPINGS_AT].copy_from_slice(&room[..head_bytes]);
        let payload = &memory[payload_at..end];
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(ChunkError::TooLarge { payload_bytes: payload.len() });
        }
        let header = ChunkHeader {
            kind: ChunkKind::SNAPSHOT,
            compression: Compression::None,
            stream: StreamId(0),
            count: 1,
            first: head.time,
            last: head.time,
            stored_bytes: payload.len() as u32,
            raw_bytes: payload.len() as u32,
            payload_crc: crc32(payload),
        };
        let start = payload_at - CHUNK_HEADER_BYTES;
        memory[start..payload_at].copy_from_slice(&header.encode());
        Ok(start..end)
    }
}
