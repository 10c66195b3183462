//! What all processes of a trace had in memory together.

use pagetrace_format::TraceNanos;
use pagetrace_format::snapshot::KernelFigures;

/// The memory of several processes at one moment, each page counted once.
#[derive(Clone, Debug)]
pub struct TreeState {
    /// When the first of them was looked at, and the last.
    pub start: TraceNanos,
    /// See [`TreeState::start`].
    pub end: TraceNanos,
    /// Whether they were looked at one right after the other. Otherwise what one has may have changed by the time of the next,
    /// and pages that were shared or given away in between are counted wrongly.
    pub at_once: bool,
    /// Whose memory it is.
    pub members: Vec<TreeMember>,
    /// Whether the same processes ran all the time from the first look to the last, all of them members. Otherwise the kernel's
    /// proportional figures are not all of the same moment: frames are still each counted once.
    pub is_steady: bool,
    /// Processes that ran in that time and are not among the members: of some nothing is to be seen.
    pub unseen: u64,
    /// Pages told apart by the files that they are of, and anonymous ones by the kernel's proportional figure; `None` where
    /// a member's pages were not to be seen.
    pub by_files: Option<TreeBytes>,
    /// Bytes of distinct page frames, where the kernel showed these.
    pub frames: Option<u64>,
    /// Of those, what is in several of the members.
    pub frames_of_several: Option<u64>,
}

/// A process of a tree.
#[derive(Clone, Copy, Debug)]
pub struct TreeMember {
    /// Which: its place in [`Replayed::processes`](super::Replayed::processes).
    pub process: usize,
    /// When it was looked at.
    pub time: TraceNanos,
    /// The kernel's figures of it.
    pub kernel: KernelFigures,
}

/// Resident bytes of several processes, each page once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeBytes {
    /// Anonymous memory: the sum of the kernel's proportional figures of it, which counts each page once as long as nobody
    /// else has it.
    pub anonymous: u64,
    /// Whether that is the sum of their anonymous memory instead, because a proportional figure is missing: pages that are
    /// shared since a fork count more than once then.
    pub is_upper_bound: bool,
    /// Distinct pages of files.
    pub file: u64,
    /// Distinct pages of shared memory.
    pub shared_memory: u64,
    /// Distinct pages of the tracer.
    pub tracer: u64,
    /// What several of the processes have; `None` where it is not known of anonymous memory.
    pub of_several: Option<u64>,
}

impl TreeBytes {
    /// All of it.
    #[must_use]
    pub fn distinct(&self) -> u64 {
        [self.anonymous, self.file, self.shared_memory, self.tracer].into_iter().fold(0, u64::saturating_add)
    }
}

impl TreeState {
    /// Each page once, as exactly as is known: by frames, else by files.
    #[must_use]
    pub fn distinct(&self) -> Option<u64> {
        self.frames.or_else(|| self.by_files.map(|bytes| bytes.distinct()))
    }

    /// Of that, what several of the members have.
    #[must_use]
    pub fn of_several(&self) -> Option<u64> {
        match self.frames {
            Some(_) => self.frames_of_several,
            None => self.by_files.and_then(|bytes| bytes.of_several),
        }
    }

    /// The sum of a figure over the members, `None` where one has none.
    #[must_use]
    pub fn sum(&self, figure: impl Fn(&KernelFigures) -> Option<u64>) -> Option<u64> {
        self.members.iter().try_fold(0_u64, |sum, member| Some(sum.saturating_add(figure(&member.kernel)?)))
    }
}
