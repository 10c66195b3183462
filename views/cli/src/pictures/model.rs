//! What the web page shows, as data beside the report. Stacks are numbers of rows of a table, frames are numbers of names; pages are
//! numbers: addresses divided by the page size. Times are nanoseconds since the trace's start.

use crate::reports::report_model::{Classes, Report};

/// Everything.
#[derive(serde::Serialize)]
pub struct Pictures<'r> {
    /// The same as `report --json`.
    pub report: &'r Report,
    /// Names of functions.
    pub frames: Vec<String>,
    /// Stacks: numbers of `frames`, innermost first.
    pub stacks: Vec<Vec<u32>>,
    /// Names of page states by their numbers.
    pub page_classes: Vec<&'static str>,
    /// Pages of a block.
    pub block_pages: u64,
    /// In the order of the report's processes.
    pub processes: Vec<ProcessPictures>,
    /// Activity about pages by stream.
    pub lanes: Lanes,
    /// Pages in detail that come with the data.
    pub pages: Vec<Page>,
    /// Whether there is a server that knows more pages.
    pub asks: bool,
}

/// A process over time.
#[derive(serde::Serialize)]
#[allow(missing_docs)]
pub struct ProcessPictures {
    pub page_bytes: u64,
    pub moments: Vec<Moment>,
    /// Numbers of `stacks`, one a site.
    pub sites: Vec<u32>,
    /// What touched pages first: cause, number of a stack.
    pub touch_sites: Vec<(&'static str, u32)>,
    /// Who wrote pages last: end of the epoch (`None`: not since it is tracked), its first writer (0: the kernel, or not
    /// known), threads that were seen to write so far.
    pub last_writes: Vec<(Option<u64>, u32, u8)>,
    /// Ranges that were ever mapped, ascending.
    pub regions: Vec<Region>,
    /// Where its blocks are in the rest of the bytes.
    pub page_blocks: Blocks,
    pub touch_blocks: Blocks,
    pub write_blocks: Blocks,
}

/// Blocks in the rest of the bytes.
#[derive(serde::Serialize)]
#[allow(missing_docs)]
pub struct Blocks {
    pub offset: usize,
    pub bytes: usize,
}

/// A process at a moment.
#[derive(serde::Serialize)]
#[allow(missing_docs)]
pub struct Moment {
    pub time_ns: u64,
    pub rss_bytes: Option<u64>,
    pub classes: Option<Classes>,
    /// In use, free, returned.
    pub page_counts: Option<[u64; 3]>,
    /// First block, blocks, content; `None` where pages were not kept.
    pub pages: Option<Vec<[u64; 3]>>,
    pub touches: Vec<[u64; 3]>,
    /// Site, live objects, live bytes, pinned bytes, allocated objects, allocated bytes.
    pub sites: Vec<[u64; 6]>,
    /// Last writes of pages; `None` where they were not tracked or not kept.
    pub writes: Option<Vec<[u64; 3]>>,
}

/// Addresses that were mapped.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[allow(missing_docs)]
pub struct Region {
    pub first_page: u64,
    pub pages: u64,
    pub name: String,
}

/// Events about pages by stream and time.
#[derive(Default, serde::Serialize)]
pub struct Lanes {
    /// When parts begin, one more than there are.
    pub times_ns: Vec<u64>,
    /// One a stream.
    pub lanes: Vec<Lane>,
}

/// Events about pages of one stream.
#[derive(serde::Serialize)]
#[allow(missing_docs)]
pub struct Lane {
    pub name: String,
    /// alloc, free, scavenge by part of the time.
    pub parts: Vec<[u32; 3]>,
}

/// A page in detail.
#[derive(serde::Serialize)]
#[allow(missing_docs)]
pub struct Page {
    /// Place in the report's processes.
    pub process: usize,
    pub page: u64,
    pub time_ns: u64,
    /// Live objects with a byte on it, by address.
    pub objects: Vec<PageObject>,
    pub first_touch: Option<FirstTouch>,
    /// `None` where writes were not tracked.
    pub writes: Option<PageWrites>,
}

/// An object on a page.
#[derive(serde::Serialize)]
#[allow(missing_docs)]
pub struct PageObject {
    /// Hexadecimal, since JavaScript's numbers are too small for addresses.
    pub address: String,
    pub bytes: u64,
    /// Of the page.
    pub bytes_here: u64,
    pub age_ns: u64,
    pub thread: String,
    /// Innermost first.
    pub stack: Vec<String>,
}

/// The first touch of a page.
#[derive(serde::Serialize)]
#[allow(missing_docs)]
pub struct FirstTouch {
    pub time_ns: u64,
    pub thread: Option<u32>,
    pub cause: &'static str,
    pub stack: Vec<String>,
}

/// Who wrote a page up to a moment.
#[derive(serde::Serialize)]
#[allow(missing_docs)]
pub struct PageWrites {
    /// Whether it is known of this page whether it is written.
    pub tracked: bool,
    /// Since when writes of the process are tracked, and in how many epochs.
    pub since_ns: u64,
    pub epochs: u64,
    pub epochs_written: u64,
    /// Threads that were seen to write to it; there may be more.
    pub threads: Vec<u32>,
    pub hand_overs: u64,
    /// The last epochs in which something is known of it, newest first.
    pub last: Vec<EpochWrite>,
}

/// A page in an epoch.
#[derive(serde::Serialize)]
#[allow(missing_docs)]
pub struct EpochWrite {
    pub epoch: u64,
    pub begin_ns: u64,
    pub end_ns: u64,
    /// `written`, `discarded` or `new`.
    pub what: &'static str,
    /// `None` for writes of the kernel, and where it is not known.
    pub writer: Option<Writer>,
}

/// The first writer of a page in an epoch.
#[derive(serde::Serialize)]
#[allow(missing_docs)]
pub struct Writer {
    pub thread: u32,
    /// When, or at most so much later.
    pub time_ns: u64,
    pub span_ns: u64,
    /// Whether the kernel wrote, for this thread.
    pub in_kernel: bool,
    pub task: Option<u64>,
    pub stack: Vec<String>,
}
