//! Units and address kinds as types, so that a page index is never taken for an address.

use core::fmt;

/// A moment: nanoseconds of `CLOCK_MONOTONIC` (clock_gettime(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceNanos(pub u64);

/// A virtual address in the traced process, in bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub u64);

/// A number of pages of the trace's page size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageCount(pub u64);

/// An address divided by the page size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageIndex(pub u64);

/// A process of the recording: a dense number, unique in the trace (pids are reused, this is not).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub u32);

/// A stream of events in time order: one thread of one process, or one of Go's Ps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// A call stack, unique within its process; with the bit [`StackId::NAMED_BUCKET`] a bucket that the program has named
/// instead. [`StackId::UNKNOWN`] where no stack could be taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackId(pub u32);

impl StackId {
    /// No stack was recorded for this event.
    pub const UNKNOWN: StackId = StackId(0);
    /// The bit that tells a named bucket from a stack.
    pub const NAMED_BUCKET: u32 = 1 << 31;

    /// Whether this is a bucket with a name, not a stack.
    #[must_use]
    pub const fn is_named_bucket(self) -> bool {
        self.0 & StackId::NAMED_BUCKET != 0
    }
}

/// An object of a process and its forks: unlike its address never used again. Never zero, which is written for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(pub u64);

/// A file that page events of the kernel speak of, unique in the trace. [`FileId::NONE`] where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

impl FileId {
    /// No file, or none that is known.
    pub const NONE: FileId = FileId(0);
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// The binary logarithm of a page size in bytes: 12 for 4 KiB, 13 for Go's 8 KiB.
///
/// ```
/// use pagetrace_format::{Address, PageIndex, PageShift};
/// let shift = PageShift::KIB_8;
/// assert_eq!(shift.bytes(), 8192);
/// assert_eq!(shift.page_of(Address(0x4001)), PageIndex(2));
/// assert_eq!(shift.address_of(PageIndex(2)), Address(0x4000));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageShift(u8);

impl PageShift {
    /// 4 KiB, the base page of x86-64.
    pub const KIB_4: PageShift = PageShift(12);
    /// 8 KiB, the page of Go's runtime.
    pub const KIB_8: PageShift = PageShift(13);

    /// A shift between 9 (512 bytes) and 30 (1 GiB), or `None`.
    #[must_use]
    pub const fn new(shift: u8) -> Option<PageShift> {
        if shift >= 9 && shift <= 30 { Some(PageShift(shift)) } else { None }
    }

    /// The shift itself.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The page size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        1 << self.0
    }

    /// The page that holds this address.
    #[must_use]
    pub const fn page_of(self, address: Address) -> PageIndex {
        PageIndex(address.0 >> self.0)
    }

    /// The first address of this page. Indexes beyond the address space wrap.
    #[must_use]
    pub const fn address_of(self, page: PageIndex) -> Address {
        Address(page.0 << self.0)
    }

    /// The bytes in so many pages, saturating.
    #[must_use]
    pub const fn bytes_in(self, pages: PageCount) -> u64 {
        pages.0.saturating_mul(self.bytes())
    }
}
