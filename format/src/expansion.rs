//! How much longer a trace may become when it is decompressed: what writers keep to, so that readers can rely on it.
//!
//! Up to any place in a file, all payloads before it decompress to at most [`RAW_BYTES_FREE`] and [`RAW_BYTES_PER_BYTE`]
//! times the bytes of the file before it. So what a reader needs follows from the length of the file, whoever wrote it.

use crate::header::{ChunkHeader, ChunkKind};

/// Bytes of payload that need no bytes of the file.
pub const RAW_BYTES_FREE: u64 = 1 << 20;
/// Bytes of payload for each byte of the file.
pub const RAW_BYTES_PER_BYTE: u64 = 32;

/// Objects in columns are compressed inside their payload: each event counts as so many bytes, if that is more.
pub const RAW_BYTES_PER_OBJECT_EVENT: u64 = 16;

/// What a chunk counts for.
#[must_use]
pub fn raw_bytes_of(header: &ChunkHeader) -> u64 {
    let events = if header.kind == ChunkKind::OBJECT_EVENTS { header.count } else { 0 };
    u64::from(header.raw_bytes).max(RAW_BYTES_PER_OBJECT_EVENT * u64::from(events))
}

/// The payloads of a file so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expansion {
    raw_bytes: u64,
}

impl Expansion {
    /// Of a file of which nothing is known but that it keeps to the bound, counted from its end on.
    pub const USED_UP: Expansion = Expansion { raw_bytes: RAW_BYTES_FREE };

    /// Counts a chunk that ends at this offset of the file, unless it may not be there. One that is not compressed always
    /// may, unless it is of objects in columns.
    #[must_use]
    pub fn admit(&mut self, header: &ChunkHeader, end: u64) -> bool {
        let raw_bytes = self.raw_bytes.saturating_add(raw_bytes_of(header));
        let admitted = raw_bytes <= allowed(end);
        if admitted {
            self.raw_bytes = raw_bytes;
        }
        admitted
    }

    /// Whether so many objects in columns may come next, the file being this long with them.
    #[must_use]
    pub fn has_room_for_objects(&self, events: usize, end: u64) -> bool {
        let raw_bytes = self.raw_bytes.saturating_add((events as u64).saturating_mul(RAW_BYTES_PER_OBJECT_EVENT));
        raw_bytes <= allowed(end)
    }
}

fn allowed(end: u64) -> u64 {
    RAW_BYTES_FREE.saturating_add(end.saturating_mul(RAW_BYTES_PER_BYTE))
}
