//! Who wrote to each page first in an epoch: what a look has found, joined with the faults of that time.

use std::collections::VecDeque;

use pagetrace_format::access::{Access, AccessSource, FirstWriter, PageRange, WriteEpoch, WriteLabel, WrittenRun};
use pagetrace_format::{PageCount, PageIndex, TraceNanos};

use super::faults::{Changed, WriteFault, WriteFaults};
use super::protection::{FoundRun, HowFound, Look};

/// Pages side by side with one writer become one run if no more time than this lies between their first writes.
const RUN_SPAN_NS_MAX: u64 = 1_000_000;
/// Items of a chunk.
const CHUNK_ITEMS: usize = 65_536;

/// Looks of one process that wait until the kernel has told all of their time.
#[derive(Debug, Default)]
pub struct EpochBuilder {
    waiting: VecDeque<Look>,
}

impl EpochBuilder {
    /// A look was taken.
    pub fn looked(&mut self, look: Look) {
        self.waiting.push_back(look);
    }

    /// The end of the earliest that waits.
    #[must_use]
    pub fn waits_from(&self) -> Option<TraceNanos> {
        self.waiting.front().map(|look| look.end)
    }

    /// The chunks of the epochs about which nothing more is to come, all that is older than `told_until` having been told.
    pub fn take(&mut self, told: &mut WriteFaults, told_until: u64) -> Vec<Vec<Access>> {
        let mut chunks = Vec::new();
        while self.waits_from().is_some_and(|end| end.0 < told_until) {
            let Some(look) = self.waiting.pop_front() else { break };
            let runs = runs_of(&look, told);
            chunks.extend(chunks_of(&look, &runs));
        }
        chunks
    }
}

fn chunks_of(look: &Look, runs: &[WrittenRun]) -> Vec<Vec<Access>> {
    let &Look { number, begin, end, .. } = look;
    let ranges = look.armed.as_deref().unwrap_or_default();
    let items: Vec<Access> =
        ranges.iter().copied().map(Access::Armed).chain(runs.iter().copied().map(Access::Written)).collect();
    let source = AccessSource::AsyncWriteProtection;
    let mut parts: Vec<&[Access]> = items.chunks(CHUNK_ITEMS).collect();
    if parts.is_empty() {
        parts.push(&[]);
    }
    let with_epoch = |(index, part): (usize, &&[Access])| {
        let ranges_follow = index == 0 && look.armed.is_some();
        let epoch = Access::Epoch(WriteEpoch { number, begin, end, source, ranges_follow });
        std::iter::once(epoch).chain(part.iter().copied()).collect()
    };
    parts.iter().enumerate().map(with_epoch).collect()
}

/// Uses up the faults of the look's time.
fn runs_of(look: &Look, told: &mut WriteFaults) -> Vec<WrittenRun> {
    let of_look = told.faults.partition_point(|fault| fault.time <= look.end.0);
    let mut faults: Vec<WriteFault> = told.faults.drain(..of_look).collect();
    faults.sort_unstable_by_key(|fault| (fault.page, fault.time));
    let (fresh, moved) = (Pages::of(&told.fresh, look), Pages::of(&told.moved, look));
    let given_back = take_until(&mut told.given_back, look.looked.0);
    let mut runs = Runs::default();
    let mut later = Vec::new();
    let mut rest = &faults[..];
    for &FoundRun { range, how } in &look.found {
        for page in range.first.0..range.first.0 + range.pages.0 {
            let before = rest.partition_point(|fault| fault.page < page);
            given_back_pages(&rest[..before], look, &given_back, &mut runs, &mut later);
            rest = &rest[before..];
            let here = rest.partition_point(|fault| fault.page == page);
            let (of_page, after) = rest.split_at(here);
            rest = after;
            let first = first_write(of_page);
            // What came while it was looked, behind one that was known before, was a write to the page as it was armed again.
            let again =
                |fault: &&WriteFault| fault.time > look.looked.0 && first.is_some_and(|first| first.time < fault.time);
            later.extend(of_page.iter().filter(again).copied());
            let is_written = match how {
                HowFound::Armed => true,
                HowFound::Unarmed => first.is_some_and(|first| first.is_write) || fresh.hold(page) && !moved.hold(page),
                HowFound::ReadOrWritten | HowFound::UnarmedShared => first.is_some_and(|first| first.is_write),
            };
            let label = if is_written { WriteLabel::Written } else { WriteLabel::New };
            runs.add(page, label, first.filter(|_| is_written));
        }
    }
    given_back_pages(rest, look, &given_back, &mut runs, &mut later);
    // They are the earliest of the next epoch.
    later.sort_unstable_by_key(|fault| fault.time);
    told.faults.splice(..0, later);
    take_until(&mut told.fresh, look.looked.0);
    take_until(&mut told.moved, look.looked.0);
    runs.0.sort_unstable_by_key(|run| run.range.first);
    runs.0
}

