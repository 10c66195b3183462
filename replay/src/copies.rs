//! What forked processes hold of their parents at a time, bounded by the length of the trace.
//!
//! A fork is a few bytes of a trace and a copy of all that its parent has: without a bound the memory that a replay needs
//! would grow with the square of the length. Real programs stay far below it.

use crate::metadata::Metadata;
use crate::results::{Defect, DefectKind};

/// Bytes of copies for each byte of payload, and whatever the length.
const COPIED_BYTES_PER_RAW_BYTE: u64 = 512;
const COPIED_BYTES_FREE: u64 = 16 << 20;

/// An account of the copies of one kind.
#[derive(Debug)]
pub(crate) struct Copies {
    bytes_left: u64,
    /// By index of the process that has the copy.
    bytes_of: Vec<u64>,
    refused: bool,
}

impl Copies {
    /// None yet.
    pub(crate) fn new(metadata: &Metadata) -> Copies {
        let by_length = metadata.payload_bytes.saturating_mul(COPIED_BYTES_PER_RAW_BYTE);
        let bytes_of = vec![0; metadata.processes.len()];
        Copies { bytes_left: COPIED_BYTES_FREE.saturating_add(by_length), bytes_of, refused: false }
    }

    /// Whether a process may have a copy of so many bytes. Until it ends they are counted.
    pub(crate) fn take(&mut self, process: usize, bytes: usize) -> bool {
        self.give_back(process);
        let bytes = bytes as u64;
        let taken = bytes <= self.bytes_left;
        if taken {
            self.bytes_left -= bytes;
            self.bytes_of[process] = bytes;
        }
        self.refused |= !taken;
        taken
    }

    /// A process has ended, or begins anew.
    pub(crate) fn give_back(&mut self, process: usize) {
        self.bytes_left += std::mem::take(&mut self.bytes_of[process]);
    }

    /// What is to be told of processes that are without what their parents had.
    pub(crate) fn defect(&self) -> Option<Defect> {
        self.refused.then_some(Defect { offset: 0, kind: DefectKind::TooManyCopies, events_lost: 0 })
    }
}
