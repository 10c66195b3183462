//! What the runtime's scavenger could give back to the kernel, and what keeps it from doing so.
//!
//! It gives back pages of no span while what the runtime holds is more than a goal: what was in use at the end of the
//! last collection, scaled by how the heap's goal changed, and a tenth. In the background it passes over chunks of 4 MiB
//! that are nearly all in use, or were when the last collection ended, since their free pages will soon be taken. What lies
//! inside a span it cannot give back.

use std::collections::BTreeMap;
use std::ops::Range;

use pagetrace_format::{Address, PageCount, PageShift};

use super::chunks::Chunks;

/// What the scavenger keeps over its goal.
pub const RETAINED_OVER_GOAL: f64 = 1.1;
/// Chunks with at least this share of their pages in use are passed over.
pub const DENSE_CHUNK_FRACTION: f64 = 0.96875;
/// Bytes of a chunk.
pub const CHUNK_BYTES: u64 = 4 << 20;

/// Pages that the scavenger can or cannot give back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScavengerView {
    /// Bytes of pages that were in use in this trace and belong to no span now: given back already, or to be given back.
    pub free_bytes: u64,
    /// Those of them in dense chunks, which the background scavenger passes over.
    pub in_dense_chunks_bytes: u64,
    /// The goal for what the runtime holds; `None` before a collection has set it.
    pub goal_bytes: Option<u64>,
    /// Free bytes, not in chunks that are or were dense, that it keeps since in all no more than the goal is held.
    pub below_goal_bytes: u64,
    /// The rest: what it could give back now, where it has not yet.
    pub could_return_bytes: u64,
    /// Bytes of spans that no object is in, but which belong to spans with one. Only freeing these objects helps.
    pub held_by_objects_bytes: u64,
    /// Chunks of 4 MiB with a page in use.
    pub chunks: u64,
    /// Those that are dense.
    pub dense_chunks: u64,
    /// Bytes of `free_bytes` in chunks that are not dense any more, but were when the last collection ended: the background
    /// scavenger passes over them until the next.
    pub in_chunks_dense_before_bytes: u64,
}

/// What the scavenger aims at, by the events of collections.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScavengeGoal {
    pub heap_goal: u64,
    goal_bytes: Option<u64>,
}

impl ScavengeGoal {
    /// A collection has set another goal of the heap, with so much in use.
    pub fn set_heap_goal(&mut self, heap_goal: u64, heap_inuse_bytes: u64) {
        if self.heap_goal != 0 && heap_goal != 0 {
            let scale = heap_goal as f64 / self.heap_goal as f64;
            self.goal_bytes = Some((heap_inuse_bytes as f64 * scale * RETAINED_OVER_GOAL) as u64);
        }
        self.heap_goal = heap_goal;
    }
}

/// Pages that were in use at any time: ranges that do not touch each other, by their first pages.
#[derive(Debug, Default)]
pub struct PagesSeen {
    ranges: BTreeMap<u64, u64>,
    pages: u64,
}

impl PagesSeen {
    pub fn pages(&self) -> u64 {
        self.pages
    }

    pub fn add(&mut self, first: u64, pages: u64) {
        let (mut start, mut end) = (first, first + pages);
        // All ranges that touch the new one become one with it.
        while let Some((&from, &to)) = self.ranges.range(..=end).next_back() {
            if to < start {
                break;
            }
            if from <= start && end <= to {
                return;
            }
            self.ranges.remove(&from);
            self.pages -= to - from;
            (start, end) = (start.min(from), end.max(to));
        }
        self.pages += end - start;
        self.ranges.insert(start, end);
    }

