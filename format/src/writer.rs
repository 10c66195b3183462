//! Writes a trace, chunk by chunk, with compression: what the recorder and the converters use.

use std::io::Write;

use crate::access::{Access, put_accesses, times_of};
use crate::checkpoint::CheckpointTable;
use crate::checksum::crc32;
use crate::columns::EventColumns;
use crate::error::FormatError;
use crate::event_batch::EventBatch;
use crate::expansion::Expansion;
use crate::header::{CHUNK_HEADER_BYTES, ChunkHeader, ChunkKind, Compression, FileHeader, PAYLOAD_BYTES_MAX};
use crate::kernel_columns::KernelColumns;
use crate::object_columns::{ObjectColumns, ObjectMemory, ObjectPositions, TimeRounding};
use crate::records::Record;
use crate::snapshot::Snapshot;
use crate::units::{PageShift, ProcessId, StreamId, TraceNanos};
use crate::zstd_contexts::{Compressor, Decompressor};

/// Smaller payloads are stored as they are.
const COMPRESS_FROM_BYTES: usize = 64;

/// Writes a trace to `W`. Each chunk goes out in one `write_all`, so a reader of a growing file sees whole chunks or
/// a cut last one.
#[derive(Debug)]
pub struct TraceWriter<W: Write> {
    out: W,
    end: TraceEnd,
    compressor: Compressor,
    column_compressor: Compressor,
    /// The chunk that is being made, in memory that is kept.
    chunk: Vec<u8>,
}

/// Where a trace ends, and what decides which chunks readers take behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceEnd {
    bytes: u64,
    expansion: Expansion,
}

impl TraceEnd {
    /// Its length in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl<W: Write> TraceWriter<W> {
    /// Writes the file header.
    ///
    /// # Errors
    /// What `out` gives.
    pub fn new(mut out: W, header: &FileHeader) -> Result<TraceWriter<W>, FormatError> {
        let bytes = header.encode();
        out.write_all(&bytes)?;
        let end = TraceEnd { bytes: bytes.len() as u64, expansion: Expansion::default() };
        Ok(TraceWriter { end, ..TraceWriter::go_on(out) })
    }

    /// Goes on with a trace whose header is written: `out` is at its end.
    pub fn go_on(out: W) -> TraceWriter<W> {
        let end = TraceEnd { bytes: 0, expansion: Expansion::USED_UP };
        let (compressor, column_compressor) = (Compressor::default(), Compressor::of_columns());
        TraceWriter { out, end, compressor, column_compressor, chunk: Vec::new() }
    }

    /// Writes the events of one stream as one chunk. Nothing is written for empty columns.
    ///
    /// # Errors
    /// What the output gives, or [`FormatError::TooLarge`] for more events than a chunk holds.
    pub fn events(&mut self, stream: StreamId, events: &EventColumns) -> Result<(), FormatError> {
        let Some(times) = events.times() else { return Ok(()) };
        self.chunk(ChunkKind::EVENTS, stream, events.len(), times, &events.encode())
    }

    /// Writes object events of one stream as one chunk. Nothing is written for empty columns.
    ///
    /// # Errors
    /// What the output gives.
    pub fn objects(
        &mut self,
        stream: StreamId,
        objects: &ObjectColumns,
        rounding: TimeRounding,
    ) -> Result<(), FormatError> {
        let Some(encoded) = objects.encode(rounding, &mut self.column_compressor) else { return Ok(()) };
        let times = (encoded.first, encoded.last);
        let bytes = self.end.bytes + (CHUNK_HEADER_BYTES + encoded.payload.len()) as u64;
        if !self.end.expansion.has_room_for_objects(objects.len(), bytes) {
            // They are so alike that a reader would take them for a bomb.
            return self.events(stream, &objects.to_events());
        }
        self.chunk(ChunkKind::OBJECT_EVENTS, stream, objects.len(), times, &encoded.payload)
    }

