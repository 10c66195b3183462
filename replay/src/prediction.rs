//! The pages that events say are resident, for checks from outside.

use std::ops::Range;

use pagetrace_format::{ProcessId, Trace, TraceNanos};

use crate::error::ReplayError;
use crate::kernel_states::KernelStates;
use crate::metadata::Metadata;

/// The anonymous pages that the kernel's events of a trace say are resident in a process at a moment, for each wanted
/// pair, in one pass. Pages are given as ranges of page indexes, ascending: addresses divided by the page size of the
/// trace's snapshots, or of its header where it has none. Events of the moment itself have happened. No snapshot's
/// residency is looked at.
///
/// A process without page events has none.
///
/// # Errors
/// [`ReplayError::NothingRecorded`] where the trace has no processes.
pub fn predicted_anonymous_pages(
    trace: &Trace<'_>,
    wanted: &[(ProcessId, TraceNanos)],
) -> Result<Vec<Vec<Range<u64>>>, ReplayError> {
    let metadata = Metadata::read(trace);
    if metadata.processes.is_empty() {
        return Err(ReplayError::NothingRecorded { chunks: trace.chunks().len() });
    }
    let mut states = KernelStates::new(trace, &metadata);
    let mut in_order: Vec<usize> = (0..wanted.len()).collect();
    in_order.sort_by_key(|&place| wanted[place].1);
    let mut predicted = vec![Vec::new(); wanted.len()];
    for place in in_order {
        let (process, time) = wanted[place];
        states.run_until(time, &metadata);
        if let Some(space) = metadata.index(process).and_then(|index| states.space(index)) {
            predicted[place] = space.resident().iter().collect();
        }
    }
    Ok(predicted)
}
