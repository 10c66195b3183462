//! What a replay finds, as plain structs. Times are the trace's own nanoseconds, sizes are bytes.

use std::collections::BTreeMap;
use std::ops::Range;

use pagetrace_format::records::{EndStatus, Gap, Process, ProcessEnd, Source, StackEnd};
use pagetrace_format::snapshot::{KernelFigures, ResidencySource, SnapshotReason};
use pagetrace_format::{Address, FileHeader, ProcessId, TraceNanos};

use crate::checkpoint::Dropped;
pub use crate::defects::{Defect, DefectKind};
use crate::metadata::Metadata;
use crate::objects::SiteId;

mod allocator;
mod rss_classes;
mod sampled;
mod tree;
use crate::page_events::PageEvents;
use crate::page_writes::PageWrites;
use crate::stack_shares::StackShares;
pub use allocator::{AllocatorKind, AllocatorState, HeapKind, HeapState};
pub use rss_classes::RssClasses;
pub use sampled::{SampledObjects, SampledSite};
pub use tree::{TreeBytes, TreeMember, TreeState};

/// Everything that one pass over a trace found.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// The header of the trace.
    pub header: FileHeader,
    /// Start of the trace: its header's, or the earliest time in it where the header has none.
    pub start: TraceNanos,
    /// Time of the last event, snapshot or record of an end.
    pub last: TraceNanos,
    /// Whether the trace was finished, is undamaged, and (a page trace of Go) fits together.
    pub complete: bool,
    /// The moment whose state is shown.
    pub moment: ShownMoment,
    /// Where the peak is shown: when RSS came within 2 % of it first, if that was before.
    pub near_peak_since: Option<TraceNanos>,
    /// Events by kind.
    pub events: EventCounts,
    /// Pages that page events were about, by kind.
    pub pages: PageEventPages,
    /// Most pages in use, summed over the processes running then; `None` without page events.
    pub peak: Option<PagePeak>,
    /// Pages by state at the end of each process, summed.
    pub final_pages: PageStateCounts,
    /// Page events that contradict the ones before.
    pub anomalies: PageAnomalies,
    /// What was dropped to bound the recording's size, `None` where it is whole.
    pub dropped: Option<Dropped>,
    /// Events known to be missing, by reason.
    pub lost: BTreeMap<&'static str, LostEvents>,
    /// Processes in order of start, the command first. Never empty.
    pub processes: Vec<ReplayedProcess>,
    /// What several processes had together at the shown moment, `None` where there were none.
    pub tree: Option<TreeState>,
    /// RSS of processes over time, one entry a snapshot.
    pub rss_timeline: Vec<RssPoint>,
    /// What could not be read.
    pub defects: Vec<Defect>,
    /// Modules, sources and everything else that is not an event.
    pub metadata: Metadata,
}

impl Replayed {
    /// The sources of the trace.
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        &self.metadata.sources
    }
}

/// The moment whose state is shown, and how it was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShownMoment {
    /// How.
    pub rule: MomentRule,
    /// When; with [`MomentRule::EachEnd`] the end of the trace.
    pub time: TraceNanos,
}

/// How the shown moment was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MomentRule {
    /// Where the sum of RSS over the running processes was largest.
    PeakRss,
    /// Where most pages were in use: the peak of traces without snapshots. Objects are shown at each process's end.
    PeakPages,
    /// Each process at its own end: asked for, or a peak asked of a trace with neither snapshots nor page events.
    EachEnd,
    /// The time that was asked for.
    Asked,
}

/// Events by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct EventCounts {
    pub page_alloc: u64,
    pub page_free: u64,
    pub page_scavenge: u64,
    pub object_alloc: u64,
    pub object_free: u64,
    pub time_sync: u64,
    /// Kinds that this version of the format has and this version of the replay does not know.
    pub other: u64,
}

impl EventCounts {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        let EventCounts { page_alloc, page_free, page_scavenge, object_alloc, object_free, time_sync, other } = *self;
        page_alloc + page_free + page_scavenge + object_alloc + object_free + time_sync + other
    }
}

/// Pages that page events were about, by kind of event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PageEventPages {
    pub alloc: u64,
    pub free: u64,
    pub scavenge: u64,
}

/// The first moment with the most pages in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PagePeak {
    /// When.
    pub time: TraceNanos,
    /// How many.
    pub pages_in_use: u64,
    /// Pages by state at that moment.
    pub counts: PageStateCounts,
}

/// Pages by what their allocator said last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageStateCounts {
    /// In use.
    pub in_use: u64,
    /// Free and kept.
    pub free: u64,
    /// Given back to the kernel.
    pub returned: u64,
    /// Pages with any page event so far.
    pub distinct: u64,
}

/// Pages of page events that contradict the events before. All zero in a trace that has lost nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageAnomalies {
    /// Pages freed that were not in use: they are free afterwards.
    pub free_of_unallocated: u64,
    /// Pages taken into use that were in use: they stay so.
    pub alloc_of_allocated: u64,
    /// Pages given back to the kernel that were in use: they stay so.
    pub scav_of_allocated: u64,
    /// Events over more pages than any allocator takes at once: damage, ignored.
    pub impossible_runs: u64,
}

