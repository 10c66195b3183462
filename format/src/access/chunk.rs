//! A chunk of accesses, written in one piece into memory of a fixed size, without allocation.
//!
//! ```text
//! layout u8 (1) · page shift u8 · columns u8 (8) · length of each column, varint · the columns, in this order:
//!   kind         one byte an item: 0 epoch · 1 epoch with ranges · 2 armed range · 16 + label + 4 × has a writer: written run
//!                · 32 + write + 2 × foreign: watched access
//!   time         varint, of each epoch's end and each watched access: nanoseconds since the one before, at first since the
//!                chunk's first time
//!   page         zigzag, of each range: its first page minus one past the last of the range before, 0 at first
//!   pages        varint, of each range
//!   thread       zigzag difference from the tid before, 0 at first: of each writer and watched access
//!   write time   zigzag difference from the time before: of each writer; an epoch sets it to its begin
//!   instruction  zigzag difference from the instruction before, 0 at first: of each writer and watched access
//!   number       varint: of an epoch its number, nanoseconds from its begin to its end, source; of a writer span, stack and task plus one; of a
//!                watched access address, stack, task plus one, source, and of a foreign one tid and time
//! ```

use super::{Access, FirstWriter, PageRange, WatchedAccess};
use crate::checksum::crc32;
use crate::header::{CHUNK_HEADER_BYTES, ChunkHeader, ChunkKind, Compression, PAYLOAD_BYTES_MAX};
use crate::units::{PageShift, ProcessId, StreamId, TraceNanos};
use crate::varint::{Output, SliceOutput, put, zigzag};

pub(super) const LAYOUT: u8 = 1;
pub(super) const COLUMNS: usize = 8;
pub(super) const EPOCH: u8 = 0;
pub(super) const EPOCH_WITH_RANGES: u8 = 1;
pub(super) const ARMED: u8 = 2;
pub(super) const WRITTEN: u8 = 16;
pub(super) const HAS_WRITER: u8 = 4;
pub(super) const WATCHED: u8 = 32;
pub(super) const IS_WRITE: u8 = 1;
pub(super) const IS_FOREIGN: u8 = 2;

pub(super) const KIND: usize = 0;
pub(super) const TIME: usize = 1;
pub(super) const PAGE: usize = 2;
pub(super) const PAGES: usize = 3;
pub(super) const THREAD: usize = 4;
pub(super) const WRITE_TIME: usize = 5;
pub(super) const INSTRUCTION: usize = 6;
pub(super) const NUMBER: usize = 7;

/// What the next item's differences count from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Last {
    pub(super) time: u64,
    pub(super) page: u64,
    pub(super) tid: u64,
    pub(super) write_time: u64,
    pub(super) instruction: u64,
}

impl Last {
    pub(super) fn at(first: TraceNanos) -> Last {
        Last { time: first.0, ..Last::default() }
    }
}

/// A whole chunk of accesses of one process.
///
/// ```
/// use pagetrace_format::access::{Access, AccessChunk, AccessSource, PageRange, WriteEpoch, WriteLabel, WrittenRun};
/// use pagetrace_format::{PageCount, PageIndex, PageShift, ProcessId, TraceNanos};
/// let (begin, end, source) = (TraceNanos(5), TraceNanos(17), AccessSource::AsyncWriteProtection);
/// let range = PageRange { first: PageIndex(0x10), pages: PageCount(4) };
/// let items = [
///     Access::Epoch(WriteEpoch { number: 1, begin, end, source, ranges_follow: true }),
///     Access::Armed(PageRange { first: PageIndex(0), pages: PageCount(0x100) }),
///     Access::Written(WrittenRun { range, label: WriteLabel::Written, writer: None }),
/// ];
/// let mut memory = [0; 256];
/// let chunk = AccessChunk::write(&mut memory, ProcessId(0), PageShift::KIB_4, &items).unwrap();
/// assert_eq!(&chunk[..4], b"PGCK");
/// ```
#[derive(Debug)]
pub struct AccessChunk(());

impl AccessChunk {
    /// The most bytes that a chunk of so many items takes, saturating.
    #[must_use]
    pub const fn bytes_max(items: usize) -> usize {
        // An item has at most 14 numbers of ten bytes.
        items.saturating_mul(140).saturating_add(CHUNK_HEADER_BYTES + 3 + COLUMNS * 10)
    }

    /// Writes the items into `memory`: the chunk, which lies at its front. The first item is an epoch or a watched access, and
    /// armed ranges and written runs follow their epoch. `None` where the memory is too small, where no chunk may be so
    /// large, and for no items.
    #[must_use]
    pub fn write<'m>(
        memory: &'m mut [u8],
        process: ProcessId,
        page_shift: PageShift,
        items: &[Access],
    ) -> Option<&'m [u8]> {
        let (first, last) = times_of(items)?;
        let mut out = SliceOutput::behind(memory, CHUNK_HEADER_BYTES);
        put_accesses(&mut out, page_shift, items);
        let end = out.length();
        if end > memory.len() || end - CHUNK_HEADER_BYTES > PAYLOAD_BYTES_MAX {
            return None;
        }
        let payload = &memory[CHUNK_HEADER_BYTES..end];
        let header = ChunkHeader {
            kind: ChunkKind::ACCESSES,
            compression: Compression::None,
            stream: StreamId(process.0),
            count: u32::try_from(items.len()).ok()?,
            first,
            last,
            stored_bytes: payload.len() as u32,
            raw_bytes: payload.len() as u32,
            payload_crc: crc32(payload),
        };
        memory[..CHUNK_HEADER_BYTES].copy_from_slice(&header.encode());
        Some(&memory[..end])
    }
}

