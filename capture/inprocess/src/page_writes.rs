//! Which pages are written, when, by which thread and task: epochs of write protection that the kernel resolves by itself.

use core::ops::Range;
use core::time::Duration;

use crate::access_error::AccessError;
use crate::twin;

/// A moment of CLOCK_MONOTONIC, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonotonicNanos(pub u64);

/// A thread, by the kernel's number (gettid(2)). Numbers of threads that have ended may come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Thread(pub u32);

impl Thread {
    /// The calling thread; 0 when compiled out.
    #[must_use]
    pub fn current() -> Thread {
        Thread(twin::current_thread())
    }
}

/// A span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Where it begins.
    pub begin: MonotonicNanos,
    /// Where it ends.
    pub end: MonotonicNanos,
}

/// What is known of a page of the kernel's, as of the end of the last epoch.
///
/// Exact are the pages and, to the epoch, the time: the kernel says of each whether it was written since it was protected last,
/// its own writes in system calls included. The thread is that of the first write of an epoch alone, since the page is
/// writable from there on. Where the kernel wrote first, or the record of the fault was lost, there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageInfo {
    /// Whether it was written in an epoch that has ended.
    pub modified: bool,
    /// The last epoch in which it was written. Of one that ended more than 65,535 epochs ago only that much is known: it begins
    /// with the tracking.
    pub last_epoch: Option<Interval>,
    /// Who wrote to it first in that epoch; `None` where the kernel did, as read(2) does, or where it is not known.
    pub first_writer_of_last_epoch: Option<Thread>,
    /// What that thread was at, by [`task_begins`], when it wrote.
    pub task: Option<u64>,
    /// In how many epochs it was written.
    pub epochs_written: u32,
    /// Whether the program gave it back to the kernel since it was written (madvise(2), MADV_DONTNEED).
    pub discarded: bool,
}

/// Figures of the tracking since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteStatistics {
    /// Epochs that have ended.
    pub epochs: u64,
    /// Pages written, each as often as epochs in which it was.
    pub pages_written: u64,
    /// Of these, without a thread.
    pub without_thread: u64,
    /// Pages given back by the program and not written in the same epoch.
    pub pages_discarded: u64,
    /// Of the pages written, those that another thread had written in the last epoch before in which they were.
    pub written_by_another_thread: u64,
    /// Records of faults that the kernel or the tracer had no room for.
    pub faults_lost: u64,
    /// Threads whose faults cannot be seen, for want of descriptors or of the right to.
    pub threads_unseen: u64,
    /// Bytes of memory whose writes are seen.
    pub bytes_tracked: u64,
    /// Bytes of writable memory whose writes cannot be seen: somebody else has registered it, or the kernel refuses.
    pub bytes_untracked: u64,
    /// How long the last look at all pages took, nanoseconds.
    pub last_scan_ns: u64,
}

/// Which memory's writes to track, and how. It works with a recording and without one; with one epochs are in its trace.
///
/// ```
/// # fn main() -> Result<(), pagetrace::AccessError> {
/// # use pagetrace::{AccessError, WriteTracking};
/// # use std::time::Duration;
/// match WriteTracking::all_writable().epoch(Duration::from_millis(100)).start() {
///     Ok(()) => {}
///     // Where the kernel or a sandbox does not have it: the error says what is missing.
///     Err(AccessError::Unavailable { .. }) => return Ok(()),
///     Err(other) => return Err(other),
/// }
/// let page = Box::new(7_u8);
/// pagetrace::end_write_epoch()?;
/// let info = pagetrace::page_info((&raw const *page).addr());
/// println!("{info:?}");
/// pagetrace::stop_tracking_writes();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is tracked before start"]
pub struct WriteTracking(pub(crate) twin::WriteTracking);

impl WriteTracking {
    /// All memory that the program may write to but for the tracer's own and for devices, also what it maps later.
    #[inline]
    pub fn all_writable() -> WriteTracking {
        WriteTracking(twin::WriteTracking::new(None))
    }

    /// What of a range of addresses is writable, also what is mapped there later. It is widened to whole pages.
    #[inline]
    pub fn range(range: Range<usize>) -> WriteTracking {
        WriteTracking(twin::WriteTracking::new(Some(range)))
    }

    /// How long an epoch is, 1 s by default, at least 1 ms. One also ends when some hundred thousand writes have come in it.
    #[inline]
    pub fn epoch(self, epoch: Duration) -> WriteTracking {
        WriteTracking(self.0.epoch(epoch))
    }

    /// Starts it. From here on a write to a page costs one fault an epoch, about 1.2 µs. Forked children track their own
    /// memory from their start on. [`off`](crate::off) and [`finish`](crate::finish) end it, [`on`](crate::on) begins anew.
    ///
    /// # Errors
    /// [`AccessError::AlreadyTracking`]; [`AccessError::Unavailable`] where the kernel has not what it takes (Linux 6.7) or does
    /// not permit it; [`AccessError::Range`] for an empty range; [`AccessError::Memory`], [`AccessError::ThreadNotStarted`].
    #[inline]
    pub fn start(self) -> Result<(), AccessError> {
        self.0.start()
    }
}

/// Tracks the writes of `what` from now on: [`WriteTracking::start`].
///
/// # Errors
/// As there.
#[inline]
pub fn track_writes(what: WriteTracking) -> Result<(), AccessError> {
    what.start()
}

/// Ends the tracking: all protection is taken away, all memory for it given back. Does nothing where there is none.
#[inline]
pub fn stop_tracking_writes() {
    twin::stop_tracking_writes();
}

/// What is known of the page that `address` lies in. `None` where no writes are tracked. May be called by any thread at any
/// time and waits for nobody.
#[inline]
#[must_use]
pub fn page_info(address: usize) -> Option<PageInfo> {
    twin::page_info(address)
}

/// Ends the present epoch now, so that [`page_info`] knows of all writes that came before.
///
/// # Errors
/// [`AccessError::NotTracking`]; [`AccessError::Unavailable`] when the kernel refuses.
#[inline]
pub fn end_write_epoch() -> Result<(), AccessError> {
    twin::end_write_epoch()
}

/// Figures of the tracking.
#[inline]
#[must_use]
pub fn write_statistics() -> WriteStatistics {
    twin::write_statistics()
}

/// Says what the calling thread is at from now on: for a runtime with tasks of its own, a goroutine's number. `None` for
/// nothing. It costs the time of a clock, and lets writes and accesses say the task as exactly as the times of both are: the
/// last 128 changes of a thread are kept, and where a write is older than these it has no task.
#[inline]
pub fn task_begins(task: Option<u64>) {
    twin::task_begins(task);
}
