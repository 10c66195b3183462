//! What if the scavenger had had another goal: the same allocations and frees, other pages given back.
//!
//! The runtime's goal is a tenth over what was in use at the end of the last collection. A page trace has no collections,
//! so the most that was in use within the last second stands for that. Whenever the pages in use and the free ones that
//! are kept are more than the goal, those that have been free for longest are given back, at once and whatever it costs.

use std::collections::VecDeque;

use pagetrace_format::TraceNanos;

use super::Page;
use super::results::GoalOutcome;
use crate::page_map::PageMap;

/// Free pages that are kept, in per cent of what was in use.
pub const GOALS_EXTRA_PERCENT: [u32; 5] = [0, 10, 25, 50, 100];
/// For how long what was in use counts.
pub const PEAK_WINDOW_NS: u64 = 1_000_000_000;

const GOALS: usize = GOALS_EXTRA_PERCENT.len();
/// Entries of free pages before those that are out of date are looked for.
const QUEUE_FREE: usize = 4096;

/// All goals at once.
#[derive(Debug)]
pub struct Goals {
    start: TraceNanos,
    last: TraceNanos,
    /// Free pages by when they became free, with that time plus one. An entry is out of date when the page says another.
    queue: VecDeque<(u64, u64)>,
    /// Up to where each goal has given back, in entries since the begin of the trace.
    heads: [u64; GOALS],
    /// The place of the queue's first entry.
    popped: u64,
    free: u64,
    kept: [u64; GOALS],
    returned: [u64; GOALS],
    reused: [u64; GOALS],
    returned_page_ns: [u128; GOALS],
    recorded_page_ns: u128,
    /// The most in use in this half of the window and in the one before.
    peaks: [u64; 2],
    half: u64,
}

impl Goals {
    pub fn new(start: TraceNanos) -> Goals {
        Goals {
            start,
            last: start,
            queue: VecDeque::new(),
            heads: [0; GOALS],
            popped: 0,
            free: 0,
            kept: [0; GOALS],
            returned: [0; GOALS],
            reused: [0; GOALS],
            returned_page_ns: [0; GOALS],
            recorded_page_ns: 0,
            peaks: [0; 2],
            half: 0,
        }
    }

    /// Time goes on; so many pages were returned meanwhile as it was recorded.
    pub fn advance(&mut self, time: TraceNanos, recorded_returned: u64) {
        let passed = u128::from(time.0.saturating_sub(self.last.0));
        self.last = self.last.max(time);
        for (sum, returned) in self.returned_page_ns.iter_mut().zip(self.returned) {
            *sum += passed * u128::from(returned);
        }
        self.recorded_page_ns += passed * u128::from(recorded_returned);
        let half = (self.last.0 - self.start.0) / (PEAK_WINDOW_NS / 2);
        if half != self.half {
            self.peaks = [0, if half == self.half + 1 { self.peaks[0] } else { 0 }];
            self.half = half;
        }
    }

    /// A page became free; its record says `since`.
    pub fn freed(&mut self, page: u64, since: u64) {
        self.queue.push_back((page, since));
        self.free += 1;
        self.kept.iter_mut().for_each(|kept| *kept += 1);
    }

    /// A free page is used again, which these goals would have given back.
    pub fn reused(&mut self, returned_under: u8) {
        self.free -= 1;
        for goal in 0..GOALS {
            if returned_under & 1 << goal != 0 {
                self.returned[goal] -= 1;
                self.reused[goal] += 1;
            } else {
                self.kept[goal] -= 1;
            }
        }
    }

    /// Gives back what is over each goal.
    pub fn keep(&mut self, in_use: u64, pages: &mut PageMap<Page>) {
        self.peaks[0] = self.peaks[0].max(in_use);
        let base = self.peaks[0].max(self.peaks[1]);
        for (goal, extra_percent) in GOALS_EXTRA_PERCENT.iter().enumerate() {
            let most = base + base * u64::from(*extra_percent) / 100;
            while in_use + self.kept[goal] > most {
                let Some(&(page, since)) = self.queue.get((self.heads[goal] - self.popped) as usize) else { break };
                self.heads[goal] += 1;
                let page = pages.get_mut(page);
                if page.free_since == since && page.returned_under & 1 << goal == 0 {
                    page.returned_under |= 1 << goal;
                    self.kept[goal] -= 1;
                    self.returned[goal] += 1;
                }
            }
        }
        let passed_by_all = self.heads.iter().min().map_or(0, |head| head - self.popped);
        self.queue.drain(..passed_by_all as usize);
        self.popped += passed_by_all;
        if self.queue.len() > QUEUE_FREE + 2 * self.free as usize {
            self.forget_used_again(pages);
        }
    }

    /// Takes entries out of the queue whose pages have been used since.
    fn forget_used_again(&mut self, pages: &PageMap<Page>) {
        let is_current = |&(page, since): &(u64, u64)| pages.get(page).free_since == since;
        let heads = self.heads.map(|head| {
            let before = self.queue.iter().take((head - self.popped) as usize);
            self.popped + before.filter(|entry| is_current(entry)).count() as u64
        });
        self.heads = heads;
        self.queue.retain(is_current);
    }

    /// What was recorded.
    pub fn recorded(&self, reused: u64, final_returned_pages: u64) -> GoalOutcome {
        let mean_returned_pages = self.mean(self.recorded_page_ns);
        GoalOutcome { extra_percent: None, mean_returned_pages, final_returned_pages, reused }
    }

    /// What each goal comes to.
    pub fn outcomes(&self) -> Vec<GoalOutcome> {
        let outcome = |goal: usize| GoalOutcome {
            extra_percent: Some(GOALS_EXTRA_PERCENT[goal]),
            mean_returned_pages: self.mean(self.returned_page_ns[goal]),
            final_returned_pages: self.returned[goal],
            reused: self.reused[goal],
        };
        (0..GOALS).map(outcome).collect()
    }

    fn mean(&self, page_ns: u128) -> f64 {
        match self.last.0 - self.start.0 {
            0 => 0.0,
            lasted => page_ns as f64 / lasted as f64,
        }
    }
}
