//! Reads a trace from any prefix of its bytes: finds the chunks, steps over damaged ones and says what it stepped over.

use crate::access::AccessCursor;
use crate::checkpoint::CheckpointTable;
use crate::checksum::crc32;
use crate::columns::ColumnPositions;
use crate::encode::PackedEvents;
use crate::error::FormatError;
use crate::event::Event;
use crate::event_batch::EventBatch;
use crate::expansion::Expansion;
use crate::header::{
    CHUNK_HEADER_BYTES, CHUNK_MAGIC, ChunkHeader, ChunkKind, Compression, FILE_HEADER_BYTES, FILE_MAGIC, FileHeader,
    HeaderDefect, VERSION_SAMPLED,
};
use crate::kernel_columns::KernelCursor;
use crate::object_columns::{ObjectMemory, ObjectPositions};
use crate::records::Record;
use crate::snapshot::Snapshot;
use crate::units::{ObjectId, ProcessId};
use crate::zstd_contexts::Decompressor;

/// Between two steps of [`Trace::open_in_steps`].
const STEP_BYTES: usize = 16 << 20;

/// A trace in memory, or mapped into it. Only headers have been read; payloads are read when asked for.
#[derive(Debug)]
pub struct Trace<'a> {
    bytes: &'a [u8],
    header: FileHeader,
    chunks: Vec<Chunk>,
    defects: Vec<Defect>,
}

/// Where a chunk is and what its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Offset of the payload in the file, bytes.
    pub payload_offset: usize,
    /// Its header.
    pub header: ChunkHeader,
}

/// Bytes of the file that hold nothing readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defect {
    /// Offset in the file, bytes.
    pub offset: usize,
    /// How many bytes were stepped over.
    pub bytes: usize,
    /// What was found.
    pub what: &'static str,
}

impl<'a> Trace<'a> {
    /// Whether `bytes` start like a trace.
    #[must_use]
    pub fn is_trace(bytes: &[u8]) -> bool {
        bytes.starts_with(&FILE_MAGIC)
    }

