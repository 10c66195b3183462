//! The first bytes of a trace and of each of its chunks.
//!
//! ```text
//! file header, 64 bytes            chunk header, 48 bytes
//!  0  magic        8               0  magic         u32  "PGCK"
//!  8  version      u32             4  kind          u16
//! 12  header bytes u32             6  compression   u8
//! 16  page shift   u8              7  zero          u8
//! 17  origin       u8              8  stream        u32
//! 18  zero         6              12  count         u32
//! 24  start        u64 monotonic  16  first time    u64
//! 32  start        u64 unix       24  last time     u64
//! 40  zero        20              32  stored bytes  u32
//! 60  checksum     u32 of 0..60   36  raw bytes     u32
//!                                 40  payload crc   u32 (of the stored bytes)
//! all little-endian               44  header crc    u32 of 0..44
//! ```

use crate::checksum::crc32;
use crate::units::{PageShift, StreamId, TraceNanos};

/// The bytes every trace starts with. The carriage return and the line feed show a file mangled as text.
pub const FILE_MAGIC: [u8; 8] = *b"\x89PGT\r\n\x1a\n";
/// The version of traces that hold all objects.
pub const VERSION: u32 = 3;
/// The version of traces of sampled objects ([`crate::records::Sampling`]), which a reader of the version before would take for all
/// there were. The latest that this crate reads.
pub const VERSION_SAMPLED: u32 = 4;
/// Bytes of the file header.
pub const FILE_HEADER_BYTES: usize = 64;
/// The bytes every chunk starts with.
pub const CHUNK_MAGIC: [u8; 4] = *b"PGCK";
/// Bytes of a chunk's header.
pub const CHUNK_HEADER_BYTES: usize = 48;
/// No chunk's payload is larger, stored or decompressed: a reader allocates no more for one.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// What a trace was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Origin {
    /// `pagetrace record` or a linked tracer.
    Recorded = 0,
    /// A page trace of Go 1.20–1.22: the streams are Ps, each chunk is one buffer that a P wrote.
    GoPageTrace = 1,
}

/// The header of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// Format version.
    pub version: u32,
    /// The page size that page events and analyses use.
    pub page_shift: PageShift,
    /// What the trace was made from.
    pub origin: Origin,
    /// When the recording started. Zero where unknown.
    pub start: TraceNanos,
    /// The same moment in nanoseconds since 1970-01-01 UTC. Zero where unknown.
    pub start_unix_ns: u64,
}

/// Why a header was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderDefect {
    /// Fewer bytes than a header has.
    Short,
    /// Other magic bytes.
    Magic,
    /// Written by a later version: this one.
    Newer(u32),
    /// The checksum does not fit the bytes.
    Checksum,
    /// A field holds a value that its meaning excludes.
    Field(&'static str),
}

