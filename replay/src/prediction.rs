//! The pages that events say are resident, for checks from outside.

use std::ops::Range;

use pagetrace_format::{ProcessId, Trace, TraceNanos};

use crate::address_space::AddressSpace;
use crate::error::ReplayError;
use crate::intervals::Intervals;
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
    predicted_pages(trace, wanted, AddressSpace::resident)
}

/// The same of pages of mapped files that are no copies: what the kernel has in the page table, as faults, their
/// neighbourhood and calls tell, under the premise that the page cache holds all of the files, and no large folios.
/// It is there to be checked: what reports say of files comes from scans.
///
/// # Errors
/// As [`predicted_anonymous_pages`].
pub fn predicted_file_pages(
    trace: &Trace<'_>,
    wanted: &[(ProcessId, TraceNanos)],
) -> Result<Vec<Vec<Range<u64>>>, ReplayError> {
    predicted_pages(trace, wanted, AddressSpace::file_pages)
}

fn predicted_pages(
    trace: &Trace<'_>,
    wanted: &[(ProcessId, TraceNanos)],
    pages: impl Fn(&AddressSpace) -> &Intervals,
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
            predicted[place] = pages(space).iter().collect();
        }
    }
    Ok(predicted)
}