    /// Reads the headers of all chunks.
    ///
    /// # Errors
    /// Where the file header cannot be read. Damage behind it is no error: see [`Trace::defects`].
    pub fn open(bytes: &'a [u8]) -> Result<Trace<'a>, FormatError> {
        Trace::open_in_steps(bytes, &mut |_| {})
    }

    /// As [`Trace::open`]; `passed` is called now and then with the offset up to which headers have been read, so that a
    /// caller who has mapped a long file can let go of what is behind.
    ///
    /// # Errors
    /// As [`Trace::open`].
    pub fn open_in_steps(bytes: &'a [u8], passed: &mut dyn FnMut(usize)) -> Result<Trace<'a>, FormatError> {
        let header = FileHeader::decode(bytes).map_err(|defect| match defect {
            _ if bytes.is_empty() => FormatError::Empty,
            HeaderDefect::Magic => FormatError::Foreign {
                expected: "the bytes 89 50 47 54 0d 0a 1a 0a",
                found: bytes.iter().take(8).map(|byte| format!("{byte:02x} ")).collect::<String>().trim_end().into(),
            },
            HeaderDefect::Short => {
                FormatError::Header(format!("expected {FILE_HEADER_BYTES} bytes, found {}", bytes.len()))
            }
            HeaderDefect::Newer(found) => FormatError::Newer { found, known: VERSION_SAMPLED },
            HeaderDefect::Checksum => FormatError::Header("its checksum at offset 60 does not fit".into()),
            HeaderDefect::Field(name) => FormatError::Header(format!("its {name} holds what cannot be")),
        })?;
        let mut trace = Trace { bytes, header, chunks: Vec::new(), defects: Vec::new() };
        trace.find_chunks(passed);
        Ok(trace)
    }

    fn find_chunks(&mut self, passed: &mut dyn FnMut(usize)) {
        let mut offset = FILE_HEADER_BYTES;
        let mut told = offset;
        let mut expansion = Expansion::default();
        while offset < self.bytes.len() {
            if offset - told >= STEP_BYTES {
                passed(offset);
                told = offset;
            }
            let rest = &self.bytes[offset..];
            let what = match ChunkHeader::decode(rest) {
                Ok(header) => {
                    let payload_offset = offset + CHUNK_HEADER_BYTES;
                    let end = payload_offset + header.stored_bytes as usize;
                    if end <= self.bytes.len() {
                        if expansion.admit(&header, end as u64) {
                            self.chunks.push(Chunk { payload_offset, header });
                        } else {
                            let what = "a chunk that decompresses to more than the file may hold";
                            self.defects.push(Defect { offset, bytes: end - offset, what });
                        }
                        offset = end;
                        continue;
                    }
                    "a chunk that is cut"
                }
                Err(HeaderDefect::Short) => "a chunk header that is cut",
                Err(_) => "bytes that are no chunk",
            };
            let next = next_chunk(self.bytes, offset + 1);
            self.defects.push(Defect { offset, bytes: next - offset, what });
            offset = next;
        }
    }

    /// The file header.
    #[must_use]
    pub fn header(&self) -> &FileHeader {
        &self.header
    }

    /// All chunks in the order of the file, unknown kinds too.
    #[must_use]
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// What was stepped over. A last one that reaches to the end of the file is a cut recording.
    #[must_use]
    pub fn defects(&self) -> &[Defect] {
        &self.defects
    }

    /// The payload of a chunk, checked and decompressed into `payload`, which is overwritten.
    ///
    /// # Errors
    /// [`FormatError::Payload`] where the checksum or the length does not fit.
    pub fn payload(&self, chunk: &Chunk, payload: &mut Vec<u8>) -> Result<(), FormatError> {
        self.payload_by(chunk, payload, &mut Decompressor::default())
    }

    fn payload_by(
        &self,
        chunk: &Chunk,
        payload: &mut Vec<u8>,
        decompressor: &mut Decompressor,
    ) -> Result<(), FormatError> {
        let stored = self.stored(chunk)?;
        payload.clear();
        match chunk.header.compression {
            Compression::None => payload.extend_from_slice(stored),
            Compression::Zstd => {
                // The header bounds it, so a forged frame cannot make a reader allocate without end.
                if !decompressor.append(stored, chunk.header.raw_bytes as usize, payload) {
                    return Err(FormatError::Payload("it does not decompress to the length its header gives"));
                }
            }
        }
        if payload.len() != chunk.header.raw_bytes as usize {
            return Err(FormatError::Payload("its length is not the one its header gives"));
        }
        Ok(())
    }

    /// The payload as it is in the file, its checksum looked at.
    fn stored(&self, chunk: &Chunk) -> Result<&'a [u8], FormatError> {
        let stored = &self.bytes[chunk.payload_offset..chunk.payload_offset + chunk.header.stored_bytes as usize];
        if crc32(stored) != chunk.header.payload_crc {
            return Err(FormatError::Payload("its checksum does not fit"));
        }
        Ok(stored)
    }

    /// The events of a chunk of events.
    ///
    /// # Errors
    /// [`FormatError::Payload`] for damaged chunks and for chunks of other kinds.
    pub fn events(&self, chunk: &Chunk) -> Result<EventCursor, FormatError> {
        let mut cursor = EventCursor {
            payload: Vec::new(),
            encoding: Encoding::Packed(PackedEvents::default()),
            decompressor: Decompressor::default(),
        };
        self.events_into(chunk, &mut cursor)?;
        Ok(cursor)
    }

    /// As [`Trace::events`], in the memory of a cursor that has been used.
    ///
    /// # Errors
    /// As [`Trace::events`].
    pub fn events_into(&self, chunk: &Chunk, cursor: &mut EventCursor) -> Result<(), FormatError> {
        let header = &chunk.header;
        let EventCursor { payload, decompressor, encoding } = cursor;
        if header.kind == ChunkKind::OBJECT_EVENTS {
            if header.compression != Compression::None {
                return Err(FormatError::Payload("columns of objects are compressed by themselves, not as a payload"));
            }
            let stored = self.stored(chunk)?;
            let memory = match encoding {
                Encoding::Objects(ahead) => ahead.positions.take_memory(),
                Encoding::Columns(_) | Encoding::Packed(_) => ObjectMemory::default(),
            };
            let positions = ObjectPositions::open(stored, header.count, header.first, payload, decompressor, memory)?;
            let ahead = Ahead { positions, batch: EventBatch::new(), next: 0, damage: None };
            cursor.encoding = Encoding::Objects(Box::new(ahead));
            return Ok(());
        }
        self.payload_by(chunk, payload, decompressor)?;
        cursor.encoding = match header.kind {
            ChunkKind::EVENTS => Encoding::Columns(ColumnPositions::open(&cursor.payload, header.count, header.first)?),
            ChunkKind::PACKED_EVENTS => Encoding::Packed(
                PackedEvents::open(&cursor.payload, header.count)
                    .ok_or(FormatError::Payload("packed events without a clock"))?,
            ),
            _ => return Err(FormatError::Payload("a chunk of another kind than events")),
        };
        Ok(())
    }

    /// What the kernel said of one process: the events of a chunk of kind [`ChunkKind::KERNEL_EVENTS`].
    ///
    /// # Errors
    /// [`FormatError::Payload`] for damaged chunks and for chunks of other kinds.
    pub fn kernel_events(&self, chunk: &Chunk) -> Result<KernelCursor, FormatError> {
        if chunk.header.kind != ChunkKind::KERNEL_EVENTS {
            return Err(FormatError::Payload("a chunk of another kind than events of the kernel"));
        }
        let mut payload = Vec::new();
        self.payload(chunk, &mut payload)?;
        KernelCursor::open(payload, chunk.header.count, chunk.header.first)
    }

    /// Who wrote and who read: what a chunk of kind [`ChunkKind::ACCESSES`] holds.
    ///
    /// # Errors
    /// [`FormatError::Payload`] for damaged chunks and for chunks of other kinds.
    pub fn accesses(&self, chunk: &Chunk) -> Result<AccessCursor, FormatError> {
        if chunk.header.kind != ChunkKind::ACCESSES {
            return Err(FormatError::Payload("a chunk of another kind than accesses"));
        }
        let mut payload = Vec::new();
        self.payload(chunk, &mut payload)?;
        AccessCursor::open(payload, chunk.header.count, chunk.header.first)
    }

    /// A table of a checkpoint.
    ///
    /// # Errors
    /// [`FormatError::Payload`] for a damaged chunk, and for chunks of other kinds.
    pub fn checkpoint(&self, chunk: &Chunk) -> Result<CheckpointTable, FormatError> {
        if chunk.header.kind != ChunkKind::CHECKPOINT {
            return Err(FormatError::Payload("a chunk of another kind than a checkpoint"));
        }
        let mut payload = Vec::new();
        self.payload(chunk, &mut payload)?;
        let header = &chunk.header;
        CheckpointTable::decode(&payload, ProcessId(header.stream.0), header.count, header.first)
    }

    /// A chunk as it is in the trace, its header included.
    #[must_use]
    pub fn whole_chunk(&self, chunk: &Chunk) -> &'a [u8] {
        let start = chunk.payload_offset - CHUNK_HEADER_BYTES;
        &self.bytes[start..chunk.payload_offset + chunk.header.stored_bytes as usize]
    }

