//! What a trace says beside its events: processes, streams, modules, stacks, losses, gaps, sources, the end.
//!
//! A payload of records is a sequence of `tag varint · length varint · fields`. A reader skips tags it does not know
//! and ignores what follows the fields it knows, so records can be added and can grow within a version.
//! An optional number is stored as the number plus one, or zero for none. Texts are UTF-8 with a length in front.
//!
//! Here are the records without texts and lists, which a traced program writes as they are. With the feature `std`
//! there are those that own their memory as well, and [`Record`], which is any of them.

pub(crate) mod fields;
#[cfg(feature = "std")]
mod owned;

#[cfg(feature = "std")]
pub use owned::{Bucket, MappedFile, Module, Process, Record, Source, StackFrames, Symbol, SymbolFunction, TreeLook};

use crate::units::{Address, ProcessId, StackId, StreamId, TraceNanos};

/// How a process came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ProcessOrigin {
    /// The command of the recording, or the program that the tracer is linked into.
    Command = 0,
    /// Forked, without exec: it begins with a copy of its parent's objects and pages.
    Fork = 1,
    /// A new program, by exec.
    Exec = 2,
    /// Found running; how it began was not seen.
    Found = 3,
    /// It ran when the recording attached to it. Its snapshot that was asked for is what it had then.
    Attached = 4,
}

/// The end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessEnd {
    /// Which process.
    pub id: ProcessId,
    /// When the recorder learnt of it.
    pub time: TraceNanos,
    /// How it ended.
    pub status: EndStatus,
    /// Whether its last snapshot was taken at its exit, the process held until it was done.
    pub snapshot_at_exit: bool,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndStatus {
    /// Not known: it was not the recorder's child.
    Unknown,
    /// It exited with this status.
    Exited(u8),
    /// This signal killed it.
    Signaled(u8),
    /// It became another program by exec.
    Replaced,
    /// It was still running when the recording ended.
    Running,
}

/// A stream of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its number in this trace.
    pub id: StreamId,
    /// Whose events these are.
    pub process: ProcessId,
    /// Thread, Go's P, or buffer of an allocator.
    pub kind: StreamKind,
    /// Bounds of the thread's stack, lowest address and one past the highest, where known.
    pub stack_range: Option<(Address, Address)>,
}

/// What makes the events of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// A thread, by its tid.
    Thread(u32),
    /// A P of Go's scheduler; −1 stands for events without a P.
    GoProcessor(i64),
    /// A buffer that an allocator has beside those of the threads, by its number: what a P is to Go's runtime.
    Buffer(u32),
}

/// A node of the tree of stacks of a process: a return address called from its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackNode {
    /// In which process.
    pub process: ProcessId,
    /// Its number, from 1.
    pub node: u32,
    /// The caller's node, 0 for an outermost frame.
    pub parent: u32,
    /// The address that the call returns to.
    pub address: Address,
}

/// A stack of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stack {
    /// In which process.
    pub process: ProcessId,
    /// The id that events give.
    pub id: StackId,
    /// Its innermost node.
    pub node: u32,
    /// How far it reaches.
    pub end: StackEnd,
}

/// How far a stack reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum StackEnd {
    /// Not known: what wrote it did not say.
    #[default]
    Unknown = 0,
    /// Its outermost frame is where its thread started.
    ThreadStart = 1,
    /// Callers are missing.
    Cut = 2,
}

impl StackEnd {
    /// The end with this number; an unknown number is [`StackEnd::Unknown`].
    #[must_use]
    pub const fn from_number(number: u8) -> StackEnd {
        match number {
            1 => StackEnd::ThreadStart,
            2 => StackEnd::Cut,
            _ => StackEnd::Unknown,
        }
    }
}

/// Events known to be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// In which process, where known.
    pub process: Option<ProcessId>,
    /// Why.
    pub reason: LossReason,
    /// How many events; 0 means at least one, the number not known.
    pub events: u64,
    /// When the recorder learnt of it.
    pub time: TraceNanos,
}

