//! What the web page shows, as one block of bytes: the report, and how it came about.
//!
//! ```text
//! u32 length of the JSON │ JSON: model::Pictures │ blocks of pages u8 … │ blocks of first touches u16 …
//! ```
//! Numbers are little-endian. The JSON says where in the rest the blocks of each process begin.

mod from_history;
mod model;
mod page_details;
mod regions;
mod stack_table;

pub mod single_page;

use pagetrace_format::{ProcessId, Trace};
use pagetrace_replay::Metadata;

use crate::analysis::Analysis;
use crate::reports::report_model::Report;
use crate::symbols::Symbols;

pub use from_history::lane_name;
pub use model::Page;
pub use page_details::{PageAsked, details, told_pages};

/// The page, with the place for data empty.
pub const WEB_PAGE: &str = include_str!("../../../web/dist/pagetrace.html");

/// RSS over time of the process that had most of it, as snapshots have it: known before any event is followed.
pub fn preview(trace: &Trace<'_>) -> Vec<(u64, u64)> {
    let metadata = Metadata::read(trace);
    let known = |process: Option<ProcessId>| {
        let points = metadata.snapshots.iter().filter_map(|it| Some((it.process, it.time, it.rss?)));
        points.filter(move |(of, ..)| process.is_none_or(|process| *of == process))
    };
    let largest = known(None).max_by_key(|(.., rss)| *rss).map(|(process, ..)| process);
    let start = trace.header().start;
    known(largest).map(|(_, time, rss)| (time.0.saturating_sub(start.0), rss)).collect()
}

/// All that the page shows of a trace, as the bytes that it reads. `pages` are those that it can show without asking.
///
/// # Errors
/// What serialization gives.
pub fn bytes_of(
    analysis: &Analysis<'_>,
    report: &Report,
    symbols: &Symbols<'_>,
    pages: Vec<Page>,
    asks: bool,
) -> anyhow::Result<Vec<u8>> {
    let (pictures, blocks) = from_history::pictures(analysis, report, symbols, pages, asks);
    let json = serde_json::to_vec(&pictures)?;
    let length = u32::try_from(json.len())?;
    Ok([&length.to_le_bytes()[..], &json, &blocks].concat())
}
