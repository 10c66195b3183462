//! What is kept of a process that ended before the moment of a checkpoint: figures, not sites.

use pagetrace_format::TableKind;

use super::{Outcome, Shown};
use crate::checkpoint::{Checkpoint, ProcessCheckpoint, Tables, known, optional};
use crate::estimates::Sum;
use crate::estimates::checkpoint::{
    ALLOCATED, ALLOCATED_BYTES, DIED, LIVE, LIVE_BYTES, LIVE_CHUNK_BYTES, LIVE_USABLE_BYTES, estimate_of, put_estimate,
};
use crate::metadata::Metadata;
use crate::stack_shares::StackShares;

impl Outcome {
    /// Whether the process has ended.
    pub(crate) fn is_settled(&self) -> bool {
        self.shown.is_some()
    }

    /// Adds its figures to those of its process and puts the rest into tables.
    pub(crate) fn put_into(&self, before: &mut ProcessCheckpoint, metadata: &Metadata, tables: &mut Tables) {
        let Some(shown) = &self.shown else { return };
        (before.ended, before.totals, before.inherited) = (true, self.totals, self.inherited);
        let site_sums = self.site_sums();
        before.site_sums = site_sums.map(|sum| sum.seen);
        let mut shares = self.dropped_stacks;
        for site in self.sites(metadata) {
            shares.add(&site);
        }
        let StackShares { thread_start, cut, unknown, none, bucket } = shares;
        let Shown { live, live_bytes, live_usable_bytes, live_chunk_bytes, .. } = shown;
        let [allocated, allocated_bytes, died] = site_sums;
        let figures = [
            (DIED, died),
            (ALLOCATED, allocated),
            (ALLOCATED_BYTES, allocated_bytes),
            (LIVE, *live),
            (LIVE_BYTES, *live_bytes),
            (LIVE_USABLE_BYTES, *live_usable_bytes),
            (LIVE_CHUNK_BYTES, live_chunk_bytes.unwrap_or_default()),
        ];
        figures.iter().for_each(|(figure, sum)| put_estimate(tables, *figure, sum));
        let chunk_bytes = optional(live_chunk_bytes.map(|sum| sum.seen));
        let live = [live.seen, live_bytes.seen, live_usable_bytes.seen, chunk_bytes];
        tables.push(TableKind::ENDED, &[&live[..], &[thread_start, cut, unknown, none, bucket][..]].concat());
    }

    /// Objects and bytes that sites allocated, and objects that died.
    pub(super) fn site_sums(&self) -> [Sum; 3] {
        let [mut objects, mut bytes, mut died] = self.dropped_sums;
        // In an order of their own: sums of doubles depend on it.
        let mut sites: Vec<_> = self.site_totals.iter().collect();
        sites.sort_unstable_by_key(|(id, _)| **id);
        for (_, site) in sites {
            objects += site.objects;
            bytes += site.bytes;
        }
        died += self.died;
        [objects, bytes, died]
    }

    /// Goes on from a checkpoint.
    pub(crate) fn take_up(&mut self, before: &ProcessCheckpoint, checkpoint: &Checkpoint, metadata: &Metadata) {
        if !before.ended {
            return;
        }
        let id = metadata.processes[self.process].process.id;
        let row = checkpoint.counts::<9>(id, TableKind::ENDED).unwrap_or_default();
        let [live, live_bytes, live_usable_bytes, chunks, thread_start, cut, unknown, none, bucket] = row;
        let estimate = |figure, seen| estimate_of(checkpoint, id, figure, seen);
        let live_chunk_bytes = known(chunks).map(|seen| estimate(LIVE_CHUNK_BYTES, seen));
        let (live, live_bytes) = (estimate(LIVE, live), estimate(LIVE_BYTES, live_bytes));
        let live_usable_bytes = estimate(LIVE_USABLE_BYTES, live_usable_bytes);
        (self.totals, self.inherited) = (before.totals, before.inherited);
        let [allocated, allocated_bytes, died] = before.site_sums;
        self.dropped_sums =
            [estimate(ALLOCATED, allocated), estimate(ALLOCATED_BYTES, allocated_bytes), estimate(DIED, died)];
        self.shown = Some(Shown { live, live_bytes, live_usable_bytes, live_chunk_bytes, ..Shown::default() });
        self.dropped_stacks = StackShares { thread_start, cut, unknown, none, bucket };
    }
}
