//! What an allocator said of its pages in a checkpoint.

use pagetrace_format::{PageSet, ProcessId};

use super::{PageState, PageStates};
use crate::checkpoint::{Checkpoint, Tables};

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
    pub(crate) fn restored(self, own: ProcessId, checkpoint: &Checkpoint, after_gap: bool) -> PageStates {
        let mut states = PageStates { after_gap, ..self };
        for (set, state) in SETS {
            for page in checkpoint.each_page(own, set) {
                if states.states.leaf_count() as u64 > states.leaves_max {
                    states.anomalies.impossible_runs += 1;
                    return states;
                }
                // A page is in one set; a damaged table may say otherwise.
                let place = states.states.get_mut(page);
                if *place != PageState::Unknown {
                    continue;
                }
                *place = state;
                states.counts.distinct += 1;
                match state {
                    PageState::InUse => states.counts.in_use += 1,
                    PageState::Free => states.counts.free += 1,
                    PageState::Returned => states.counts.returned += 1,
                    PageState::Unknown | PageState::Forgotten => {}
                }
            }
        }
        states
    }

    /// Whether a gap may hide what became of pages.
    pub(crate) fn is_after_gap(&self) -> bool {
        self.after_gap
    }
}
