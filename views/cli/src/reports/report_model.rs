//! What a report says, as data: the one structure behind the text and the JSON. Field names are the JSON's names and
//! stable; what is not known is `None`, in JSON `null`. Sizes are bytes, times nanoseconds since the trace's start.

use std::collections::BTreeMap;

use serde::ser::{Serialize, SerializeMap, Serializer};

mod account;
pub use account::{Advice, Allocator, Cgroup, Heap, Leak};
mod sampling;
pub use sampling::{ClassErrors, ObjectErrors, Sampling, SiteErrors};
mod tree;
pub use tree::{Tree, TreeMember};
mod writes;
pub use writes::{Cold, Fork, ObjectsOnPage, Watched, WriteSite, Writes, WrittenPage, WrittenResident};

mod go_pages;
pub use go_pages::{GoGoal, GoPagePoint, GoPages, GoReuse, GoReuseShare, GoScavengerPace};

mod go_heap;
pub use go_heap::{
    Activity, GoHeap, GoHeapPoint, GoPageOccupancy, GoScavenger, GoSite, GoSizeClass, GoSpan, GoStackSize, GoType,
    Lane, Lanes,
};

/// A trace, explained.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)] // The names of one word say it.
pub struct Report {
    /// `pagetrace`, `go-page-trace` or `go-alloc-free`.
    pub format: &'static str,
    /// Whether the trace has its end and no damage; of a page trace of Go, no losses and no contradictions besides.
    pub complete: bool,
    pub page_size: u64,
    /// The moment that `processes` shows.
    pub at: At,
    /// From the start of the trace to its last event or record.
    pub duration_ns: u64,
    pub lost: Lost,
    pub events: EventCounts,
    pub pages: PageCounts,
    pub peak: Peak,
    #[serde(rename = "final")]
    pub last: Final,
    /// Contradictions between events, by kind; in Go's page traces a sign of lost buffers.
    pub anomalies: BTreeMap<&'static str, u64>,
    /// Damaged places of the file.
    pub defects: Vec<Defect>,
    /// What all processes have in memory together at the moment, no page counted twice; null for fewer than two.
    pub tree: Option<Tree>,
    /// In order of start, the command first.
    pub processes: Vec<Process>,
    pub stacks: Stacks,
    pub sources: Vec<Source>,
    /// How objects were sampled, null where all of them were recorded.
    pub sampling: Option<Sampling>,
    /// What was dropped to keep a recording within `--max-size` or `--keep-last`, null where it is whole.
    pub dropped: Option<Dropped>,
    /// Times in which recording was switched off.
    pub gaps: Gaps,
    /// Buffers that allocators have beside those of their threads.
    pub buffers: Vec<Buffer>,
    /// What every snapshot found.
    pub timeline: Vec<TimelinePoint>,
    /// Events of each of Go's Ps, `-1` for none; empty for other traces.
    pub go_processors: BTreeMap<i64, u64>,
    /// Of an execution trace of Go, null for other traces.
    pub go_heap: Option<GoHeap>,
    /// Of a page trace of Go, null for other traces.
    pub go_pages: Option<GoPages>,
    /// Files whose symbols could not be used, with the reason.
    pub unresolved_modules: BTreeMap<String, String>,
}

/// What a recording that is kept within bounds has no events of any more. Counts and totals include it; from the time on all
/// is exact. Processes that ended before are figures alone.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct Dropped {
    /// Events before this time are gone.
    pub before_ns: u64,
    /// How often the recording was cut.
    pub cuts: u64,
    /// The largest sum of RSS before that time.
    pub rss_peak_bytes: Option<u64>,
    pub rss_peak_time_ns: Option<u64>,
}

/// Times in which recording was switched off. They are no losses: the program, or who runs it, wanted it so.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct Gaps {
    pub number: u64,
    /// How long they are in all, added up over the processes.
    pub total_ns: u64,
    /// In order of their ends.
    pub intervals: Vec<Gap>,
}

