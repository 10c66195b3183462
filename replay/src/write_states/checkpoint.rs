//! The written pages of processes, in a checkpoint.

use std::ops::Range;

use hashbrown::HashSet;
use pagetrace_format::access::{AccessSource, WriteEpoch};
use pagetrace_format::{Address, PageSet, PageShift, ProcessId, StackId, TableKind, TraceNanos};

use super::WriteStates;
use super::contention::{Contended, PAGES_MAX};
use super::forks::{OPEN_MAX, Open, TOLD_MAX};
use super::process_writes::{ProcessWrites, Record, SITES_MAX};
use crate::checkpoint::{COUNT_MAX, Checkpoint, ProcessCheckpoint, Tables, known, optional, page_range};
use crate::intervals::Intervals;
use crate::metadata::Metadata;
use crate::page_writes::{ForkCopies, WatchedCounts};

/// In the place of the flag of [`TableKind::FORK_PAGES`]: the child was forked in the epoch that goes on.
const BEGUN: u64 = 2;

impl WriteStates<'_, '_> {
    /// Takes over all that was known before this time.
    pub(crate) fn run_before(&mut self, time: TraceNanos, metadata: &Metadata) {
        if let Some(before) = time.0.checked_sub(1) {
            self.run_until(TraceNanos(before), metadata);
        }
    }

    /// Goes on from a checkpoint.
    pub(crate) fn take_up(&mut self, checkpoint: &Checkpoint, metadata: &Metadata) {
        for (process, before) in ProcessCheckpoint::all(checkpoint) {
            if let Some(index) = metadata.index(process) {
                self.processes[index] = ProcessWrites::restored(index, checkpoint, &before, metadata);
            }
        }
    }

    /// What there is of a process.
    pub(crate) fn put_into(&self, process: usize, tables: &mut Tables) {
        if let Some(writes) = &self.processes[process] {
            writes.put_into(tables);
        }
    }
}

impl ProcessWrites {
    fn put_into(&self, tables: &mut Tables) {
        let found = &self.found;
        let WatchedCounts { reads, writes, foreign } = found.watched;
        let epoch = self.epoch.unwrap_or(WriteEpoch {
            number: 0,
            begin: TraceNanos(0),
            end: TraceNanos(0),
            source: AccessSource::Unknown,
            ranges_follow: false,
        });
        let row = [
            self.shift.get().into(),
            found.source as u64,
            found.epochs,
            found.span.0.0,
            found.span.1.0,
            found.written,
            found.without_writer,
            found.most_in_epoch,
            found.last_in_epoch,
            found.discarded,
            found.new,
            reads,
            writes,
            foreign,
            optional(self.epoch.map(|epoch| epoch.number)),
            epoch.begin.0,
            epoch.end.0,
            self.in_epoch,
            self.contention.beyond,
        ];
        tables.push(TableKind::WRITES, &row);
        for (pages, record) in self.records.iter() {
            let Record { end_ms, length_ms, is_last, epochs, tid } = record;
            let count = pages.end - pages.start;
            let row = [pages.start, count, end_ms.into(), length_ms.into(), is_last.into(), epochs.into(), tid.into()];
            tables.push(TableKind::WRITTEN_PAGES, &row);
        }
        tables.push_pages(PageSet::Armed, self.armed_told.iter());
        let mut contended: Vec<_> = self.contention.pages.iter().collect();
        contended.sort_unstable_by_key(|(page, _)| **page);
        for (&page, it) in contended {
            let [a, b, c, d] = it.threads.map(u64::from);
            tables.push(TableKind::CONTENDED_PAGES, &[page, it.hand_overs, a, b, c, d]);
        }
        let mut sites: Vec<_> = self.sites.iter().collect();
        sites.sort_unstable_by_key(|(site, _)| **site);
        for (&(instruction, stack), &pages) in sites {
            tables.push(TableKind::WRITE_SITES, &[instruction.0, stack.0.into(), pages]);
        }
        for it in &self.forks.told {
            let (start, end) = it.lived;
            tables.push(TableKind::FORK_COPIES, &[it.child.0.into(), start.0, end.0, it.pages, it.unclear_pages]);
        }
        let begun = self.forks.to_come.iter().filter(|(start, ..)| *start < tables.time);
        let begun: Vec<u64> = begun.map(|(.., child)| child.0.into()).collect();
        begun.into_iter().for_each(|child| tables.push(TableKind::FORK_PAGES, &[child, BEGUN, 0, 0]));
        for it in &self.forks.open {
            let child = it.child.0.into();
            tables.push(TableKind::FORK_PAGES, &[child, 0, 0, 0]);
            let mut put = |unclear: u64, range: Range<u64>| {
                tables.push(TableKind::FORK_PAGES, &[child, unclear, range.start, range.end - range.start]);
            };
            it.pages.iter().for_each(|range| put(0, range));
            it.unclear.iter().for_each(|range| put(1, range));
        }
    }

