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

use crate::error::FormatError;
use crate::units::{Address, PageCount, ProcessId, TraceNanos};
use crate::varint::{Input, put, put_bytes};

/// What the kernel said of one process at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Which process.
    pub process: ProcessId,
    /// When; the process is as it was at this moment if it was stopped.
    pub time: TraceNanos,
    /// Why it was taken.
    pub reason: SnapshotReason,
    /// Whether the process was stopped, so that all parts agree with each other.
    pub stopped: bool,
    /// Where the residency comes from.
    pub residency_source: ResidencySource,
    /// Bytes of a page of [`Snapshot::resident`]: the kernel's base page.
    pub page_bytes: u64,
    /// The kernel's figures.
    pub kernel: KernelFigures,
    /// Its mappings in order of address.
    pub mappings: Vec<Mapping>,
    /// Runs of pages that are not simply absent, in order of address.
    pub resident: Vec<ResidentRun>,
}

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

/// The kernel's figures in bytes, `None` where not read. Sources: proc_pid_smaps_rollup, proc_pid_status(5).
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
}

impl KernelFigures {
    fn fields(&self) -> [Option<u64>; 9] {
        let KernelFigures { rss, anonymous, pss, swap, huge, peak_rss, page_tables, rss_file, rss_shmem } = *self;
        [rss, anonymous, pss, swap, huge, peak_rss, page_tables, rss_file, rss_shmem]
    }

    fn set(&mut self, key: u64, bytes: u64) {
        let field = match key {
            0 => &mut self.rss,
            1 => &mut self.anonymous,
            2 => &mut self.pss,
            3 => &mut self.swap,
            4 => &mut self.huge,
            5 => &mut self.peak_rss,
            6 => &mut self.page_tables,
            7 => &mut self.rss_file,
            8 => &mut self.rss_shmem,
            _ => return,
        };
        *field = Some(bytes);
    }
}

/// One line of /proc/PID/maps (proc_pid_maps(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: Address,
    /// One past the last.
    pub end: Address,
    /// What may be done with it.
    pub permissions: Permissions,
    /// Offset in the file, bytes.
    pub file_offset: u64,
    /// Device, major in the high 32 bits, minor in the low.
    pub device: u64,
    /// Inode, 0 for none.
    pub inode: u64,
    /// Path or pseudo-path such as `[heap]`, empty for anonymous memory.
    pub path: String,
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

const VERSION: u64 = 1;

impl Snapshot {
    /// The payload of a snapshot chunk.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.mappings.len() * 24 + self.resident.len() * 5);
        put(&mut out, VERSION);
        put(&mut out, self.process.0.into());
        put(&mut out, self.time.0);
        out.extend([self.reason as u8, u8::from(self.stopped), self.residency_source as u8]);
        put(&mut out, self.page_bytes);
        let figures = self.kernel.fields();
        put(&mut out, figures.iter().flatten().count() as u64);
        for (key, bytes) in figures.iter().enumerate() {
            if let Some(bytes) = bytes {
                put(&mut out, key as u64);
                put(&mut out, *bytes);
            }
        }
        put(&mut out, self.mappings.len() as u64);
        let mut end = 0;
        for mapping in &self.mappings {
            put(&mut out, mapping.start.0.wrapping_sub(end));
            put(&mut out, mapping.end.0.wrapping_sub(mapping.start.0));
            out.push(mapping.permissions.0);
            put(&mut out, mapping.file_offset);
            put(&mut out, mapping.device);
            put(&mut out, mapping.inode);
            put_bytes(&mut out, mapping.path.as_bytes());
            end = mapping.end.0;
        }
        put(&mut out, self.resident.len() as u64);
        let mut end = 0;
        for run in &self.resident {
            let start = run.start.0 / self.page_bytes.max(1);
            put(&mut out, start.wrapping_sub(end));
            put(&mut out, run.pages.0);
            out.push(run.state.0);
            end = start + run.pages.0;
        }
        out
    }

    /// Reads a snapshot chunk's payload.
    ///
    /// # Errors
    /// [`FormatError::Payload`] where it ends early, or holds what cannot be: mappings or runs out of order, a page
    /// size that is none.
    pub fn decode(payload: &[u8]) -> Result<Snapshot, FormatError> {
        Snapshot::read(&mut Input::new(payload)).ok_or(FormatError::Payload("a snapshot with a field that cannot be"))
    }

    fn read(input: &mut Input<'_>) -> Option<Snapshot> {
        if input.number()? != VERSION {
            return None;
        }
        let process = ProcessId(u32::try_from(input.number()?).ok()?);
        let time = TraceNanos(input.number()?);
        let reason = match input.byte()? {
            0 => SnapshotReason::Interval,
            1 => SnapshotReason::Growth,
            2 => SnapshotReason::Exit,
            3 => SnapshotReason::Asked,
            _ => return None,
        };
        let stopped = input.byte()? != 0;
        let residency_source = match input.byte()? {
            0 => ResidencySource::None,
            1 => ResidencySource::PagemapScan,
            2 => ResidencySource::Pagemap,
            _ => return None,
        };
        let page_bytes = input.number()?;
        if !page_bytes.is_power_of_two() || !(512..=1 << 30).contains(&page_bytes) {
            return None;
        }
        let mut kernel = KernelFigures::default();
        for _ in 0..input.number()? {
            let (key, bytes) = (input.number()?, input.number()?);
            kernel.set(key, bytes);
        }
        let mut mappings = Vec::new();
        let mut end = 0_u64;
        for _ in 0..input.number()? {
            let start = end.checked_add(input.number()?)?;
            end = start.checked_add(input.number()?)?;
            mappings.push(Mapping {
                start: Address(start),
                end: Address(end),
                permissions: Permissions(input.byte()?),
                file_offset: input.number()?,
                device: input.number()?,
                inode: input.number()?,
                path: String::from_utf8_lossy(input.bytes()?).into_owned(),
            });
        }
        let mut resident = Vec::new();
        let mut end = 0_u64;
        for _ in 0..input.number()? {
            let start = end.checked_add(input.number()?)?;
            let pages = input.number()?;
            end = start.checked_add(pages)?;
            end.checked_mul(page_bytes)?;
            let state = PageFlags(input.byte()?);
            resident.push(ResidentRun { start: Address(start * page_bytes), pages: PageCount(pages), state });
        }
        Some(Snapshot { process, time, reason, stopped, residency_source, page_bytes, kernel, mappings, resident })
    }
}
