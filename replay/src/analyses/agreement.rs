//! How far the pages that events predict are those that scans find, at snapshots and in what changes between them.

mod checkpoint;
pub(crate) use checkpoint::share_of;

use pagetrace_format::PageShift;
use pagetrace_format::snapshot::{PageFlags, ResidencySource, Snapshot};

use crate::address_space::AddressSpace;
use crate::intervals::Intervals;
use crate::page_events::Agreement;

/// Intervals with fewer changed pages count with the next one: of so few, one page is much.
const CHANGED_PAGES_MIN: u64 = 256;

/// The figures of one process in the making.
#[derive(Debug, Default)]
pub(crate) struct AgreementTally {
    snapshots: u64,
    /// The worst so far.
    residency: Option<f64>,
    change: Option<f64>,
    /// Changes of intervals that wait for more.
    pooled: Overlap,
    /// The last interval that counted.
    last: Option<Overlap>,
    before: Option<Pages>,
    scan_only_anonymous: u64,
    scan_only_files: u64,
}

/// Pages at a snapshot.
#[derive(Debug)]
struct Pages {
    truth: Intervals,
    predicted: Intervals,
    files: Intervals,
}

/// Two sets compared.
#[derive(Clone, Copy, Debug, Default)]
struct Overlap {
    common: u64,
    either: u64,
}

impl AgreementTally {
    /// The prediction begins with what a scan has just found: that it agrees says nothing, later scans are held against it.
    pub(crate) fn begin(&mut self, snapshot: &Snapshot, space: &AddressSpace) {
        self.snapshots += 1;
        let (truth, files) = (anonymous_pages(snapshot), file_pages(snapshot));
        self.before = Some(Pages { truth, predicted: space.resident().clone(), files });
    }

    /// Compares the prediction with what a scan found at the same time.
    pub(crate) fn add(&mut self, snapshot: &Snapshot, space: &AddressSpace, shift: PageShift) {
        if snapshot.residency_source == ResidencySource::None || snapshot.page_bytes != shift.bytes() {
            return;
        }
        let (truth, files) = (anonymous_pages(snapshot), file_pages(snapshot));
        let now = Pages { truth, predicted: space.resident().clone(), files };
        self.snapshots += 1;
        let before = self.before.take();
        self.count_scan_only(&now, before.as_ref(), space);
        if !space.predicts() {
            // Calls alone predict nothing.
            self.before = Some(now);
            return;
        }
        worst(&mut self.residency, Overlap::of(&now.truth, &now.predicted));
        if let Some(before) = before {
            let overlap = |from: &Pages, to: &Pages| {
                Overlap::of(&to.truth.difference(&from.truth), &to.predicted.difference(&from.predicted))
            };
            self.pooled.add(overlap(&before, &now));
            self.pooled.add(overlap(&now, &before));
            if self.pooled.either >= CHANGED_PAGES_MIN {
                let done = std::mem::take(&mut self.pooled);
                if let Some(last) = self.last.replace(done) {
                    worst(&mut self.change, last);
                }
            }
        }
        self.before = Some(now);
    }

    /// The figures, `None` without a snapshot; without faults there are counts alone. What is left of changes counts with the last interval.
    pub(crate) fn finish(mut self) -> Option<Agreement> {
        let mut last = self.last.unwrap_or_default();
        last.add(self.pooled);
        if self.snapshots == 0 {
            return None;
        }
        if self.snapshots > 1 && self.residency.is_some() {
            worst(&mut self.change, last);
        }
        Some(Agreement {
            snapshots: self.snapshots,
            residency: self.residency,
            change: self.change,
            scan_only_anonymous: self.scan_only_anonymous,
            scan_only_files: self.scan_only_files,
        })
    }

    /// Pages that came since the last snapshot without an event.
    fn count_scan_only(&mut self, now: &Pages, before: Option<&Pages>, space: &AddressSpace) {
        let none = Intervals::default();
        let (truth, files) = before.map_or((&none, &none), |before| (&before.truth, &before.files));
        self.scan_only_anonymous += now.truth.difference(truth).difference(&now.predicted).count();
        self.scan_only_files += now.files.difference(files).difference(space.touched_files()).count();
    }
}

impl Overlap {
    fn of(a: &Intervals, b: &Intervals) -> Overlap {
        let common = a.intersection(b).count();
        Overlap { common, either: a.count().saturating_add(b.count()).saturating_sub(common) }
    }

    fn add(&mut self, other: Overlap) {
        self.common = self.common.saturating_add(other.common);
        self.either = self.either.saturating_add(other.either);
    }

    /// The share of what is in either set that is in both; 1 where there is nothing.
    fn share(self) -> f64 {
        if self.either == 0 { 1.0 } else { self.common as f64 / self.either as f64 }
    }
}

fn worst(figure: &mut Option<f64>, overlap: Overlap) {
    let share = overlap.share();
    *figure = Some(figure.map_or(share, |worst| worst.min(share)));
}

/// Pages that are in memory, of no file and no shared memory, and not the page of zeros; those that the kernel maps for
/// itself left out.
pub(crate) fn anonymous_pages(snapshot: &Snapshot) -> Intervals {
    let mut pages = pages_of_runs(snapshot, |state| state.in_rss() && !state.has(PageFlags::FILE));
    for mapping in &snapshot.mappings {
        if mapping.path == "[vdso]" || mapping.path.starts_with("[vvar") || mapping.path == "[vsyscall]" {
            pages.remove(mapping.start.0 / snapshot.page_bytes..mapping.end.0.div_ceil(snapshot.page_bytes));
        }
    }
    pages
}

pub(crate) fn file_pages(snapshot: &Snapshot) -> Intervals {
    pages_of_runs(snapshot, |state| state.in_rss() && state.has(PageFlags::FILE))
}

fn pages_of_runs(snapshot: &Snapshot, wanted: impl Fn(PageFlags) -> bool) -> Intervals {
    let mut pages = Intervals::default();
    for run in snapshot.resident.iter().filter(|run| wanted(run.state)) {
        let first = run.start.0 / snapshot.page_bytes;
        pages.insert(first..first.saturating_add(run.pages.0));
    }
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(ranges: &[(u64, u64)]) -> Intervals {
        let mut pages = Intervals::default();
        ranges.iter().for_each(|&(from, to)| pages.insert(from..to));
        pages
    }

    #[test]
    fn a_share_is_what_both_have_of_what_either_has() {
        let check = |a: &[(u64, u64)], b: &[(u64, u64)], expected: f64| {
            let share = Overlap::of(&pages(a), &pages(b)).share();
            assert!((share - expected).abs() < 1e-12, "{a:?} and {b:?}: expected {expected}, found {share}");
        };
        check(&[], &[], 1.0);
        check(&[(0, 10)], &[], 0.0);
        check(&[(0, 100)], &[(0, 99)], 0.99);
        check(&[(0, 100)], &[(50, 150)], 1.0 / 3.0);
        check(&[(0, 10), (20, 30)], &[(5, 25)], 10.0 / 30.0);
    }
}
