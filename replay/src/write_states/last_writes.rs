//! Who wrote pages last, page by page: for pictures over time, and for single pages.

use std::ops::Range;

use pagetrace_format::TraceNanos;

use super::process_writes::{ProcessWrites, Record};
use crate::intervals::Intervals;
use crate::page_writes::LastWrite;

impl ProcessWrites {
    /// What is known by now of those pages that are tracked, ascending. Memory that was written, unmapped and mapped again
    /// counts as written until it is tracked anew, as in [`PageWrites::ages`](crate::PageWrites::ages).
    pub(crate) fn last_writes(&self, pages: &Intervals, mut each: impl FnMut(Range<u64>, LastWrite)) {
        let mut contended: Vec<(u64, u8)> =
            self.contention.pages.iter().map(|(&page, it)| (page, it.threads().count() as u8)).collect();
        contended.sort_unstable();
        for tracked in pages.intersection(&self.armed_told).iter() {
            let mut next = tracked.start;
            for (part, record) in self.records.within(tracked.clone()) {
                if next < part.start {
                    each(next..part.start, LastWrite::default());
                }
                next = part.end;
                let known = self.last_write(&record);
                let mut from = part.start;
                let first = contended.partition_point(|&(page, _)| page < part.start);
                for &(page, threads) in contended[first..].iter().take_while(|(page, _)| *page < part.end) {
                    if from < page {
                        each(from..page, known);
                    }
                    each(page..page + 1, LastWrite { threads: threads.max(known.threads), ..known });
                    from = page + 1;
                }
                if from < part.end {
                    each(from..part.end, known);
                }
            }
            if next < tracked.end {
                each(next..tracked.end, LastWrite::default());
            }
        }
    }

    /// Whether writes to a page are tracked now.
    pub(crate) fn tracks(&self, page: u64) -> bool {
        self.armed_told.contains(page)
    }

    /// The last epoch of a record.
    pub(super) fn epoch_of(&self, record: &Record) -> (TraceNanos, TraceNanos) {
        let end = self.found.span.0.0 + u64::from(record.end_ms) * 1_000_000;
        (TraceNanos(end.saturating_sub(u64::from(record.length_ms) * 1_000_000)), TraceNanos(end))
    }

    fn last_write(&self, record: &Record) -> LastWrite {
        LastWrite {
            epoch_end: Some(self.epoch_of(record).1),
            writer: (record.is_last && record.tid != 0).then_some(record.tid),
            threads: u8::from(record.tid != 0),
        }
    }
}
