//! Single pages at a moment: every object on them with its site, birth and thread, who touched them first, and who wrote them.
//!
//! One pass over the events up to the moment, in which of objects nothing else is kept.

mod writes;

use std::collections::{BTreeMap, BTreeSet};

pub use writes::{EPOCHS_TOLD, EpochWrite, EpochWriter, PageWriteDetail};

use hashbrown::HashMap;
use pagetrace_format::records::{ProcessOrigin, StackEnd, StreamKind};
use pagetrace_format::{Address, EventKind, PageShift, ProcessId, StackId, TableKind, Trace, TraceNanos};

use crate::checkpoint::LeafAccount;
use crate::error::ReplayError;
use crate::kernel_states::{KernelStates, frames_of};
use crate::metadata::Metadata;
use crate::objects::SiteId;
use crate::page_events::TouchSite;
use crate::page_table::Span;
use crate::results::Frame;
use crate::timeline::Timeline;

/// A page at a moment.
#[derive(Clone, Debug)]
pub struct PageDetail {
    /// Its number: its address divided by the page size.
    pub page: u64,
    /// Live objects with a byte on it, by address.
    pub objects: Vec<PageObject>,
    /// Its first touch since it came into memory last, where events told.
    pub first_touch: Option<PageTouch>,
    /// Who wrote it, where writes were tracked.
    pub writes: Option<PageWriteDetail>,
}

/// An object on a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageObject {
    /// Where it begins, which may be on an earlier page.
    pub address: Address,
    /// Bytes asked for.
    pub size: u64,
    /// Usable bytes of it on this page.
    pub bytes_here: u64,
    /// When it came to life.
    pub born: TraceNanos,
    /// Who allocated it, where known.
    pub thread: Option<StreamKind>,
    /// Its site.
    pub site: SiteId,
    /// The frames of its site, innermost first.
    pub frames: Vec<Frame>,
    /// The bucket's name, where the site is one.
    pub bucket: Option<String>,
}

/// The first touch of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageTouch {
    /// When.
    pub time: TraceNanos,
    /// By which thread, 0 where not known.
    pub tid: u32,
    /// How and from where.
    pub site: TouchSite,
    /// Innermost first; without a stack the instruction alone.
    pub frames: Vec<Frame>,
    /// How far the stack reaches.
    pub end: StackEnd,
}

/// An object while events go by.
#[derive(Clone, Copy, Debug)]
struct Known {
    size: u64,
    usable: u64,
    born: TraceNanos,
    thread: Option<StreamKind>,
    site: SiteId,
}

/// Pages of `process` at the time `at`, events of the time itself included, in the order of their numbers.
///
/// # Errors
/// [`ReplayError::NothingRecorded`] where the trace has no processes.
pub fn pages_in_detail(
    trace: &Trace<'_>,
    process: ProcessId,
    pages: &[u64],
    at: TraceNanos,
) -> Result<Vec<PageDetail>, ReplayError> {
    let metadata = Metadata::read(trace);
    if metadata.processes.is_empty() {
        return Err(ReplayError::NothingRecorded { chunks: trace.chunks().len() });
    }
    let shift = metadata.kernel_shift(trace);
    let wanted: BTreeSet<u64> = pages.iter().copied().collect();
    let objects = objects_on(trace, &metadata, process, &wanted, shift, at);
    let mut writes = writes::writes_of(trace, &metadata, process, &wanted, shift, at).unwrap_or_default();
    let mut states = KernelStates::new(trace, &metadata);
    if let Some(checkpoint) = &metadata.checkpoint {
        states.take_up(checkpoint, &metadata, &mut LeafAccount::new(metadata.payload_bytes));
    }
    states.run_until(at, &metadata);
    let space = metadata.index(process).and_then(|index| states.space(index));
    let mut details: BTreeMap<u64, PageDetail> = wanted
        .iter()
        .map(|&page| {
            let touch = space.and_then(|space| space.first_touch(page));
            let first_touch = touch.map(|(time, tid, site)| PageTouch {
                time,
                tid,
                site,
                frames: frames_of(&site, process, &metadata),
                end: metadata.stack_end(process, site.stack),
            });
            (page, PageDetail { page, objects: Vec::new(), first_touch, writes: writes.remove(&page) })
        })
        .collect();
    for (address, known) in objects {
        let mut add = |page: u64, bytes_here: u64| {
            let Some(detail) = details.get_mut(&page) else { return };
            let SiteId { process, stack } = known.site;
            detail.objects.push(PageObject {
                address: Address(address),
                size: known.size,
                bytes_here,
                born: known.born,
                thread: known.thread,
                site: known.site,
                frames: metadata.frames(process, stack),
                bucket: stack
                    .is_named_bucket()
                    .then(|| metadata.bucket_name(process, stack).unwrap_or_default().to_owned()),
            });
        };
        let (first, last) = Span::of(shift, address, known.usable).pages();
        let end = address.saturating_add(known.usable);
        for &page in wanted.range(first..=last) {
            let (start, page_end) = (page << shift.get(), (page + 1) << shift.get());
            add(page, end.min(page_end).saturating_sub(address.max(start)));
        }
    }
    Ok(details.into_values().collect())
}