    /// The records of a chunk of records.
    ///
    /// # Errors
    /// [`FormatError::Payload`] for a damaged chunk.
    pub fn records(&self, chunk: &Chunk) -> Result<Vec<Record>, FormatError> {
        let mut payload = Vec::new();
        self.payload(chunk, &mut payload)?;
        Record::decode_all(&payload)
    }

    /// The snapshot of a snapshot chunk.
    ///
    /// # Errors
    /// [`FormatError::Payload`] for a damaged chunk.
    pub fn snapshot(&self, chunk: &Chunk) -> Result<Snapshot, FormatError> {
        let mut payload = Vec::new();
        self.payload(chunk, &mut payload)?;
        Snapshot::decode(&payload)
    }
}

fn next_chunk(bytes: &[u8], from: usize) -> usize {
    let mut offset = from;
    while let Some(found) = bytes.get(offset..).and_then(|rest| find(rest, &CHUNK_MAGIC)) {
        offset += found;
        if ChunkHeader::decode(&bytes[offset..]).is_ok() {
            return offset;
        }
        offset += 1;
    }
    bytes.len()
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

/// The events of one chunk, one after the other.
#[derive(Debug)]
pub struct EventCursor {
    /// As its encoding reads it: decompressed.
    payload: Vec<u8>,
    decompressor: Decompressor,
    encoding: Encoding,
}

#[derive(Debug)]
enum Encoding {
    Columns(ColumnPositions),
    Packed(PackedEvents),
    Objects(Box<Ahead>),
}

/// Columns of objects are read many events at a time: those that have not been asked for yet.
#[derive(Debug)]
struct Ahead {
    positions: ObjectPositions,
    batch: EventBatch,
    next: usize,
    /// What was found behind them, to be told once.
    damage: Option<FormatError>,
}

/// Events that are read ahead.
const AHEAD: usize = 64;

impl Ahead {
    #[inline]
    fn next(&mut self, payload: &[u8]) -> Result<Option<Event>, FormatError> {
        if self.next >= self.batch.len() {
            if let Some(damage) = self.damage.take() {
                return Err(damage);
            }
            self.batch.clear();
            self.next = 0;
            self.damage = self.positions.fill(payload, &mut self.batch, AHEAD).err();
            if self.batch.is_empty() {
                return self.damage.take().map_or(Ok(None), Err);
            }
        }
        self.next += 1;
        Ok(Some(self.batch.event(self.next - 1)))
    }

    fn fill(&mut self, payload: &[u8], batch: &mut EventBatch, max: usize) -> Result<(), FormatError> {
        if self.next >= self.batch.len() {
            return self.damage.take().map_or_else(|| self.positions.fill(payload, batch, max), Err);
        }
        while batch.len() < max && self.next < self.batch.len() {
            batch.push(&self.batch.event(self.next));
            self.next += 1;
        }
        Ok(())
    }
}

impl EventCursor {
    /// The next event, `None` after the last.
    ///
    /// # Errors
    /// [`FormatError::Payload`]; the rest of the chunk is lost.
    #[inline]
    pub fn next_event(&mut self) -> Result<Option<Event>, FormatError> {
        match &mut self.encoding {
            Encoding::Columns(positions) => positions.next(&self.payload),
            Encoding::Packed(packed) => packed.next(),
            Encoding::Objects(ahead) => ahead.next(&self.payload),
        }
    }

    /// Overwrites a batch with the next events, at most `max`; after the last it is empty.
    ///
    /// # Errors
    /// [`FormatError::Payload`]; the rest of the chunk is lost, and the batch holds the events in front of the damage.
    pub fn fill(&mut self, batch: &mut EventBatch, max: usize) -> Result<(), FormatError> {
        if let Encoding::Objects(ahead) = &mut self.encoding {
            batch.clear();
            return ahead.fill(&self.payload, batch, max);
        }
        batch.object_ids.clear();
        batch.resize(max);
        let mut filled = 0;
        let mut result = Ok(());
        while filled < max {
            match self.next_event() {
                Ok(Some(event)) => batch.set(filled, &event),
                Ok(None) => break,
                Err(damage) => {
                    result = Err(damage);
                    break;
                }
            }
            if let Encoding::Packed(packed) = &self.encoding {
                batch.object_ids.push(packed.object_id().map_or(0, |id| id.0));
            }
            filled += 1;
        }
        batch.resize(filled);
        result
    }

    /// The id of the object of the event that was read last, where the trace gives one.
    #[inline]
    #[must_use]
    pub fn object_id(&self) -> Option<ObjectId> {
        match &self.encoding {
            Encoding::Columns(_) | Encoding::Objects(_) => None,
            Encoding::Packed(packed) => packed.object_id(),
        }
    }
}