/// The first and the last time at which one of the items is known: of an epoch its end. `None` for none.
pub(crate) fn times_of(items: &[Access]) -> Option<(TraceNanos, TraceNanos)> {
    let times = items.iter().filter_map(|item| match item {
        Access::Epoch(epoch) => Some(epoch.end),
        Access::Watched(access) => Some(access.time),
        Access::Armed(_) | Access::Written(_) => None,
    });
    // A time that goes back would be damage to a reader: it is written as the one before.
    let mut times = times;
    let first = times.next()?;
    Some((first, times.fold(first, TraceNanos::max)))
}

/// Writes the payload. Each column is gone through twice: its length comes first, and there is no memory to keep it in.
pub(crate) fn put_accesses(out: &mut impl Output, page_shift: PageShift, items: &[Access]) {
    let first = times_of(items).map_or(TraceNanos(0), |(first, _)| first);
    out.write(&[LAYOUT, page_shift.get(), COLUMNS as u8]);
    for column in 0..COLUMNS {
        let mut counted = SliceOutput::new(&mut []);
        put_column(&mut counted, column, first, items);
        put(out, counted.length() as u64);
    }
    for column in 0..COLUMNS {
        put_column(out, column, first, items);
    }
}

fn put_column(out: &mut impl Output, column: usize, first: TraceNanos, items: &[Access]) {
    let mut last = Last::at(first);
    for item in items {
        match item {
            Access::Epoch(epoch) => {
                let end = epoch.end.0.max(last.time);
                last.write_time = epoch.begin.0;
                match column {
                    KIND => out.write(&[if epoch.ranges_follow { EPOCH_WITH_RANGES } else { EPOCH }]),
                    TIME => put(out, end - last.time),
                    NUMBER => {
                        put(out, epoch.number);
                        put(out, end.saturating_sub(epoch.begin.0));
                        put(out, epoch.source as u64);
                    }
                    _ => {}
                }
                last.time = end;
            }
            Access::Armed(range) => {
                if column == KIND {
                    out.write(&[ARMED]);
                }
                put_range(out, column, &mut last, range);
            }
            Access::Written(run) => {
                if column == KIND {
                    let has_writer = if run.writer.is_some() { HAS_WRITER } else { 0 };
                    out.write(&[WRITTEN + run.label as u8 + has_writer]);
                }
                put_range(out, column, &mut last, &run.range);
                if let Some(writer) = &run.writer {
                    put_writer(out, column, &mut last, writer);
                }
            }
            Access::Watched(access) => put_watched(out, column, &mut last, access),
        }
    }
}

fn put_range(out: &mut impl Output, column: usize, last: &mut Last, range: &PageRange) {
    match column {
        PAGE => put(out, zigzag(range.first.0.wrapping_sub(last.page) as i64)),
        PAGES => put(out, range.pages.0),
        _ => {}
    }
    last.page = range.first.0.wrapping_add(range.pages.0);
}

fn put_writer(out: &mut impl Output, column: usize, last: &mut Last, writer: &FirstWriter) {
    match column {
        THREAD => put_difference(out, last.tid, writer.tid.into()),
        WRITE_TIME => put_difference(out, last.write_time, writer.time.0),
        INSTRUCTION => put_difference(out, last.instruction, writer.instruction.0),
        NUMBER => {
            put(out, writer.span_ns);
            put(out, writer.stack.0.into());
            put_optional(out, writer.task);
        }
        _ => {}
    }
    last.tid = writer.tid.into();
    last.write_time = writer.time.0;
    last.instruction = writer.instruction.0;
}

fn put_watched(out: &mut impl Output, column: usize, last: &mut Last, access: &WatchedAccess) {
    let time = access.time.0.max(last.time);
    match column {
        KIND => {
            let write = if access.write { IS_WRITE } else { 0 };
            let foreign = if access.foreign.is_some() { IS_FOREIGN } else { 0 };
            out.write(&[WATCHED + write + foreign]);
        }
        TIME => put(out, time - last.time),
        THREAD => put_difference(out, last.tid, access.tid.into()),
        INSTRUCTION => put_difference(out, last.instruction, access.instruction.0),
        NUMBER => {
            put(out, access.address.0);
            put(out, access.stack.0.into());
            put_optional(out, access.task);
            put(out, access.source as u64);
            if let Some(modification) = access.foreign {
                put(out, modification.tid.into());
                put(out, modification.time.0);
            }
        }
        _ => {}
    }
    last.time = time;
    last.tid = access.tid.into();
    last.instruction = access.instruction.0;
}

fn put_difference(out: &mut impl Output, last: u64, value: u64) {
    put(out, zigzag(value.wrapping_sub(last) as i64));
}

/// None is 0, and the largest number, which has no successor, is none.
fn put_optional(out: &mut impl Output, number: Option<u64>) {
    put(out, number.and_then(|number| number.checked_add(1)).unwrap_or(0));
}