    /// Writes what the kernel said of one process as one chunk. Nothing is written for empty columns.
    ///
    /// # Errors
    /// What the output gives, or [`FormatError::TooLarge`] for more events than a chunk holds.
    pub fn kernel_events(&mut self, process: ProcessId, events: &KernelColumns) -> Result<(), FormatError> {
        let Some(times) = events.times() else { return Ok(()) };
        self.chunk(ChunkKind::KERNEL_EVENTS, StreamId(process.0), events.len(), times, &events.encode())
    }

    /// Writes who accessed memory of one process as one chunk, the items being as [`AccessChunk::write`] takes them. Nothing is
    /// written for none.
    ///
    /// # Errors
    /// What the output gives, or [`FormatError::TooLarge`].
    ///
    /// [`AccessChunk::write`]: crate::access::AccessChunk::write
    pub fn accesses(
        &mut self,
        process: ProcessId,
        page_shift: PageShift,
        accesses: &[Access],
    ) -> Result<(), FormatError> {
        let Some(times) = times_of(accesses) else { return Ok(()) };
        let mut payload = Vec::new();
        put_accesses(&mut payload, page_shift, accesses);
        self.chunk(ChunkKind::ACCESSES, StreamId(process.0), accesses.len(), times, &payload)
    }

    /// Writes records as one chunk. `time` is the recorder's present.
    ///
    /// # Errors
    /// What the output gives, or [`FormatError::TooLarge`].
    pub fn records(&mut self, time: TraceNanos, records: &[Record]) -> Result<(), FormatError> {
        if records.is_empty() {
            return Ok(());
        }
        let mut payload = Vec::new();
        for record in records {
            record.encode(&mut payload);
        }
        self.chunk(ChunkKind::RECORDS, StreamId(0), records.len(), (time, time), &payload)
    }

    /// Writes one snapshot as one chunk.
    ///
    /// # Errors
    /// What the output gives, or [`FormatError::TooLarge`].
    pub fn snapshot(&mut self, snapshot: &Snapshot) -> Result<(), FormatError> {
        self.chunk(ChunkKind::SNAPSHOT, StreamId(0), 1, (snapshot.time, snapshot.time), &snapshot.encode())
    }

    /// Writes a table of a checkpoint, in chunks of some ten thousand rows. Nothing is written for a table without rows.
    ///
    /// # Errors
    /// What the output gives, or [`FormatError::TooLarge`].
    pub fn checkpoint(&mut self, table: &CheckpointTable) -> Result<(), FormatError> {
        for (rows, payload) in table.parts() {
            let times = (table.time, table.time);
            self.chunk(ChunkKind::CHECKPOINT, StreamId(table.process.0), rows, times, &payload)?;
        }
        Ok(())
    }

    /// Writes a chunk of another trace, `chunk` being all of it and `header` what it begins with: as it is, unless a reader
    /// would not take it here, where less of the file is before it.
    ///
    /// # Errors
    /// What the output gives.
    pub fn whole_chunk(&mut self, header: &ChunkHeader, chunk: &[u8]) -> Result<(), FormatError> {
        // What is damaged stays as it is, for readers to tell of.
        if self.admit(header) || !self.expanded_chunk(header, &chunk[CHUNK_HEADER_BYTES..])? {
            self.put(chunk)?;
        }
        Ok(())
    }

    /// Where the trace ends now.
    #[must_use]
    pub fn end(&self) -> TraceEnd {
        self.end
    }

    /// What was written before is not there any more, or is another trace, which ends so.
    pub fn set_end(&mut self, end: TraceEnd) {
        self.end = end;
    }

