//! What a Go page trace says beside the states of pages: a part of a report.

use super::go_heap::Lanes;

/// The scavenger's work and what became of it.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct GoPages {
    pub pace: GoScavengerPace,
    pub reuse: GoReuse,
    /// What was given back as it happened.
    pub recorded: GoGoal,
    /// What other goals would have given back, with the same allocations and frees.
    pub goals: Vec<GoGoal>,
    pub timeline: Vec<GoPagePoint>,
    pub lanes: Lanes,
}

/// How fast the scavenger gave pages back.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct GoScavengerPace {
    pub runs: u64,
    pub pages: u64,
    pub longest_run_pages: u64,
    pub bytes_per_second: f64,
    /// The most in one millisecond.
    pub most_bytes_in_a_millisecond: u64,
    /// Milliseconds in which it gave back anything.
    pub active_milliseconds: u64,
    /// Pages by P, `-1` for none.
    pub pages_by_processor: std::collections::BTreeMap<i64, u64>,
}

/// How soon returned pages were used again.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct GoReuse {
    /// Returned pages that were allocated again: a page fault each.
    pub reused_pages: u64,
    pub not_reused_pages: u64,
    /// Pages that were free, but kept, and allocated again.
    pub kept_reused_pages: u64,
    /// By nanoseconds in between.
    pub by_time: Vec<GoReuseShare>,
    /// By pages that were allocated in between.
    pub by_distance: Vec<GoReuseShare>,
}

/// Pages within a bound and beyond the one before; `None` for all others.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct GoReuseShare {
    pub up_to: Option<u64>,
    pub pages: u64,
}

/// What a scavenging goal comes to.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct GoGoal {
    /// Free pages that are kept, in per cent of the most in use within a second; `None` for what was recorded.
    pub extra_percent: Option<u32>,
    /// Averaged over time.
    pub mean_returned_bytes: u64,
    pub final_returned_bytes: u64,
    /// Returned pages that were used again.
    pub reused_pages: u64,
}

/// Pages at a time since the first page event.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct GoPagePoint {
    pub time_ns: u64,
    pub pages_in_use: u64,
    pub pages_free: u64,
    pub pages_returned: u64,
}
