//! From the events of a trace to pages, objects and where the memory went.
//!
//! The crate does no I/O: [`replay`] takes a [`Trace`](pagetrace_format::Trace) over bytes in memory, goes over its
//! events once, and gives plain structs. Its memory follows what is alive in the traced processes, not the length of
//! the trace.
//!
//! ```
//! use pagetrace_format::records::{End, Record};
//! use pagetrace_format::*;
//! use pagetrace_replay::{Moment, replay};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let header = FileHeader {
//!     version: VERSION,
//!     page_shift: PageShift::KIB_4,
//!     origin: Origin::Recorded,
//!     start: TraceNanos(10),
//!     start_unix_ns: 0,
//! };
//! let mut writer = TraceWriter::new(Vec::new(), &header)?;
//! let mut events = EventColumns::new();
//! let (address, function) = (Address(0x10000), ObjectFunction::Plain);
//! let object = ObjectAlloc { address, size: 100, usable: 104, stack: StackId(1), function };
//! events.push(Event { time: TraceNanos(17), kind: EventKind::ObjectAlloc(object) });
//! writer.events(StreamId(1), &events)?;
//! writer.records(TraceNanos(20), &[Record::End(End { time: TraceNanos(20), unix_ns: 0 })])?;
//! let bytes = writer.into_inner()?;
//!
//! let replayed = replay(&Trace::open(&bytes)?, Moment::End, &mut |_events| {})?;
//! assert!(replayed.complete);
//! assert_eq!(replayed.processes[0].objects.map(|objects| objects.live_bytes), Some(100));
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod replay;
pub use replay::{replay, replay_objects, replay_with_history};

mod moment;
pub use moment::Moment;

pub mod results;
pub use results::{Replayed, ReplayedProcess, RssClasses, RssState};

pub mod history;
pub use history::{History, HistoryLimits};

pub mod page_detail;
pub use page_detail::pages_in_detail;

mod stack_shares;
pub use stack_shares::StackShares;

pub mod metadata;
pub use metadata::Metadata;

pub mod page_events;
pub use page_events::PageEvents;

pub mod page_writes;
pub use page_writes::PageWrites;

mod checkpoint;
pub use checkpoint::{Dropped, compact};

pub mod go_heap;
pub use go_heap::{GoHeap, replay_go_heap};

pub mod go_pages;
pub use go_pages::{GoPages, go_pages};

pub mod activity_lanes;

mod prediction;
pub use prediction::{predicted_anonymous_pages, predicted_file_pages};

pub mod timeline;
pub use timeline::Timeline;

pub mod process_timeline;
pub use process_timeline::{AccessTimeline, KernelTimeline};

pub use estimates::Estimate;

mod error;
pub use error::ReplayError;

mod objects;
pub use objects::SiteId;

mod address_space;
mod analyses;
mod births;
mod copies;
mod defects;
mod early_frees;
mod estimates;
mod intervals;
mod kernel_states;
mod late_births;
mod merged_event;
mod object_map;
mod open_chunk;
mod outcome;
mod page_map;
mod page_states;
mod page_table;
mod process_state;
mod read_ahead;
mod write_states;
