//! A set of numbers as merged, half-open intervals.

use std::collections::BTreeMap;
use std::ops::Range;

/// About how much memory an interval takes.
pub(crate) const INTERVAL_BYTES: usize = 32;

/// Disjoint intervals that do not touch, by their starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Intervals {
    end_of: BTreeMap<u64, u64>,
}

impl Intervals {
    /// Adds all numbers of `range`.
    pub(crate) fn insert(&mut self, range: Range<u64>) {
        let Range { mut start, mut end } = range;
        if start >= end {
            return;
        }
        if let Some((&before, &before_end)) = self.end_of.range(..=start).next_back()
            && before_end >= start
        {
            if before_end >= end {
                return;
            }
            start = before;
        }
        while let Some((&next, &next_end)) = self.end_of.range(start..=end).next() {
            end = end.max(next_end);
            self.end_of.remove(&next);
        }
        self.end_of.insert(start, end);
    }

    /// Takes all numbers of `range` away.
    pub(crate) fn remove(&mut self, range: Range<u64>) {
        let Range { start, end } = range;
        if start >= end {
            return;
        }
        if let Some((_, before_end)) = self.end_of.range_mut(..start).next_back()
            && *before_end > start
        {
            let old_end = std::mem::replace(before_end, start);
            if old_end > end {
                self.end_of.insert(end, old_end);
                return;
            }
        }
        while let Some((&next, &next_end)) = self.end_of.range(start..end).next() {
            self.end_of.remove(&next);
            if next_end > end {
                self.end_of.insert(end, next_end);
            }
        }
    }

    /// What is in this set and within `range`, in order.
    pub(crate) fn within(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let first = self.end_of.range(..=range.start).next_back().map_or(range.start, |(&first, _)| first);
        let from = if range.start < range.end { first..range.end } else { 0..0 };
        self.end_of
            .range(from)
            .map(move |(&start, &end)| start.max(range.start)..end.min(range.end))
            .filter(|part| part.start < part.end)
    }

    /// How many intervals there are.
    pub(crate) fn len(&self) -> usize {
        self.end_of.len()
    }

    /// How many numbers are in the set.
    pub(crate) fn count(&self) -> u64 {
        self.end_of.iter().map(|(start, end)| end - start).fold(0, u64::saturating_add)
    }

    /// The smallest number in the set that is not below `number`.
    pub(crate) fn first_from(&self, number: u64) -> Option<u64> {
        if self.contains(number) {
            return Some(number);
        }
        self.end_of.range(number..).next().map(|(&start, _)| start)
    }

    /// The largest number in the set below `number`.
    pub(crate) fn last_before(&self, number: u64) -> Option<u64> {
        self.end_of.range(..number).next_back().map(|(_, &end)| end.min(number) - 1)
    }

    /// Whether `number` is in the set.
    pub(crate) fn contains(&self, number: u64) -> bool {
        self.end_of.range(..=number).next_back().is_some_and(|(_, &end)| number < end)
    }

    /// Whether any number of `range` is in the set.
    pub(crate) fn intersects(&self, range: Range<u64>) -> bool {
        range.start < range.end && self.end_of.range(..range.end).next_back().is_some_and(|(_, &end)| range.start < end)
    }

    /// Whether all numbers of `range` are in the set.
    pub(crate) fn covers(&self, range: Range<u64>) -> bool {
        self.end_of.range(..=range.start).next_back().is_some_and(|(_, &end)| range.end <= end)
    }

    /// What is in both sets.
    pub(crate) fn intersection(&self, other: &Intervals) -> Intervals {
        let mut both = Intervals::default();
        for (&start, &end) in &self.end_of {
            let from = other.end_of.range(..=start).next_back().map_or(start, |(&first, _)| first);
            for (&other_start, &other_end) in other.end_of.range(from..end) {
                both.insert(start.max(other_start)..end.min(other_end));
            }
        }
        both
    }

    /// What is in this set and not in the other.
    pub(crate) fn difference(&self, other: &Intervals) -> Intervals {
        let mut rest = Intervals::default();
        for range in self.iter() {
            let mut from = range.start;
            for hole in other.within(range.clone()) {
                rest.insert(from..hole.start);
                from = hole.end;
            }
            rest.insert(from..range.end);
        }
        rest
    }

    /// Whether no number is in the set.
    pub(crate) fn is_empty(&self) -> bool {
        self.end_of.is_empty()
    }

    /// The intervals in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.end_of.iter().map(|(&start, &end)| start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn check_removal(ranges: &[(u64, u64, bool)]) {
        let (mut set, mut model) = (Intervals::default(), BTreeSet::new());
        for &(start, length, insert) in ranges {
            let range = start..start + length;
            if insert {
                set.insert(range.clone());
                model.extend(range);
            } else {
                set.remove(range.clone());
                model.retain(|number| !range.contains(number));
            }
        }
        assert_eq!(set.iter().flatten().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
        assert_eq!(set.count(), model.len() as u64);
        for (start, end) in [(0, 150), (10, 11), (30, 60), (60, 30)] {
            let part: Vec<u64> = model.iter().copied().filter(|&n| start <= n && n < end).collect();
            assert_eq!(set.within(start..end).flatten().collect::<Vec<_>>(), part);
        }
    }

    fn check(ranges: &[(u64, u64)], others: &[(u64, u64)]) {
        let build = |ranges: &[(u64, u64)]| {
            let (mut set, mut model) = (Intervals::default(), BTreeSet::new());
            for &(start, length) in ranges {
                set.insert(start..start + length);
                model.extend(start..start + length);
            }
            (set, model)
        };
        let (set, model) = build(ranges);
        let (other, other_model) = build(others);
        assert!((0..200).all(|n| set.contains(n) == model.contains(&n)));
        let found: Vec<_> = set.iter().collect();
        assert!(found.windows(2).all(|pair| pair[0].end < pair[1].start), "merged: {found:?}");
        let both = set.intersection(&other);
        assert_eq!(both.iter().flatten().collect::<BTreeSet<_>>(), &model & &other_model);
        for n in 0..160 {
            assert_eq!(set.first_from(n), model.range(n..).next().copied());
            assert_eq!(set.last_before(n), model.range(..n).next_back().copied());
        }
        assert_eq!(set.difference(&other).iter().flatten().collect::<BTreeSet<_>>(), &model - &other_model);
        for start in (0..150).step_by(7) {
            for end in (start + 1..160).step_by(11) {
                assert_eq!(set.intersects(start..end), (start..end).any(|n| model.contains(&n)));
                assert_eq!(set.covers(start..end), (start..end).all(|n| model.contains(&n)));
            }
        }
    }

    proptest! {
        #[test]
        fn same_as_a_set_of_numbers(
            ranges in prop::collection::vec((0_u64..120, 0_u64..20), 0..24),
            others in prop::collection::vec((0_u64..120, 0_u64..20), 0..24),
        ) {
            check(&ranges, &others);
        }

        #[test]
        fn same_as_a_set_that_numbers_are_taken_from(
            ranges in prop::collection::vec((0_u64..120, 0_u64..30, any::<bool>()), 0..40),
        ) {
            check_removal(&ranges);
        }
    }
}
