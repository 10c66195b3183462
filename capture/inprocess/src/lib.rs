//! The tracer that goes into a program, an allocator or a language runtime: hooks for pages and objects, event
//! buffers, and the way to a trace file or to a recorder.
//!
//! Without the feature `enabled` every function here is empty and every type has no size, so calls can stay in the
//! source for good.
//!
//! # A program
//! One line traces every object of a Rust program; `PAGETRACE=trace.pagetrace` in the environment says where to:
//! ```
//! #[global_allocator]
//! static ALLOCATOR: pagetrace::Traced<std::alloc::System> = pagetrace::Traced::new(std::alloc::System);
//! # fn main() {}
//! ```
//! Or start it yourself, with a guard that finishes the trace when it is dropped:
//! ```
//! # fn main() -> Result<(), pagetrace::Error> {
//! # let directory = std::env::temp_dir().join(format!("pagetrace-doc-{}", std::process::id()));
//! # std::fs::create_dir_all(&directory).expect("a directory");
//! let guard = pagetrace::Builder::new(directory.join("service.pagetrace")).init()?;
//! // … the program …
//! drop(guard);
//! # std::fs::remove_dir_all(&directory).expect("it was made above");
//! # Ok(())
//! # }
//! ```
//!
//! # An allocator
//! Allocators record runs of pages, each into a [`PageTraceBuf`] that they own, as each P of Go's runtime does, or
//! into that of the calling thread ([`thread_buf`]):
//! ```
//! struct Arena {
//!     trace: pagetrace::PageTraceBuf,
//! }
//! impl Arena {
//!     fn take_pages(&mut self, base: usize, pages: usize) {
//!         self.trace.alloc(base, pages);
//!     }
//! }
//! # Arena { trace: pagetrace::PageTraceBuf::new() }.take_pages(0x1000, 4);
//! ```
//!
//! # Who wrote, who read
//! [`WriteTracking`] notes for every writable page in which epoch it was written last, by which thread first, and at what task:
//! [`page_info`]. [`Watch`] shows single reads and writes of chosen memory before they proceed. Both work with a recording,
//! whose trace they are in, and without one. [`AccessError`] says what the kernel or a sandbox does not let them do.
//!
//! # States
//! ```text
//!  compiled out (no feature `enabled`): every function is empty
//!
//!                    init, or the environment at the program's start
//!  uninitialized ──────────────────────────────────────────▶ recording ◀─────────────┐
//!     ▲   hooks: one relaxed load and a branch                │  │  │  ▲             │
//!     │                                          off(Off::Keep)  │  │ on()           │ on(): a gap in the trace,
//!     │                                                       ▼  │  │  │             │ objects before it are unknown
//!     │                                  keeping: ids and live table go on,          │
//!     │                                  nothing is written, buffers are given back  │
//!     │                                                          │  └─off(Off::Drop)─▶ dropped: all memory given back
//!     └──────── reset() ◀── finished ◀── finish(), guard dropped, exit ──┘
//!
//!  fork: the child goes on as a process of its own in the same trace.
//!  Under `pagetrace record` the recorder writes: recording ends for good when it is gone.
//! ```
//!
//! # What hooks keep to
//! They never allocate from, lock against or re-enter the traced allocator; they leave `errno` alone; a full buffer is
//! waited for (bounded by the life of who drains it) or counted as lost, by choice ([`WhenFull`]).
//!
//! # From the names of Go's runtime
//! | Go 1.20–1.22 (`runtime/pagetrace_on.go`) | here |
//! |---|---|
//! | `GOEXPERIMENT=pagetrace` at build time | the feature `enabled` |
//! | `GODEBUG=pagetrace=FILE` | the same, or `PAGETRACE=FILE,format=go,page_size=8192` |
//! | `pageTraceAlloc(pp, now, base, npages)` | [`PageTraceBuf::alloc`]; [`ThreadBuf::alloc`] where `pp` is nil |
//! | `pageTraceFree(pp, now, base, npages)` | [`PageTraceBuf::free`] |
//! | `pageTraceScav(pp, now, base, npages)` | [`PageTraceBuf::scav`] |
//! | `initPageTrace(env)` | [`init`], [`Builder::init`] |
//! | `finishPageTrace()` | [`finish`], or dropping the [`Guard`] |
//! | `pageTraceBuf` in each P, empty when compiled out | [`PageTraceBuf`] |
//! | `pageTraceBuf.buf`, the encoded events | [`PageTraceBuf::buf`] |
//! | `pageTraceBuf.len`, bytes of events in it | [`PageTraceBuf::cnts`], in events |
//! | `pageTraceBuf.timeBase` | in the encoded events |
//! | `pageTraceBuf.finished` | [`state`] |
//! | on, off: decided when compiling | the feature decides what is compiled, [`on`] and [`off`] at run time |
//!
//! Here every buffer has besides: [`PageTraceBuf::pages`], the page runs it traced, for statistics also after [`off`],
//! and [`PageTraceBuf::mask`], the kinds of events that it records.

mod hooks;
mod page_trace_buf;

mod recording;

mod objects;

mod traced;

mod page_writes;
mod watch;

mod access_error;
mod error;

#[cfg(not(feature = "enabled"))]
mod off;
#[cfg(feature = "enabled")]
mod on;
#[cfg(feature = "enabled")]
mod sys;

/// The one of the twins that is compiled: `on` and `off` have the same signatures, so one that drifts does not compile.
mod twin {
    #[cfg(not(feature = "enabled"))]
    pub use crate::off::*;
    #[cfg(feature = "enabled")]
    pub use crate::on::*;
}

#[cfg(feature = "enabled")]
#[doc(hidden)]
pub use on::passing;

pub use access_error::AccessError;
pub use error::Error;
pub use hooks::{
    Caller, Function, PendingFree, SandboxEntered, Ticks, attach, code_unloaded, fault_handling_begins, fork_begins,
    fork_in_child, fork_in_parent, hold_for_last_snapshot, is_recording, limits_asked, limits_noted, now, object_alloc,
    object_alloc_in, object_free, object_free_at, object_free_begins, own_bytes, own_pid, passes_over,
    passes_over_free, real_malloc_is_at, sandbox_begins, sandbox_failed, thread_ended, thread_started,
};
pub use objects::{
    BucketId, FrameError, Object, ObjectId, PageFrame, PageStatistics, Statistics, bucket, frame_of, object_at,
    object_containing, page_bytes, page_of, statistics,
};
pub use page_trace_buf::{EventMask, PageEventKind, PageTraceBuf, ThreadBuf, TracedRun, shared_buf, thread_buf};
pub use page_writes::{
    Interval, MonotonicNanos, PageInfo, Thread, WriteStatistics, WriteTracking, end_write_epoch, page_info,
    stop_tracking_writes, task_begins, track_writes, write_statistics,
};
pub use recording::{Builder, Guard, Off, State, TraceFormat, WhenFull, finish, flush, init, off, on, reset, state};
pub use traced::Traced;
pub use watch::{Access, AccessKind, Decision, Watch, WatchStatistics, Watching, watch};
