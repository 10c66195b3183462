//! The parts of a snapshot's payload, each written and read on its own and without allocation.

use super::{CgroupFigures, KernelFigures, PageFlags, Permissions, ResidencySource, ResidentRun, SnapshotReason};
use crate::units::{Address, PageCount, ProcessId, TraceNanos};
use crate::varint::{Input, NUMBER_BYTES_MAX, Output, put, put_bytes};

const VERSION: u64 = 1;

/// Bytes of the longest [`SnapshotHead`]: version, process, time and page size; three single bytes; the figures and
/// how many they are.
pub const HEAD_BYTES_MAX: usize = 4 * NUMBER_BYTES_MAX + 3 + (1 + 2 * FIGURES) * NUMBER_BYTES_MAX;

const FIGURES: usize = 20;

/// What stands in front of a snapshot's mappings; the fields are those of `Snapshot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotHead {
    /// Which process.
    pub process: ProcessId,
    /// When.
    pub time: TraceNanos,
    /// Why it was taken.
    pub reason: SnapshotReason,
    /// Whether the process was stopped.
    pub stopped: bool,
    /// Where the residency comes from.
    pub residency_source: ResidencySource,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// The kernel's figures.
    pub kernel: KernelFigures,
}

impl SnapshotHead {
    /// Appends it to `out`: at most [`HEAD_BYTES_MAX`] bytes.
    pub fn encode(&self, out: &mut impl Output) {
        put(out, VERSION);
        put(out, self.process.0.into());
        put(out, self.time.0);
        out.write(&[self.reason as u8, u8::from(self.stopped), self.residency_source as u8]);
        put(out, self.page_bytes);
        let figures = self.kernel.fields();
        put(out, figures.iter().flatten().count() as u64);
        for (key, bytes) in figures.iter().enumerate() {
            if let Some(bytes) = bytes {
                put(out, key as u64);
                put(out, *bytes);
            }
        }
    }

    /// Reads it; `None` where it is cut or holds what cannot be.
    pub fn read(input: &mut Input<'_>) -> Option<SnapshotHead> {
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
        Some(SnapshotHead { process, time, reason, stopped, residency_source, page_bytes, kernel })
    }
}

impl KernelFigures {
    fn fields(&self) -> [Option<u64>; FIGURES] {
        let KernelFigures { rss, anonymous, pss, swap, huge, peak_rss, page_tables, rss_file, rss_shmem, .. } = *self;
        let KernelFigures { pss_anonymous, private, shared, cgroup, .. } = *self;
        let CgroupFigures { current, limit, anonymous: anon, file, shmem, slab, page_tables: tables, kernel_stacks } =
            cgroup;
        [
            rss,
            anonymous,
            pss,
            swap,
            huge,
            peak_rss,
            page_tables,
            rss_file,
            rss_shmem,
            current,
            limit,
            anon,
            file,
            shmem,
            slab,
            tables,
            kernel_stacks,
            pss_anonymous,
            private,
            shared,
        ]
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
            9 => &mut self.cgroup.current,
            10 => &mut self.cgroup.limit,
            11 => &mut self.cgroup.anonymous,
            12 => &mut self.cgroup.file,
            13 => &mut self.cgroup.shmem,
            14 => &mut self.cgroup.slab,
            15 => &mut self.cgroup.page_tables,
            16 => &mut self.cgroup.kernel_stacks,
            17 => &mut self.pss_anonymous,
            18 => &mut self.private,
            19 => &mut self.shared,
            _ => return,
        };
        *field = Some(bytes);
    }
}

/// One line of /proc/PID/maps (proc_pid_maps(5)) without memory of its own; the fields are those of `Mapping`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingRef<'a> {
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
    pub path: &'a [u8],
}

/// Writes mappings one after the other.
#[derive(Debug, Default)]
pub struct MappingWriter {
    end: u64,
}

impl MappingWriter {
    /// In front of the first one.
    #[must_use]
    pub const fn new() -> MappingWriter {
        MappingWriter { end: 0 }
    }

    /// Appends the next mapping to `out`. It must not start before the end of the one before.
    pub fn put(&mut self, out: &mut impl Output, mapping: &MappingRef<'_>) {
        put(out, mapping.start.0.wrapping_sub(self.end));
        put(out, mapping.end.0.wrapping_sub(mapping.start.0));
        out.write(&[mapping.permissions.0]);
        put(out, mapping.file_offset);
        put(out, mapping.device);
        put(out, mapping.inode);
        put_bytes(out, mapping.path);
        self.end = mapping.end.0;
    }
}

/// Reads what a [`MappingWriter`] wrote.
#[derive(Clone, Copy, Debug)]
pub struct MappingReader<'a> {
    input: Input<'a>,
    end: u64,
}

impl<'a> MappingReader<'a> {
    /// From the first mapping on.
    #[must_use]
    pub const fn new(input: Input<'a>) -> MappingReader<'a> {
        MappingReader::behind(input, 0)
    }

    /// Behind the mapping that ends at `end`.
    #[must_use]
    pub const fn behind(input: Input<'a>, end: u64) -> MappingReader<'a> {
        MappingReader { input, end }
    }

    /// What stands behind the mappings that were read.
    #[must_use]
    pub const fn input(&self) -> Input<'a> {
        self.input
    }
}

impl<'a> Iterator for MappingReader<'a> {
    type Item = MappingRef<'a>;

    /// The next mapping; `None` where there is none that can be.
    fn next(&mut self) -> Option<MappingRef<'a>> {
        let start = self.end.checked_add(self.input.number()?)?;
        let end = start.checked_add(self.input.number()?)?;
        self.end = end;
        Some(MappingRef {
            start: Address(start),
            end: Address(end),
            permissions: Permissions(self.input.byte()?),
            file_offset: self.input.number()?,
            device: self.input.number()?,
            inode: self.input.number()?,
            path: self.input.bytes()?,
        })
    }
}

/// Writes runs one after the other.
#[derive(Debug)]
pub struct RunWriter {
    page_bytes: u64,
    end: u64,
}

impl RunWriter {
    /// In front of the first one.
    #[must_use]
    pub const fn new(page_bytes: u64) -> RunWriter {
        RunWriter { page_bytes: if page_bytes == 0 { 1 } else { page_bytes }, end: 0 }
    }

    /// Appends the next run to `out`. It must not start before the end of the one before.
    pub fn put(&mut self, out: &mut impl Output, run: &ResidentRun) {
        let start = run.start.0 / self.page_bytes;
        put(out, start.wrapping_sub(self.end));
        put(out, run.pages.0);
        out.write(&[run.state.0]);
        self.end = start.wrapping_add(run.pages.0);
    }
}

/// Reads what a [`RunWriter`] wrote.
#[derive(Clone, Copy, Debug)]
pub struct RunReader<'a> {
    input: Input<'a>,
    page_bytes: u64,
    end: u64,
}

impl<'a> RunReader<'a> {
    /// From the first run on.
    #[must_use]
    pub const fn new(input: Input<'a>, page_bytes: u64) -> RunReader<'a> {
        RunReader { input, page_bytes, end: 0 }
    }
}

impl Iterator for RunReader<'_> {
    type Item = ResidentRun;

    /// The next run; `None` where there is none that can be.
    fn next(&mut self) -> Option<ResidentRun> {
        let start = self.end.checked_add(self.input.number()?)?;
        let pages = self.input.number()?;
        self.end = start.checked_add(pages)?;
        self.end.checked_mul(self.page_bytes)?;
        let state = PageFlags(self.input.byte()?);
        Some(ResidentRun { start: Address(start * self.page_bytes), pages: PageCount(pages), state })
    }
}
