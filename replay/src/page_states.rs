//! What an allocator of pages said of each page: in use, free, or returned to the kernel. Go's page traces tell it.

mod checkpoint;

use pagetrace_format::{PageRun, PageShift};

use crate::history::{PageCell, PageClass};
use crate::page_map::{LEAF_PAGES, PageMap};
use crate::results::{PageAnomalies, PageStateCounts};

/// No allocator takes a longer run at once; a longer one is damage, and following it would take all memory.
const RUN_PAGES_MAX: u64 = 1 << 24;
/// Leaves that a process may have whatever the length of the trace: 128 GiB of Go's pages, side by side.
const LEAVES_FREE: u64 = 1 << 15;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum PageState {
    #[default]
    Unknown,
    InUse,
    Free,
    Returned,
    /// Known before a gap of the recording, not since.
    Forgotten,
}

/// What happens to a run of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageAction {
    Alloc,
    Free,
    Scavenge,
}

/// The page states of one process.
#[derive(Clone, Debug)]
pub(crate) struct PageStates {
    shift: PageShift,
    states: PageMap<PageState>,
    leaves_max: u64,
    /// Whether a gap of the recording may hide what became of pages that were not seen yet.
    after_gap: bool,
    pub(crate) counts: PageStateCounts,
    pub(crate) anomalies: PageAnomalies,
}

impl PageStates {
    /// Without pages. There may be as many leaves as the trace has bytes of payload, and some: a run is a few bytes of a
    /// trace, however many pages it has.
    pub(crate) fn new(shift: PageShift, payload_bytes: u64) -> PageStates {
        let (counts, anomalies) = (PageStateCounts::default(), PageAnomalies::default());
        PageStates {
            shift,
            states: PageMap::new(),
            leaves_max: LEAVES_FREE.saturating_add(payload_bytes),
            after_gap: false,
            counts,
            anomalies,
        }
    }

    /// A copy for a forked child: the same pages, no anomalies yet.
    pub(crate) fn inherited(&self) -> PageStates {
        PageStates { anomalies: PageAnomalies::default(), ..self.clone() }
    }

    /// The page size of page events.
    pub(crate) fn shift(&self) -> PageShift {
        self.shift
    }

    /// Every page with a page event so far, ascending.
    pub(crate) fn for_each_cell(&self, mut each: impl FnMut(u64, PageCell)) {
        let mut leaves: Vec<(u64, &[PageState])> = self.states.leaves().collect();
        leaves.sort_unstable_by_key(|(first, _)| *first);
        for (first, states) in leaves {
            for (page, state) in (first..).zip(states) {
                match state {
                    PageState::Unknown => {}
                    PageState::InUse => each(page, PageCell::of(PageClass::InUse)),
                    PageState::Free => each(page, PageCell::of(PageClass::Retained)),
                    PageState::Returned => each(page, PageCell::of(PageClass::Returned)),
                    PageState::Forgotten => each(page, PageCell::of(PageClass::Unexplained)),
                }
            }
        }
    }

    /// About how much memory a copy takes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.states.heap_bytes()
    }

    /// The recording was off: what became of the pages meanwhile is not known, and the next event of each cannot
    /// contradict anything.
    pub(crate) fn forget(&mut self) {
        self.after_gap = true;
        self.states.prune(|_, states| {
            for state in states.iter_mut().filter(|state| **state != PageState::Unknown) {
                *state = PageState::Forgotten;
            }
        });
        self.counts = PageStateCounts { distinct: self.counts.distinct, ..PageStateCounts::default() };
    }

    pub(crate) fn apply(&mut self, action: PageAction, run: PageRun) {
        let first = self.shift.page_of(run.base).0;
        let leaves = self.states.leaf_count() as u64 + run.pages.0 / LEAF_PAGES;
        if run.pages.0 > RUN_PAGES_MAX || leaves > self.leaves_max {
            self.anomalies.impossible_runs += 1;
            return;
        }
        for page in first..first + run.pages.0 {
            self.apply_to_page(action, page);
        }
    }

    fn apply_to_page(&mut self, action: PageAction, page: u64) {
        let state = self.states.get_mut(page);
        let next = match (action, *state) {
            (PageAction::Alloc, PageState::InUse) => {
                self.anomalies.alloc_of_allocated += 1;
                PageState::InUse
            }
            (PageAction::Alloc, _) => PageState::InUse,
            (PageAction::Free, before) => {
                let contradicts = match before {
                    PageState::InUse | PageState::Forgotten => false,
                    PageState::Unknown => !self.after_gap,
                    PageState::Free | PageState::Returned => true,
                };
                self.anomalies.free_of_unallocated += u64::from(contradicts);
                PageState::Free
            }
            (PageAction::Scavenge, PageState::InUse) => {
                self.anomalies.scav_of_allocated += 1;
                PageState::InUse
            }
            (PageAction::Scavenge, _) => PageState::Returned,
        };
        let counts = &mut self.counts;
        match *state {
            PageState::Unknown => counts.distinct += 1,
            PageState::Forgotten => {}
            PageState::InUse => counts.in_use -= 1,
            PageState::Free => counts.free -= 1,
            PageState::Returned => counts.returned -= 1,
        }
        match next {
            PageState::Unknown | PageState::Forgotten => {}
            PageState::InUse => counts.in_use += 1,
            PageState::Free => counts.free += 1,
            PageState::Returned => counts.returned += 1,
        }
        *state = next;
    }
}
