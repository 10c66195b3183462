//! The mappings of an address space: what kind of memory each page is, as intervals that do not overlap.

use std::collections::BTreeMap;
use std::ops::Range;

use pagetrace_format::FileId;

/// What a mapping is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AreaKind {
    /// Private memory without a file.
    Anonymous,
    /// A private mapping of a file: pages written to become anonymous copies.
    PrivateFile(FileId),
    /// Shared memory, or a shared mapping of a file: never anonymous.
    Shared,
    /// What the kernel maps for itself, as the vdso: counted nowhere.
    Special,
}

/// A mapping without its place. Neighbours that are the same in all of this are one, as they are in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Area {
    pub(crate) kind: AreaKind,
    /// PROT_READ 1, PROT_WRITE 2, PROT_EXEC 4.
    pub(crate) protection: u8,
    pub(crate) traits: Traits,
}

/// What madvise(2), mlock(2) and flags of mmap(2) have said of a mapping, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traits(u8);

impl Traits {
    /// `MADV_DONTFORK`: a child does not get it.
    pub(crate) const NOT_FORKED: u8 = 1;
    /// `MADV_WIPEONFORK`: a child gets it empty.
    pub(crate) const WIPED_ON_FORK: u8 = 2;
    /// `MADV_HUGEPAGE`.
    pub(crate) const HUGE: u8 = 4;
    /// `MADV_NOHUGEPAGE`.
    pub(crate) const NOT_HUGE: u8 = 8;
    /// Locked into memory, so that what it grows by is resident at once.
    pub(crate) const LOCKED: u8 = 16;
    /// It grows downwards when it is touched below, as the main stack.
    pub(crate) const GROWS_DOWN: u8 = 32;
    /// No event told of it, but it was touched.
    pub(crate) const PRESUMED: u8 = 64;

    pub(crate) const fn of(bits: u8) -> Traits {
        Traits(bits)
    }

    pub(crate) const fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    pub(crate) const fn with(self, bit: u8, on: bool) -> Traits {
        Traits(if on { self.0 | bit } else { self.0 & !bit })
    }
}

impl Area {
    pub(crate) const READ: u8 = 1;
    pub(crate) const WRITE: u8 = 2;
    pub(crate) const EXECUTE: u8 = 4;

    pub(crate) const fn allows(self, protection: u8) -> bool {
        self.protection & protection != 0
    }

    /// Whether it can hold anonymous pages.
    pub(crate) const fn is_private(self) -> bool {
        matches!(self.kind, AreaKind::Anonymous | AreaKind::PrivateFile(_))
    }
}

/// All mappings of an address space, in pages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Areas {
    /// By their first pages; one past the last page of each.
    area_of: BTreeMap<u64, (u64, Area)>,
}

impl Areas {
    /// The mapping that holds a page, with all of its pages.
    pub(crate) fn at(&self, page: u64) -> Option<(Range<u64>, Area)> {
        let (&start, &(end, area)) = self.area_of.range(..=page).next_back()?;
        (page < end).then_some((start..end, area))
    }

    /// The first mapping that begins behind a page.
    pub(crate) fn after(&self, page: u64) -> Option<(Range<u64>, Area)> {
        let (&start, &(end, area)) = self.area_of.range(page..).find(|(start, _)| **start > page)?;
        Some((start..end, area))
    }

    /// The parts of mappings within `range`, in order.
    pub(crate) fn within(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, Area)> {
        let first = self.area_of.range(..=range.start).next_back().map_or(range.start, |(&first, _)| first);
        let from = if range.start < range.end { first..range.end } else { 0..0 };
        let clip =
            move |(&start, &(end, area)): (&u64, &(u64, Area))| (start.max(range.start)..end.min(range.end), area);
        self.area_of.range(from).map(clip).filter(|(part, _)| part.start < part.end)
    }

    /// Every mapping, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Range<u64>, Area)> {
        self.area_of.iter().map(|(&start, &(end, area))| (start..end, area))
    }

    /// Puts a mapping in the place of all that is in `range`.
    pub(crate) fn insert(&mut self, range: Range<u64>, area: Area) {
        let Range { mut start, mut end } = range;
        if start >= end {
            return;
        }
        self.remove(start..end);
        if let Some((&before, &(before_end, same))) = self.area_of.range(..start).next_back()
            && before_end == start
            && same == area
        {
            start = before;
        }
        if let Some(&(after_end, same)) = self.area_of.get(&end)
            && same == area
        {
            self.area_of.remove(&end);
            end = after_end;
        }
        self.area_of.insert(start, (end, area));
    }

    /// Takes away all that is in `range`.
    pub(crate) fn remove(&mut self, range: Range<u64>) {
        let Range { start, end } = range;
        if start >= end {
            return;
        }
        if let Some((_, (before_end, area))) = self.area_of.range_mut(..start).next_back()
            && *before_end > start
        {
            let (old_end, area) = (std::mem::replace(before_end, start), *area);
            if old_end > end {
                self.area_of.insert(end, (old_end, area));
                return;
            }
        }
        while let Some((&next, &(next_end, area))) = self.area_of.range(start..end).next() {
            self.area_of.remove(&next);
            if next_end > end {
                self.area_of.insert(end, (next_end, area));
            }
        }
    }

    /// Changes the mappings within `range`, splitting those that lie half in it.
    pub(crate) fn update(&mut self, range: Range<u64>, mut change: impl FnMut(&mut Area)) {
        let parts: Vec<(Range<u64>, Area)> = self.within(range).collect();
        for (part, area) in parts {
            let mut changed = area;
            change(&mut changed);
            if changed != area {
                self.insert(part, changed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn area(number: u8) -> Area {
        Area { kind: AreaKind::Anonymous, protection: number, traits: Traits::default() }
    }

    /// What is done to a range: 0 removes, 1 changes, other numbers insert.
    fn check(steps: &[(u64, u64, u8)]) {
        let (mut areas, mut model) = (Areas::default(), vec![None; 200]);
        for &(start, length, what) in steps {
            let range = start..start + length;
            let cells = &mut model[start as usize..(start + length) as usize];
            match what {
                0 => {
                    areas.remove(range);
                    cells.fill(None);
                }
                1 => {
                    areas.update(range, |area| area.protection ^= 8);
                    cells.iter_mut().flatten().for_each(|area: &mut Area| area.protection ^= 8);
                }
                number => {
                    areas.insert(range, area(number));
                    cells.fill(Some(area(number)));
                }
            }
        }
        for (page, expected) in model.iter().enumerate() {
            assert_eq!(areas.at(page as u64).map(|(_, area)| area), *expected, "page {page}");
        }
        let all: Vec<_> = areas.iter().collect();
        for pair in all.windows(2) {
            let ((first, a), (second, b)) = (&pair[0], &pair[1]);
            assert!(first.end < second.start || first.end == second.start && a != b, "merged: {all:?}");
        }
        assert_eq!(areas.after(0).map(|(range, _)| range.start), all.iter().map(|it| it.0.start).find(|&it| it > 0));
        let part: Vec<_> = areas.within(40..90).flat_map(|(range, _)| range).collect();
        assert_eq!(part, (40..90).filter(|&page| model[page as usize].is_some()).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn same_as_an_area_for_each_page(steps in prop::collection::vec((0_u64..150, 0_u64..50, 0_u8..4), 0..40)) {
            check(&steps);
        }
    }
}
