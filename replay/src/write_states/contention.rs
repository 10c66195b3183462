//! Pages that more than one thread accesses.

use hashbrown::HashMap;

use crate::page_writes::THREADS_KEPT;

/// Contended pages that are kept apart. Beyond, further ones are counted.
pub(super) const PAGES_MAX: usize = 1 << 16;

/// Pages with the threads that were seen there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contention {
    pub(super) pages: HashMap<u64, Contended>,
    pub(super) beyond: u64,
}

/// One page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contended {
    pub(crate) hand_overs: u64,
    pub(super) threads: [u32; THREADS_KEPT],
}

impl Contended {
    /// The threads.
    pub(crate) fn threads(&self) -> impl Iterator<Item = u32> {
        self.threads.into_iter().filter(|&tid| tid != 0)
    }

    fn note(&mut self, tid: u32) {
        if !self.threads.contains(&tid)
            && let Some(free) = self.threads.iter_mut().find(|known| **known == 0)
        {
            *free = tid;
        }
    }
}

impl Contention {
    /// A thread followed another one on a page.
    pub(crate) fn hand_over(&mut self, page: u64, from: u32, to: u32) {
        if self.pages.len() >= PAGES_MAX && !self.pages.contains_key(&page) {
            self.beyond += 1;
            return;
        }
        let contended = self.pages.entry(page).or_default();
        contended.hand_overs += 1;
        contended.note(from);
        contended.note(to);
    }

    /// How many pages there are, those beyond what is kept counted by their hand-overs.
    pub(crate) fn count(&self) -> u64 {
        self.pages.len() as u64 + self.beyond
    }

    /// What is known of a page.
    pub(crate) fn of(&self, page: u64) -> Option<&Contended> {
        self.pages.get(&page)
    }

    /// The pages with the most hand-overs.
    pub(crate) fn most(&self, count: usize) -> Vec<u64> {
        let mut pages: Vec<(u64, u64)> = self.pages.iter().map(|(&page, it)| (it.hand_overs, page)).collect();
        pages.sort_unstable_by_key(|&(hand_overs, page)| (std::cmp::Reverse(hand_overs), page));
        pages.into_iter().take(count).map(|(_, page)| page).collect()
    }
}
