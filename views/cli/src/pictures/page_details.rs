//! Pages in detail, as the web page shows them.

use pagetrace_format::records::StreamKind;
use pagetrace_format::{Trace, TraceNanos};
use pagetrace_replay::history::{BLOCK_PAGES, PageCell, PageClass};
use pagetrace_replay::page_detail::{self, EpochWriter, PageDetail, PageWriteDetail};
use pagetrace_replay::{Metadata, pages_in_detail};

use super::model::{EpochWrite, FirstTouch, Page, PageObject, PageWrites, Writer};
use crate::analysis::Analysis;
use crate::reports::cause_of;
use crate::reports::from_replay::names_of;
use crate::symbols::{SymbolOptions, Symbols};

/// The kernel's half of the addresses begins here.
const KERNEL_ADDRESSES: u64 = 1 << 63;
/// Sparse pages of a process that a page without a server knows in detail.
const SPARSE_PAGES: usize = 200;

/// Pages that are asked for.
pub struct PageAsked {
    /// Place of the process in the report.
    pub process: usize,
    /// Their numbers.
    pub pages: Vec<u64>,
    /// When, since the start of the trace.
    pub time_ns: u64,
}

/// Looks at pages. `start` is the start of the trace.
///
/// # Errors
/// Where the trace has nothing.
pub fn details(
    trace: &Trace<'_>,
    metadata: &Metadata,
    start: TraceNanos,
    asked: &PageAsked,
    options: &SymbolOptions,
) -> anyhow::Result<Vec<Page>> {
    let Some(info) = metadata.processes.get(asked.process) else { return Ok(Vec::new()) };
    let at = TraceNanos(start.0.saturating_add(asked.time_ns));
    let found = pages_in_detail(trace, info.process.id, &asked.pages, at)?;
    let mut symbols = Symbols::new(&metadata.modules, options).with_embedded(metadata);
    let touches = found.iter().filter_map(|detail| detail.first_touch.as_ref()).flat_map(|touch| &touch.frames);
    let objects = found.iter().flat_map(|detail| &detail.objects).flat_map(|object| &object.frames);
    let writers = found.iter().flat_map(writers_of).flat_map(|writer| &writer.frames);
    symbols.resolve(touches.chain(objects).chain(writers).copied());
    Ok(found.iter().map(|detail| page_of(detail, asked.process, start, at, &symbols)).collect())
}

/// Those pages at the shown moment that a page without a server knows in detail: those that the fewest bytes of objects hold, and
/// those of the report that are written most, or by several threads.
///
/// # Errors
/// As [`details`].
pub fn told_pages(analysis: &Analysis<'_>, options: &SymbolOptions) -> anyhow::Result<Vec<Page>> {
    let Analysis { trace, replayed, history, .. } = analysis;
    let mut all = Vec::new();
    for (process, history) in history.processes.iter().enumerate() {
        let shown = replayed.processes[process].rss.as_ref().map(|rss| rss.time);
        let Some(moment) = history.moments.iter().find(|moment| Some(moment.time) == shown) else { continue };
        let mut sparse: Vec<(u8, u64)> = Vec::new();
        for run in moment.pages.iter().flatten() {
            // A block that repeats is one of pages without objects.
            let block = history.pages.block(run.content).iter().map(|&cell| PageCell(cell));
            let pages = (run.first * BLOCK_PAGES..).zip(block);
            let pages = pages.filter(|(_, cell)| cell.class() == PageClass::Sparse);
            sparse.extend(pages.map(|(page, cell)| (cell.occupancy(), page)));
        }
        sparse.sort_unstable();
        let mut pages: Vec<u64> = sparse.into_iter().take(SPARSE_PAGES).map(|(_, page)| page).collect();
        let writes = replayed.processes[process].writes.iter().filter(|it| it.page_bytes == history.shift.bytes());
        let written = writes.flat_map(|writes| writes.hot.iter().chain(&writes.contended));
        pages.extend(written.map(|page| history.shift.page_of(page.address).0));
        if !pages.is_empty() {
            let asked = PageAsked { process, pages, time_ns: moment.time.0.saturating_sub(replayed.start.0) };
            all.extend(details(trace, &replayed.metadata, replayed.start, &asked, options)?);
        }
    }
    Ok(all)
}

fn page_of(detail: &PageDetail, process: usize, start: TraceNanos, at: TraceNanos, symbols: &Symbols<'_>) -> Page {
    let objects = detail.objects.iter().map(|object| PageObject {
        address: format!("{:#x}", object.address.0),
        bytes: object.size,
        bytes_here: object.bytes_here,
        age_ns: at.0.saturating_sub(object.born.0),
        thread: thread_name(object.thread),
        stack: names_of(object.site.stack, &object.frames, object.bucket.as_deref(), symbols),
    });
    let first_touch = detail.first_touch.as_ref().map(|touch| FirstTouch {
        time_ns: touch.time.0.saturating_sub(start.0),
        thread: (touch.tid != 0).then_some(touch.tid),
        cause: cause_of(touch.site.cause),
        stack: touch.frames.iter().flat_map(|frame| symbols.functions(frame)).map(ToString::to_string).collect(),
    });
    let time_ns = at.0.saturating_sub(start.0);
    let writes = detail.writes.as_ref().map(|writes| page_writes(writes, start, symbols));
    Page { process, page: detail.page, time_ns, objects: objects.collect(), first_touch, writes }
}

fn writers_of(detail: &PageDetail) -> impl Iterator<Item = &EpochWriter> {
    detail.writes.iter().flat_map(|writes| &writes.last).filter_map(|epoch| epoch.writer.as_ref())
}

fn page_writes(writes: &PageWriteDetail, start: TraceNanos, symbols: &Symbols<'_>) -> PageWrites {
    let since_start = |time: TraceNanos| time.0.saturating_sub(start.0);
    let writer = |it: &EpochWriter| Writer {
        thread: it.first.tid,
        time_ns: since_start(it.first.time),
        span_ns: it.first.span_ns,
        in_kernel: it.first.instruction.0 >= KERNEL_ADDRESSES,
        task: it.first.task,
        stack: it.frames.iter().flat_map(|frame| symbols.functions(frame)).map(ToString::to_string).collect(),
    };
    let epoch = |it: &page_detail::EpochWrite| EpochWrite {
        epoch: it.number,
        begin_ns: since_start(it.span.0),
        end_ns: since_start(it.span.1),
        what: it.label.name(),
        writer: it.writer.as_ref().map(writer),
    };
    PageWrites {
        tracked: writes.tracked,
        since_ns: since_start(writes.since),
        epochs: writes.epochs,
        epochs_written: writes.known.epochs_written,
        threads: writes.known.threads.clone(),
        hand_overs: writes.known.hand_overs,
        last: writes.last.iter().map(epoch).collect(),
    }
}

fn thread_name(thread: Option<StreamKind>) -> String {
    match thread {
        Some(StreamKind::Thread(tid)) => tid.to_string(),
        Some(StreamKind::GoProcessor(p)) => format!("P{p}"),
        Some(StreamKind::Buffer(buffer)) => format!("buffer {buffer}"),
        None => "unknown".into(),
    }
}
