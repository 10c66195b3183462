//! Who wrote the pages of a process: what tracked writes and watched accesses came to.

use pagetrace_format::access::AccessSource;
use pagetrace_format::{Address, ProcessId, StackId, TraceNanos};

use crate::objects::SiteId;
use crate::results::Frame;

/// Ages by which resident memory is told apart, nanoseconds.
pub const AGES_NS: [u64; 4] = [1_000_000_000, 10_000_000_000, 60_000_000_000, 600_000_000_000];
/// Of hot and contended pages so many are listed.
pub const PAGES_LISTED: usize = 32;

/// The tracked writes of one process. Counts are of the whole trace, the state of pages is that of the shown moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PageWrites {
    /// How writes are known.
    pub source: AccessSource,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Epochs that have ended.
    pub epochs: u64,
    /// When the first of them began and the last ended.
    pub span: (TraceNanos, TraceNanos),
    /// Pages that were armed at the shown moment.
    pub armed_pages: u64,
    /// Written pages, those of each epoch added up.
    pub written: u64,
    /// Those of them whose first writer in the epoch is not known: the kernel wrote, or no fault told.
    pub without_writer: u64,
    /// Written pages of the epoch with the most, and of the last one.
    pub most_in_epoch: u64,
    /// See above.
    pub last_in_epoch: u64,
    /// Pages that were written and given back in the same epoch, each epoch's added up.
    pub discarded: u64,
    /// Pages that came into memory that was not armed yet, by a write or a read.
    pub new: u64,
    /// Resident pages by the time since they were written, where it is known which are resident.
    pub ages: Option<WriteAges>,
    /// Pages that were written in the most epochs, most first.
    pub hot: Vec<WrittenPage>,
    /// Pages that more than one thread wrote to, most contended first.
    pub contended: Vec<WrittenPage>,
    /// How many pages more than one thread wrote to.
    pub contended_pages: u64,
    /// From where pages were written, most first.
    pub sites: Vec<WriteSite>,
    /// What was written while a forked child lived, and so had to be copied, in the order of the forks.
    pub forks: Vec<ForkCopies>,
    /// Watched accesses.
    pub watched: WatchedCounts,
}

/// Resident anonymous pages that are armed, by the time since their last write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteAges {
    /// All of them.
    pub resident: u64,
    /// Written within each of [`AGES_NS`] before the moment.
    pub written_within: [u64; AGES_NS.len()],
    /// Not written since their writes are tracked.
    pub never_written: u64,
    /// For how long before the moment writes were tracked, nanoseconds.
    pub tracked_ns: u64,
}

/// What is known of the writes to one page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WrittenPage {
    /// Its address.
    pub address: Address,
    /// Epochs in which it was written.
    pub epochs_written: u64,
    /// The last of them: its begin and end.
    pub last_epoch: (TraceNanos, TraceNanos),
    /// Who wrote to it first in that epoch; `None` where it is not known, as of writes of the kernel.
    pub first_writer: Option<u32>,
    /// Threads that were seen to write to it, at most [`THREADS_KEPT`].
    pub threads: Vec<u32>,
    /// How often another thread was the first writer than in the epoch before that knows one, or accessed what another one
    /// had modified.
    pub hand_overs: u64,
    /// Live objects on it at the shown moment by their sites: bytes of them on the page.
    pub objects: Vec<(SiteId, u64)>,
    /// The frames of the stacks of these, in the same order.
    pub object_frames: Vec<Vec<Frame>>,
}

/// Who wrote a page last that is tracked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LastWrite {
    /// The end of the last epoch in which it was written, to the millisecond; `None` where it was not since it is tracked.
    pub epoch_end: Option<TraceNanos>,
    /// Who wrote to it first in that epoch; `None` where it is not known, as of writes of the kernel.
    pub writer: Option<u32>,
    /// Threads that were seen to write to it so far, at most [`THREADS_KEPT`].
    pub threads: u8,
}

/// Threads that are kept of a contended page.
pub const THREADS_KEPT: usize = 4;

/// A place of the program that writes pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteSite {
    /// The instruction, 0 where not known.
    pub instruction: Address,
    /// The stack, for a share of writes.
    pub stack: StackId,
    /// Its frames, innermost first; without a stack the instruction alone, given as if it were a return address.
    pub frames: Vec<Frame>,
    /// Pages of which it was the first writer in an epoch, added up.
    pub pages: u64,
}

/// What a process wrote while a child that it had forked lived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForkCopies {
    /// The child.
    pub child: ProcessId,
    /// When it was forked, and when it ended or executed another program.
    pub lived: (TraceNanos, TraceNanos),
    /// Pages of the parent that were written then.
    pub pages: u64,
    /// Others that were written in the epoch in which it was forked: before or after it.
    pub unclear_pages: u64,
}

/// Accesses to watched ranges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchedCounts {
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Of either, to pages that another thread had modified last.
    pub foreign: u64,
}