/// A time in which recording of a process was switched off.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct Gap {
    /// Place in `processes`.
    pub process: Option<usize>,
    pub start_ns: u64,
    pub end_ns: u64,
    /// Whether the tracer kept account of objects meanwhile, so that those after it are exact. Otherwise objects from
    /// before it are unknown.
    pub kept: bool,
}

/// A buffer that an allocator has beside those of its threads, as Go's runtime has one for each P.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct Buffer {
    /// Place in `processes`.
    pub process: Option<usize>,
    /// Its number in its process.
    pub buffer: u32,
    pub events: u64,
}

/// A moment.
#[derive(Debug, serde::Serialize)]
pub struct At {
    /// `peak`, `end` or `time`.
    pub moment: &'static str,
    /// When; `None` for the end, which each process has for itself.
    pub time_ns: Option<u64>,
}

/// Events known to be missing.
#[derive(Debug, serde::Serialize)]
pub struct Lost {
    /// How many, where counted.
    pub events: u64,
    /// How many by reason.
    pub reasons: BTreeMap<String, u64>,
}

/// Events of the whole trace. `alloc`, `free` and `scavenge` are those of pages.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct EventCounts {
    pub alloc: u64,
    pub free: u64,
    pub scavenge: u64,
    pub object_alloc: u64,
    pub object_free: u64,
    pub time_sync: u64,
    /// Page faults that the kernel told of.
    pub page_faults: u64,
    /// System calls that concern pages, by their names; `filled` are ranges that the read(2) family wrote.
    pub page_calls: BTreeMap<&'static str, u64>,
}

/// Pages of all page events.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct PageCounts {
    pub alloc: u64,
    pub free: u64,
    pub scavenge: u64,
}

/// The moment of most pages in use, or of the largest RSS.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct Peak {
    pub time_ns: Option<u64>,
    pub pages_in_use: Option<u64>,
    /// When RSS came within 2 % of its peak, where that was before it and the peak is shown.
    pub near_since_ns: Option<u64>,
}

/// The end of the trace.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct Final {
    pub pages_in_use: Option<u64>,
    pub pages_free: Option<u64>,
    pub pages_returned: Option<u64>,
}

/// Bytes of the file that could not be read.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct Defect {
    pub offset: u64,
    /// How many, where the damage is not within a chunk.
    pub bytes: Option<u64>,
    pub what: &'static str,
    /// Events that are known to have been there.
    pub events_lost: u64,
}

/// A process at the moment of the report.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct Process {
    pub pid: Option<u32>,
    pub exe: Option<String>,
    pub args: Option<Vec<String>>,
    /// `command`, `fork`, `exec` or `found`.
    pub origin: Option<&'static str>,
    /// Place in `processes` of the process it was forked from, or whose place it took.
    pub parent: Option<usize>,
    pub start_ns: Option<u64>,
    pub end_ns: Option<u64>,
    /// `exited N`, `signaled N`, `replaced`, `running`, or `None`.
    pub end_status: Option<String>,
    /// Whether it ran at the moment of the report.
    pub running: bool,
    /// The largest RSS of its snapshots, whenever that was.
    pub largest_rss_bytes: Option<u64>,
    /// That as a share of the largest RSS that it ever had by the kernel's count, `VmHWM`. Below 1 where it grew and shrank
    /// between two looks at it.
    pub peak_share_of_hwm: Option<f64>,
    pub rss: Option<Rss>,
    pub objects: Objects,
    /// `None` where no source of page events was active.
    pub touches: Option<Touches>,
    /// Who wrote its pages, `None` where that was not tracked.
    pub writes: Option<Writes>,
    /// What would give memory back, and how much, most bytes first.
    pub advice: Vec<Advice>,
    /// Sites that look as if they leaked, at the process's end, most bytes first.
    pub leaks: Vec<Leak>,
    /// Those with the most live bytes first.
    pub sites: Vec<Site>,
}

