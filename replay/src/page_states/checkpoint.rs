//! What an allocator said of its pages in a checkpoint.

use pagetrace_format::{PageSet, ProcessId};

use super::{PageState, PageStates};
use crate::checkpoint::{Checkpoint, LeafAccount, Tables};

const SETS: [(PageSet, PageState); 4] = [
    (PageSet::InUse, PageState::InUse),
    (PageSet::Free, PageState::Free),
    (PageSet::Returned, PageState::Returned),
    (PageSet::Forgotten, PageState::Forgotten),
];

impl PageStates {
    /// Puts sets of pages into tables.
    pub(crate) fn put_into(&self, tables: &mut Tables) {
        let mut leaves: Vec<(u64, &[PageState])> = self.states.leaves().collect();
        leaves.sort_unstable_by_key(|&(first, _)| first);
        for (set, state) in SETS {
            for &(first, pages) in &leaves {
                let mut start = first;
                for run in pages.chunk_by(|a, b| a == b) {
                    let end = start + run.len() as u64;
                    if run[0] == state {
                        tables.push_pages(set, std::iter::once(start..end));
                    }
                    start = end;
                }
            }
        }
    }

    /// Those of a checkpoint in place of these, which are of no page yet; anomalies of before are counted apart.
    pub(crate) fn restored(
        self,
        own: ProcessId,
        checkpoint: &Checkpoint,
        after_gap: bool,
        leaves: &mut LeafAccount,
    ) -> PageStates {
        let PageStates { mut states, mut counts, .. } = self;
        for (set, state) in SETS {
            let all = leaves.change_each(&mut states, checkpoint.pages(own, set).iter(), |place| {
                // A page is in one set; a damaged table may say otherwise.
                if *place != PageState::Unknown {
                    return;
                }
                *place = state;
                counts.distinct += 1;
                match state {
                    PageState::InUse => counts.in_use += 1,
                    PageState::Free => counts.free += 1,
                    PageState::Returned => counts.returned += 1,
                    PageState::Unknown | PageState::Forgotten => {}
                }
            });
            if !all {
                break;
            }
        }
        PageStates { states, counts, after_gap, ..self }
    }

    /// Whether a gap may hide what became of pages.
    pub(crate) fn is_after_gap(&self) -> bool {
        self.after_gap
    }
}
