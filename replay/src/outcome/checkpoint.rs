//! What is kept of a process that ended before the moment of a checkpoint: figures, not sites.

use pagetrace_format::TableKind;

use super::{Allocated, Outcome, Shown};
use crate::checkpoint::{Checkpoint, ProcessCheckpoint, Tables, known, optional};
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
        before.site_sums = self.site_sums();
        let mut shares = self.dropped_stacks;
        for site in self.sites(metadata) {
            shares.add(&site);
        }
        let StackShares { thread_start, cut, unknown, none, bucket } = shares;
        let live = [shown.live, shown.live_bytes, shown.live_usable_bytes, optional(shown.live_chunk_bytes)];
        tables.push(TableKind::ENDED, &[&live[..], &[thread_start, cut, unknown, none, bucket][..]].concat());
    }

    /// Objects and bytes that sites allocated, and objects that died.
    pub(super) fn site_sums(&self) -> [u64; 3] {
        let [objects, bytes, died] = self.dropped_sums;
        let add =
            |[objects, bytes]: [u64; 2], site: &Allocated| [objects + site.objects, bytes.saturating_add(site.bytes)];
        let [objects, bytes] = self.site_totals.values().fold([objects, bytes], add);
        [objects, bytes, died + self.died]
    }

    /// Goes on from a checkpoint.
    pub(crate) fn take_up(&mut self, before: &ProcessCheckpoint, checkpoint: &Checkpoint, metadata: &Metadata) {
        if !before.ended {
            return;
        }
        let id = metadata.processes[self.process].process.id;
        let row = checkpoint.counts::<9>(id, TableKind::ENDED).unwrap_or_default();
        let [live, live_bytes, live_usable_bytes, chunks, thread_start, cut, unknown, none, bucket] = row;
        let live_chunk_bytes = known(chunks);
        (self.totals, self.inherited, self.dropped_sums) = (before.totals, before.inherited, before.site_sums);
        self.shown = Some(Shown { live, live_bytes, live_usable_bytes, live_chunk_bytes, ..Shown::default() });
        self.dropped_stacks = StackShares { thread_start, cut, unknown, none, bucket };
    }
}
