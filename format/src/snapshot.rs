//! A snapshot: what the kernel says of one process at one moment. Its mappings, which of their pages are resident,
//! and the kernel's own figures.
//!
//! ```text
//! version (1) · process · time · reason u8 · stopped u8 · residency source u8 · page bytes
//! figures: count, then key · bytes for each
//! mappings: count, then for each  start minus the end before · length · permissions u8 · offset · device · inode · path
//! runs: count, then for each      start minus the end before, in pages · pages · flags u8
//! ```
//! Numbers without a type are varints. Runs are in units of `page bytes`, ascending, without overlap.
//!
//! A [`Snapshot`] holds all of it at once. A traced program that looks at itself writes the same bytes with
//! [`SnapshotChunk`], part by part into memory that it has, without allocation; both use [`layout`].

use crate::units::{Address, PageCount};

mod chunk;
pub mod layout;
#[cfg(feature = "std")]
mod whole;

pub use chunk::{CHUNK_BYTES_MAX, ChunkError, MappingCursor, SnapshotChunk, SnapshotRuns};
pub use layout::{MappingRef, SnapshotHead};
#[cfg(feature = "std")]
pub use whole::{Mapping, Snapshot};

/// Why a snapshot was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SnapshotReason {
    /// The interval had passed.
    Interval = 0,
    /// The process had grown to its largest so far.
    Growth = 1,
    /// The process was about to exit.
    Exit = 2,
    /// It was asked for.
    Asked = 3,
}

/// Where the residency of a snapshot comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ResidencySource {
    /// None could be had: [`Snapshot::resident`] is empty.
    None = 0,
    /// The PAGEMAP_SCAN ioctl (Documentation/admin-guide/mm/pagemap.rst).
    PagemapScan = 1,
    /// Reading /proc/PID/pagemap.
    Pagemap = 2,
}

/// The kernel's figures in bytes, `None` where not read. Sources: proc_pid_smaps_rollup, proc_pid_status(5). Of a large
/// process that grows, the first four can be those of status, which agreed with smaps_rollup before; Pss and huge pages
/// are not known then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelFigures {
    /// `Rss` of smaps_rollup: the figure the classes sum to.
    pub rss: Option<u64>,
    /// `Anonymous` of smaps_rollup.
    pub anonymous: Option<u64>,
    /// `Pss` of smaps_rollup.
    pub pss: Option<u64>,
    /// `Swap` of smaps_rollup.
    pub swap: Option<u64>,
    /// `AnonHugePages` of smaps_rollup.
    pub huge: Option<u64>,
    /// `VmHWM` of status.
    pub peak_rss: Option<u64>,
    /// `VmPTE` of status: page tables.
    pub page_tables: Option<u64>,
    /// `RssFile` of status.
    pub rss_file: Option<u64>,
    /// `RssShmem` of status.
    pub rss_shmem: Option<u64>,
    /// `Pss_Anon` of smaps_rollup: anonymous memory, each page divided by the number of its mappings.
    pub pss_anonymous: Option<u64>,
    /// `Private_Clean` and `Private_Dirty` of smaps_rollup: what is mapped once on the whole machine.
    pub private: Option<u64>,
    /// `Shared_Clean` and `Shared_Dirty` of smaps_rollup: what is mapped more often.
    pub shared: Option<u64>,
    /// The control group's figures.
    pub cgroup: CgroupFigures,
}

/// Figures of a process's memory control group in bytes, `None` where not read; of the group with the lowest limit among
/// its own and those above it. They are about all processes of the group. Sources: Documentation/admin-guide/cgroup-v2.rst
/// and, for the names behind the bar, cgroup-v1/memory.rst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CgroupFigures {
    /// `memory.current` | `memory.usage_in_bytes`.
    pub current: Option<u64>,
    /// `memory.max` | `memory.limit_in_bytes`; `None` also without a limit.
    pub limit: Option<u64>,
    /// `anon` of memory.stat | `total_rss`.
    pub anonymous: Option<u64>,
    /// `file` of memory.stat | `total_cache`: the page cache, with shared memory.
    pub file: Option<u64>,
    /// `shmem` of memory.stat | `total_shmem`.
    pub shmem: Option<u64>,
    /// `slab` of memory.stat.
    pub slab: Option<u64>,
    /// `pagetables` of memory.stat.
    pub page_tables: Option<u64>,
    /// `kernel_stack` of memory.stat.
    pub kernel_stacks: Option<u64>,
}

/// Permissions of a mapping as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions(pub u8);

impl Permissions {
    /// Readable.
    pub const READ: u8 = 1;
    /// Writable.
    pub const WRITE: u8 = 2;
    /// Executable.
    pub const EXECUTE: u8 = 4;
    /// Shared with others (`s`), else private (`p`).
    pub const SHARED: u8 = 8;

    /// Whether all of these bits are set.
    #[must_use]
    pub const fn has(self, bits: u8) -> bool {
        self.0 & bits == bits
    }
}

/// Pages side by side in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResidentRun {
    /// Address of the first page.
    pub start: Address,
    /// How many pages of [`Snapshot::page_bytes`].
    pub pages: PageCount,
    /// Their state.
    pub state: PageFlags,
}

/// The state of a page as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageFlags(pub u8);

impl PageFlags {
    /// In memory.
    pub const PRESENT: u8 = 1;
    /// In swap.
    pub const SWAPPED: u8 = 2;
    /// Of a file or of shared memory; a private copy of a file's page is not.
    pub const FILE: u8 = 4;
    /// The shared page of zeros, which RSS does not count.
    pub const ZERO: u8 = 8;
    /// Part of a transparent huge page.
    pub const HUGE: u8 = 16;

    /// Whether all of these bits are set.
    #[must_use]
    pub const fn has(self, bits: u8) -> bool {
        self.0 & bits == bits
    }

    /// Whether the kernel counts this page in RSS.
    #[must_use]
    pub const fn in_rss(self) -> bool {
        self.has(PageFlags::PRESENT) && !self.has(PageFlags::ZERO)
    }
}
