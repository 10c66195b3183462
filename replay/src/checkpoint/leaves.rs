//! What the page records of a checkpoint may take, bounded by the length of the trace.
//!
//! A row is a few bytes of a trace and says something of any number of pages, in each process anew. One account for all
//! processes and all kinds of records keeps a forged checkpoint from taking all memory.

use std::ops::Range;

use crate::page_map::{LEAF_PAGES, PageMap};
use crate::results::{Defect, DefectKind};

/// Bytes of leaves for each byte of payload, and whatever the length. A map that grows holds up to three times of it.
const LEAF_BYTES_PER_RAW_BYTE: u64 = 256;
const LEAF_BYTES_FREE: u64 = 8 << 20;

/// An account of the leaves of all maps.
#[derive(Debug)]
pub(crate) struct LeafAccount {
    bytes_left: u64,
    refused: bool,
}

impl LeafAccount {
    /// With nothing taken yet.
    pub(crate) fn new(payload_bytes: u64) -> LeafAccount {
        let by_length = payload_bytes.saturating_mul(LEAF_BYTES_PER_RAW_BYTE);
        LeafAccount { bytes_left: LEAF_BYTES_FREE.saturating_add(by_length), refused: false }
    }

    /// Whether a change of a map that adds up to so many leaves may be done. What it adds is to be [taken](Self::take).
    pub(crate) fn allows<T>(&mut self, leaves: usize) -> bool {
        let allowed = leaf_bytes::<T>(leaves) <= self.bytes_left;
        self.refused |= !allowed;
        allowed
    }

    /// Counts leaves that were added.
    pub(crate) fn take<T>(&mut self, leaves: usize) {
        self.bytes_left = self.bytes_left.saturating_sub(leaf_bytes::<T>(leaves));
    }

    /// Changes the values of pages one by one. `false` where leaves ran out before the end.
    pub(crate) fn change_each<T: Copy + Default + PartialEq>(
        &mut self,
        map: &mut PageMap<T>,
        pages: impl Iterator<Item = Range<u64>>,
        mut change: impl FnMut(&mut T),
    ) -> bool {
        for Range { mut start, end } in pages {
            while start < end {
                if !self.allows::<T>(1) {
                    return false;
                }
                let before = map.leaf_count();
                let until = end.min((start / LEAF_PAGES + 1) * LEAF_PAGES);
                (start..until).for_each(|page| change(map.get_mut(page)));
                self.take::<T>(map.leaf_count() - before);
                start = until;
            }
        }
        true
    }

    /// What is to be told where something was refused.
    pub(crate) fn defect(&self) -> Option<Defect> {
        self.refused.then_some(Defect { offset: 0, kind: DefectKind::OversizedCheckpoint, events_lost: 0 })
    }
}

fn leaf_bytes<T>(leaves: usize) -> u64 {
    leaves as u64 * LEAF_PAGES * size_of::<T>() as u64
}
