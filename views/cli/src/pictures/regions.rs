//! The addresses that were ever mapped: the page map leaves out all others.

use std::collections::BTreeMap;

use pagetrace_replay::history::{BLOCK_PAGES, BlockRun, HistoryMoment, ProcessHistory};

use super::model::Region;

/// The ranges that a process had mapped at any of its moments, ascending and disjoint. Where names changed the last one counts.
pub fn regions(history: &ProcessHistory) -> Vec<Region> {
    let mut all = BTreeMap::new();
    for moment in &history.moments {
        for mapping in &moment.mappings {
            let (start, end) = (mapping.start.0 >> history.shift.get(), mapping.end.0.div_ceil(history.shift.bytes()));
            cover(&mut all, start, end, &mapping.name);
        }
        if moment.mappings.is_empty() {
            blocks_of(moment).for_each(|(start, end)| cover(&mut all, start, end, "Go heap"));
        }
    }
    let mut regions: Vec<Region> = Vec::new();
    for (first_page, (end, name)) in all {
        match regions.last_mut() {
            Some(last) if last.first_page + last.pages == first_page && last.name == name => {
                last.pages += end - first_page;
            }
            _ => regions.push(Region { first_page, pages: end - first_page, name }),
        }
    }
    regions
}

/// Traces of page events alone know no mappings: what they speak of is theirs.
fn blocks_of(moment: &HistoryMoment) -> impl Iterator<Item = (u64, u64)> {
    let runs: &[BlockRun] =
        if moment.page_counts.is_some() { moment.pages.as_deref().unwrap_or_default() } else { &[] };
    runs.iter().map(|run| (run.first * BLOCK_PAGES, (run.first + run.blocks) * BLOCK_PAGES))
}

/// Puts a range over what was there.
fn cover(all: &mut BTreeMap<u64, (u64, String)>, start: u64, end: u64, name: &str) {
    if start >= end {
        return;
    }
    if let Some((&before, (before_end, _))) = all.range(..start).next_back()
        && *before_end > start
    {
        let (old_end, old_name) = all.remove(&before).unwrap_or_default();
        all.insert(before, (start, old_name.clone()));
        if old_end > end {
            all.insert(end, (old_end, old_name));
        }
    }
    let inside: Vec<u64> = all.range(start..end).map(|(&first, _)| first).collect();
    for first in inside {
        if let Some((old_end, old_name)) = all.remove(&first)
            && old_end > end
        {
            all.insert(end, (old_end, old_name));
        }
    }
    all.insert(start, (end, name.to_owned()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_ranges_lie_over_earlier_ones() {
        let check = |ranges: &[(u64, u64, &str)], expected: &[(u64, u64, &str)]| {
            let mut all = BTreeMap::new();
            ranges.iter().for_each(|&(start, end, name)| cover(&mut all, start, end, name));
            let found: Vec<(u64, u64, &str)> = all.iter().map(|(&s, (e, name))| (s, *e, name.as_str())).collect();
            assert_eq!(found, expected);
        };
        check(&[(1, 9, "a"), (3, 5, "b")], &[(1, 3, "a"), (3, 5, "b"), (5, 9, "a")]);
        check(&[(1, 4, "a"), (6, 9, "b"), (2, 8, "c")], &[(1, 2, "a"), (2, 8, "c"), (8, 9, "b")]);
        check(&[(1, 4, "a"), (1, 4, "b"), (4, 4, "c")], &[(1, 4, "b")]);
    }
}
