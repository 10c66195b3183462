//! Sets of pages and the two figures that compare a prediction with the truth.

use std::ops::Range;

/// Intervals with fewer changed pages are judged together with the next: one page more or less would decide there.
const CHANGED_PAGES_MIN: u64 = 256;

/// Page indexes as ranges, ascending, none touching the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageSet(Vec<Range<u64>>);

/// How well a prediction agrees with the truth: 1 is perfect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// Pages in both ÷ pages in either, worst of all stops.
    pub residency: f64,
    /// The same of the pages that came and went between two stops, worst of all intervals.
    pub change: f64,
    /// Of the worst stop: pages that are in RAM and not predicted.
    pub missing: u64,
    /// Of the worst stop: pages that are predicted and not in RAM.
    pub extra: u64,
    /// Which stop that is, from 0.
    pub worst_stop: usize,
}

impl PageSet {
    /// From ranges in any order, which may overlap.
    pub fn new(mut ranges: Vec<Range<u64>>) -> PageSet {
        ranges.retain(|range| !range.is_empty());
        ranges.sort_by_key(|range| range.start);
        let mut joined: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match joined.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => joined.push(range),
            }
        }
        PageSet(joined)
    }

    /// How many pages.
    pub fn pages(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// The ranges.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.0
    }

    /// Pages in both.
    pub fn intersection(&self, other: &PageSet) -> PageSet {
        let (mut mine, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut both = Vec::new();
        while let (Some(left), Some(right)) = (mine.peek(), theirs.peek()) {
            let range = left.start.max(right.start)..left.end.min(right.end);
            if !range.is_empty() {
                both.push(range);
            }
            if left.end <= right.end {
                mine.next()
            } else {
                theirs.next()
            };
        }
        PageSet(both)
    }

    /// Pages of this that are not in the other.
    pub fn without(&self, other: &PageSet) -> PageSet {
        let mut left = Vec::new();
        let mut holes = other.0.iter().peekable();
        for range in &self.0 {
            let mut start = range.start;
            while holes.peek().is_some_and(|hole| hole.end <= start) {
                holes.next();
            }
            let mut inside = holes.clone();
            while let Some(hole) = inside.next_if(|hole| hole.start < range.end) {
                if start < hole.start {
                    left.push(start..hole.start);
                }
                start = start.max(hole.end);
            }
            if start < range.end {
                left.push(start..range.end);
            }
        }
        PageSet(left)
    }
}

/// Compares what was predicted at each stop with what was there.
pub fn agreement(predicted: &[PageSet], truth: &[PageSet]) -> Agreement {
    let mut worst = Agreement { residency: 1.0, change: 1.0, missing: 0, extra: 0, worst_stop: 0 };
    for (stop, (predicted, truth)) in predicted.iter().zip(truth).enumerate() {
        let score = Score::of(predicted, truth);
        if score.share() < worst.residency {
            let (missing, extra) = (truth.pages() - score.both, predicted.pages() - score.both);
            worst = Agreement { residency: score.share(), missing, extra, worst_stop: stop, ..worst };
        }
    }
    Agreement { change: change(predicted, truth), ..worst }
}

fn change(predicted: &[PageSet], truth: &[PageSet]) -> f64 {
    let mut judged: Vec<Score> = Vec::new();
    let mut pooled = Score::default();
    for (predicted, truth) in predicted.windows(2).zip(truth.windows(2)) {
        for (before, after) in [(0, 1), (1, 0)] {
            let predicted = predicted[after].without(&predicted[before]);
            pooled.add(Score::of(&predicted, &truth[after].without(&truth[before])));
        }
        if pooled.either >= CHANGED_PAGES_MIN {
            judged.push(std::mem::take(&mut pooled));
        }
    }
    // Too few at the end go with those before.
    match judged.last_mut() {
        Some(last) => last.add(pooled),
        None => judged.push(pooled),
    }
    judged.iter().map(Score::share).fold(1.0, f64::min)
}

/// Pages that two sets have in common, and pages that either has.
#[derive(Default)]
struct Score {
    both: u64,
    either: u64,
}

impl Score {
    fn of(left: &PageSet, right: &PageSet) -> Score {
        let both = left.intersection(right).pages();
        Score { both, either: left.pages() + right.pages() - both }
    }

    fn add(&mut self, other: Score) {
        self.both += other.both;
        self.either += other.either;
    }

    fn share(&self) -> f64 {
        if self.either == 0 { 1.0 } else { self.both as f64 / self.either as f64 }
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "sets of one range are meant")]
mod tests {
    use super::*;

    fn set(ranges: &[Range<u64>]) -> PageSet {
        PageSet::new(ranges.to_vec())
    }

    /// Some set of pages below 64, by its bits.
    fn of_bits(bits: u64) -> PageSet {
        PageSet::new((0..64).filter(|page| bits >> page & 1 == 1).map(|page| page..page + 1).collect())
    }

    #[test]
    fn ranges_are_sorted_and_joined() {
        assert_eq!(set(&[7..9, 1..3, 3..4, 8..12, 5..5]).ranges(), [1..4, 7..12]);
    }

    #[test]
    fn sets_are_as_bits_would_have_it() {
        let mut random = 1_u64;
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            random ^ random >> 29
        };
        for _ in 0..2000 {
            let (left, right) = (next() & next(), next() | next());
            assert_eq!(of_bits(left).intersection(&of_bits(right)), of_bits(left & right));
            assert_eq!(of_bits(left).without(&of_bits(right)), of_bits(left & !right));
            assert_eq!(of_bits(right).without(&of_bits(left)), of_bits(right & !left));
            assert_eq!(of_bits(left).pages(), u64::from(left.count_ones()));
        }
    }

    #[test]
    fn residency_is_that_of_the_worst_stop() {
        let truth = [set(&[0..100]), set(&[0..100]), set(&[])];
        let predicted = [set(&[0..100]), set(&[10..110]), set(&[])];
        let found = agreement(&predicted, &truth);
        assert_eq!((found.residency, found.missing, found.extra, found.worst_stop), (90.0 / 110.0, 10, 10, 1));
        assert_eq!(agreement(&truth, &truth).residency, 1.0);
        assert_eq!(agreement(&[set(&[])], &[set(&[0..1])]).residency, 0.0);
    }

    #[test]
    fn that_all_is_resident_agrees_with_no_change() {
        let truth = [set(&[0..990]), set(&[0..690, 700..1000])];
        let all = [set(&[0..1000]), set(&[0..1000])];
        let found = agreement(&all, &truth);
        assert!(found.residency > 0.98, "{found:?}");
        assert_eq!(found.change, 0.0);
    }

    #[test]
    fn changes_are_judged_where_there_are_enough() {
        let truth = [set(&[0..1000]), set(&[0..1001]), set(&[0..2001]), set(&[0..2002])];
        // The first change is not seen: 1 of 1001 of its pool. The last one goes with that pool.
        let predicted = [set(&[0..1000]), set(&[0..1000]), set(&[0..2001]), set(&[0..2001])];
        let found = agreement(&predicted, &truth).change;
        assert_eq!(found, 1000.0 / 1003.0);
        assert_eq!(agreement(&truth[..1], &truth[..1]).change, 1.0);
    }

    #[test]
    fn a_page_that_comes_is_not_a_page_that_goes() {
        let truth = [set(&[0..1000]), set(&[0..1300])];
        let predicted = [set(&[0..1300]), set(&[0..1000])];
        assert_eq!(agreement(&predicted, &truth).change, 0.0);
    }
}
