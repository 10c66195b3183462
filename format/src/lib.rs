//! The trace format of pagetrace: the only code that both ends of a recording share.
//!
//! `TRACE_FORMAT.md` beside this crate's manifest is the specification. Without the feature `std` the crate is
//! `no_std`, allocates nothing and depends on nothing: that part goes into traced programs. With it the crate reads
//! and writes whole traces and the page traces of Go 1.20–1.22, and reads the execution traces of Go 1.23 and later.
//!
//! ```
//! use pagetrace_format::*;
//! # fn main() -> Result<(), FormatError> {
//! let header = FileHeader {
//!     version: VERSION,
//!     page_shift: PageShift::KIB_4,
//!     origin: Origin::Recorded,
//!     start: TraceNanos(0),
//!     start_unix_ns: 0,
//! };
//! let mut writer = TraceWriter::new(Vec::new(), &header)?;
//! let mut events = EventColumns::new();
//! let run = PageRun { base: Address(0x10000), pages: PageCount(4) };
//! events.push(Event { time: TraceNanos(17), kind: EventKind::PageAlloc(run) });
//! writer.events(StreamId(1), &events)?;
//! let bytes = writer.into_inner()?;
//!
//! let trace = Trace::open(&bytes)?;
//! let mut cursor = trace.events(&trace.chunks()[0])?;
//! assert_eq!(cursor.next_event()?.map(|event| event.time), Some(TraceNanos(17)));
//! # Ok(())
//! # }
//! ```
#![cfg_attr(not(feature = "std"), no_std)]

pub mod units;

pub mod event;

pub mod access;

pub mod header;

pub mod checksum;

pub mod encode;

pub mod session;

pub mod idle;

pub mod records;

pub mod record_chunk;

pub mod go_page_trace;

#[cfg(feature = "std")]
pub mod go_execution_trace;

#[cfg(feature = "std")]
pub mod checkpoint;
#[cfg(feature = "std")]
pub mod columns;
#[cfg(feature = "std")]
pub mod decode;
#[cfg(feature = "std")]
pub mod error;
#[cfg(feature = "std")]
pub mod event_batch;
#[cfg(feature = "std")]
pub mod expansion;
#[cfg(feature = "std")]
pub mod kernel_columns;
pub mod kernel_event;
#[cfg(feature = "std")]
pub mod object_columns;
pub mod snapshot;
pub mod varint;
#[cfg(feature = "std")]
pub mod writer;
#[cfg(feature = "std")]
mod zstd_contexts;

pub use access::{
    Access, AccessChunk, AccessSource, FirstWriter, Modification, PageRange, WatchedAccess, WriteEpoch, WriteLabel,
    WrittenRun,
};
pub use event::{Event, EventKind, ObjectAlloc, ObjectFree, ObjectFunction, PageRun};
pub use header::{ChunkHeader, ChunkKind, Compression, FileHeader, Origin, VERSION, VERSION_SAMPLED};
pub use kernel_event::{KernelEvent, KernelEventKind, MappedRange, PageCall, PageFault, SystemCall};
pub use record_chunk::RecordChunk;
pub use units::{Address, FileId, ObjectId, PageCount, PageIndex, PageShift, ProcessId, StackId, StreamId, TraceNanos};

#[cfg(feature = "std")]
pub use access::AccessCursor;
#[cfg(feature = "std")]
pub use checkpoint::{CheckpointTable, PageSet, TableKind};
#[cfg(feature = "std")]
pub use columns::EventColumns;
#[cfg(feature = "std")]
pub use decode::{Chunk, Defect, EventCursor, Trace};
#[cfg(feature = "std")]
pub use error::FormatError;
#[cfg(feature = "std")]
pub use event_batch::{BatchColumns, EventBatch};
#[cfg(feature = "std")]
pub use go_page_trace::{GoCursor, GoPageTrace, GoRun, go_to_native, native_to_go};
#[cfg(feature = "std")]
pub use kernel_columns::{KernelColumns, KernelCursor};
#[cfg(feature = "std")]
pub use object_columns::{ObjectColumns, TimeRounding};
#[cfg(feature = "std")]
pub use snapshot::Snapshot;
#[cfg(feature = "std")]
pub use writer::{TraceEnd, TraceWriter};