    /// Bytes written so far.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.end.bytes
    }

    /// The output.
    pub fn get_ref(&self) -> &W {
        &self.out
    }

    /// The output, to be written around this writer: whole chunks alone.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    /// Flushes and gives the output back.
    ///
    /// # Errors
    /// What the output gives.
    pub fn into_inner(mut self) -> Result<W, FormatError> {
        self.out.flush()?;
        Ok(self.out)
    }

    fn chunk(
        &mut self,
        kind: ChunkKind,
        stream: StreamId,
        count: usize,
        (first, last): (TraceNanos, TraceNanos),
        payload: &[u8],
    ) -> Result<(), FormatError> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(FormatError::TooLarge(payload.len()));
        }
        let count = u32::try_from(count).map_err(|_| FormatError::TooLarge(payload.len()))?;
        let header = |compression, stored: &[u8]| ChunkHeader {
            kind,
            compression,
            stream,
            count,
            first,
            last,
            stored_bytes: stored.len() as u32,
            raw_bytes: payload.len() as u32,
            payload_crc: crc32(stored),
        };
        self.chunk.clear();
        self.chunk.resize(CHUNK_HEADER_BYTES, 0);
        let is_smaller = kind != ChunkKind::OBJECT_EVENTS
            && payload.len() >= COMPRESS_FROM_BYTES
            && self.compressor.append(payload, &mut self.chunk)
            && self.chunk.len() - CHUNK_HEADER_BYTES < payload.len();
        let compressed = is_smaller.then(|| header(Compression::Zstd, &self.chunk[CHUNK_HEADER_BYTES..]));
        let compressed = compressed.filter(|header| self.admit(header));
        let header = compressed.unwrap_or_else(|| {
            self.chunk.truncate(CHUNK_HEADER_BYTES);
            self.chunk.extend_from_slice(payload);
            let header = header(Compression::None, payload);
            let _always = self.admit(&header);
            header
        });
        self.chunk[..CHUNK_HEADER_BYTES].copy_from_slice(&header.encode());
        self.out.write_all(&self.chunk)?;
        self.end.bytes += self.chunk.len() as u64;
        Ok(())
    }

    /// Writes a chunk whose compression is too good for its place with less of it. Whether that could be done.
    fn expanded_chunk(&mut self, header: &ChunkHeader, stored: &[u8]) -> Result<bool, FormatError> {
        let &ChunkHeader { kind, compression, stream, count, first, last, raw_bytes, .. } = header;
        let (mut payload, mut decompressor) = (Vec::new(), Decompressor::default());
        if crc32(stored) != header.payload_crc {
            return Ok(false);
        }
        if kind == ChunkKind::OBJECT_EVENTS {
            let Ok(events) = events_of_objects(header, stored) else { return Ok(false) };
            self.events(stream, &events)?;
        } else if compression == Compression::Zstd && decompressor.append(stored, raw_bytes as usize, &mut payload) {
            self.chunk(kind, stream, count as usize, (first, last), &payload)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn put(&mut self, chunk: &[u8]) -> Result<(), FormatError> {
        self.out.write_all(chunk)?;
        self.end.bytes += chunk.len() as u64;
        Ok(())
    }

    /// Whether a reader takes a chunk with this header, if it is the next.
    fn admit(&mut self, header: &ChunkHeader) -> bool {
        let end = self.end.bytes + CHUNK_HEADER_BYTES as u64 + u64::from(header.stored_bytes);
        self.end.expansion.admit(header, end)
    }
}

fn events_of_objects(header: &ChunkHeader, stored: &[u8]) -> Result<EventColumns, FormatError> {
    let (mut columns, mut decompressor) = (Vec::new(), Decompressor::default());
    let mut positions = ObjectPositions::open(
        stored,
        header.count,
        header.first,
        &mut columns,
        &mut decompressor,
        ObjectMemory::default(),
    )?;
    let mut batch = EventBatch::new();
    positions.fill(&columns, &mut batch, header.count as usize)?;
    let mut events = EventColumns::new();
    (0..batch.len()).for_each(|index| events.push(batch.event(index)));
    Ok(events)
}