impl FileHeader {
    /// The header as bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; FILE_HEADER_BYTES] {
        let mut bytes = [0; FILE_HEADER_BYTES];
        bytes[..8].copy_from_slice(&FILE_MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[12..16].copy_from_slice(&(FILE_HEADER_BYTES as u32).to_le_bytes());
        bytes[16] = self.page_shift.get();
        bytes[17] = self.origin as u8;
        bytes[24..32].copy_from_slice(&self.start.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.start_unix_ns.to_le_bytes());
        let crc = crc32(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header from the front of `bytes`.
    ///
    /// # Errors
    /// What is wrong with it; the version is looked at before the checksum, since a later version may place it
    /// elsewhere.
    pub fn decode(bytes: &[u8]) -> Result<FileHeader, HeaderDefect> {
        let magic_bytes = bytes.len().min(FILE_MAGIC.len());
        if bytes[..magic_bytes] != FILE_MAGIC[..magic_bytes] {
            return Err(HeaderDefect::Magic);
        }
        let bytes = bytes.get(..FILE_HEADER_BYTES).ok_or(HeaderDefect::Short)?;
        let version = u32_at(bytes, 8);
        if version > VERSION_SAMPLED {
            return Err(HeaderDefect::Newer(version));
        }
        if crc32(&bytes[..60]) != u32_at(bytes, 60) {
            return Err(HeaderDefect::Checksum);
        }
        if version == 0 {
            return Err(HeaderDefect::Field("version"));
        }
        Ok(FileHeader {
            version,
            page_shift: PageShift::new(bytes[16]).ok_or(HeaderDefect::Field("page shift"))?,
            origin: match bytes[17] {
                0 => Origin::Recorded,
                1 => Origin::GoPageTrace,
                _ => return Err(HeaderDefect::Field("origin")),
            },
            start: TraceNanos(u64_at(bytes, 24)),
            start_unix_ns: u64_at(bytes, 32),
        })
    }
}

/// The number of a chunk kind. Readers skip kinds they do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkKind(pub u16);

impl ChunkKind {
    /// Events of one stream in columns ([`crate::columns`]).
    pub const EVENTS: ChunkKind = ChunkKind(1);
    /// Events of one stream as packed words ([`crate::encode`]).
    pub const PACKED_EVENTS: ChunkKind = ChunkKind(2);
    /// Records: processes, streams, modules, stacks, losses, sources, end ([`crate::records`]).
    pub const RECORDS: ChunkKind = ChunkKind(3);
    /// One snapshot of one process ([`crate::snapshot`]).
    pub const SNAPSHOT: ChunkKind = ChunkKind(4);
    /// What the kernel said of the pages of one process, see [`crate::kernel_event`]. The header's stream is the number
    /// of the process.
    pub const KERNEL_EVENTS: ChunkKind = ChunkKind(5);
    /// Object events of one stream in columns of their own ([`crate::object_columns`]).
    pub const OBJECT_EVENTS: ChunkKind = ChunkKind(6);
    /// A table of the state at the moment before which events were dropped, see [`crate::checkpoint`]. The header's stream
    /// is the number of the process.
    pub const CHECKPOINT: ChunkKind = ChunkKind(7);
    /// Who wrote and who read which memory of one process, see [`crate::access`]. The header's stream is the number of the
    /// process.
    pub const ACCESSES: ChunkKind = ChunkKind(8);

    /// Whether chunks of this kind hold events of a stream: what [`crate::Trace::events`] reads.
    #[must_use]
    pub fn has_events(self) -> bool {
        matches!(self, ChunkKind::EVENTS | ChunkKind::PACKED_EVENTS | ChunkKind::OBJECT_EVENTS)
    }
}

/// How a payload is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Compression {
    /// As it is.
    None = 0,
    /// One zstd frame (RFC 8878).
    Zstd = 1,
}

/// The header of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHeader {
    /// What the payload holds.
    pub kind: ChunkKind,
    /// How it is stored.
    pub compression: Compression,
    /// Whose events these are; zero for chunks that are not events.
    pub stream: StreamId,
    /// How many events or records.
    pub count: u32,
    /// Time of the earliest of them.
    pub first: TraceNanos,
    /// Time of the latest.
    pub last: TraceNanos,
    /// Bytes of the payload in the file.
    pub stored_bytes: u32,
    /// Bytes of the payload once decompressed.
    pub raw_bytes: u32,
    /// Checksum of the stored payload.
    pub payload_crc: u32,
}

impl ChunkHeader {
    /// The header as bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; CHUNK_HEADER_BYTES] {
        let mut bytes = [0; CHUNK_HEADER_BYTES];
        bytes[..4].copy_from_slice(&CHUNK_MAGIC);
        bytes[4..6].copy_from_slice(&self.kind.0.to_le_bytes());
        bytes[6] = self.compression as u8;
        bytes[8..12].copy_from_slice(&self.stream.0.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.count.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.last.0.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.stored_bytes.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.raw_bytes.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32(&bytes[..44]);
        bytes[44..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header from the front of `bytes`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<ChunkHeader, HeaderDefect> {
        let bytes = bytes.get(..CHUNK_HEADER_BYTES).ok_or(HeaderDefect::Short)?;
        if bytes[..4] != CHUNK_MAGIC {
            return Err(HeaderDefect::Magic);
        }
        if crc32(&bytes[..44]) != u32_at(bytes, 44) {
            return Err(HeaderDefect::Checksum);
        }
        let header = ChunkHeader {
            kind: ChunkKind(u16::from_le_bytes([bytes[4], bytes[5]])),
            compression: match bytes[6] {
                0 => Compression::None,
                1 => Compression::Zstd,
                _ => return Err(HeaderDefect::Field("compression")),
            },
            stream: StreamId(u32_at(bytes, 8)),
            count: u32_at(bytes, 12),
            first: TraceNanos(u64_at(bytes, 16)),
            last: TraceNanos(u64_at(bytes, 24)),
            stored_bytes: u32_at(bytes, 32),
            raw_bytes: u32_at(bytes, 36),
            payload_crc: u32_at(bytes, 40),
        };
        if header.stored_bytes as usize > PAYLOAD_BYTES_MAX || header.raw_bytes as usize > PAYLOAD_BYTES_MAX {
            return Err(HeaderDefect::Field("payload bytes"));
        }
        Ok(header)
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(number)
}
