//! A snapshot of this process taken by itself, as a whole chunk of a trace in memory of the caller's.
//!
//! The process runs on meanwhile, so the parts can disagree by what it does in these milliseconds, and the snapshot says
//! so (`stopped` is not set). The figures are read right after the scan, since the two are compared with each other; the
//! other order was further off when measured. Where one thread maps and unmaps megabytes all the time single snapshots
//! are off by several percent; [`Taken`] says by how much.
//!
//! A snapshot of 1 GiB in pages of 4 KiB takes 2 to 4 ms for the scan and 5 to 13 ms for the figures.
//!
//! Of the tracer's own memory a snapshot touches the front of `memory`, as much as the chunk is long, [`Scratch::text`]
//! and the regions of the scanner; the entries of the scanner only where pagemap must be read. What would be touched for
//! the first time during the scan would be in the figures and not in the runs. So it is touched before: the regions, and
//! as much memory as the chunk before was long; the first snapshot of a process with many runs may be off by its length.
//! Nothing is allocated and no lock is taken.

use core::ops::Range;

use pagetrace_format::snapshot::{ChunkError, SnapshotChunk, SnapshotHead, SnapshotReason};
use pagetrace_format::{ProcessId, TraceNanos};

use super::figures::figures;
use super::maps::Maps;
use super::residency::Scanner;
use crate::sys::{self, files::page_bytes};

/// Bytes of text of /proc that are read at a time. A line that is longer loses the end of its path; the longest path
/// that programs can open by its name is 4096 bytes.
const TEXT_BYTES: usize = 16 * 1024;

/// Memory that a snapshot works in, and what earlier ones have found out of the kernel. All zeros is a new one.
#[repr(C)]
#[derive(Debug)]
pub struct Scratch {
    /// For text of /proc; of use also for [`super::modules`] and the like while no snapshot is taken.
    pub text: [u8; TEXT_BYTES],
    /// For residency.
    pub scanner: Scanner,
    /// Where the longest chunk so far ended in its memory.
    end_max: usize,
}

/// A snapshot that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Where its chunk is in the memory.
    pub place: Range<usize>,
    /// When it was taken.
    pub time: TraceNanos,
    /// Bytes of its pages that the kernel counts in RSS.
    pub in_rss_bytes: u64,
    /// The kernel's own figure, read a moment later. How far the two are apart says how much the process did meanwhile.
    pub rss_bytes: Option<u64>,
}

/// Why there is no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// There is no /proc, or this process may not read it.
    NoProc,
    /// The chunk does not fit, see there.
    Chunk(ChunkError),
}

impl Scratch {
    /// One in zeroed memory from the kernel, which is never given back. `None` if there is no memory.
    pub fn map() -> Option<&'static mut Scratch> {
        // SAFETY: anywhere.
        let memory = unsafe { sys::map_zeroed(core::ptr::null(), size_of::<Scratch>()) }?;
        // SAFETY: page aligned, as long as it must be, never unmapped, known to nobody else, and all zeros is a valid
        // one: it holds numbers only.
        Some(unsafe { &mut *memory.cast_mut().cast::<Scratch>() })
    }
}

/// Takes a snapshot, which is then somewhere in `memory`.
///
/// # Errors
/// [`SnapshotError::Chunk`] with [`ChunkError::TooSmall`]: give at least so much and take it again. With
/// [`ChunkError::TooLarge`] no memory helps.
pub fn take(
    scratch: &mut Scratch,
    memory: &mut [u8],
    process: ProcessId,
    reason: SnapshotReason,
) -> Result<Taken, SnapshotError> {
    touch(memory, scratch.end_max);
    let mut chunk = SnapshotChunk::new(memory);
    let mut maps = Maps::open(&mut scratch.text).ok_or(SnapshotError::NoProc)?;
    while let Some(mapping) = maps.next() {
        chunk.mapping(&mapping);
    }
    let page_bytes = page_bytes();
    let mut runs = chunk.runs(page_bytes).map_err(SnapshotError::Chunk)?;
    let time = TraceNanos(sys::monotonic_ns());
    let residency_source = scratch.scanner.scan(&mut runs, &mut scratch.text);
    let kernel = figures(&mut scratch.text);
    let head = SnapshotHead { process, time, reason, stopped: false, residency_source, page_bytes, kernel };
    let in_rss_bytes = runs.in_rss().0 * page_bytes;
    let place = runs.finish(&head).map_err(SnapshotError::Chunk)?;
    scratch.end_max = scratch.end_max.max(place.end);
    Ok(Taken { place, time, in_rss_bytes, rss_bytes: kernel.rss })
}

/// Makes the pages of the first `bytes` of `memory` resident, and those that begin within as many again by half: the
/// next chunk may be longer. What stands there is lost.
fn touch(memory: &mut [u8], bytes: usize) {
    let bytes = (bytes + bytes / 2).min(memory.len());
    for byte in memory[..bytes].iter_mut().step_by(page_bytes() as usize) {
        // SAFETY: a byte of the slice; volatile, since nobody reads it.
        unsafe { core::ptr::write_volatile(byte, 0) };
    }
}

#[cfg(test)]
mod tests;
