//! What the kernel's events say of the pages of a process: who touched them, and how far scans agree.

use pagetrace_format::{Address, StackId};

pub use crate::address_space::{TouchCause, TouchSite};
use crate::results::Frame;

/// The page events of one process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PageEvents {
    /// How far the predicted pages are those that scans found, `None` without a scan.
    pub agreement: Option<Agreement>,
    /// Page faults in the whole trace.
    pub faults: FaultCounts,
    /// System calls in the whole trace by their names.
    pub calls: Vec<(&'static str, u64)>,
    /// Anonymous pages that are resident at the shown moment by what touched them first, most first. Of a forked process
    /// those of its parent before the fork are among them.
    pub first_touches: Vec<FirstTouch>,
    /// Bytes of a page.
    pub page_bytes: u64,
}

/// How far the pages that events predict are those that scans find.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// Scans that were compared.
    pub snapshots: u64,
    /// Anonymous pages in both as a share of those in either, 0 to 1, the worst of all scans. `None` where nothing is
    /// predicted, since no faults were told.
    pub residency: Option<f64>,
    /// The same of pages that came and went between two scans, `None` of fewer than two. Times with few changes count
    /// together with the next.
    pub change: Option<f64>,
    /// Anonymous pages that a scan found new and of which no event told: touched in the kernel, or by another process;
    /// the thread is not known.
    pub scan_only_anonymous: u64,
    /// Pages of files and of shared memory that a scan found new and that had no fault of their own: the kernel maps
    /// neighbours of a touched page with it.
    pub scan_only_files: u64,
}

/// Page faults by what is known of where they came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// With a stack to where its thread started.
    pub full: u64,
    /// With a stack that lacks callers, or that does not say.
    pub cut: u64,
    /// With the instruction alone.
    pub instruction_only: u64,
    /// With nothing.
    pub unknown: u64,
}

impl FaultCounts {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.full + self.cut + self.instruction_only + self.unknown
    }
}

/// A place that touched pages first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstTouch {
    /// How and from where.
    pub site: TouchSite,
    /// The frames of its stack, innermost first; without one the instruction alone, where that is known, given as if it
    /// were a return address: one more than its own.
    pub frames: Vec<Frame>,
    /// Resident pages.
    pub pages: u64,
}

impl FirstTouch {
    /// Whether there is a whole stack behind the frames, not the instruction alone.
    #[must_use]
    pub fn has_stack(&self) -> bool {
        self.site.stack != StackId::UNKNOWN
    }

    /// The instruction, where known.
    #[must_use]
    pub fn instruction(&self) -> Option<Address> {
        (self.site.instruction.0 != 0).then_some(self.site.instruction)
    }
}
