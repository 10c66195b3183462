//! An allocator of page runs that traces itself, in the manner of Go's page heap.
//!
//! Memory is handed out by shards, as by Go's Ps. A shard has a region of pages of its own, a lock of its own, and a
//! [`PageTraceBuf`](pagetrace::PageTraceBuf) of its own under that lock. So all events of a page are in one buffer in
//! the order in which they happened, whichever threads took and freed it.
//!
//! ```
//! use page_run_allocator::Allocator;
//! # fn main() -> std::io::Result<()> {
//! let allocator = Allocator::new(2, 1 << 20, 16)?;
//! let mut block = allocator.alloc(0, 100_000).expect("the shard's region is empty");
//! block.bytes_mut().fill(1);
//! assert_eq!(allocator.pages().in_use, 13);
//! allocator.free(block);
//! assert_eq!(allocator.pages().free, 13);
//! # Ok(())
//! # }
//! ```

mod page_heap;
mod slabs;
mod sys;

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pagetrace::{Caller, Function};

pub use page_heap::PageCounts;
use page_heap::PageHeap;
use slabs::Slabs;

/// Bytes in a page: those of Go's runtime, so that a trace can be written in Go's format, which has no others.
pub const PAGE_BYTES: usize = 8192;

/// An allocator. Its regions are never unmapped, as in Go's runtime.
#[derive(Debug)]
pub struct Allocator {
    /// `std`'s lock is a futex on Linux: it does not allocate.
    shards: Vec<Mutex<Shard>>,
}

#[derive(Debug)]
struct Shard {
    heap: PageHeap,
    slabs: Slabs,
}

/// Memory that was handed out. It goes back with [`Allocator::free`]; when it is dropped instead it stays taken.
#[derive(Debug)]
#[must_use = "memory that is not given back stays taken"]
pub struct Block {
    shard: usize,
    address: usize,
    bytes: usize,
}

impl Block {
    /// Its first byte.
    #[must_use]
    pub fn address(&self) -> usize {
        self.address
    }

    /// Bytes that were asked for.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Allocator {
    /// Reserves `shards` regions of `region_bytes` of address space. A shard that keeps more than `retained_pages_max`
    /// free pages gives some back to the kernel.
    ///
    /// All book-keeping is allocated here, none later: an allocator that is a program's own could not call itself.
    ///
    /// # Errors
    /// Where the kernel has no address space left.
    ///
    /// # Panics
    /// Without shards, and of regions without pages.
    pub fn new(shards: usize, region_bytes: usize, retained_pages_max: usize) -> io::Result<Allocator> {
        assert!(shards > 0, "expected at least one shard");
        assert!(region_bytes >= PAGE_BYTES, "expected a region of {PAGE_BYTES} bytes or more, found {region_bytes}");
        let shard = |_| {
            let heap = PageHeap::new(region_bytes / PAGE_BYTES, retained_pages_max)?;
            let slabs = Slabs::new(region_bytes / PAGE_BYTES);
            Ok(Mutex::new(Shard { heap, slabs }))
        };
        Ok(Allocator { shards: (0..shards).map(shard).collect::<io::Result<_>>()? })
    }

    /// Takes `bytes` from a shard, `None` where its region has no room. Up to half a page they are a slot of a slab,
    /// which is a page; above it, a run of pages.
    #[inline(never)]
    pub fn alloc(&self, shard: usize, bytes: usize) -> Option<Block> {
        let shard = shard % self.shards.len();
        let (address, usable) = {
            let Shard { heap, slabs } = &mut *self.lock(shard);
            match slabs::class_of(bytes) {
                Some(class) => (slabs.alloc(heap, class)?, slabs::slot_bytes(class)),
                None => {
                    let pages = bytes.div_ceil(PAGE_BYTES);
                    (heap.alloc(pages)?, pages * PAGE_BYTES)
                }
            }
        };
        // An object's hooks need no lock of ours: nobody else knows the address yet.
        pagetrace::object_alloc(address, bytes, usable, Function::Plain, Caller::here());
        Some(Block { shard, address, bytes })
    }

    /// Gives a block back to the shard that it came from.
    pub fn free(&self, block: Block) {
        // Before the shard gets it, so that in the trace the next object at this address comes later.
        pagetrace::object_free(block.address, Function::Plain);
        let Shard { heap, slabs } = &mut *self.lock(block.shard);
        match slabs::class_of(block.bytes) {
            Some(_) => slabs.free(heap, block.address),
            None => heap.free(block.address, block.bytes.div_ceil(PAGE_BYTES)),
        }
    }

    /// Gives free pages back to the kernel until each shard keeps at most `retained_pages`.
    pub fn scavenge(&self, retained_pages: usize) {
        (0..self.shards.len()).for_each(|shard| self.lock(shard).heap.scavenge(retained_pages));
    }

    /// The pages of all shards, counted page by page.
    #[must_use]
    pub fn pages(&self) -> PageCounts {
        let counts = (0..self.shards.len()).map(|shard| self.lock(shard).heap.count());
        counts.fold(PageCounts::default(), PageCounts::plus)
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, Shard> {
        // Whoever panicked under the lock did so in a bug of this crate, and that is visible in the counts.
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
