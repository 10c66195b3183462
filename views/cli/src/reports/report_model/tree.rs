//! What all processes have in memory together: a part of a report.

use super::Cgroup;

/// The memory of several processes at one moment.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct Tree {
    /// When the first of them was looked at.
    pub time_ns: u64,
    /// From then until the last of them was looked at.
    pub took_ns: u64,
    /// Whether they were looked at one right after the other. Otherwise each by its last snapshot, and what was shared or given
    /// away in between is counted wrongly.
    pub at_once: bool,
    /// Whether the same processes ran throughout. Where some began or ended, pages that are counted by the kernel's PSS are
    /// counted wrongly.
    pub steady: bool,
    pub processes: u64,
    /// Processes that ran then and are not among them.
    pub unseen_processes: u64,
    /// The sum of RSS, in which pages count as often as processes have them.
    pub rss_sum_bytes: Option<u64>,
    /// The sum of PSS: each page divided by the number of its mappings, those of programs outside of the tree too.
    pub pss_sum_bytes: Option<u64>,
    /// Each page once.
    pub distinct_bytes: Option<u64>,
    /// `frames` or `files_and_pss`: how pages were told apart.
    pub counted_by: Option<&'static str>,
    /// Whether pages that are shared since a fork count more than once in `distinct_bytes`, for want of a figure.
    pub is_upper_bound: bool,
    /// Of `distinct_bytes` what one of the processes has, and what several have.
    pub private_bytes: Option<u64>,
    pub shared_bytes: Option<u64>,
    /// Distinct page frames, by their numbers; null where the kernel shows these to nobody but root.
    pub frame_bytes: Option<u64>,
    /// The sum of the four that follow: pages told apart by file and offset, anonymous ones by the kernel's PSS.
    pub files_and_pss_bytes: Option<u64>,
    pub anonymous_bytes: Option<u64>,
    pub file_bytes: Option<u64>,
    pub shared_memory_bytes: Option<u64>,
    /// Of pagetrace's own.
    pub tracer_bytes: Option<u64>,
    /// The control group of the first of them.
    pub cgroup: Cgroup,
    pub members: Vec<TreeMember>,
}

/// A process of the tree, as it was looked at then.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct TreeMember {
    /// Place in `processes`.
    pub process: usize,
    pub time_ns: u64,
    pub rss_bytes: Option<u64>,
    pub pss_bytes: Option<u64>,
    /// Mapped once on the whole machine.
    pub private_bytes: Option<u64>,
    /// Mapped more often.
    pub shared_bytes: Option<u64>,
}
