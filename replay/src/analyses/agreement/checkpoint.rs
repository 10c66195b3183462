//! How far scans agreed so far, in a checkpoint.

use pagetrace_format::{PageSet, ProcessId, TableKind};

use super::{AgreementTally, Overlap, Pages};
use crate::checkpoint::{COUNT_MAX, Checkpoint, Tables};

impl AgreementTally {
    /// Puts the figures and the last scan into tables.
    pub(crate) fn put_into(&self, tables: &mut Tables) {
        let AgreementTally { snapshots, residency, change, pooled, last, before, scan_only_anonymous, scan_only_files } =
            self;
        if *snapshots == 0 {
            return;
        }
        let share = |share: &Option<f64>| [share.is_some().into(), share.unwrap_or(0.0).to_bits()];
        let [has_residency, residency] = share(residency);
        let [has_change, change] = share(change);
        let (has_last, last) = (last.is_some().into(), last.unwrap_or_default());
        tables.push(
            TableKind::AGREEMENT,
            &[
                *snapshots,
                has_residency,
                residency,
                has_change,
                change,
                pooled.common,
                pooled.either,
                has_last,
                last.common,
                last.either,
                *scan_only_anonymous,
                *scan_only_files,
                before.is_some().into(),
            ],
        );
        if let Some(Pages { truth, predicted, files }) = before {
            tables.push_pages(PageSet::ScanAnonymous, truth.iter());
            tables.push_pages(PageSet::ScanPredicted, predicted.iter());
            tables.push_pages(PageSet::ScanFiles, files.iter());
        }
    }

    /// The figures at a checkpoint.
    pub(crate) fn restored(own: ProcessId, checkpoint: &Checkpoint) -> AgreementTally {
        let Some(row) = checkpoint.row::<13>(own, TableKind::AGREEMENT) else { return AgreementTally::default() };
        let [snapshots, has_residency, residency, has_change, change, common, either, ..] = row;
        let [.., has_last, last_common, last_either, scan_only_anonymous, scan_only_files, has_before] = row;
        let pages = |set| checkpoint.pages(own, set);
        let count = |number: u64| number.min(COUNT_MAX);
        AgreementTally {
            snapshots: count(snapshots),
            residency: (has_residency != 0).then(|| share_of(residency)),
            change: (has_change != 0).then(|| share_of(change)),
            pooled: Overlap { common: common.min(either), either },
            last: (has_last != 0).then_some(Overlap { common: last_common.min(last_either), either: last_either }),
            before: (has_before != 0).then(|| Pages {
                truth: pages(PageSet::ScanAnonymous),
                predicted: pages(PageSet::ScanPredicted),
                files: pages(PageSet::ScanFiles),
            }),
            scan_only_anonymous: count(scan_only_anonymous),
            scan_only_files: count(scan_only_files),
        }
    }
}

/// A share from its bits; what is none in a damaged table is 0.
pub(crate) fn share_of(bits: u64) -> f64 {
    Some(f64::from_bits(bits)).filter(|share| (0.0..=1.0).contains(share)).unwrap_or(0.0)
}
