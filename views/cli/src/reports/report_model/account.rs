//! The allocator, what would give memory back, leaks, and the control group: parts of a report.

/// Something that would lower RSS by about this much, alone.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct Advice {
    /// `malloc_trim`, `trim_threshold`, `pinned_site`, `jemalloc_decay`, `leak` or `mapped_files`.
    pub kind: &'static str,
    pub bytes: u64,
    /// Place in `sites`, where it is about one.
    pub site: Option<usize>,
    pub what: String,
}

/// A site whose objects came steadily and stayed.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct Leak {
    /// Place in `sites`.
    pub site: usize,
    /// As that of the site.
    pub stack: Vec<String>,
    /// Live bytes of it at the end.
    pub bytes: u64,
    /// Their standard error, null where they are exact.
    pub bytes_error: Option<u64>,
    /// Live objects of it at the end.
    pub objects: u64,
    /// The oldest of them is at least so old.
    pub oldest_ns: u64,
    /// The evidence, as a sentence.
    pub why: String,
}

/// The allocator of a process. What needs the layout of its memory is known of glibc's.
#[derive(Debug, serde::Serialize)]
pub struct Allocator {
    /// `glibc`, `jemalloc`, `mimalloc`, `tcmalloc` or `other`, by the file that has `malloc`.
    pub kind: Option<&'static str>,
    /// Chunks of live objects with their headers: `uordblks + hblkhd` of mallinfo2(3), thread caches counted as free.
    pub live_chunk_bytes: Option<u64>,
    /// The rest of the heaps, resident or not: `fordblks`.
    pub free_heap_bytes: Option<u64>,
    /// Resident pages of heaps that are free as a whole.
    pub free_resident_bytes: Option<u64>,
    /// Those of them that malloc_trim(0) would give back.
    pub trimmable_bytes: Option<u64>,
    /// Resident free pages behind the last live chunk of each heap.
    pub top_resident_bytes: Option<u64>,
    /// Blocks that were mapped for one object each.
    pub mapped_block_bytes: Option<u64>,
    /// Heaps of arenas beside the main one.
    pub arena_heaps: Option<u64>,
    /// The largest heaps by resident bytes.
    pub arenas: Vec<Heap>,
}

/// A range that glibc cuts chunks from.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct Heap {
    /// `main heap`, `arena heap`, or `mapped heap` of a main arena that could not grow by brk(2).
    pub kind: &'static str,
    /// In hexadecimal digits.
    pub start: String,
    pub bytes: u64,
    pub resident_bytes: u64,
    pub live_chunk_bytes: u64,
    pub free_bytes: u64,
    pub free_resident_bytes: u64,
    pub trimmable_bytes: u64,
}

/// Figures of the memory control group, which are about all processes in it: the group with the lowest limit of those
/// that the process is in.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct Cgroup {
    pub current: Option<u64>,
    /// `None` also without a limit.
    pub limit: Option<u64>,
    pub anonymous: Option<u64>,
    /// Page cache.
    pub file: Option<u64>,
    pub shmem: Option<u64>,
    pub slab: Option<u64>,
    pub page_tables: Option<u64>,
    pub kernel_stacks: Option<u64>,
}
