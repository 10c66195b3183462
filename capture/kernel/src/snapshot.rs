//! Snapshots of one process, taken again and again.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use pagetrace_format::snapshot::{KernelFigures, ResidencySource, SnapshotReason};
use pagetrace_format::{ProcessId, Snapshot, TraceNanos};
use rustix::time::{ClockId, clock_gettime};

use crate::cgroup::cgroup_of;
use crate::error::KernelError;
use crate::figures::{Wanted, figures_of};
use crate::frames::PageEntries;
use crate::proc_maps::AddressSpace;
use crate::process_dir::ProcessDir;
use crate::residency::ResidencyScanner;
use crate::stop::Stopped;

/// From this RSS on, all of the kernel's figures take longer than everything else of a snapshot together.
const LARGE_BYTES: u64 = 32 << 20;

/// Takes snapshots of one process. It outlasts an exec.
#[derive(Debug)]
pub struct SnapshotTaker {
    process: ProcessDir,
    scanner: ResidencyScanner,
    /// Whether the kernel's quick sum of RSS was the same as its slow one in every stopped snapshot so far; `None`
    /// before the first. Kernels before 6.16 sum it up lazily.
    quick_is_exact: Option<bool>,
    held: Option<&'static AtomicU32>,
}

/// A snapshot and what it cost the process.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// From the signal to stop until the signal to go on; zero if it was not stopped.
    pub stopped_for: Duration,
}

impl SnapshotTaker {
    /// For the process with this pid.
    ///
    /// # Errors
    /// [`KernelError::Gone`] where there is no such process.
    pub fn open(pid: u32) -> Result<SnapshotTaker, KernelError> {
        let (process, scanner) = (ProcessDir::open(pid)?, ResidencyScanner::open(pid)?);
        Ok(SnapshotTaker { process, scanner, quick_is_exact: None, held: None })
    }

    /// Keeps the process's pid in this word for as long as it is held, for those who let it go if this process is killed.
    #[must_use]
    pub fn noting_held(self, held: Option<&'static AtomicU32>) -> SnapshotTaker {
        SnapshotTaker { held, ..self }
    }

    /// Reads pagemap instead of the PAGEMAP_SCAN ioctl from now on, as is done where the ioctl is missing.
    pub fn use_pagemap(&mut self) {
        self.scanner.use_pagemap();
    }

    /// What the last snapshot could not see and why, empty for nothing.
    #[must_use]
    pub fn missed(&self) -> &str {
        self.scanner.missed()
    }

    /// Takes a snapshot of the process, known as `process` in the trace, and stops it meanwhile if `stop`.
    ///
    /// # Errors
    /// [`KernelError::Gone`] if the process has ended or replaced its program before or meanwhile,
    /// [`KernelError::StillRunning`] if it would not stop, [`KernelError::Denied`] where it may not be looked at.
    pub fn take(&mut self, process: ProcessId, reason: SnapshotReason, stop: bool) -> Result<Taken, KernelError> {
        self.take_with(process, reason, stop, None)
    }

    /// As [`SnapshotTaker::take`], with all of the kernel's figures, and counts the frames of its pages. Where these may not be
    /// seen there is a snapshot all the same, and `frames` is none.
    ///
    /// # Errors
    /// As [`SnapshotTaker::take`].
    pub fn take_with_frames(
        &mut self,
        process: ProcessId,
        reason: SnapshotReason,
        stop: bool,
    ) -> Result<(Taken, Option<PageEntries>), KernelError> {
        let mut entries = None;
        let taken = self.take_with(process, reason, stop, Some(&mut entries))?;
        Ok((taken, entries))
    }

    fn take_with(
        &mut self,
        process: ProcessId,
        reason: SnapshotReason,
        stop: bool,
        entries: Option<&mut Option<PageEntries>>,
    ) -> Result<Taken, KernelError> {
        let stopped = if stop { Some(Stopped::stop_process(&self.process, self.held)?) } else { None };
        let time = now();
        let mut address_space = AddressSpace::open(&self.process)?;
        let mappings = address_space.mappings()?;
        let (resident, residency_source) = self.scanner.scan(&mappings)?;
        let resident_pages = resident.iter().filter(|run| run.state.in_rss()).map(|run| run.pages.0).sum::<u64>();
        let is_large = resident_pages * self.scanner.page_bytes() >= LARGE_BYTES;
        // While it grows the next snapshot may be the one of its peak: all time that it stands still is lost for that.
        let is_hasty = stop && reason == SnapshotReason::Growth && entries.is_none();
        let quick = is_hasty && is_large && self.quick_is_exact == Some(true);
        let (kernel, same) = figures_of(&self.process, if quick { Wanted::Quick } else { Wanted::All })?;
        if stop {
            self.quick_is_exact = Some(same && self.quick_is_exact != Some(false));
        }
        if let Some(entries) = entries.filter(|_| residency_source != ResidencySource::None) {
            *entries = PageEntries::read(&self.process, &resident, self.scanner.page_bytes()).ok();
        }
        // A process killed or replaced since the first line would leave us with the halves of two.
        if !address_space.is_current() {
            return Err(KernelError::Gone { pid: self.process.pid() });
        }
        let stopped_for = stopped.as_ref().map_or(Duration::ZERO, Stopped::stopped_for);
        drop(stopped);
        let kernel = KernelFigures { cgroup: cgroup_of(&self.process), ..kernel };
        let page_bytes = self.scanner.page_bytes();
        let snapshot =
            Snapshot { process, time, reason, stopped: stop, residency_source, page_bytes, kernel, mappings, resident };
        Ok(Taken { snapshot, stopped_for })
    }

    /// The kernel's figures without mappings and pages: everyone may see how much of a process is resident, though not what. It
    /// is not stopped.
    ///
    /// # Errors
    /// [`KernelError::Gone`] if the process has ended.
    pub fn take_figures(&self, process: ProcessId, reason: SnapshotReason) -> Result<Taken, KernelError> {
        let time = now();
        let (kernel, _) = figures_of(&self.process, Wanted::Quick)?;
        let snapshot = Snapshot {
            process,
            time,
            reason,
            stopped: false,
            residency_source: ResidencySource::None,
            page_bytes: self.scanner.page_bytes(),
            kernel: KernelFigures { cgroup: cgroup_of(&self.process), ..kernel },
            mappings: Vec::new(),
            resident: Vec::new(),
        };
        Ok(Taken { snapshot, stopped_for: Duration::ZERO })
    }
}

fn now() -> TraceNanos {
    let time = clock_gettime(ClockId::Monotonic);
    let (seconds, nanos) = (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    TraceNanos(seconds * 1_000_000_000 + nanos)
}