impl PageAnomalies {
    /// Adds those of another process.
    pub(crate) fn add(&mut self, other: &PageAnomalies) {
        self.free_of_unallocated += other.free_of_unallocated;
        self.alloc_of_allocated += other.alloc_of_allocated;
        self.scav_of_allocated += other.scav_of_allocated;
        self.impossible_runs += other.impossible_runs;
    }

    /// The anomalies that occurred, by their names in reports.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let PageAnomalies { free_of_unallocated, alloc_of_allocated, scav_of_allocated, impossible_runs } = *self;
        [
            ("free_of_unallocated", free_of_unallocated),
            ("alloc_of_allocated", alloc_of_allocated),
            ("scav_of_allocated", scav_of_allocated),
            ("impossible_runs", impossible_runs),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
    }
}

/// Events missing for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LostEvents {
    /// How many are known of.
    pub events: u64,
    /// Whether there are more, their number not known.
    pub and_more: bool,
}

/// One process.
#[derive(Clone, Debug)]
pub struct ReplayedProcess {
    /// What the recorder said of it.
    pub process: Process,
    /// How it ended, where known.
    pub end: Option<ProcessEnd>,
    /// Whether it ran at the shown moment. One that had ended is shown at its end, one that had not begun is empty.
    pub running: bool,
    /// Its RSS, `None` without a snapshot.
    pub rss: Option<RssState>,
    /// The largest RSS of its snapshots, whenever that was.
    pub largest_rss: Option<u64>,
    /// The largest RSS that it ever had, by the kernel: `VmHWM` of its last snapshot.
    pub peak_rss: Option<u64>,
    /// Its objects, `None` where none were seen.
    pub objects: Option<ObjectState>,
    /// Sites that look as if they leaked, at its end, most bytes first.
    pub leaks: Vec<Leak>,
    /// What the kernel's events say of its pages, `None` where no source of page events was active for it.
    pub page_events: Option<PageEvents>,
    /// Who wrote its pages, `None` where that was not tracked.
    pub writes: Option<PageWrites>,
    /// Sites with live or pinned bytes, or that ever allocated, most live bytes first.
    pub sites: Vec<Site>,
    /// Objects of sites that are not kept: of a process that ended before the events that a bounded recording still has.
    pub dropped_stacks: StackShares,
}

impl ReplayedProcess {
    /// Its status at the end, [`EndStatus::Unknown`] where the trace does not say.
    #[must_use]
    pub fn status(&self) -> EndStatus {
        self.end.map_or(EndStatus::Unknown, |end| end.status)
    }

    /// The largest RSS of its snapshots as a share of the largest that it ever had, where both are known.
    #[must_use]
    pub fn peak_share(&self) -> Option<f64> {
        let (largest, peak) = (self.largest_rss?, self.peak_rss?);
        (peak > 0).then(|| largest as f64 / peak as f64)
    }
}

/// The live objects of a process at the shown moment, and counts of the whole trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjectState {
    /// Live objects.
    pub live: u64,
    /// Bytes that the program asked for.
    pub live_bytes: u64,
    /// Bytes that it may use: malloc_usable_size(3).
    pub live_usable_bytes: u64,
    /// Bytes of the allocator's chunks of the live objects, headers included; `None` where its layout is not known.
    pub live_chunk_bytes: Option<u64>,
    /// Objects allocated in the whole trace.
    pub allocated: u64,
    /// Bytes asked for in the whole trace.
    pub allocated_bytes: u64,
    /// Objects freed in the whole trace.
    pub freed: u64,
    /// Frees of what was not known to live, in the whole trace.
    pub unknown_frees: u64,
    /// The same after a gap that left no object known: what was freed may have come to life before.
    pub unknown_frees_after_gap: u64,
    /// Allocations at the address of a live object, whose free must have been missed, in the whole trace.
    pub replaced: u64,
    /// Objects that lived when a gap began after which nothing is known of them. They count as neither live nor freed.
    pub forgotten: u64,
    /// Objects that the process was born with, by fork.
    pub inherited: u64,
    /// Where objects are sampled: the figures above are estimates then, but for those of frees that were not known, of replaced,
    /// forgotten and inherited objects, which count what is in the trace.
    pub sampled: Option<SampledObjects>,
}

/// A site whose objects came steadily through the process's life and stayed, at the process's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leak {
    /// Which site.
    pub site: SiteId,
    /// Live bytes as asked for.
    pub bytes: u64,
    /// The standard error of these, where objects are sampled. Then the counts of freed ones below are of samples.
    pub bytes_error: Option<u64>,
    /// Live objects.
    pub objects: u64,
    /// The oldest of them is at least so old, in nanoseconds.
    pub oldest_ns: u64,
    /// In how many of [`LIFE_PARTS`] equal parts of the process's life objects came that stayed.
    pub growing_parts: u32,
    /// Objects that it freed young, within an eighth of the process's life.
    pub freed_young: u64,
    /// Objects that it freed later.
    pub freed_old: u64,
}

