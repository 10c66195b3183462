//! What is known of an allocator and its heaps.

use std::ops::Range;

use pagetrace_format::Address;

/// Whose `malloc` a process uses, by the file that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocatorKind {
    /// The GNU C library's.
    Glibc,
    /// jemalloc, as a library of its own.
    Jemalloc,
    /// mimalloc, as a library of its own.
    Mimalloc,
    /// gperftools, as a library of its own.
    Tcmalloc,
    /// Another library's.
    Other,
    /// One that is linked into the program: nothing that is loaded stands in front of it.
    InProgram,
}

/// What glibc's malloc has: the figures of mallinfo2(3), from events and a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllocatorState {
    /// Bytes of chunks of live objects: `uordblks + hblkhd`, but that what its thread caches keep is free here.
    pub live_chunk_bytes: u64,
    /// Bytes of heaps that no live chunk covers, resident or not: `fordblks`.
    pub free_heap_bytes: u64,
    /// Resident pages of heaps that are free as a whole.
    pub free_resident_bytes: u64,
    /// Those that malloc_trim(3) with a pad of 0 would give back: the top of an arena beside the main one stays.
    pub trimmable_bytes: u64,
    /// Resident free pages behind the last live chunk of each heap.
    pub top_resident_bytes: u64,
    /// Bytes of blocks that were mapped for one object each, with their headers.
    pub mapped_block_bytes: u64,
    /// How many heaps arenas beside the main one have.
    pub arena_heaps: u64,
    /// The largest heaps by resident bytes.
    pub heaps: Vec<HeapState>,
}

/// A range that chunks are cut from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeapState {
    /// What it is.
    pub kind: HeapKind,
    /// Where, as far as it can be written to.
    pub addresses: Range<Address>,
    /// Resident bytes.
    pub resident_bytes: u64,
    /// Bytes of chunks of live objects.
    pub live_chunk_bytes: u64,
    /// The other bytes, resident or not.
    pub free_bytes: u64,
    /// Resident pages that are free as a whole.
    pub free_resident_bytes: u64,
    /// Those of them that malloc_trim(3) would give back.
    pub trimmable_bytes: u64,
}

/// Whose heap it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeapKind {
    /// That of the main arena, by brk(2).
    Main,
    /// One of another arena.
    Arena,
    /// Of the main arena where brk(2) could not grow.
    Mapped,
}
