//! Who wrote and who read: which pages were written in an epoch and by whom first, and single accesses to watched ranges.
//!
//! They are one series a process, in the order of time. A traced program that looks at itself writes the same bytes as a
//! recorder, without allocation: [`AccessChunk`]. Sources: userfaultfd(2) with asynchronous write protection, the
//! PAGEMAP_SCAN ioctl (Documentation/admin-guide/mm/pagemap.rst) and faults of perf_event_open(2).

use crate::units::{Address, PageCount, PageIndex, StackId, TraceNanos};

mod chunk;
#[cfg(feature = "std")]
mod column_inputs;
#[cfg(feature = "std")]
mod cursor;

pub use chunk::AccessChunk;
#[cfg(feature = "std")]
pub(crate) use chunk::{put_accesses, times_of};
#[cfg(feature = "std")]
pub(crate) use column_inputs::ColumnInputs;
#[cfg(feature = "std")]
pub use cursor::AccessCursor;

/// One thing that is known of who accessed which memory. Pages are of the size that the chunk gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// An epoch has ended; the items behind it up to the next epoch are about it.
    Epoch(WriteEpoch),
    /// Pages of which it is known whether they were written in the epoch.
    Armed(PageRange),
    /// Pages that were written in the epoch, or may have been.
    Written(WrittenRun),
    /// A single access to a watched range.
    Watched(WatchedAccess),
}

/// A span of time in which pages are written or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteEpoch {
    /// Counts up within the process, from 1. An epoch whose number is that of the one before is more of the same one.
    pub number: u64,
    /// No write of the epoch came before.
    pub begin: TraceNanos,
    /// No write of the epoch came after. The next epoch may begin before this one ends, by the time that looking took.
    pub end: TraceNanos,
    /// Where the knowledge comes from.
    pub source: AccessSource,
    /// Whether all armed pages follow as [`Access::Armed`]; else they are those of the epoch before.
    pub ranges_follow: bool,
}

/// How it is known that memory was accessed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum AccessSource {
    /// Not known, or told by a later writer.
    #[default]
    Unknown = 0,
    /// Asynchronous write protection (userfaultfd(2), `UFFD_FEATURE_WP_ASYNC`) and what PAGEMAP_SCAN finds written. Writers
    /// are known from page faults, where they are.
    AsyncWriteProtection = 1,
    /// Write protection whose every fault is handled (`UFFDIO_REGISTER_MODE_WP`).
    WriteProtection = 2,
    /// Faults of pages that were taken out of the page tables (`UFFDIO_REGISTER_MODE_MINOR` or `UFFDIO_REGISTER_MODE_MISSING`).
    MissingPages = 3,
    /// Faults of pages without any permission (mprotect(2)).
    NoPermission = 4,
}

impl AccessSource {
    /// The source with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> AccessSource {
        match number {
            1 => AccessSource::AsyncWriteProtection,
            2 => AccessSource::WriteProtection,
            3 => AccessSource::MissingPages,
            4 => AccessSource::NoPermission,
            _ => AccessSource::Unknown,
        }
    }

    /// Its name in reports, in snake case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            AccessSource::Unknown => "unknown",
            AccessSource::AsyncWriteProtection => "async_write_protection",
            AccessSource::WriteProtection => "write_protection",
            AccessSource::MissingPages => "missing_pages",
            AccessSource::NoPermission => "no_permission",
        }
    }
}

/// Pages side by side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageRange {
    /// The first.
    pub first: PageIndex,
    /// How many.
    pub pages: PageCount,
}

/// Pages side by side that were written in an epoch, with one first writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenRun {
    /// Which.
    pub range: PageRange,
    /// What is known of them.
    pub label: WriteLabel,
    /// Who wrote to each of them first in this epoch; `None` where it is not known, as of writes of the kernel.
    pub writer: Option<FirstWriter>,
}

/// What is known of pages that the kernel shows as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum WriteLabel {
    /// They were written.
    Written = 0,
    /// The program gave them back to the kernel (madvise(2)), which shows as written too; whether they were, is not known.
    Discarded = 1,
    /// They came into memory that was not armed yet, mapped in this epoch: whether by a write or a read is not known.
    New = 2,
}

impl WriteLabel {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            WriteLabel::Written => "written",
            WriteLabel::Discarded => "discarded",
            WriteLabel::New => "new",
        }
    }
}

/// The first write to each page of a run in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstWriter {
    /// When the first of the pages was written first.
    pub time: TraceNanos,
    /// How much later the last of the pages was, nanoseconds.
    pub span_ns: u64,
    /// The thread.
    pub tid: u32,
    /// The instruction that wrote to the first of the pages; in the kernel's address range where it wrote for the thread.
    pub instruction: Address,
    /// The whole stack, where known.
    pub stack: StackId,
    /// What the runtime ran on the thread (Go: the goroutine), where it says so.
    pub task: Option<u64>,
}

/// A single access to a watched range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchedAccess {
    /// When.
    pub time: TraceNanos,
    /// The thread, 0 where not known.
    pub tid: u32,
    /// What was accessed.
    pub address: Address,
    /// The instruction, 0 where not known.
    pub instruction: Address,
    /// The whole stack, where known.
    pub stack: StackId,
    /// What the runtime ran on the thread (Go: the goroutine), where it says so.
    pub task: Option<u64>,
    /// Whether it wrote, else it read.
    pub write: bool,
    /// How it is known.
    pub source: AccessSource,
    /// The thread that modified the page last, where that was another one than [`WatchedAccess::tid`].
    pub foreign: Option<Modification>,
}

/// A modification of a page by another thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modification {
    /// The thread, never 0.
    pub tid: u32,
    /// When, 0 where not known.
    pub time: TraceNanos,
}
