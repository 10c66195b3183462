//! The pages of a process at one moment, as they are classified one after the other.

use std::ops::Range;

use pagetrace_format::PageShift;
use pagetrace_format::snapshot::Snapshot;

use super::page_blocks::{BlockRun, BlockWriter, PageBlocks};
use super::page_class::{PageCell, PageClass};
use crate::analyses::owners::pages_of;
use crate::intervals::Intervals;

/// Pages in the making: resident ones come in ascending order, those between them follow from the mappings.
pub(crate) struct PagePicture<'a> {
    writer: BlockWriter<'a, u8>,
    mapped: Vec<Range<u64>>,
    next_mapping: usize,
    /// Pages that were resident at an earlier moment.
    seen: &'a Intervals,
    bytes_max: usize,
}

impl<'a> PagePicture<'a> {
    pub(crate) fn new(
        blocks: &'a mut PageBlocks<u8>,
        snapshot: &Snapshot,
        shift: PageShift,
        seen: &'a Intervals,
        bytes_max: usize,
    ) -> PagePicture<'a> {
        let in_rss = |path: &str| !path.starts_with("[vvar") && path != "[vsyscall]";
        let mapped = snapshot.mappings.iter().filter(|mapping| in_rss(&mapping.path));
        let mapped = mapped.map(|mapping| pages_of(mapping, shift)).collect();
        PagePicture { writer: BlockWriter::new(blocks), mapped, next_mapping: 0, seen, bytes_max }
    }

    /// Resident or swapped pages.
    pub(crate) fn push(&mut self, pages: Range<u64>, cell: PageCell) {
        self.fill_until(pages.start);
        if self.writer.bytes() < self.bytes_max {
            self.writer.push(pages, cell.0);
        }
    }

    /// The runs, `None` where they did not fit.
    pub(crate) fn finish(mut self) -> Option<Vec<BlockRun>> {
        self.fill_until(u64::MAX);
        let fits = self.writer.bytes() < self.bytes_max;
        let runs = self.writer.finish();
        fits.then_some(runs)
    }

    /// Pages that are mapped and not resident.
    fn fill_until(&mut self, until: u64) {
        while let Some(mapping) = self.mapped.get(self.next_mapping).cloned() {
            let part = mapping.start.max(self.writer.next_page())..mapping.end.min(until);
            if !part.is_empty() {
                self.fill(part);
            }
            if mapping.end > until {
                return;
            }
            self.next_mapping += 1;
        }
    }

    fn fill(&mut self, part: Range<u64>) {
        for seen in self.seen.within(part.clone()) {
            if self.writer.bytes() >= self.bytes_max {
                return;
            }
            self.writer.push(self.writer.next_page().max(part.start)..seen.start, PageClass::NeverTouched as u8);
            self.writer.push(seen, PageClass::Returned as u8);
        }
        self.writer.push(self.writer.next_page().max(part.start)..part.end, PageClass::NeverTouched as u8);
    }
}
