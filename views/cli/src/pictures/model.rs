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
    /// Ranges that were ever mapped, ascending.
    pub regions: Vec<Region>,
    /// Where its blocks are in the rest of the bytes.
    pub page_blocks: Blocks,
    pub touch_blocks: Blocks,
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
    /// Writes to pages since the moment before, in traces that have them.
    pub writes: Option<Writes>,
}

/// Who wrote pages: for traces whose recording followed writes.
#[derive(serde::Serialize)]
#[allow(missing_docs)]
pub struct Writes {
    /// Pages that were written, and by how many threads.
    pub pages: Vec<[u64; 3]>,
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
    /// `None` where the trace does not follow writes.
    pub last_write: Option<LastWrite>,
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

/// The last write to a page that is known.
#[derive(serde::Serialize)]
#[allow(missing_docs)]
pub struct LastWrite {
    pub time_ns: u64,
    pub thread: Option<u32>,
    pub stack: Vec<String>,
}
