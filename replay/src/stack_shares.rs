//! How far the stacks of events reach.

use pagetrace_format::records::StackEnd;

use crate::results::{ReplayedProcess, Site};

/// Events by how far their stacks reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackShares {
    /// The outermost frame is where the thread started.
    pub thread_start: u64,
    /// Callers are missing.
    pub cut: u64,
    /// The trace does not say of the stack how far it reaches.
    pub unknown: u64,
    /// There is no stack.
    pub none: u64,
    /// The program gave the name of a bucket in place of a stack.
    pub bucket: u64,
}

impl StackShares {
    /// Of all objects that these processes allocated.
    #[must_use]
    pub fn of_objects(processes: &[ReplayedProcess]) -> StackShares {
        let mut shares = StackShares::default();
        for site in processes.iter().flat_map(|process| &process.sites) {
            shares.add(site);
        }
        for dropped in processes.iter().map(|process| &process.dropped_stacks) {
            shares.thread_start += dropped.thread_start;
            shares.cut += dropped.cut;
            shares.unknown += dropped.unknown;
            shares.none += dropped.none;
            shares.bucket += dropped.bucket;
        }
        shares
    }

    /// Of how many events.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.thread_start + self.cut + self.unknown + self.none + self.bucket
    }

    pub(crate) fn add(&mut self, site: &Site) {
        let share = match site.end {
            _ if site.id.stack.is_named_bucket() => &mut self.bucket,
            _ if site.frames.is_empty() => &mut self.none,
            StackEnd::ThreadStart => &mut self.thread_start,
            StackEnd::Cut => &mut self.cut,
            StackEnd::Unknown => &mut self.unknown,
        };
        *share += site.allocated;
    }
}
