//! The one error of this crate.

/// Why a trace could not be replayed. Damage in a trace is none: see [`crate::Replayed::defects`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The trace has neither events nor processes.
    #[error(
        "nothing to analyse: expected events or a process record, found {chunks} readable chunks without either. If the recording was stopped at once, record again"
    )]
    NothingRecorded {
        /// Readable chunks in the file.
        chunks: usize,
    },
    /// An execution trace of Go without the events that this crate looks at.
    #[error(
        "this execution trace of Go has no alloc/free events: run the program with GODEBUG=traceallocfree=1 in its environment, and have it call runtime/trace.Start (Go 1.23 or later)"
    )]
    NoAllocFreeEvents,
    /// An execution trace of Go of which nothing could be read.
    #[error("no alloc/free event can be read: at offset {offset} of the execution trace there is {what}. Record again")]
    DamagedGoTrace {
        /// Where the first damage is in the file, bytes.
        offset: usize,
        /// What was found there.
        what: &'static str,
    },
    /// The header of an execution trace of Go.
    #[error(transparent)]
    Format(#[from] pagetrace_format::FormatError),
    /// Events of the moment asked for were dropped while it was recorded.
    #[error(
        "events before {kept_from_ns} ns after the start were dropped to bound the recording's size, and {asked_ns} ns lies before it: choose a later moment"
    )]
    MomentDropped {
        /// What was asked for, nanoseconds since the start.
        asked_ns: u64,
        /// From when on all is known, nanoseconds since the start.
        kept_from_ns: u64,
    },
    /// The moment asked for is not within the trace.
    #[error(
        "the trace lasts {lasts_ns} ns, and {asked_ns} ns after its start lies beyond it: choose an earlier moment"
    )]
    MomentOutside {
        /// What was asked for, nanoseconds since the start.
        asked_ns: u64,
        /// Time from the start to the last event or snapshot, nanoseconds.
        lasts_ns: u64,
    },
}