    /// Pages of no span. `spans` are sorted by address and do not overlap.
    pub fn view(
        &self,
        spans: impl Iterator<Item = (Address, PageCount)>,
        shift: PageShift,
        history: &Chunks,
        held_by_objects_bytes: u64,
        goal: &ScavengeGoal,
    ) -> ScavengerView {
        let chunk_pages = (CHUNK_BYTES >> shift.get()).max(1);
        // Of each chunk that has both: pages that are free and pages in use. Whole chunks of a long run need no entry.
        let mut chunks: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        let mut whole_chunks_in_use = 0;
        let mut in_use_pages = 0;
        let mut used = BTreeMap::new();
        for (base, PageCount(pages)) in spans {
            let first = shift.page_of(base).0;
            in_use_pages += pages;
            used.insert(first, first + pages);
            whole_chunks_in_use += for_each_chunk(first, first + pages, chunk_pages, |chunk, pages| {
                chunks.entry(chunk).or_default().1 += pages
            });
        }
        let mut whole_free: Vec<Range<u64>> = Vec::new();
        let mut add_free = |from: u64, to: u64| {
            if from < to {
                let whole =
                    for_each_chunk(from, to, chunk_pages, |chunk, pages| chunks.entry(chunk).or_default().0 += pages);
                let first = from.div_ceil(chunk_pages);
                whole_free.extend((whole > 0).then_some(first..first + whole));
            }
        };
        for (&start, &end) in &self.ranges {
            let mut at = start;
            for (&from, &to) in used.range(start..end) {
                add_free(at, from);
                at = at.max(to);
            }
            add_free(at, end);
        }
        let bytes = |pages: u64| shift.bytes_in(PageCount(pages));
        let is_dense = |in_use: u64| in_use as f64 >= DENSE_CHUNK_FRACTION * chunk_pages as f64;
        let dense = chunks.values().filter(|(_, in_use)| is_dense(*in_use));
        let (dense_chunks, free_in_dense) = dense.fold((0, 0), |(n, free), (pages, _)| (n + 1, free + pages));
        let was_dense = history.at_last_collection().filter(|(_, in_use)| is_dense(*in_use));
        let free_of = |chunk: u64| match chunks.get(&chunk) {
            Some((_, in_use)) if is_dense(*in_use) => 0,
            Some((free, _)) => *free,
            None if is_in(&whole_free, chunk) => chunk_pages,
            None => 0,
        };
        let free_in_dense_before: u64 = was_dense.map(|(chunk, _)| free_of(chunk)).sum();
        let whole_chunks_free: u64 = whole_free.iter().map(|chunks| chunks.end - chunks.start).sum();
        let free = whole_chunks_free * chunk_pages + chunks.values().map(|(free, _)| free).sum::<u64>();
        let free_loose = bytes(free - free_in_dense - free_in_dense_before);
        let headroom = goal.goal_bytes.map_or(0, |goal| goal.saturating_sub(bytes(in_use_pages)));
        let below_goal_bytes = free_loose.min(headroom);
        ScavengerView {
            free_bytes: bytes(free),
            in_dense_chunks_bytes: bytes(free_in_dense),
            in_chunks_dense_before_bytes: bytes(free_in_dense_before),
            goal_bytes: goal.goal_bytes,
            below_goal_bytes,
            could_return_bytes: free_loose - below_goal_bytes,
            held_by_objects_bytes,
            chunks: whole_chunks_in_use + chunks.values().filter(|(_, in_use)| *in_use > 0).count() as u64,
            dense_chunks: whole_chunks_in_use + dense_chunks,
        }
    }
}

/// Whether one of these ranges, which are in order, has the chunk.
fn is_in(ranges: &[Range<u64>], chunk: u64) -> bool {
    let place = ranges.partition_point(|range| range.end <= chunk);
    ranges.get(place).is_some_and(|range| range.contains(&chunk))
}

/// Calls `part` with each chunk that a run covers in part and with how many pages; returns how many it covers whole.
fn for_each_chunk(from: u64, to: u64, chunk_pages: u64, mut part: impl FnMut(u64, u64)) -> u64 {
    let (first_whole, end_whole) = (from.div_ceil(chunk_pages), to / chunk_pages);
    if first_whole > end_whole {
        // Inside one chunk.
        part(end_whole, to - from);
        return 0;
    }
    if !from.is_multiple_of(chunk_pages) {
        part(from / chunk_pages, first_whole * chunk_pages - from);
    }
    if !to.is_multiple_of(chunk_pages) {
        part(end_whole, to - end_whole * chunk_pages);
    }
    end_whole - first_whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_become_one() {
        let mut seen = PagesSeen::default();
        for (first, pages) in [(10, 5), (20, 5), (15, 5), (12, 2), (0, 1), (24, 10)] {
            seen.add(first, pages);
        }
        assert_eq!(seen.ranges, BTreeMap::from([(0, 1), (10, 34)]));
        assert_eq!(seen.pages(), 25);
    }

    #[test]
    fn free_pages_are_told_by_what_keeps_them() {
        // Three chunks of 512 pages: the first dense, the second half in use, the third free.
        let mut seen = PagesSeen::default();
        seen.add(0, 3 * 512);
        let spans = [(Address(0), PageCount(500)), (Address(512 * 8192), PageCount(256))];
        let mut goal = ScavengeGoal::default();
        let mut history = Chunks::new(512);
        let view =
            |history: &Chunks, goal: &ScavengeGoal| seen.view(spans.into_iter(), PageShift::KIB_8, history, 7, goal);
        let found = view(&history, &goal);
        assert_eq!((found.free_bytes, found.in_dense_chunks_bytes), (780 * 8192, 12 * 8192));
        assert_eq!((found.chunks, found.dense_chunks, found.held_by_objects_bytes), (2, 1, 7));
        assert_eq!((found.below_goal_bytes, found.could_return_bytes), (0, 768 * 8192));
        goal.set_heap_goal(1 << 20, 0);
        goal.set_heap_goal(1 << 20, 1000 * 8192);
        let found = view(&history, &goal);
        assert_eq!(found.goal_bytes, Some(1100 * 8192));
        assert_eq!((found.below_goal_bytes, found.could_return_bytes), (344 * 8192, 424 * 8192));
        // The second and the third were all in use when the last collection ended.
        history.take(512, 1024);
        history.end_collection();
        history.give_up(768, 768);
        let found = view(&history, &goal);
        assert_eq!((found.in_chunks_dense_before_bytes, found.could_return_bytes), (768 * 8192, 0));
        assert_eq!((found.free_bytes, found.in_dense_chunks_bytes), (780 * 8192, 12 * 8192));
    }
}
