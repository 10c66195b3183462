//! How pages, classes and sites were at moments of the whole recording: what pictures over time are made from.
//!
//! Moments are snapshots, since only there residency is known and not predicted; nothing is made up between them. Traces
//! of page events alone (Go's) have moments at equal distances instead. Memory and work are bounded by [`HistoryLimits`]:
//! beyond them every second moment is let go.

mod page_blocks;
mod page_class;
mod page_picture;
mod recorder;
mod spread;
mod write_picture;

use pagetrace_format::{Address, PageShift, ProcessId, StreamId, TraceNanos};

pub use page_blocks::{BLOCK_PAGES, BlockRun, PageBlocks};
pub use page_class::{PageCell, PageClass};
pub(crate) use page_picture::PagePicture;
pub(crate) use recorder::{HistoryRecorder, StateNow};

use crate::objects::SiteId;
use crate::page_events::TouchSite;
use crate::page_writes::LastWrite;
use crate::results::{Frame, PageStateCounts, RssClasses};

/// How much of a history is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Moments of a process at most.
    pub moments: usize,
    /// Objects and pages that may be looked at for it, and one more for each so many events.
    pub work: u64,
    /// See [`HistoryLimits::work`].
    pub events_for_work: u64,
    /// Bytes of pages and sites that are kept; with 0 classes are all that is kept.
    pub bytes: usize,
}

impl HistoryLimits {
    /// Classes over time, for a small part of the time that the replay takes.
    pub const CLASSES: HistoryLimits = HistoryLimits { moments: 120, work: 1 << 18, events_for_work: 64, bytes: 0 };

    /// Everything, with so many bytes of pages and sites.
    #[must_use]
    pub const fn whole(bytes: usize) -> HistoryLimits {
        HistoryLimits { moments: 240, work: 1 << 22, events_for_work: 4, bytes }
    }
}

/// The history of a recording.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In the order of the replay's processes.
    pub processes: Vec<ProcessHistory>,
    /// Page events of each stream that has any, over time.
    pub lanes: Vec<Lane>,
    /// The times at which the parts of lanes begin, one more than there are parts; empty without lanes.
    pub lane_times: Vec<TraceNanos>,
}

/// The history of one process.
#[derive(Clone, Debug)]
pub struct ProcessHistory {
    /// Which.
    pub process: ProcessId,
    /// Moments in order of time.
    pub moments: Vec<HistoryMoment>,
    /// Sites that moments speak of.
    pub sites: Vec<HistorySite>,
    /// What touched pages first, as [`HistoryMoment::touches`] numbers it.
    pub touch_sites: Vec<HistoryTouchSite>,
    /// The page size of its pages.
    pub shift: PageShift,
    /// Blocks of page states.
    pub pages: PageBlocks<u8>,
    /// Blocks of first touches: one more than an index of [`ProcessHistory::touch_sites`], 0 for none known.
    pub touches: PageBlocks<u16>,
    /// Who wrote pages last, as [`HistoryMoment::writes`] numbers it.
    pub last_writes: Vec<LastWrite>,
    /// Blocks of last writes: one more than an index of [`ProcessHistory::last_writes`], 0 for pages that are not tracked or
    /// not in memory.
    pub writes: PageBlocks<u32>,
}

/// A process at a moment.
#[derive(Clone, Debug, Default)]
pub struct HistoryMoment {
    /// When.
    pub time: TraceNanos,
    /// The kernel's figure of RSS.
    pub rss: Option<u64>,
    /// It in classes, where it could be explained.
    pub classes: Option<RssClasses>,
    /// Pages by what their allocator said last, in traces of page events.
    pub page_counts: Option<PageStateCounts>,
    /// Pages as runs of blocks of [`ProcessHistory::pages`]; `None` where they were not kept.
    pub pages: Option<Vec<BlockRun>>,
    /// First touches as runs of blocks of [`ProcessHistory::touches`].
    pub touches: Vec<BlockRun>,
    /// Last writes as runs of blocks of [`ProcessHistory::writes`]; `None` where they were not tracked or not kept.
    pub writes: Option<Vec<BlockRun>>,
    /// Sites; empty where they were not kept.
    pub sites: Vec<SiteMoment>,
    /// The mappings; empty where pages were not kept.
    pub mappings: Vec<HistoryMapping>,
}

/// A mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryMapping {
    /// Its first byte.
    pub start: Address,
    /// One past its last byte.
    pub end: Address,
    /// Its path, or the kernel's name for it; empty for anonymous memory.
    pub name: String,
}

/// A site at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SiteMoment {
    /// An index of [`ProcessHistory::sites`].
    pub site: u32,
    /// Live objects.
    pub live: u64,
    /// Bytes that these were asked for with.
    pub live_bytes: u64,
    /// Bytes that stay resident for their sake.
    pub pinned_bytes: u64,
    /// Objects allocated so far.
    pub allocated: u64,
    /// Bytes of these.
    pub allocated_bytes: u64,
}

/// A site and its stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistorySite {
    /// Which.
    pub id: SiteId,
    /// Innermost first, empty for a bucket.
    pub frames: Vec<Frame>,
    /// The bucket's name, where the site is one.
    pub bucket: Option<String>,
}

/// What touched pages first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryTouchSite {
    /// How and from where.
    pub site: TouchSite,
    /// Innermost first; without a stack the instruction alone.
    pub frames: Vec<Frame>,
}

/// Page events of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Which.
    pub stream: StreamId,
    /// Events that took pages, freed them and gave them back, by part of the time.
    pub parts: Vec<[u32; 3]>,
}
