//! What can go wrong when accesses to memory are watched.

use core::fmt;
use std::io;

/// Why writes cannot be tracked, or a range not be watched.
#[derive(Debug)]
#[non_exhaustive]
pub enum AccessError {
    /// Writes are tracked already.
    AlreadyTracking,
    /// No writes are tracked, or the tracer has not been compiled in.
    NotTracking,
    /// The kernel does not have or does not permit what it takes.
    Unavailable {
        /// What was asked for.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// This user may not have the faults of system calls handled, so one that is given an address in the range would fail with
    /// EFAULT, in whatever library it is made. [`Watch::system_calls_may_fail`](crate::Watch::system_calls_may_fail) accepts
    /// that; CAP_SYS_PTRACE or the sysctl `vm.unprivileged_userfaultfd` makes it unnecessary.
    SystemCallsWouldFail,
    /// The range is empty, or wraps around.
    Range,
    /// The range is not all private anonymous memory that the program may write to, or is watched by somebody else.
    NotPrivateMemory,
    /// As many ranges are watched as can be.
    TooManyWatches,
    /// No memory for what is to be noted.
    Memory(io::Error),
    /// The thread could not be started.
    ThreadNotStarted(io::Error),
    /// It was called from within itself: by a signal handler that has interrupted it, or by a watch's callback.
    Busy,
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccessError::AlreadyTracking => {
                f.write_str("writes are tracked already: stop_tracking_writes ends that")
            }
            AccessError::NotTracking => f.write_str("no writes are tracked: track_writes starts that"),
            AccessError::Unavailable { what, source } => {
                write!(f, "the kernel does not give this process {what}: {source}; Linux 6.8 or later has it, sandboxes may forbid it")
            }
            AccessError::SystemCallsWouldFail => f.write_str(
                "system calls on the watched range would fail with EFAULT, since this user may not handle their faults: accept that \
                 by Watch::system_calls_may_fail, or give the program CAP_SYS_PTRACE",
            ),
            AccessError::Range => f.write_str("expected a range of at least one byte, found an empty one"),
            AccessError::NotPrivateMemory => f.write_str(
                "expected private anonymous memory that may be written and that nobody else watches, found something else in the range",
            ),
            AccessError::TooManyWatches => f.write_str("too many ranges are watched: drop one"),
            AccessError::Memory(source) => write!(f, "no memory to note accesses in: {source}"),
            AccessError::ThreadNotStarted(source) => write!(f, "the thread that looks at accesses could not be started: {source}"),
            AccessError::Busy => f.write_str("called from within the tracer itself: not from a signal handler or a watch's callback"),
        }
    }
}

impl std::error::Error for AccessError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AccessError::Unavailable { source, .. }
            | AccessError::Memory(source)
            | AccessError::ThreadNotStarted(source) => Some(source),
            _ => None,
        }
    }
}
