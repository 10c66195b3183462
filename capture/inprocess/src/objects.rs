//! Looking at what is traced from inside the program: objects, their pages, physical frames, figures.

use crate::twin;

/// A traced object's number, unique in the recording with all its processes. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(pub u64);

/// Where objects come from: a call stack, or what [`bucket`] has named. 0 for unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketId(pub u32);

/// A live object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its number.
    pub id: ObjectId,
    /// Its call site, or the caller's own bucket.
    pub bucket: BucketId,
    /// Its address.
    pub address: usize,
    /// Bytes that were asked for.
    pub size: usize,
}

/// Number of a page of physical memory: its address divided by the kernel's page size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageFrame(pub u64);

/// Why a physical frame is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The kernel tells only processes with CAP_SYS_ADMIN (Documentation/admin-guide/mm/pagemap.rst).
    NotPermitted,
    /// The page is not in memory.
    NotResident,
    /// /proc/self/pagemap cannot be read, for this error number; 0 when compiled out.
    Unavailable(i32),
}

impl core::fmt::Display for FrameError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            FrameError::NotPermitted => f.write_str("physical frames are shown to processes with CAP_SYS_ADMIN only"),
            FrameError::NotResident => f.write_str("the page is not in memory"),
            FrameError::Unavailable(errno) => write!(f, "/proc/self/pagemap cannot be read (error {errno})"),
        }
    }
}

impl std::error::Error for FrameError {}

/// The pages of all buffers together, each by what happened to it last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageStatistics {
    /// Pages traced.
    pub distinct: u64,
    /// Of these, in use.
    pub in_use: u64,
    /// Of these, free and kept.
    pub free: u64,
    /// Of these, given back to the kernel.
    pub scavenged: u64,
    /// Runs that are missing above, because there was no memory to note them.
    pub missed: u64,
}

/// Figures of this process's recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// The pages traced.
    pub pages: PageStatistics,
    /// Live objects in the table.
    pub live_objects: u64,
    /// Objects for which the table had no memory.
    pub untabled_objects: u64,
    /// Frees of addresses at which no object was known.
    pub unknown_frees: u64,
    /// Events lost, for whatever reason.
    pub lost_events: u64,
    /// Bytes written to the file.
    pub bytes_written: u64,
}

/// Registers a bucket under a name, of which 255 bytes are kept, for [`object_alloc_in`](crate::object_alloc_in). The
/// same name gives the same id. 0, which is unknown, when there are 1024 already.
#[must_use]
pub fn bucket(name: &str) -> BucketId {
    BucketId(twin::bucket(name))
}

/// The live object that starts at `address`. `None` also without a live table.
#[inline]
#[must_use]
pub fn object_at(address: usize) -> Option<Object> {
    twin::object_at(address)
}

/// The live object that `address` lies in. Looks at all live objects, which takes a few nanoseconds each.
#[must_use]
pub fn object_containing(address: usize) -> Option<Object> {
    twin::object_containing(address)
}

/// The size in bytes of the pages that page hooks count in.
#[inline]
#[must_use]
pub fn page_bytes() -> usize {
    twin::page_bytes()
}

/// Address of the page, of [`page_bytes`], that `address` lies in.
///
/// ```
/// assert_eq!(pagetrace::page_of(0x1234), 0x1000);
/// ```
#[inline]
#[must_use]
pub fn page_of(address: usize) -> usize {
    address & !(page_bytes() - 1)
}

/// The physical frame behind `address` now.
///
/// # Errors
/// See [`FrameError`].
pub fn frame_of(address: usize) -> Result<PageFrame, FrameError> {
    twin::frame_of(address)
}

/// Figures of this process's recording. The pages stay known after [`off`](crate::off). A forked child has those of its
/// parent but for what this recorded in its last flush interval.
#[must_use]
pub fn statistics() -> Statistics {
    twin::statistics()
}