/// What the RSS of a process consists of.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct Rss {
    pub time_ns: u64,
    /// `Rss` of smaps_rollup.
    pub kernel_bytes: Option<u64>,
    pub explained_fraction: Option<f64>,
    pub allocator_explained_fraction: Option<f64>,
    /// Anonymous pages that events predict and that scans find as a share of either, 0 to 1, the worst of all scans;
    /// `None` where no source of page events was active.
    pub residency_agreement: Option<f64>,
    /// The same of pages that came and went between scans.
    pub change_agreement: Option<f64>,
    /// They sum to `kernel_bytes`.
    pub classes: Option<Classes>,
    /// Where objects were sampled, of the classes that are estimates.
    pub class_errors: Option<ClassErrors>,
    /// Resident bytes of the allocator's pages.
    pub allocator_bytes: Option<u64>,
    /// Resident pages with live bytes on at most a quarter of them.
    pub sparse_pages: Option<u64>,
    pub swapped_bytes: Option<u64>,
    /// Free pages of the allocator that lie side by side, by the mapping they are in.
    pub largest_retained: Vec<NamedBytes>,
    /// Anonymous mappings of no known owner.
    pub largest_other_anonymous: Vec<NamedBytes>,
    pub allocator: Allocator,
    pub snapshot: SnapshotFacts,
    pub kernel: KernelFigures,
}

/// RSS classes in the order in which they are explained.
#[derive(Debug, Default)]
pub struct Classes(pub Vec<(&'static str, i64)>);

/// Bytes of something with a name.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct NamedBytes {
    pub name: String,
    pub bytes: u64,
}

/// Where the figures of an RSS come from.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct SnapshotFacts {
    /// `interval`, `growth`, `exit` or `asked`.
    pub reason: &'static str,
    /// Whether the process stood still, so that all figures agree with each other.
    pub stopped: bool,
    /// Whether recording was switched off then: what is said of objects is from before, or unknown.
    pub recording_off: bool,
    /// Whether it was taken at the process's exit, everything still in place.
    pub at_exit: bool,
    /// Whether the process's end is shown and this is an earlier snapshot, the last there is.
    pub stands_in_for_end: bool,
    /// `pagemap_scan`, `pagemap` or `none`.
    pub residency: &'static str,
}

/// Figures of the kernel, bytes (proc_pid_smaps(5), proc_pid_status(5)).
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct KernelFigures {
    pub rss: Option<u64>,
    pub anonymous: Option<u64>,
    pub pss: Option<u64>,
    pub swap: Option<u64>,
    pub huge: Option<u64>,
    pub peak_rss: Option<u64>,
    pub page_tables: Option<u64>,
    pub rss_file: Option<u64>,
    pub rss_shmem: Option<u64>,
    /// `Pss_Anon`.
    pub pss_anonymous: Option<u64>,
    /// `Private_Clean` and `Private_Dirty`: mapped once on the whole machine.
    pub private: Option<u64>,
    /// `Shared_Clean` and `Shared_Dirty`: mapped more often, by this process or others.
    pub shared: Option<u64>,
    pub cgroup: Cgroup,
}

/// Objects of a process. Live ones at the moment of the report, the other counts over the whole trace.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct Objects {
    pub live: Option<u64>,
    /// As asked for.
    pub live_bytes: Option<u64>,
    /// As usable: malloc_usable_size(3).
    pub live_usable_bytes: Option<u64>,
    /// With the allocator's own bytes of each object, where the allocator is glibc's.
    pub live_chunk_bytes: Option<u64>,
    pub allocated: Option<u64>,
    pub freed: Option<u64>,
    /// Frees of addresses that were not known to be live.
    pub unknown_frees: Option<u64>,
    /// The same after a gap that left no object known: no contradiction.
    pub unknown_frees_after_gap: Option<u64>,
    /// Allocations at the address of a live object, whose free must have been missed.
    pub replaced: Option<u64>,
    /// Objects that lived when a gap began after which nothing is known of them: neither live nor freed.
    pub forgotten: Option<u64>,
    /// Objects that the process was born with, by fork.
    pub inherited: Option<u64>,
    #[serde(flatten)]
    pub errors: ObjectErrors,
}

