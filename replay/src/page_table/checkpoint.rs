//! The pages of a process's objects in a checkpoint: which ever held one. What lies on them now follows from the objects.

use pagetrace_format::{PageSet, PageShift, ProcessId};

use super::PageTable;
use crate::checkpoint::{Checkpoint, Tables};
use crate::intervals::Intervals;

impl PageTable {
    /// Puts sets of pages into tables.
    pub(crate) fn put_into(&self, tables: &mut Tables) {
        let (mut held, mut chunks) = (Intervals::default(), Intervals::default());
        self.add_pages(&mut held, |record| record.ever_held);
        self.add_pages(&mut chunks, |record| record.ever_held_chunk);
        tables.push_pages(PageSet::Held, held.iter());
        tables.push_pages(PageSet::HeldChunk, chunks.iter());
        tables.push_pages(PageSet::HeldLarge, self.large_ever_held.iter());
        tables.push_pages(PageSet::HeldBeforeGap, self.held_before_gap.iter());
        tables.push_pages(PageSet::ChunkBeforeGap, self.chunks_before_gap.iter());
    }

    /// The pages at a checkpoint; `objects` are the addresses and usable bytes of the live objects.
    pub(crate) fn restored(
        shift: PageShift,
        own: ProcessId,
        checkpoint: &Checkpoint,
        objects: impl Iterator<Item = (u64, u64)>,
    ) -> PageTable {
        let mut table = PageTable::new(shift);
        objects.for_each(|(address, usable)| table.add(address, usable));
        for page in checkpoint.each_page(own, PageSet::Held) {
            table.pages.get_mut(page).ever_held = true;
        }
        for page in checkpoint.each_page(own, PageSet::HeldChunk) {
            table.pages.get_mut(page).ever_held_chunk = true;
        }
        table.large_ever_held = checkpoint.pages(own, PageSet::HeldLarge);
        table.held_before_gap = checkpoint.pages(own, PageSet::HeldBeforeGap);
        table.chunks_before_gap = checkpoint.pages(own, PageSet::ChunkBeforeGap);
        table
    }
}
