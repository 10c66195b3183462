//! A value for each page of intervals that do not overlap. Neighbours with the same value are one interval.

use std::collections::BTreeMap;
use std::ops::Range;

/// Values by pages.
#[derive(Clone, Debug)]
pub(crate) struct RangeMap<T> {
    /// By first pages: one past the last page, and the value.
    range_of: BTreeMap<u64, (u64, T)>,
}

impl<T: Copy + PartialEq> RangeMap<T> {
    /// How many intervals there are.
    pub(crate) fn len(&self) -> usize {
        self.range_of.len()
    }

    /// About how much memory a copy takes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.len() * 2 * size_of::<(u64, (u64, T))>()
    }

    /// The value of a page, with all pages of its interval.
    pub(crate) fn at(&self, page: u64) -> Option<(Range<u64>, T)> {
        let (&start, &(end, value)) = self.range_of.range(..=page).next_back()?;
        (page < end).then_some((start..end, value))
    }

    /// The first interval that begins behind a page.
    pub(crate) fn after(&self, page: u64) -> Option<(Range<u64>, T)> {
        let (&start, &(end, value)) = self.range_of.range(page..).find(|(start, _)| **start > page)?;
        Some((start..end, value))
    }

    /// The parts of intervals within `range`, in order.
    pub(crate) fn within(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, T)> {
        let first = self.range_of.range(..=range.start).next_back().map_or(range.start, |(&first, _)| first);
        let from = if range.start < range.end { first..range.end } else { 0..0 };
        let clip =
            move |(&start, &(end, value)): (&u64, &(u64, T))| (start.max(range.start)..end.min(range.end), value);
        self.range_of.range(from).map(clip).filter(|(part, _)| part.start < part.end)
    }

    /// Every interval, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Range<u64>, T)> {
        self.range_of.iter().map(|(&start, &(end, value))| (start..end, value))
    }

    /// Puts a value in the place of all that is in `range`.
    pub(crate) fn insert(&mut self, range: Range<u64>, value: T) {
        let Range { mut start, mut end } = range;
        if start >= end {
            return;
        }
        self.remove(start..end);
        if let Some((&before, &(before_end, same))) = self.range_of.range(..start).next_back()
            && before_end == start
            && same == value
        {
            start = before;
        }
        if let Some(&(after_end, same)) = self.range_of.get(&end)
            && same == value
        {
            self.range_of.remove(&end);
            end = after_end;
        }
        self.range_of.insert(start, (end, value));
    }

    /// Takes away all that is in `range`.
    pub(crate) fn remove(&mut self, range: Range<u64>) {
        let Range { start, end } = range;
        if start >= end {
            return;
        }
        if let Some((_, (before_end, value))) = self.range_of.range_mut(..start).next_back()
            && *before_end > start
        {
            let (old_end, value) = (std::mem::replace(before_end, start), *value);
            if old_end > end {
                self.range_of.insert(end, (old_end, value));
                return;
            }
        }
        while let Some((&next, &(next_end, value))) = self.range_of.range(start..end).next() {
            self.range_of.remove(&next);
            if next_end > end {
                self.range_of.insert(end, (next_end, value));
            }
        }
    }

    /// Changes the values within `range`, splitting intervals that lie half in it.
    pub(crate) fn update(&mut self, range: Range<u64>, mut change: impl FnMut(&mut T)) {
        let parts: Vec<(Range<u64>, T)> = self.within(range).collect();
        for (part, value) in parts {
            let mut changed = value;
            change(&mut changed);
            if changed != value {
                self.insert(part, changed);
            }
        }
    }
}

impl<T> Default for RangeMap<T> {
    fn default() -> RangeMap<T> {
        RangeMap { range_of: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is done to a range: 0 removes, 1 changes, other numbers insert.
    fn check(steps: &[(u64, u64, u8)]) {
        let (mut map, mut model) = (RangeMap::default(), vec![None; 200]);
        for &(start, length, what) in steps {
            let range = start..start + length;
            let cells = &mut model[start as usize..(start + length) as usize];
            match what {
                0 => {
                    map.remove(range);
                    cells.fill(None);
                }
                1 => {
                    map.update(range, |value| *value ^= 8);
                    cells.iter_mut().flatten().for_each(|value: &mut u8| *value ^= 8);
                }
                number => {
                    map.insert(range, number);
                    cells.fill(Some(number));
                }
            }
        }
        for (page, expected) in model.iter().enumerate() {
            assert_eq!(map.at(page as u64).map(|(_, value)| value), *expected, "page {page}");
        }
        let all: Vec<_> = map.iter().collect();
        for pair in all.windows(2) {
            let ((first, a), (second, b)) = (&pair[0], &pair[1]);
            assert!(first.end < second.start || first.end == second.start && a != b, "merged: {all:?}");
        }
        assert_eq!(map.after(0).map(|(range, _)| range.start), all.iter().map(|it| it.0.start).find(|&it| it > 0));
        let part: Vec<_> = map.within(40..90).flat_map(|(range, _)| range).collect();
        assert_eq!(part, (40..90).filter(|&page| model[page as usize].is_some()).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn same_as_a_value_for_each_page(steps in prop::collection::vec((0_u64..150, 0_u64..50, 0_u8..4), 0..40)) {
            check(&steps);
        }
    }
}
