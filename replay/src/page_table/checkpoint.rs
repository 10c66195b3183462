//! The pages of a process's objects in a checkpoint: which ever held one. What lies on them now follows from the objects.

use pagetrace_format::{PageSet, PageShift, ProcessId};

use super::{Held, LiveOnPage, PageTable};
use crate::checkpoint::{Checkpoint, LeafAccount, Tables};
use crate::intervals::Intervals;

/// What there may be of a page once its objects are counted.
type PageRecord = (Held, LiveOnPage);
/// The records of an object lie in its first page's leaf and in its last one's: a large object has none in between.
const OBJECT_LEAVES_MAX: usize = 2;

impl PageTable {
    /// Puts sets of pages into tables.
    pub(crate) fn put_into(&self, tables: &mut Tables) {
        let (mut held, mut chunks) = (Intervals::default(), Intervals::default());
        self.add_pages(&mut held, Held::OBJECT);
        self.add_pages(&mut chunks, Held::CHUNK);
        tables.push_pages(PageSet::Held, held.iter());
        tables.push_pages(PageSet::HeldChunk, chunks.iter());
        tables.push_pages(PageSet::HeldLarge, self.large_ever_held.iter());
        tables.push_pages(PageSet::HeldBeforeGap, self.held_before_gap.iter());
        tables.push_pages(PageSet::ChunkBeforeGap, self.chunks_before_gap.iter());
        tables.push_pages(PageSet::BeforeAttach, self.before_attach.iter());
    }

    /// The pages at a checkpoint; `objects` are the addresses and usable bytes of the live objects. `None` where these lie
    /// on more pages than there may be.
    pub(crate) fn restored(
        shift: PageShift,
        own: ProcessId,
        checkpoint: &Checkpoint,
        objects: impl Iterator<Item = (u64, u64)>,
        leaves: &mut LeafAccount,
    ) -> Option<PageTable> {
        let mut table = PageTable::new(shift);
        for (address, usable) in objects {
            if !leaves.allows::<PageRecord>(OBJECT_LEAVES_MAX) {
                return None;
            }
            let before = table.held.leaf_count();
            table.add(address, usable);
            leaves.take::<PageRecord>(table.held.leaf_count() - before);
        }
        let [held, chunks] = [PageSet::Held, PageSet::HeldChunk].map(|set| checkpoint.pages(own, set));
        let _all_held = leaves.change_each(&mut table.held, held.iter(), |held| held.0 |= Held::OBJECT)
            && leaves.change_each(&mut table.held, chunks.iter(), |held| held.0 |= Held::CHUNK);
        table.large_ever_held = checkpoint.pages(own, PageSet::HeldLarge);
        table.held_before_gap = checkpoint.pages(own, PageSet::HeldBeforeGap);
        table.chunks_before_gap = checkpoint.pages(own, PageSet::ChunkBeforeGap);
        table.before_attach = checkpoint.pages(own, PageSet::BeforeAttach);
        Some(table)
    }
}