/// The first that is known to have been a write; else the first that may have been: a read would have been followed by another.
fn first_write(faults: &[WriteFault]) -> Option<WriteFault> {
    faults.iter().find(|fault| fault.is_write).or_else(|| faults.first()).copied()
}

/// Faults of pages that were not found: written and given back in the epoch, or written again while it was looked.
fn given_back_pages(
    faults: &[WriteFault],
    look: &Look,
    given_back: &[Changed],
    runs: &mut Runs,
    later: &mut Vec<WriteFault>,
) {
    for of_page in faults.chunk_by(|one, other| one.page == other.page) {
        later.extend(of_page.iter().filter(|fault| fault.time > look.looked.0).copied());
        let first = first_write(of_page).filter(|first| first.is_write && first.time <= look.looked.0);
        let is_gone = |first: &WriteFault| {
            given_back.iter().any(|it| it.first <= first.page && first.page < it.end && it.time >= first.time)
        };
        if let Some(first) = first.filter(is_gone) {
            runs.add(first.page, WriteLabel::Discarded, Some(first));
        }
    }
}

/// Takes what is no later than this.
fn take_until(changes: &mut Vec<Changed>, time: u64) -> Vec<Changed> {
    let count = changes.partition_point(|it| it.time <= time);
    changes.drain(..count).collect()
}

/// Runs in the making.
#[derive(Debug, Default)]
struct Runs(Vec<WrittenRun>);

impl Runs {
    fn add(&mut self, page: u64, label: WriteLabel, first: Option<WriteFault>) {
        let writer = first.map(|first| FirstWriter {
            time: TraceNanos(first.time),
            span_ns: 0,
            tid: first.tid,
            instruction: first.instruction,
            stack: first.stack,
            task: None,
        });
        let last =
            self.0.last_mut().filter(|last| last.label == label && last.range.first.0 + last.range.pages.0 == page);
        let joined = last.and_then(|last| {
            let fits = match (&mut last.writer, &writer) {
                (None, None) => true,
                (Some(known), Some(writer)) => join(known, writer),
                _ => false,
            };
            fits.then_some(&mut last.range)
        });
        match joined {
            Some(range) => range.pages.0 += 1,
            None => {
                let range = PageRange { first: PageIndex(page), pages: PageCount(1) };
                self.0.push(WrittenRun { range, label, writer });
            }
        }
    }
}

/// Whether one more page fits the writer of a run, whose times then reach to it.
fn join(known: &mut FirstWriter, writer: &FirstWriter) -> bool {
    let first = known.time.min(writer.time);
    let last = (known.time.0 + known.span_ns).max(writer.time.0);
    let is_alike = (known.tid, known.instruction, known.stack) == (writer.tid, writer.instruction, writer.stack);
    if !is_alike || last - first.0 > RUN_SPAN_NS_MAX {
        return false;
    }
    (known.time, known.span_ns) = (first, last - first.0);
    true
}

/// Pages that something happened to before a look began.
struct Pages(Vec<(u64, u64)>);

impl Pages {
    fn of(changes: &[Changed], look: &Look) -> Pages {
        let of_look = changes.iter().filter(|it| it.time <= look.looked.0);
        let mut ranges: Vec<(u64, u64)> = of_look.map(|it| (it.first, it.end)).collect();
        ranges.sort_unstable();
        // Joined, so that the last that begins before a page is the one that holds it.
        ranges.dedup_by(|next, last| {
            let touch = next.0 <= last.1;
            if touch {
                last.1 = last.1.max(next.1);
            }
            touch
        });
        Pages(ranges)
    }

    fn hold(&self, page: u64) -> bool {
        let after = self.0.partition_point(|range| range.0 <= page);
        after.checked_sub(1).is_some_and(|index| page < self.0[index].1)
    }
}

#[cfg(test)]
mod tests;
