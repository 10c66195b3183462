//! What happens in a stream: one [`Event`] each for a page run or an object.

use crate::units::{Address, PageCount, StackId, TraceNanos};

/// One event of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it happened.
    pub time: TraceNanos,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// The allocator took a run of pages into use.
    PageAlloc(PageRun),
    /// The allocator freed a run of pages and keeps it.
    PageFree(PageRun),
    /// The allocator gave a run of pages back to the kernel (Go: scavenged, jemalloc: purged).
    PageScavenge(PageRun),
    /// An object came to life. Its time is taken after the allocator returned it.
    ObjectAlloc(ObjectAlloc),
    /// An object died. Its time is taken before the allocator got it back.
    ObjectFree(ObjectFree),
    /// The tracer took a new time base here. Go's page traces have it; it carries no other meaning.
    TimeSync,
}

/// Pages that lie side by side, in units of the trace's page size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRun {
    /// Address of the first byte of the first page.
    pub base: Address,
    /// How many pages.
    pub pages: PageCount,
}

/// An object as its allocator returned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectAlloc {
    /// What the allocator returned, never null.
    pub address: Address,
    /// Bytes the program asked for.
    pub size: u64,
    /// Bytes it may use: malloc_usable_size(3). At least `size`.
    pub usable: u64,
    /// Who asked for it.
    pub stack: StackId,
    /// Which function returned it.
    pub function: ObjectFunction,
}

/// An object given back to its allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectFree {
    /// The address that was freed.
    pub address: Address,
    /// Which function took it.
    pub function: ObjectFunction,
}

/// The allocator's function that made an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ObjectFunction {
    /// `malloc` for an allocation, `free` for a free.
    Plain = 0,
    /// `calloc`.
    Calloc = 1,
    /// `realloc` or `reallocarray`: a free followed by an allocation, even where the address stays.
    Realloc = 2,
    /// `posix_memalign`, `aligned_alloc`, `memalign`, `valloc`, `pvalloc`.
    Aligned = 3,
    /// A function that belongs to none of the above.
    Other = 15,
}

impl ObjectFunction {
    /// The function with this number; an unknown number is [`ObjectFunction::Other`].
    #[must_use]
    pub const fn from_number(number: u8) -> ObjectFunction {
        match number {
            0 => ObjectFunction::Plain,
            1 => ObjectFunction::Calloc,
            2 => ObjectFunction::Realloc,
            3 => ObjectFunction::Aligned,
            _ => ObjectFunction::Other,
        }
    }
}

/// The number of an event kind in encoded form (TRACE_FORMAT.md, "Events"). Never reused.
#[allow(missing_docs)]
pub mod kind_number {
    pub const TIME_SYNC: u8 = 0;
    pub const PAGE_ALLOC: u8 = 1;
    pub const PAGE_FREE: u8 = 2;
    pub const PAGE_SCAVENGE: u8 = 3;
    pub const OBJECT_ALLOC: u8 = 4;
    pub const OBJECT_FREE: u8 = 5;
    /// Only in packed words: the frames of a stack. In a chunk of records it is a record.
    pub const STACK: u8 = 6;
    /// Only in packed words: what the events of a chunk count their ticks from.
    pub const TIME_BASE: u8 = 7;
    /// Only in packed words: an object alloc, with its object's id.
    pub const OBJECT_ALLOC_WITH_ID: u8 = 8;
    /// Only in packed words: an object free, with its object's id.
    pub const OBJECT_FREE_WITH_ID: u8 = 9;
}
