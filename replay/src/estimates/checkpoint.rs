//! What is estimated of a process, in a checkpoint.

use pagetrace_format::{ProcessId, TableKind};

use super::Sum;
use crate::checkpoint::{Checkpoint, Tables};

/// The figures by their numbers.
pub(crate) const DIED: u64 = 0;
pub(crate) const ALLOCATED: u64 = 1;
pub(crate) const ALLOCATED_BYTES: u64 = 2;
pub(crate) const LIVE: u64 = 3;
pub(crate) const LIVE_BYTES: u64 = 4;
pub(crate) const LIVE_USABLE_BYTES: u64 = 5;
pub(crate) const LIVE_CHUNK_BYTES: u64 = 6;

/// Puts how a figure differs from what was seen into a table, where it does.
pub(crate) fn put_estimate(tables: &mut Tables, figure: u64, sum: &Sum) {
    let [more, variance] = sum.bits();
    if [more, variance] != [0, 0] {
        tables.push(TableKind::ESTIMATES, &[figure, more, variance]);
    }
}

/// A figure of which so much was seen.
pub(crate) fn estimate_of(checkpoint: &Checkpoint, process: ProcessId, figure: u64, seen: u64) -> Sum {
    let found = checkpoint.rows::<3>(process, TableKind::ESTIMATES).find(|[it, ..]| *it == figure);
    found.map_or(Sum::exact(seen), |[_, more, variance]| Sum::from_bits(seen, [more, variance]))
}
