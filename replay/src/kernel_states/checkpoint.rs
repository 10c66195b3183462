//! What the kernel said of processes, in a checkpoint.

use pagetrace_format::{PageCall, PageShift, ProcessId, TableKind};

use super::{KernelProcess, KernelStates};
use crate::address_space::AddressSpace;
use crate::analyses::agreement::{AgreementTally, share_of};
use crate::checkpoint::{COUNT_MAX, Checkpoint, LeafAccount, ProcessCheckpoint, Tables};
use crate::metadata::Metadata;
use crate::page_events::{Agreement, FaultCounts, PageEvents};

/// Counts of a process that ended, beside those of an address space.
const FULL: u64 = 4;
const CUT: u64 = 5;
const INSTRUCTION_ONLY: u64 = 1;
const UNKNOWN: u64 = 2;
const CALL: u64 = 3;

impl KernelStates<'_, '_> {
    /// Takes over all events before this time.
    pub(crate) fn run_before(&mut self, time: pagetrace_format::TraceNanos, metadata: &Metadata) {
        while self.next_time() < time {
            let Some((process, event)) = self.timeline.next() else { return };
            self.apply(process, &event, metadata);
        }
    }

    /// Goes on from a checkpoint.
    pub(crate) fn take_up(&mut self, checkpoint: &Checkpoint, metadata: &Metadata, leaves: &mut LeafAccount) {
        for (id, before) in ProcessCheckpoint::all(checkpoint) {
            let Some(process) = metadata.index(id).and_then(|index| self.processes.get_mut(index)) else { continue };
            if before.ended {
                process.result = ended(id, checkpoint, self.shift);
            } else {
                process.space = AddressSpace::restored(self.shift, metadata.machine.as_ref(), id, checkpoint, leaves);
                process.tally = AgreementTally::restored(id, checkpoint);
            }
        }
    }

    /// Puts what is known of a process into tables.
    pub(crate) fn put_into(&self, process: usize, tables: &mut Tables) {
        let KernelProcess { space, tally, result, .. } = &self.processes[process];
        if let Some(space) = space {
            space.put_into(tables);
            tally.put_into(tables);
        } else if let Some(result) = result {
            put_ended(result, tables);
        }
    }
}

fn put_ended(result: &PageEvents, tables: &mut Tables) {
    let FaultCounts { full, cut, instruction_only, unknown } = result.faults;
    for (what, count) in [(FULL, full), (CUT, cut), (INSTRUCTION_ONLY, instruction_only), (UNKNOWN, unknown)] {
        tables.push(TableKind::KERNEL_COUNTS, &[what, 0, count]);
    }
    for &(name, count) in &result.calls {
        if let Some(call) = PageCall::ALL.iter().find(|call| call.name() == name) {
            tables.push(TableKind::KERNEL_COUNTS, &[CALL, *call as u64, count]);
        }
    }
    if let Some(Agreement { snapshots, residency, change, scan_only_anonymous, scan_only_files }) = result.agreement {
        let change = [change.is_some().into(), change.unwrap_or(0.0).to_bits()];
        let residency = [residency.is_some().into(), residency.unwrap_or(0.0).to_bits()];
        let row = [snapshots, residency[0], residency[1], change[0], change[1], 0, 0, 0, 0, 0];
        let scans = [scan_only_anonymous, scan_only_files, 0];
        tables.push(TableKind::AGREEMENT, &[&row[..], &scans[..]].concat());
    }
}

/// Of a process that ended there are no first touches.
fn ended(id: ProcessId, checkpoint: &Checkpoint, shift: PageShift) -> Option<PageEvents> {
    let mut result = PageEvents { page_bytes: shift.bytes(), ..PageEvents::default() };
    let mut counts = checkpoint.rows(id, TableKind::KERNEL_COUNTS).peekable();
    counts.peek()?;
    for [what, key, count] in counts {
        let count = count.min(COUNT_MAX);
        match what {
            FULL => result.faults.full = count,
            CUT => result.faults.cut = count,
            INSTRUCTION_ONLY => result.faults.instruction_only = count,
            UNKNOWN => result.faults.unknown = count,
            _ => result.calls.extend(PageCall::ALL.get(key as usize).map(|call| (call.name(), count))),
        }
    }
    result.agreement = checkpoint.row::<13>(id, TableKind::AGREEMENT).map(|row| Agreement {
        snapshots: row[0],
        residency: (row[1] != 0).then(|| share_of(row[2])),
        change: (row[3] != 0).then(|| share_of(row[4])),
        scan_only_anonymous: row[10],
        scan_only_files: row[11],
    });
    Some(result)
}
