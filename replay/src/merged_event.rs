//! An event in the order of time, as the replay follows it.

use pagetrace_format::event::kind_number as number;
use pagetrace_format::{Address, StackId, TraceNanos};

/// An event as the replay takes it, whatever happened: fields that it does not have are 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MergedEvent {
    pub(crate) time: TraceNanos,
    pub(crate) address: Address,
    /// Of an object bytes, of a run pages.
    pub(crate) size: u64,
    pub(crate) usable: u64,
    pub(crate) stack: StackId,
    /// Whose it is, an index into [`Metadata::processes`](crate::metadata::Metadata::processes).
    pub(crate) process: u32,
    /// The slot of its stream.
    pub(crate) stream: u32,
    /// Its [`kind_number`](pagetrace_format::event::kind_number).
    pub(crate) kind: u8,
}

impl MergedEvent {
    #[inline]
    pub(crate) fn is_of_object(&self) -> bool {
        matches!(self.kind, number::OBJECT_ALLOC | number::OBJECT_FREE)
    }

    /// Whether another event is of the same process, and of objects both or neither.
    #[inline]
    pub(crate) fn is_like(&self, other: &MergedEvent) -> bool {
        (self.process == other.process) & (self.is_of_object() == other.is_of_object())
    }
}