/// Into how many equal parts the life of a process is cut to see what stays.
pub const LIFE_PARTS: u32 = crate::objects::PARTS as u32;

/// A call site and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its stack.
    pub id: SiteId,
    /// Its frames, innermost first; empty where no stack was taken, and for a bucket.
    pub frames: Vec<Frame>,
    /// How far its stack reaches.
    pub end: StackEnd,
    /// The name of the bucket where the site is one that the program named, not a stack. Empty where the trace does
    /// not have the name.
    pub bucket: Option<String>,
    /// Live objects at the shown moment.
    pub live: u64,
    /// Bytes asked for of these.
    pub live_bytes: u64,
    /// Usable bytes of these.
    pub live_usable_bytes: u64,
    /// Bytes that stay resident on sparse pages, shared among the sites on each page by their live bytes there.
    pub pinned_bytes: u64,
    /// Objects allocated in the whole trace.
    pub allocated: u64,
    /// Bytes asked for in the whole trace.
    pub allocated_bytes: u64,
    /// Where objects are sampled: the figures above are estimates then, and pinned bytes are not known.
    pub sampled: Option<SampledSite>,
}

/// A frame of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The address that the call returns to.
    pub address: Address,
    /// Its module, an index into [`Metadata::modules`].
    pub module: Option<usize>,
}

/// The RSS of a process at a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RssState {
    /// When.
    pub time: TraceNanos,
    /// Why the snapshot was taken.
    pub reason: SnapshotReason,
    /// Whether the process was stopped, so that all figures agree with each other.
    pub stopped: bool,
    /// The gap of the recording that it was taken in: its objects are those of the gap's start where they are kept,
    /// and unknown otherwise.
    pub gap: Option<Gap>,
    /// Where the residency comes from.
    pub source: ResidencySource,
    /// Whether the shown moment is the process's end and the snapshot was not taken at it: an earlier one stands in.
    pub stands_in_for_end: bool,
    /// The kernel's figures.
    pub kernel: KernelFigures,
    /// The classes, `None` where the kernel's RSS is not known.
    pub explanation: Option<Explanation>,
}

/// RSS in classes and in detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Bytes by class; they sum to the kernel's RSS.
    pub classes: RssClasses,
    /// Resident bytes of the allocator's pages.
    pub allocator_bytes: u64,
    /// Those of them without evidence of what they hold.
    pub allocator_unexplained_bytes: u64,
    /// Where objects are sampled, the standard error of the live objects' bytes, and so of the class that has the rest.
    pub live_error: Option<u64>,
    /// Resident pages with live bytes on at most a quarter of them.
    pub sparse_pages: u64,
    /// Bytes in swap, by the residency scan.
    pub swapped_bytes: u64,
    /// Resident pages without live bytes that lie side by side, largest first.
    pub retained_ranges: Vec<RetainedRange>,
    /// Anonymous mappings of no known owner by resident bytes, largest first.
    pub other_anonymous: Vec<MappingBytes>,
    /// Whose malloc it is, `None` where not known.
    pub allocator: Option<AllocatorKind>,
    /// The allocator's heaps, where their layout is known.
    pub heaps: Option<AllocatorState>,
}

impl Explanation {
    /// The share of the kernel's RSS that is outside the class unexplained, 0 to 1; `None` of an RSS of zero.
    #[must_use]
    pub fn explained_fraction(&self) -> Option<f64> {
        let rss = self.classes.sum();
        (rss > 0).then(|| (1.0 - self.classes.unexplained.unsigned_abs() as f64 / rss as f64).max(0.0))
    }

    /// The same over the allocator's pages alone; `None` where none are resident, and where objects are sampled: what lies on
    /// each page is not known then.
    #[must_use]
    pub fn allocator_explained_fraction(&self) -> Option<f64> {
        let all = self.allocator_bytes;
        (all > 0 && self.live_error.is_none()).then(|| 1.0 - self.allocator_unexplained_bytes as f64 / all as f64)
    }
}

/// Pages that the allocator retains, side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedRange {
    /// Where.
    pub addresses: Range<Address>,
    /// The mapping's path, empty for anonymous memory.
    pub mapping: String,
}

impl RetainedRange {
    /// Its length in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.addresses.end.0 - self.addresses.start.0
    }
}

/// A mapping and how much of it is resident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingBytes {
    /// Where.
    pub addresses: Range<Address>,
    /// Its name, empty for anonymous memory without one.
    pub name: String,
    /// Resident bytes.
    pub resident_bytes: u64,
}

/// RSS of a process at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RssPoint {
    /// When.
    pub time: TraceNanos,
    /// Which process.
    pub process: ProcessId,
    /// The kernel's figure in bytes, where read.
    pub rss: Option<u64>,
}