/// Live objects that reach into the wanted pages, by address.
fn objects_on(
    trace: &Trace<'_>,
    metadata: &Metadata,
    process: ProcessId,
    wanted: &BTreeSet<u64>,
    shift: PageShift,
    at: TraceNanos,
) -> BTreeMap<u64, Known> {
    let until = lineage(metadata, process, at);
    let is_wanted = |address: u64, usable: u64| {
        let (first, last) = Span::of(shift, address, usable).pages();
        wanted.range(first..=last).next().is_some()
    };
    let mut live = BTreeMap::new();
    for [address, size, extra, born, of, stack] in
        metadata.checkpoint.iter().flat_map(|it| it.rows::<6>(process, TableKind::OBJECTS))
    {
        let usable = size.saturating_add(extra);
        if is_wanted(address, usable) {
            let site = SiteId { process: ProcessId(of as u32), stack: StackId(stack as u32) };
            live.insert(address, Known { size, usable, born: TraceNanos(born), thread: None, site });
        }
    }
    let mut timeline = Timeline::new(trace);
    let streams: Vec<_> = timeline.streams().map(|id| metadata.streams.get(&id)).collect();
    let first = metadata.processes.first().map_or(ProcessId(0), |info| info.process.id);
    let mut gaps = metadata.gaps.iter().filter(|gap| !gap.kept && gap.process == process).peekable();
    while let Some((slot, event)) = timeline.next() {
        if event.time > at {
            break;
        }
        while gaps.next_if(|gap| gap.start <= event.time).is_some() {
            live.clear();
        }
        let owner = streams[slot].map_or(first, |stream| stream.process);
        if until.get(&owner).is_none_or(|&until| event.time > until) {
            continue;
        }
        match event.kind {
            EventKind::ObjectAlloc(alloc) if is_wanted(alloc.address.0, alloc.usable) => {
                let thread = streams[slot].map(|stream| stream.kind);
                let site = SiteId { process: owner, stack: alloc.stack };
                let known = Known { size: alloc.size, usable: alloc.usable, born: event.time, thread, site };
                live.insert(alloc.address.0, known);
            }
            // What lived at its address must have died.
            EventKind::ObjectAlloc(alloc) => drop(live.remove(&alloc.address.0)),
            EventKind::ObjectFree(free) => drop(live.remove(&free.address.0)),
            _ => {}
        }
    }
    live
}

/// The process and those that it was forked from, each with the time up to which what it did counts.
fn lineage(metadata: &Metadata, process: ProcessId, at: TraceNanos) -> HashMap<ProcessId, TraceNanos> {
    let mut until = HashMap::new();
    let (mut next, mut time) = (Some(process), at);
    while let Some(id) = next.filter(|id| !until.contains_key(id)) {
        until.insert(id, time);
        let info = metadata.index(id).map(|index| &metadata.processes[index].process);
        let forked = info.filter(|info| info.origin == ProcessOrigin::Fork);
        time = forked.map_or(time, |info| time.min(info.start));
        next = forked.and_then(|info| info.parent);
    }
    until
}