    /// `None` where no writes of it were tracked.
    pub(crate) fn restored(
        index: usize,
        checkpoint: &Checkpoint,
        before: &ProcessCheckpoint,
        metadata: &Metadata,
    ) -> Option<ProcessWrites> {
        let id = metadata.processes[index].process.id;
        let row = checkpoint.row::<19>(id, TableKind::WRITES)?;
        let shift = PageShift::new(u8::try_from(row[0]).ok()?)?;
        let mut writes = ProcessWrites::new(index, shift, metadata);
        let source = u8::try_from(row[1]).map_or(AccessSource::Unknown, AccessSource::from_number);
        let count = |index: usize| row[index].min(COUNT_MAX);
        let found = &mut writes.found;
        (found.source, found.epochs, found.span) = (source, count(2), (TraceNanos(row[3]), TraceNanos(row[4])));
        (found.written, found.without_writer) = (count(5), count(6).min(count(5)));
        (found.most_in_epoch, found.last_in_epoch, found.discarded, found.new) =
            (count(7), count(8), count(9), count(10));
        found.watched = WatchedCounts { reads: count(11), writes: count(12), foreign: count(13) };
        let (begin, end) = (TraceNanos(row[15].min(row[16])), TraceNanos(row[16]));
        writes.epoch = known(row[14]).map(|number| WriteEpoch { number, begin, end, source, ranges_follow: false });
        (writes.in_epoch, writes.contention.beyond) = (count(17), count(18));
        for [first, pages, end_ms, length_ms, is_last, epochs, tid] in checkpoint.rows(id, TableKind::WRITTEN_PAGES) {
            let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
            let record = Record {
                end_ms: small(end_ms),
                length_ms: u16::try_from(length_ms).unwrap_or(u16::MAX),
                is_last: is_last != 0,
                epochs: small(epochs),
                tid: small(tid),
            };
            writes.records.insert(page_range(first, pages), record);
        }
        writes.armed_told = checkpoint.pages(id, PageSet::Armed);
        for [page, hand_overs, threads @ ..] in checkpoint.rows::<6>(id, TableKind::CONTENDED_PAGES).take(PAGES_MAX) {
            let threads = threads.map(|tid| u32::try_from(tid).unwrap_or(0));
            writes.contention.pages.insert(page, Contended { hand_overs: hand_overs.min(COUNT_MAX), threads });
        }
        for [instruction, stack, pages] in checkpoint.rows(id, TableKind::WRITE_SITES).take(SITES_MAX) {
            let site = (Address(instruction), StackId(u32::try_from(stack).unwrap_or(0)));
            writes.sites.insert(site, pages.min(COUNT_MAX));
        }
        writes.restore_forks(id, checkpoint);
        // What its pages were is known as long as it lives.
        writes.shown = before.ended;
        Some(writes)
    }

    fn restore_forks(&mut self, id: ProcessId, checkpoint: &Checkpoint) {
        let process = |number: u64| ProcessId(u32::try_from(number).unwrap_or(u32::MAX));
        for [child, start, end, pages, unclear_pages] in checkpoint.rows(id, TableKind::FORK_COPIES).take(TOLD_MAX) {
            let lived = (TraceNanos(start), TraceNanos(end));
            let (pages, unclear_pages) = (pages.min(COUNT_MAX), unclear_pages.min(COUNT_MAX));
            self.forks.told.push(ForkCopies { child: process(child), lived, pages, unclear_pages });
        }
        let mut begun = HashSet::new();
        for [child, unclear, first, pages] in checkpoint.rows(id, TableKind::FORK_PAGES) {
            let child = process(child);
            if unclear == BEGUN {
                begun.insert(child);
                continue;
            }
            if let Some(place) = self.forks.to_come.iter().position(|(.., known)| *known == child)
                && self.forks.open.len() < OPEN_MAX
            {
                let (start, end, child) = self.forks.to_come.remove(place);
                let (pages, unclear) = (Intervals::default(), Intervals::default());
                self.forks.open.push(Open { child, lived: (start, end), pages, unclear });
            }
            if let Some(open) = self.forks.open.iter_mut().find(|open| open.child == child) {
                let set = if unclear == 0 { &mut open.pages } else { &mut open.unclear };
                set.insert(page_range(first, pages));
            }
        }
        // Those that ended before are told of, or were too many.
        self.forks.to_come.retain(|(start, _, child)| *start >= checkpoint.time || begun.contains(child));
    }
}