/// Why events are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LossReason {
    /// The buffers were full and the hook was not to wait, or waited too long.
    BufferFull,
    /// The hook was interrupted by a signal handler that allocated.
    Reentered,
    /// The recorder had no room for another process.
    TooManyProcesses,
    /// The events are there, without their stacks: the table of stacks was full.
    StackTableFull,
    /// The recorder found bytes in a buffer that are no event.
    Malformed,
    /// The kernel had no room in its buffer for page events.
    KernelBufferFull,
    /// The recording had reached the size that it was to have at most.
    SizeLimit,
    /// A reason of a later version.
    Other(u8),
}

impl LossReason {
    pub(crate) fn number(self) -> u8 {
        match self {
            LossReason::BufferFull => 0,
            LossReason::Reentered => 1,
            LossReason::TooManyProcesses => 2,
            LossReason::StackTableFull => 3,
            LossReason::Malformed => 4,
            LossReason::KernelBufferFull => 5,
            LossReason::SizeLimit => 6,
            LossReason::Other(number) => number,
        }
    }

    #[cfg(feature = "std")]
    pub(crate) fn from_number(number: u8) -> LossReason {
        match number {
            0 => LossReason::BufferFull,
            1 => LossReason::Reentered,
            2 => LossReason::TooManyProcesses,
            3 => LossReason::StackTableFull,
            4 => LossReason::Malformed,
            5 => LossReason::KernelBufferFull,
            6 => LossReason::SizeLimit,
            other => LossReason::Other(other),
        }
    }

    /// Its name in reports, in snake case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            LossReason::BufferFull => "buffer_full",
            LossReason::Reentered => "reentered",
            LossReason::TooManyProcesses => "too_many_processes",
            LossReason::StackTableFull => "stack_table_full",
            LossReason::Malformed => "malformed",
            LossReason::KernelBufferFull => "kernel_buffer_full",
            LossReason::SizeLimit => "size_limit",
            LossReason::Other(_) => "other",
        }
    }
}

/// Memory of the tracer in a traced process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracerMemory {
    /// In which process.
    pub process: ProcessId,
    /// Its first address.
    pub start: Address,
    /// One past its last.
    pub end: Address,
}

/// A time in which a process ran and nothing of it was recorded, because recording was switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// In which process.
    pub process: ProcessId,
    /// When recording stopped.
    pub start: TraceNanos,
    /// When it went on.
    pub end: TraceNanos,
    /// Whether the tracer went on keeping account of objects. If so, events at the time [`Gap::end`] make up for what
    /// was not recorded, and the objects after it are exact. Otherwise nothing from before is known to hold after it.
    pub kept: bool,
}

/// How the recorded machine hands out memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// When anonymous memory gets huge pages on a first touch.
    pub huge_pages: HugePages,
    /// Bytes of a huge page, 0 where there are none.
    pub huge_page_bytes: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

/// When anonymous memory gets huge pages: `/sys/kernel/mm/transparent_hugepage/enabled`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum HugePages {
    /// Not known.
    #[default]
    Unknown = 0,
    /// Never.
    Never = 1,
    /// Where the program asked for it by `MADV_HUGEPAGE`.
    Madvise = 2,
    /// Wherever a range is large enough.
    Always = 3,
}

impl HugePages {
    /// The setting with this number; an unknown number is [`HugePages::Unknown`].
    #[must_use]
    pub const fn from_number(number: u8) -> HugePages {
        match number {
            1 => HugePages::Never,
            2 => HugePages::Madvise,
            3 => HugePages::Always,
            _ => HugePages::Unknown,
        }
    }
}

/// Not all objects are in the trace: one in so many bytes.
///
/// An object of `s` bytes is there with the probability 1 − exp(−s/mean), whether or not others are; then its free is, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Mean bytes, as objects are asked for, from one sample to the next of a thread. More than 1.
    pub mean_bytes: u64,
}

/// The end of a recording. A trace without it was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// When.
    pub time: TraceNanos,
    /// The same moment in nanoseconds since 1970-01-01 UTC.
    pub unix_ns: u64,
}
