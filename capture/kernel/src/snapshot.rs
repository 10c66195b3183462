//! Snapshots of one process, taken again and again.

use std::time::Duration;

use pagetrace_format::snapshot::SnapshotReason;
use pagetrace_format::{ProcessId, Snapshot, TraceNanos};
use rustix::time::{ClockId, clock_gettime};

use crate::error::KernelError;
use crate::figures::figures_of;
use crate::proc_maps::AddressSpace;
use crate::process_dir::ProcessDir;
use crate::residency::ResidencyScanner;
use crate::stop::Stopped;

/// Takes snapshots of one process. It outlasts an exec.
#[derive(Debug)]
pub struct SnapshotTaker {
    process: ProcessDir,
    scanner: ResidencyScanner,
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
        Ok(SnapshotTaker { process: ProcessDir::open(pid)?, scanner: ResidencyScanner::open(pid)? })
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
        let stopped = if stop { Some(Stopped::stop_process(&self.process)?) } else { None };
        let time = now();
        let mut address_space = AddressSpace::open(&self.process)?;
        let mappings = address_space.mappings()?;
        let (resident, residency_source) = self.scanner.scan(&mappings)?;
        let kernel = figures_of(&self.process)?;
        // A process killed or replaced since the first line would leave us with the halves of two.
        if !address_space.is_current() {
            return Err(KernelError::Gone { pid: self.process.pid() });
        }
        let stopped_for = stopped.as_ref().map_or(Duration::ZERO, Stopped::stopped_for);
        drop(stopped);
        let page_bytes = self.scanner.page_bytes();
        let snapshot =
            Snapshot { process, time, reason, stopped: stop, residency_source, page_bytes, kernel, mappings, resident };
        Ok(Taken { snapshot, stopped_for })
    }
}

fn now() -> TraceNanos {
    let time = clock_gettime(ClockId::Monotonic);
    let (seconds, nanos) = (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    TraceNanos(seconds * 1_000_000_000 + nanos)
}
