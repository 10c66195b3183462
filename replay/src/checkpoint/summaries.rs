//! The one-row tables of a checkpoint: figures of the recording and of each process.

use pagetrace_format::{PageShift, ProcessId, TableKind, TraceNanos};

use super::{Checkpoint, RECORDING, Tables, known, optional};
use crate::objects::ObjectTotals;
use crate::results::{AllocatorKind, EventCounts, PageAnomalies, PageEventPages, PagePeak, PageStateCounts};

const ALLOCATORS: [AllocatorKind; 6] = [
    AllocatorKind::Glibc,
    AllocatorKind::Jemalloc,
    AllocatorKind::Mimalloc,
    AllocatorKind::Tcmalloc,
    AllocatorKind::Other,
    AllocatorKind::InProgram,
];

/// What is kept of the recording as a whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordingCheckpoint {
    pub(crate) cuts: u64,
    pub(crate) kernel_shift: PageShift,
    pub(crate) events: EventCounts,
    pub(crate) pages: PageEventPages,
    pub(crate) peak: Option<PagePeak>,
    /// Of processes that ended.
    pub(crate) final_pages: PageStateCounts,
    pub(crate) anomalies: PageAnomalies,
}

impl RecordingCheckpoint {
    pub(crate) fn of(checkpoint: &Checkpoint) -> RecordingCheckpoint {
        let row = checkpoint.counts::<25>(RECORDING, TableKind::RECORDING).unwrap_or([0; 25]);
        let [cuts, shift, page_alloc, page_free, page_scavenge, object_alloc, object_free, time_sync, other, ..] = row;
        let counts = |at: usize| PageStateCounts {
            in_use: row[at],
            free: row[at + 1],
            returned: row[at + 2],
            distinct: row[at + 3],
        };
        let peak = |time: u64| PagePeak { time: TraceNanos(time), pages_in_use: row[13], counts: counts(13) };
        RecordingCheckpoint {
            cuts,
            kernel_shift: PageShift::new(shift as u8).unwrap_or(PageShift::KIB_4),
            events: EventCounts { page_alloc, page_free, page_scavenge, object_alloc, object_free, time_sync, other },
            pages: PageEventPages { alloc: row[9], free: row[10], scavenge: row[11] },
            peak: known(row[12]).map(peak),
            final_pages: counts(17),
            anomalies: PageAnomalies {
                free_of_unallocated: row[21],
                alloc_of_allocated: row[22],
                scav_of_allocated: row[23],
                impossible_runs: row[24],
            },
        }
    }

    pub(crate) fn put_into(&self, tables: &mut Tables) {
        let EventCounts { page_alloc, page_free, page_scavenge, object_alloc, object_free, time_sync, other } =
            self.events;
        let counts = |it: PageStateCounts| [it.in_use, it.free, it.returned, it.distinct];
        let PageAnomalies { free_of_unallocated, alloc_of_allocated, scav_of_allocated, impossible_runs } =
            self.anomalies;
        let mut row = vec![self.cuts, self.kernel_shift.get().into()];
        row.extend([page_alloc, page_free, page_scavenge, object_alloc, object_free, time_sync, other]);
        row.extend([self.pages.alloc, self.pages.free, self.pages.scavenge]);
        row.push(optional(self.peak.map(|peak| peak.time.0)));
        row.extend(counts(self.peak.map(|peak| peak.counts).unwrap_or_default()));
        row.extend(counts(self.final_pages));
        row.extend([free_of_unallocated, alloc_of_allocated, scav_of_allocated, impossible_runs]);
        tables.push(TableKind::RECORDING, &row);
    }
}

/// What is kept of a process, its objects and pages apart.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProcessCheckpoint {
    pub(crate) first: TraceNanos,
    pub(crate) last: TraceNanos,
    pub(crate) ended: bool,
    pub(crate) largest_rss: Option<u64>,
    pub(crate) peak_rss: Option<u64>,
    /// By the last snapshot, of a process that runs.
    pub(crate) rss: Option<u64>,
    /// Whether there was anything of objects and of an allocator's pages.
    pub(crate) objects: bool,
    /// Of one that ended: objects and bytes allocated, and objects that died. Otherwise sites have them.
    pub(crate) site_sums: [u64; 3],
    pub(crate) totals: ObjectTotals,
    pub(crate) inherited: u64,
    pub(crate) objects_after_gap: bool,
    pub(crate) pages_after_gap: bool,
    pub(crate) allocator: Option<AllocatorKind>,
}

impl ProcessCheckpoint {
    /// Of all processes that a checkpoint knows.
    pub(crate) fn all(checkpoint: &Checkpoint) -> impl Iterator<Item = (ProcessId, ProcessCheckpoint)> {
        checkpoint.processes().filter_map(|id| Some((id, ProcessCheckpoint::of(checkpoint, id)?)))
    }

    pub(crate) fn of(checkpoint: &Checkpoint, process: ProcessId) -> Option<ProcessCheckpoint> {
        let times = checkpoint.row::<2>(process, TableKind::PROCESS)?;
        let row = checkpoint.counts::<18>(process, TableKind::PROCESS)?;
        Some(ProcessCheckpoint {
            first: TraceNanos(times[0]),
            last: TraceNanos(times[1]),
            ended: row[2] != 0,
            largest_rss: known(row[3]),
            peak_rss: known(row[4]),
            rss: known(row[5]),
            objects: row[6] != 0,
            site_sums: [row[7], row[8], row[9]],
            totals: ObjectTotals {
                unknown_frees: row[10],
                unknown_frees_after_gap: row[11],
                replaced: row[12],
                forgotten: row[13],
            },
            inherited: row[14],
            objects_after_gap: row[15] != 0,
            pages_after_gap: row[16] != 0,
            allocator: row[17].checked_sub(1).and_then(|number| ALLOCATORS.get(number as usize)).copied(),
        })
    }

    pub(crate) fn put_into(&self, tables: &mut Tables) {
        let ObjectTotals { unknown_frees, unknown_frees_after_gap, replaced, forgotten } = self.totals;
        let allocator = ALLOCATORS.iter().position(|&kind| Some(kind) == self.allocator);
        let mut row = vec![self.first.0, self.last.0, self.ended.into()];
        row.extend([optional(self.largest_rss), optional(self.peak_rss), optional(self.rss)]);
        row.push(self.objects.into());
        row.extend(self.site_sums);
        row.push(unknown_frees);
        row.extend([unknown_frees_after_gap, replaced, forgotten, self.inherited]);
        row.extend([u64::from(self.objects_after_gap), u64::from(self.pages_after_gap)]);
        row.push(allocator.map_or(0, |number| number as u64 + 1));
        tables.push(TableKind::PROCESS, &row);
    }
}
