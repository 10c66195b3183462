//! Which pages of mapped files must be in the page table: for the check of the prediction alone. What reports say of
//! files comes from scans.
//!
//! The kernel maps up to 64 KiB of a file around a page that is read, as far as they are in its cache
//! (`do_fault_around` in mm/memory.c). That they are is taken for granted, so that the end of a file and a cold cache are
//! over-predicted. Where the cache holds large folios a touch maps more than is said here.

use std::ops::Range;

use pagetrace_format::kernel_event::FaultAccess;

use super::AddressSpace;
use super::areas::{Area, AreaKind};
use crate::intervals::Intervals;

/// `fault_around_bytes` of mm/memory.c, unless somebody has changed it in debugfs.
const FAULT_AROUND_BYTES: u64 = 64 << 10;
/// An entry of a page table. A table fills a page (include/linux/pgtable.h: `PTRS_PER_PTE`).
const TABLE_ENTRY_BYTES: u64 = 8;

impl AddressSpace {
    /// Pages of files that must be mapped now and are no copies.
    pub(crate) fn file_pages(&self) -> &Intervals {
        &self.file_pages
    }

    /// A touch that made no copy: a write to a shared file maps one page, anything else those around it, too.
    pub(super) fn touch_file(&mut self, page: u64, access: FaultAccess) {
        let Some((range, area)) = self.areas.at(page).filter(|(_, area)| area.is_file()) else { return };
        if area.kind == AreaKind::SharedFile && access == FaultAccess::Write {
            self.map_files(page..page + 1);
            return;
        }
        let around = self.around(page, &range);
        self.map_files(around);
    }

    /// Maps all pages of files in `range` that are not copied.
    pub(super) fn map_files(&mut self, range: Range<u64>) {
        let parts: Vec<(Range<u64>, Area)> = self.areas.within(range).collect();
        for (part, area) in parts {
            if !area.is_file() || area.protection == 0 {
                continue;
            }
            let copies: Vec<Range<u64>> = self.resident.within(part.clone()).collect();
            let mut from = part.start;
            for copy in copies {
                self.file_pages.insert(from..copy.start);
                from = copy.end;
            }
            self.file_pages.insert(from..part.end);
        }
    }

    /// A child's page tables get pages of files only in mappings that hold copies; elsewhere it touches them anew
    /// (`vma_needs_copy` in mm/memory.c).
    pub(super) fn keep_inherited_files(&mut self) {
        for (range, _) in self.areas.iter() {
            if !self.resident.intersects(range.clone()) {
                self.file_pages.remove(range);
            }
        }
    }

    /// The aligned window of a page, clipped to its mapping and page table. A window that the mapping's start cuts short
    /// reaches further at its end.
    fn around(&self, page: u64, mapping: &Range<u64>) -> Range<u64> {
        let window = (FAULT_AROUND_BYTES >> self.shift.get()).max(1);
        let table = (self.shift.bytes() / TABLE_ENTRY_BYTES).max(1);
        let table_start = page / table * table;
        let start = (page / window * window).max(mapping.start).max(table_start);
        start..start.saturating_add(window).min(mapping.end).min(table_start.saturating_add(table))
    }
}
