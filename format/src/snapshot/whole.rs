//! A snapshot as one value: what recorders and readers of traces have.

use super::layout::{MappingReader, MappingRef, MappingWriter, RunReader, RunWriter, SnapshotHead};
use super::{KernelFigures, Permissions, ResidencySource, ResidentRun, SnapshotReason};
use crate::error::FormatError;
use crate::units::{Address, ProcessId, TraceNanos};
use crate::varint::{Input, put};

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

impl Snapshot {
    /// The payload of a snapshot chunk.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.mappings.len() * 24 + self.resident.len() * 5);
        let Snapshot { process, time, reason, stopped, residency_source, page_bytes, kernel, .. } = *self;
        SnapshotHead { process, time, reason, stopped, residency_source, page_bytes, kernel }.encode(&mut out);
        put(&mut out, self.mappings.len() as u64);
        let mut mappings = MappingWriter::new();
        for mapping in &self.mappings {
            mappings.put(&mut out, &mapping.as_ref());
        }
        put(&mut out, self.resident.len() as u64);
        let mut runs = RunWriter::new(page_bytes);
        for run in &self.resident {
            runs.put(&mut out, run);
        }
        out
    }

    /// Reads a snapshot chunk's payload.
    ///
    /// # Errors
    /// [`FormatError::Payload`] where it ends early, or holds what cannot be: mappings or runs out of order, a page
    /// size that is none.
    pub fn decode(payload: &[u8]) -> Result<Snapshot, FormatError> {
        Snapshot::read(Input::new(payload)).ok_or(FormatError::Payload("a snapshot with a field that cannot be"))
    }

    fn read(mut input: Input<'_>) -> Option<Snapshot> {
        let SnapshotHead { process, time, reason, stopped, residency_source, page_bytes, kernel } =
            SnapshotHead::read(&mut input)?;
        let count = input.number()?;
        let mut reader = MappingReader::new(input);
        let mut mappings = Vec::new();
        for _ in 0..count {
            mappings.push(Mapping::from(reader.next()?));
        }
        let mut input = reader.input();
        let count = input.number()?;
        let mut reader = RunReader::new(input, page_bytes);
        let mut resident = Vec::new();
        for _ in 0..count {
            resident.push(reader.next()?);
        }
        Some(Snapshot { process, time, reason, stopped, residency_source, page_bytes, kernel, mappings, resident })
    }
}

impl Mapping {
    fn as_ref(&self) -> MappingRef<'_> {
        let Mapping { start, end, permissions, file_offset, device, inode, ref path } = *self;
        MappingRef { start, end, permissions, file_offset, device, inode, path: path.as_bytes() }
    }
}

impl From<MappingRef<'_>> for Mapping {
    fn from(mapping: MappingRef<'_>) -> Mapping {
        let MappingRef { start, end, permissions, file_offset, device, inode, path } = mapping;
        let path = String::from_utf8_lossy(path).into_owned();
        Mapping { start, end, permissions, file_offset, device, inode, path }
    }
}
