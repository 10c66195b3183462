//! The state of a recording at a moment before which its events were dropped: taken, written and taken up again.
//!
//! A checkpoint is what a replay of the dropped events would have come to, as tables of numbers. The modules of the
//! types whose state it is say what goes into it; here is what all of them share.

mod compaction;
mod leaves;
mod summaries;

pub use compaction::compact;
pub(crate) use leaves::LeafAccount;
pub(crate) use summaries::{ProcessCheckpoint, RecordingCheckpoint};

use std::ops::Range;

use hashbrown::HashMap;
use pagetrace_format::{Address, CheckpointTable, PageSet, ProcessId, TableKind, TraceNanos};

use crate::intervals::Intervals;

/// The tables of whole recordings stand under this process.
pub(crate) const RECORDING: ProcessId = ProcessId(0);
/// One past the last page of all addresses, of the smallest pages. A forged table may name others.
const PAGES_END: u64 = 1 << 52;

/// No recording counts so far; a forged one may claim to have.
pub(crate) const COUNT_MAX: u64 = 1 << 56;

/// What was dropped of a recording, and what is known of it nevertheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Events before this time are gone; counts include them. From here on everything is exact.
    pub before: TraceNanos,
    /// How often the recording was cut.
    pub cuts: u64,
    /// The largest sum of RSS of the running processes before that time, and when it was.
    pub rss_peak: Option<(TraceNanos, u64)>,
}

/// The checkpoint of a trace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checkpoint {
    pub(crate) time: TraceNanos,
    tables: HashMap<(ProcessId, TableKind), Vec<CheckpointTable>>,
}

impl Checkpoint {
    /// Adds a table. Of two checkpoints the later one counts.
    pub(crate) fn add(&mut self, table: CheckpointTable) {
        if table.time > self.time {
            *self = Checkpoint { time: table.time, tables: HashMap::new() };
        }
        if table.time == self.time {
            self.tables.entry((table.process, table.kind)).or_default().push(table);
        }
    }

    /// The rows of a table: columns that are not there are zero, those that are not known are left out.
    pub(crate) fn rows<const N: usize>(&self, process: ProcessId, kind: TableKind) -> impl Iterator<Item = [u64; N]> {
        let tables = self.tables.get(&(process, kind)).map_or(&[][..], |tables| &tables[..]);
        tables.iter().flat_map(CheckpointTable::rows).map(|row| {
            let mut numbers = [0; N];
            numbers.iter_mut().zip(row).for_each(|(number, &found)| *number = found);
            numbers
        })
    }

    /// The one row of a table.
    pub(crate) fn row<const N: usize>(&self, process: ProcessId, kind: TableKind) -> Option<[u64; N]> {
        self.rows(process, kind).next()
    }

    /// The one row of a table of counts, none of them so large that counting on could overflow.
    pub(crate) fn counts<const N: usize>(&self, process: ProcessId, kind: TableKind) -> Option<[u64; N]> {
        self.row(process, kind).map(|row| row.map(|count| count.min(COUNT_MAX)))
    }

    /// The processes that it knows.
    pub(crate) fn processes(&self) -> impl Iterator<Item = ProcessId> {
        self.tables.keys().filter(|(_, kind)| *kind == TableKind::PROCESS).map(|&(process, _)| process)
    }

    /// A set of pages of a process.
    pub(crate) fn pages(&self, process: ProcessId, set: PageSet) -> Intervals {
        let mut pages = Intervals::default();
        let rows = self.rows::<3>(process, TableKind::PAGES).filter(|row| row[0] == set as u64);
        rows.for_each(|[_, first, count]| pages.insert(page_range(first, count)));
        pages
    }

    /// The live objects of all processes: address and size.
    pub(crate) fn objects(&self) -> impl Iterator<Item = (ProcessId, Address, u64)> {
        let of = |process| self.rows::<2>(process, TableKind::OBJECTS).map(move |row| (process, row));
        self.processes().flat_map(of).map(|(process, [address, size])| (process, Address(address), size))
    }

    /// Sums of RSS that were larger than all before, with their times.
    pub(crate) fn rss_marks(&self) -> impl Iterator<Item = (u64, TraceNanos)> {
        self.rows::<2>(RECORDING, TableKind::RSS_MARKS).map(|[time, sum]| (sum, TraceNanos(time)))
    }

    /// What was dropped, as it is told.
    pub(crate) fn dropped(&self) -> Dropped {
        Dropped {
            before: self.time,
            cuts: self.counts::<1>(RECORDING, TableKind::RECORDING).map_or(1, |[cuts]| cuts),
            rss_peak: self.rss_marks().last().map(|(rss, time)| (time, rss)),
        }
    }
}

/// The tables of one process in the making.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) process: ProcessId,
    pub(crate) time: TraceNanos,
    tables: Vec<CheckpointTable>,
}

impl Tables {
    pub(crate) fn new(process: ProcessId, time: TraceNanos) -> Tables {
        Tables { process, time, tables: Vec::new() }
    }

    /// Appends a row to a table.
    pub(crate) fn push(&mut self, kind: TableKind, row: &[u64]) {
        let place = match self.tables.iter().position(|table| table.kind == kind) {
            Some(place) => place,
            None => {
                self.tables.push(CheckpointTable::new(self.process, kind, self.time));
                self.tables.len() - 1
            }
        };
        self.tables[place].push(row);
    }

    /// Appends a set of pages.
    pub(crate) fn push_pages(&mut self, set: PageSet, pages: impl Iterator<Item = Range<u64>>) {
        pages.for_each(|range| self.push(TableKind::PAGES, &[set as u64, range.start, range.end - range.start]));
    }

    pub(crate) fn into_tables(self) -> Vec<CheckpointTable> {
        self.tables
    }
}

/// Pages of a row, those that there are.
pub(crate) fn page_range(first: u64, pages: u64) -> Range<u64> {
    first.min(PAGES_END)..first.saturating_add(pages).min(PAGES_END)
}

/// A number that may be missing, as a number.
pub(crate) fn optional(number: Option<u64>) -> u64 {
    number.map_or(0, |number| number.saturating_add(1))
}

/// The inverse of [`optional`].
pub(crate) fn known(number: u64) -> Option<u64> {
    number.checked_sub(1)
}

/// Keeps of the sums of RSS those that are larger than all before.
pub(crate) fn put_rss_marks(sums: &[(u64, TraceNanos)], tables: &mut Tables) {
    let mut largest = 0;
    for &(sum, time) in sums.iter().filter(|(sum, _)| *sum > 0) {
        if sum > largest {
            largest = sum;
            tables.push(TableKind::RSS_MARKS, &[time.0, sum]);
        }
    }
}
