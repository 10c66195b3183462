//! Where touches of anonymous memory get huge pages.

use std::ops::Range;

use pagetrace_format::PageShift;
use pagetrace_format::records::{HugePages, Machine};

use crate::intervals::Intervals;

/// The places of huge pages in an address space: the setting of the machine, and which places have a table of small
/// pages, which keeps huge pages out (`pmd_none` in `__handle_mm_fault` of mm/memory.c).
///
/// A table appears with the first small page, also one of zeros, and goes when all of its place is unmapped or dropped by
/// one call. The latter is so since Linux 6.14 (`CONFIG_PT_RECLAIM`); before, a place that was dropped kept its table.
#[derive(Clone, Debug)]
pub(crate) struct HugePlaces {
    when: HugePages,
    /// Pages of a huge page, 0 where there are none.
    pages: u64,
    /// Pages of places with a table.
    tables: Intervals,
}

impl HugePlaces {
    pub(crate) fn new(machine: Option<&Machine>, shift: PageShift) -> HugePlaces {
        let pages = machine.map_or(0, |machine| machine.huge_page_bytes >> shift.get());
        let when = machine.map_or(HugePages::Unknown, |machine| machine.huge_pages);
        let given = matches!(when, HugePages::Always | HugePages::Madvise) && pages.is_power_of_two() && pages > 1;
        HugePlaces { when, pages: if given { pages } else { 0 }, tables: Intervals::default() }
    }

    /// The same machine with nothing in memory.
    pub(crate) fn emptied(&self) -> HugePlaces {
        HugePlaces { tables: Intervals::default(), ..*self }
    }

    /// Pages of places with a table.
    pub(crate) fn tables(&self) -> &Intervals {
        &self.tables
    }

    /// Takes up places with a table.
    pub(crate) fn restore(&mut self, tables: Intervals) {
        self.tables = tables;
    }

    /// Whether memory gets huge pages without a program's asking.
    pub(crate) fn always(&self) -> bool {
        self.when == HugePages::Always
    }

    /// Pages of a huge page, `None` where there are none.
    pub(crate) fn pages(&self) -> Option<u64> {
        (self.pages > 0).then_some(self.pages)
    }

    /// The aligned place of a page.
    pub(crate) fn place(&self, page: u64) -> Option<Range<u64>> {
        let start = page & !self.pages()?.saturating_sub(1);
        Some(start..start.checked_add(self.pages)?)
    }

    /// Whether a place has a table of small pages.
    pub(crate) fn has_table(&self, place: &Range<u64>) -> bool {
        self.tables.contains(place.start)
    }

    /// A small page was mapped.
    pub(crate) fn small_page(&mut self, page: u64) {
        if let Some(place) = self.place(page) {
            self.tables.insert(place);
        }
    }

    /// Small pages were mapped side by side.
    pub(crate) fn small_pages(&mut self, range: Range<u64>) {
        let last = range.end.checked_sub(1).filter(|&last| range.start <= last);
        if let Some((first, last)) = self.place(range.start).zip(last.and_then(|last| self.place(last))) {
            self.tables.insert(first.start..last.end);
        }
    }

    /// Pages are dropped, of which those in `resident` are still there: of a huge page that is dropped in part small ones
    /// are left.
    pub(crate) fn drop_range(&mut self, range: &Range<u64>, resident: &Intervals) {
        let Some(pages) = self.pages() else { return };
        for place in self.edges(range) {
            if resident.intersects(place.clone()) {
                self.tables.insert(place);
            }
        }
        if let Some(first) = range.start.checked_next_multiple_of(pages) {
            self.tables.remove(first..range.end & !(pages - 1));
        }
    }

    /// The places that `range` covers in part.
    pub(crate) fn edges(&self, range: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
        let in_part = |place: &Range<u64>| place.start < range.start || range.end < place.end;
        let edges = [Some(range.start), range.end.checked_sub(1)].map(|page| page.and_then(|page| self.place(page)));
        edges.map(|edge| edge.filter(in_part)).into_iter().flatten()
    }

    /// Nothing is mapped in a place any more.
    pub(crate) fn unmapped(&mut self, place: Range<u64>) {
        self.tables.remove(place);
    }
}
