//! The execution traces of Go 1.23 and later (`runtime/trace.Start`), of which the alloc/free events are read that
//! `GODEBUG=traceallocfree=1` adds: heap spans, objects with their types, goroutine stacks.
//!
//! ```text
//! file        "go 1.26 trace" 0 0 0 · batch · batch …
//! batch       1 · generation · M · time · bytes · payload          numbers are LEB128, at most 64 bits
//!             49 · experiment · generation · M · time · bytes · payload
//!             52                                                   from format 1.26 on: the generation is whole
//! payload     event · event …  or  one table: 2 stacks, 4 strings, 6 CPU samples, 8 frequency, 50 clocks
//! event       type · time since the last event of the batch · arguments
//! ```
//! A trace is a sequence of generations, each with its own tables, which come last. So a reader goes over the batches of
//! a generation for the tables first (`generation.rs`), then over the events of all Ms by time
//! ([`GoEvents`]). Which P and which goroutine an M ran when it wrote an event follows from the scheduler's events.
//!
//! Example: an allocation at the tenth heap word, of type 3, 5 clock units after the event before: `84 01 05 0a 03`.

mod batch;
mod clock;
mod event;
mod event_type;
mod events;
mod generation;
mod header;
mod heap_layout;
mod interned;
mod m_cursor;
mod scheduling;
pub mod size_class;
mod tables;

pub use event::{GoEvent, GoEventKind, GoFrame, GoOrigin, GoType, OriginId, TypeId};
pub use events::GoEvents;
pub use header::GoTraceVersion;
pub use heap_layout::HeapLayout;
pub use size_class::SpanClass;
