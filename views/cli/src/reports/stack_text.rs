//! The line of a report on how far its stacks reach.

use std::io::{self, Write};

use super::quantities::{counted, percent};
use super::report_model::StackShares;

/// Says how many of the objects have a whole stack.
///
/// # Errors
/// What `out` gives.
pub fn write_object_stacks(shares: &StackShares, out: &mut dyn Write) -> io::Result<()> {
    let StackShares { thread_start, cut, unknown, none, bucket } = *shares;
    let all = thread_start + cut + unknown + none + bucket;
    if all == 0 {
        return Ok(());
    }
    let mut parts = vec![format!("{} with stacks to the thread's start", percent(thread_start as f64, all as f64))];
    let others = [
        (cut, "with cut stacks"),
        (unknown, "with stacks of which that is not known"),
        (none, "without a stack"),
        (bucket, "in buckets that the program named"),
    ];
    let others = others.iter().filter(|(share, _)| *share > 0);
    parts.extend(others.map(|(share, what)| format!("{} {what}", percent(*share as f64, all as f64))));
    writeln!(out, "\n{} allocated: {}.", counted(all, "object"), parts.join(", "))
}
