//! What the kernel says of pages while programs run, by perf_event_open(2): each page fault, each system call that
//! concerns pages, what programs map, fork, execute and when they end.
//!
//! ```text
//!  thread that starts the command ── open ──▶ events ──▶ a ring for each processor
//!                                                              │ take: record.rs
//!                                                              ▼
//!  KernelStreams of the recorder ◀── Told ── Timeline: by time, calls with their results, faults with their stacks
//! ```
//!
//! Root's system calls are told by programs in the kernel where it takes them (programs/), else by tracepoints as everyone's.
//!
//! Events are opened on a thread that starts the command and ends: so the command and all its descendants have them,
//! and other children of the recorder do not. Of a program that runs already each thread gets events of its own, whose records
//! go to the same rings.

mod accesses;
mod attached;
mod attributes;
mod filled;
mod found;
mod marker_search;
mod open;
mod programs;
mod record;
mod ring;
mod sys;
mod timeline;
mod traced_calls;
mod tracepoints;

pub use accesses::Accesses;
pub use attributes::REGISTERS;
pub use found::{CallsBy, Found, PerfOptions};
pub use open::PerfEvents;
pub use record::{Body, MappedRecord, PerfRecord};
pub use timeline::{Missed, StackSample, Timeline, Told, ToldKind};
pub use traced_calls::{FILL_BYTES_LEAST, page_call_numbers};