/// A call stack that allocates.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct Site {
    /// Innermost first; empty where no stack was taken. Of a bucket it is the bucket's name alone.
    pub stack: Vec<String>,
    /// Whether the program has named this site itself, as a bucket; `stack` is the name then.
    pub bucket: bool,
    pub live_bytes: u64,
    pub live_objects: u64,
    pub live_usable_bytes: u64,
    /// Bytes that stay resident only because sparse pages hold objects of this site; null where objects were sampled.
    pub pinned_bytes: Option<u64>,
    pub allocated_objects: u64,
    pub allocated_bytes: u64,
    #[serde(flatten)]
    pub errors: SiteErrors,
}

/// How far stacks reach.
#[derive(Debug, serde::Serialize)]
pub struct Stacks {
    /// Of all objects that were allocated.
    pub object_events: StackShares,
}

/// Events by how far their stacks reach.
#[derive(Debug, serde::Serialize)]
pub struct StackShares {
    /// The outermost frame is where the thread started.
    pub thread_start: u64,
    /// Callers are missing.
    pub cut: u64,
    /// The trace does not say how far it reaches.
    pub unknown: u64,
    /// There is no stack.
    pub none: u64,
    /// The program named a bucket in place of a stack.
    pub bucket: u64,
}

/// Touches of pages. Counts are of the whole recording, sites of the moment of the report.
#[derive(Debug, serde::Serialize)]
pub struct Touches {
    /// Page faults: the four that follow.
    pub events: u64,
    /// With a stack to the thread's start.
    pub full: u64,
    /// With a stack that lacks callers.
    pub cut: u64,
    /// With the instruction alone.
    pub instruction_only: u64,
    /// With neither.
    pub unknown: u64,
    /// Pages that scans found new and of which no event told; `None` without scans.
    pub scan_only: Option<ScanOnly>,
    /// Scans that the events were compared with.
    pub scans: u64,
    /// What touched the resident anonymous pages first, most bytes first.
    pub sites: Vec<TouchSite>,
    /// Resident bytes of sites that are too many to be listed.
    pub unnamed_bytes: u64,
}

/// Pages known from scans alone.
#[derive(Debug, serde::Serialize)]
pub struct ScanOnly {
    /// Touched in the kernel or by another process, thread unknown.
    pub anonymous: u64,
    /// Of files and shared memory: mostly mapped by the kernel around a page that was touched.
    pub file: u64,
}

/// A place that touched pages first.
#[derive(Debug, serde::Serialize)]
pub struct TouchSite {
    /// `fault`, `kernel_fault`, `exec`, `filled`, or the name of the system call that filled them.
    pub cause: &'static str,
    /// What `stack` is: `full`, `cut`, `instruction_only` or `none`.
    pub reach: &'static str,
    /// Innermost first.
    pub stack: Vec<String>,
    pub resident_bytes: u64,
}

/// A source of data.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct Source {
    pub name: String,
    pub active: bool,
    /// What it missed and why; empty for nothing.
    pub missed: String,
}

/// What a snapshot found.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct TimelinePoint {
    pub time_ns: u64,
    /// Place in `processes`.
    pub process: Option<usize>,
    pub rss_bytes: Option<u64>,
    /// They sum to `rss_bytes`. Of long recordings they are known at a part of the snapshots, spread over the time.
    pub classes: Option<Classes>,
}

impl Serialize for Classes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, bytes) in &self.0 {
            map.serialize_entry(name, bytes)?;
        }
        map.end()
    }
}
