//! Single accesses to chosen memory: reads and writes with time, thread and instruction, as they happen.

use core::ops::Range;
use core::time::Duration;

use crate::access_error::AccessError;
use crate::page_writes::{MonotonicNanos, Thread};
use crate::twin;

/// An access to a watched range, before it proceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Access {
    /// When it was seen.
    pub time: MonotonicNanos,
    /// Who. In a system call it is the thread that made it.
    pub thread: Thread,
    /// What was accessed.
    pub address: usize,
    /// How.
    pub kind: AccessKind,
    /// The instruction, where it is known: not in system calls.
    pub instruction: Option<usize>,
    /// What the thread was at, by [`task_begins`](crate::task_begins).
    pub task: Option<u64>,
    /// The thread that modified the page last, if that was another one, as far as its writes were seen.
    pub modified_by: Option<Thread>,
    /// When that was seen.
    pub modified_at: Option<MonotonicNanos>,
}

/// Whether it reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKind {
    /// It reads.
    Read,
    /// It writes.
    Write,
}

/// What becomes of an access that a callback was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It proceeds.
    Proceed,
    /// The process is stopped (SIGSTOP) before it proceeds, for a debugger to look at; SIGCONT goes on.
    Stop,
    /// The program is aborted (abort(3)) before it proceeds.
    Abort,
}

/// Accesses seen of a watch since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchStatistics {
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Of both, those to a page that another thread had modified last.
    pub foreign: u64,
    /// Those that are not in the trace, since there was no room for them until it was written.
    pub lost: u64,
    /// How often all pages were armed again.
    pub periods: u64,
}

/// Which range to watch, and how.
///
/// Of each page the first read and the first write of a period are seen, and of a page that several threads contend for those of
/// each: pages are taken out of the program's page tables, and moved back when somebody comes for them (userfaultfd(2),
/// UFFDIO_MOVE). An access that is seen takes about 10 µs, others nothing. Between two armings of a page, accesses are not seen.
///
/// The range is widened to whole pages and must be private memory that the program may write to, and nothing that the callback,
/// the C library or another part of the tracer needs while an access waits: whoever comes for a page waits until the tracer's
/// thread has moved it back. Forked children have no watches, and find their memory whole.
///
/// ```
/// # fn main() -> Result<(), pagetrace::AccessError> {
/// use pagetrace::{Access, AccessError, AccessKind, Decision, Watch};
/// fn look(access: &Access) -> Decision {
///     match access.modified_by {
///         Some(_) if access.kind == AccessKind::Write => Decision::Stop,
///         _ => Decision::Proceed,
///     }
/// }
/// # let range = 0..0;
/// match Watch::range(range).on_access(look).start() {
///     Ok(watching) => println!("{:?}", watching.statistics()),
///     // Who is not privileged has to accept that system calls on the range fail.
///     Err(AccessError::SystemCallsWouldFail) => {}
///     Err(error) => println!("{error}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is watched before start"]
pub struct Watch(twin::Watch);

impl Watch {
    /// Watches a range of addresses.
    #[inline]
    pub fn range(range: Range<usize>) -> Watch {
        Watch(twin::Watch::new(range))
    }

    /// How often pages are armed again, each 10 ms by default, at least 1 ms.
    #[inline]
    pub fn rearm_every(self, period: Duration) -> Watch {
        Watch(self.0.rearm_every(period))
    }

    /// Shows each access that is seen to `callback` before it proceeds. It runs on a thread of the tracer's, while the thread
    /// that accesses the page waits, and must not touch the range nor wait for anybody who might.
    #[inline]
    pub fn on_access(self, callback: fn(&Access) -> Decision) -> Watch {
        Watch(self.0.on_access(callback))
    }

    /// Accepts that system calls which are given an address in the range may fail with EFAULT while its page is armed. That is
    /// so for users without CAP_SYS_PTRACE where the sysctl `vm.unprivileged_userfaultfd` is 0; with it nothing fails.
    #[inline]
    pub fn system_calls_may_fail(self) -> Watch {
        Watch(self.0.system_calls_may_fail())
    }

    /// Where userfaultfd(2) is not to be had, as in many containers, goes by signals: pages lose their rights (mprotect(2)), and the
    /// tracer handles SIGSEGV from then on, and hands what is not its own to the handler that was there before. Accepts
    /// failing system calls, too. The callback then runs in the thread that accesses the page, within the signal handler: it may
    /// do only what that may (signal-safety(7)). Rights that the program has given to its pages itself are lost, and a thread that
    /// holds SIGSEGV back dies of an access.
    #[inline]
    pub fn by_signals(self) -> Watch {
        Watch(self.0.by_signals())
    }

    /// Starts. It ends when the handle is dropped, and with [`finish`](crate::finish); it rests while recording is
    /// [`off`](crate::off).
    ///
    /// # Errors
    /// [`AccessError::SystemCallsWouldFail`], [`AccessError::Unavailable`] (Linux 6.8), [`AccessError::NotPrivateMemory`],
    /// [`AccessError::Range`], [`AccessError::TooManyWatches`] beyond 16, [`AccessError::Memory`],
    /// [`AccessError::ThreadNotStarted`].
    #[inline]
    pub fn start(self) -> Result<Watching, AccessError> {
        Ok(Watching(self.0.start()?))
    }
}

/// Watches `range` with all as it is by default: [`Watch::start`].
///
/// # Errors
/// As there.
#[inline]
pub fn watch(range: Range<usize>) -> Result<Watching, AccessError> {
    Watch::range(range).start()
}

/// A range that is watched, until this is dropped.
#[derive(Debug)]
#[must_use = "the watch ends when this is dropped"]
pub struct Watching(twin::Watching);

impl Watching {
    /// What was seen so far.
    #[inline]
    #[must_use]
    pub fn statistics(&self) -> WatchStatistics {
        self.0.statistics()
    }
}
