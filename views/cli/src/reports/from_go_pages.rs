//! What was found of a Go page trace beside the states of pages, for the report.

use pagetrace_replay::go_pages::{self, GoalOutcome, ReuseShare};

use super::from_go_heap::lanes_of;
use super::report_model::{GoGoal, GoPagePoint, GoPages, GoReuse, GoReuseShare, GoScavengerPace};

/// Makes the part of the report.
pub fn go_pages_of(found: &go_pages::GoPages) -> GoPages {
    let page_bytes = found.page_bytes;
    let (pace, reuse) = (&found.pace, &found.reuse);
    let goal = |goal: &GoalOutcome| GoGoal {
        extra_percent: goal.extra_percent,
        mean_returned_bytes: (goal.mean_returned_pages * page_bytes as f64) as u64,
        final_returned_bytes: goal.final_returned_pages.saturating_mul(page_bytes),
        reused_pages: goal.reused,
    };
    GoPages {
        pace: GoScavengerPace {
            runs: pace.runs,
            pages: pace.pages,
            longest_run_pages: pace.longest_run,
            bytes_per_second: pace.pages_per_second * page_bytes as f64,
            most_bytes_in_a_millisecond: pace.most_in_a_millisecond.saturating_mul(page_bytes),
            active_milliseconds: pace.active_milliseconds,
            pages_by_processor: pace.by_processor.iter().copied().collect(),
        },
        reuse: GoReuse {
            reused_pages: reuse.reused,
            not_reused_pages: reuse.not_reused,
            kept_reused_pages: reuse.of_kept_pages,
            by_time: shares(&reuse.by_time),
            by_distance: shares(&reuse.by_distance),
        },
        recorded: goal(&found.recorded),
        goals: found.goals.iter().map(goal).collect(),
        timeline: found
            .timeline
            .iter()
            .map(|point| GoPagePoint {
                time_ns: point.since_start.0,
                pages_in_use: point.in_use,
                pages_free: point.free,
                pages_returned: point.returned,
            })
            .collect(),
        lanes: lanes_of(&found.lanes),
    }
}

fn shares(shares: &[ReuseShare]) -> Vec<GoReuseShare> {
    shares.iter().map(|share| GoReuseShare { up_to: share.up_to, pages: share.pages }).collect()
}
