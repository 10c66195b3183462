//! What is found of the pages of a Go page trace, as plain data.

use pagetrace_format::TraceNanos;

use crate::activity_lanes::ActivityLanes;

/// A page trace beside its states and counts.
#[derive(Clone, Debug)]
pub struct GoPages {
    /// Bytes of a page.
    pub page_bytes: u64,
    /// From the first page event to the last.
    pub lasted_ns: u64,
    /// How the scavenger worked.
    pub pace: ScavengerPace,
    /// What became of the pages that it gave back.
    pub reuse: Reuse,
    /// What was given back as it happened.
    pub recorded: GoalOutcome,
    /// What would have been given back under other goals.
    pub goals: Vec<GoalOutcome>,
    /// Pages over time, evenly.
    pub timeline: Vec<GoPagePoint>,
    /// What each P did over time.
    pub lanes: ActivityLanes,
}

/// How fast the scavenger gave pages back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScavengerPace {
    /// Runs of pages.
    pub runs: u64,
    /// Pages of these.
    pub pages: u64,
    /// Pages of the longest.
    pub longest_run: u64,
    /// Over the whole trace.
    pub pages_per_second: f64,
    /// The most pages in one millisecond.
    pub most_in_a_millisecond: u64,
    /// Milliseconds in which it gave back anything.
    pub active_milliseconds: u64,
    /// Pages by the P that gave them back, −1 for none.
    pub by_processor: Vec<(i64, u64)>,
}

/// How soon returned pages were used again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reuse {
    /// Returned pages that were allocated again: each costs a page fault.
    pub reused: u64,
    /// Returned pages that were not, by the end.
    pub not_reused: u64,
    /// Free pages that were allocated again and had not been returned.
    pub of_kept_pages: u64,
    /// By the time in between, nanoseconds.
    pub by_time: Vec<ReuseShare>,
    /// By the reuse distance: pages that were allocated in between, wherever.
    pub by_distance: Vec<ReuseShare>,
}

/// Reused pages within a bound that are not within the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReuseShare {
    /// The bound, `None` for all others.
    pub up_to: Option<u64>,
    /// How many pages.
    pub pages: u64,
}

/// What a goal comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GoalOutcome {
    /// Free pages that are kept, in per cent of the most that was in use in the last second; `None` for what was recorded.
    pub extra_percent: Option<u32>,
    /// Pages that were returned, averaged over time.
    pub mean_returned_pages: f64,
    /// Pages that were returned at the end.
    pub final_returned_pages: u64,
    /// Returned pages that were used again.
    pub reused: u64,
}

/// Pages at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoPagePoint {
    /// Since the first page event.
    pub since_start: TraceNanos,
    /// In use.
    pub in_use: u64,
    /// Free and kept.
    pub free: u64,
    /// Given back.
    pub returned: u64,
}
