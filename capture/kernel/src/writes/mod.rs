//! Which pages a process writes: asynchronous write protection (userfaultfd(2)), looked at and renewed at the end of each epoch.
//!
//! ```text
//!  program ── descriptor ──▶ WriteProtection: registers what is mapped, PAGEMAP_SCAN finds and protects ──▶ Look: which pages
//!                                                                                                              │
//!  page faults with thread, time and instruction ──▶ WriteFaults ──────────────────────────────▶ EpochBuilder: who was first
//!                                                                                                              ▼
//!                                                                                                    accesses of the trace
//! ```
//! The kernel serves a write to a protected page by itself, so that a program never waits for the recorder, and is left as it
//! was if that is killed. Such a write is a page fault; one of the kernel's own is none that an ordinary user hears of.

mod epoch;
mod faults;
mod probe;
mod protection;
mod sys;

pub use epoch::EpochBuilder;
pub use faults::WriteFaults;
pub use probe::{own_descriptor, prepare, probe};
pub use protection::{FoundRun, HowFound, Look, WriteProtection, take_descriptor};
