//! Where glibc keeps its chunks: the heap of the main arena, the heaps of other arenas, and blocks mapped one by one.
//!
//! A heap of another arena starts at a multiple of 64 MiB with its administration (malloc/arena.c, `HEAP_MAX_SIZE`).
//! The usable size of an object tells chunks of heaps from mapped blocks (malloc/malloc.c, `chunksize`). So the bounds of all
//! of them are known, also where the kernel shows them as one mapping with memory of others.

use std::ops::Range;

use pagetrace_format::PageShift;
use pagetrace_format::snapshot::{Mapping, Permissions};

use crate::analyses::owners::{is_anonymous, pages_of};
use crate::intervals::Intervals;
use crate::process_state::ProcessState;
use crate::results::{AllocatorState, HeapKind, HeapState};

/// Length and alignment of heaps of other arenas.
const ARENA_HEAP_BYTES: u64 = 64 << 20;
/// Heaps that are reported one by one, the largest ones; sums are over all.
const REPORTED: usize = 32;

/// The heaps of one process, in order of address.
#[derive(Debug, Default)]
pub(crate) struct GlibcHeaps {
    heaps: Vec<Heap>,
    mapped_blocks_bytes: u64,
}

/// A range that chunks are cut from.
#[derive(Debug)]
struct Heap {
    kind: HeapKind,
    pages: Range<u64>,
    /// One past the last page that ever held an object: what lies behind it is of the top chunk.
    held_until: u64,
    /// One past the last page with a byte of a live chunk.
    live_until: u64,
    live_chunk_bytes: u64,
    resident_bytes: u64,
    free_resident_pages: u64,
    trimmable_pages: u64,
    top_resident_pages: u64,
}

impl GlibcHeaps {
    /// Finds the heaps among `mappings`, by the chunks that `state` knows of.
    pub(crate) fn find(mappings: &[Mapping], state: &ProcessState, held: &Intervals) -> GlibcHeaps {
        if !state.is_glibc() {
            return GlibcHeaps::default();
        }
        let shift = state.pages.shift();
        let chunk_pages = state.pages.ever_held_chunks();
        let mut heaps = Vec::new();
        for mapping in mappings.iter().filter(|it| it.permissions.has(Permissions::WRITE)) {
            let pages = pages_of(mapping, shift);
            if mapping.path == "[heap]" {
                heaps.push(Heap::new(HeapKind::Main, pages, held));
            } else if is_anonymous(mapping) && chunk_pages.intersects(pages.clone()) {
                heaps_in(pages, shift, &chunk_pages, |kind, pages| heaps.push(Heap::new(kind, pages, held)));
            }
        }
        if state.pages.has_unknown() {
            // Objects that nobody knows of may be anywhere, also in what was a top chunk.
            heaps.iter_mut().for_each(|heap| heap.held_until = heap.pages.end);
        }
        let mut found = GlibcHeaps { heaps, mapped_blocks_bytes: 0 };
        found.add_live(state, shift);
        found
    }

    /// The place of the heap that a page is in.
    pub(crate) fn heap_of(&self, page: u64) -> Option<usize> {
        let place = self.heaps.partition_point(|heap| heap.pages.end <= page);
        (place < self.heaps.len() && self.heaps[place].pages.start <= page).then_some(place)
    }

    /// Whether the page begins a heap of another arena, and so holds its administration.
    pub(crate) fn is_administration(&self, heap: usize, page: u64) -> bool {
        let heap = &self.heaps[heap];
        heap.kind == HeapKind::Arena && heap.pages.start == page
    }

    /// Whether the page is of the top chunk and never held an object.
    pub(crate) fn is_untouched_top(&self, heap: usize, page: u64) -> bool {
        self.heaps[heap].held_until <= page
    }

    /// A resident page of a heap; `free` if no byte of it is of a live chunk or of administration.
    pub(crate) fn add_resident(&mut self, heap: usize, page: u64, page_bytes: u64, free: bool) {
        let heap = &mut self.heaps[heap];
        heap.resident_bytes += page_bytes;
        if free {
            heap.free_resident_pages += 1;
            heap.top_resident_pages += u64::from(page >= heap.live_until);
            // malloc_trim gives back whole free pages anywhere, and of the tops that of the main arena alone.
            if heap.kind != HeapKind::Arena || page < heap.live_until {
                heap.trimmable_pages += 1;
            }
        }
    }

    /// What is reported of them.
    pub(crate) fn finish(self, page_bytes: u64) -> AllocatorState {
        let mut heaps: Vec<HeapState> = self.heaps.iter().map(|heap| heap.state(page_bytes)).collect();
        let sum = |of: fn(&HeapState) -> u64| heaps.iter().map(of).fold(0, u64::saturating_add);
        let state = AllocatorState {
            live_chunk_bytes: sum(|heap| heap.live_chunk_bytes).saturating_add(self.mapped_blocks_bytes),
            free_heap_bytes: sum(|heap| heap.free_bytes),
            free_resident_bytes: sum(|heap| heap.free_resident_bytes),
            trimmable_bytes: sum(|heap| heap.trimmable_bytes),
            top_resident_bytes: self.heaps.iter().map(|heap| heap.top_resident_pages * page_bytes).sum(),
            mapped_block_bytes: self.mapped_blocks_bytes,
            arena_heaps: self.heaps.iter().filter(|heap| heap.kind == HeapKind::Arena).count() as u64,
            heaps: Vec::new(),
        };
        heaps.sort_by_key(|heap| (std::cmp::Reverse(heap.resident_bytes), heap.addresses.start));
        heaps.truncate(REPORTED);
        AllocatorState { heaps, ..state }
    }

    fn add_live(&mut self, state: &ProcessState, shift: PageShift) {
        for (address, object) in state.objects.live() {
            let header = state.header_bytes(object.usable).unwrap_or(0);
            let chunk = object.usable.saturating_add(header);
            match self.heap_of(address.0 >> shift.get()).filter(|_| header == 8) {
                Some(heap) => {
                    let heap = &mut self.heaps[heap];
                    heap.live_chunk_bytes = heap.live_chunk_bytes.saturating_add(chunk);
                    let end = address.0.saturating_add(object.usable).div_ceil(shift.bytes());
                    heap.live_until = heap.live_until.max(end);
                }
                None => self.mapped_blocks_bytes = self.mapped_blocks_bytes.saturating_add(chunk),
            }
        }
    }
}

/// The heaps of other arenas in a mapping that holds chunks. Chunks elsewhere are of a main arena that may not grow its heap
/// by brk: then the mapping is its memory.
fn heaps_in(pages: Range<u64>, shift: PageShift, chunks: &Intervals, mut found: impl FnMut(HeapKind, Range<u64>)) {
    let heap_pages = ARENA_HEAP_BYTES >> shift.get();
    if heap_pages == 0 {
        return found(HeapKind::Mapped, pages);
    }
    let first = pages.start.next_multiple_of(heap_pages);
    if chunks.intersects(pages.start..first.min(pages.end)) {
        found(HeapKind::Mapped, pages.start..first.min(pages.end));
    }
    // By the chunks, not by the windows: a forged mapping could have too many of these.
    let mut from = first;
    while let Some(chunk) = chunks.first_from(from).filter(|&chunk| chunk < pages.end) {
        let start = chunk / heap_pages * heap_pages;
        from = start + heap_pages;
        found(HeapKind::Arena, start..from.min(pages.end));
    }
}

impl Heap {
    fn new(kind: HeapKind, pages: Range<u64>, held: &Intervals) -> Heap {
        Heap {
            kind,
            // Without any object nothing says whose it is.
            held_until: held
                .last_before(pages.end)
                .filter(|last| pages.contains(last))
                .map_or(pages.end, |last| last + 1),
            live_until: pages.start,
            pages,
            live_chunk_bytes: 0,
            resident_bytes: 0,
            free_resident_pages: 0,
            trimmable_pages: 0,
            top_resident_pages: 0,
        }
    }

    fn state(&self, page_bytes: u64) -> HeapState {
        let bytes = |pages: u64| pages.saturating_mul(page_bytes);
        let length = bytes(self.pages.end - self.pages.start);
        HeapState {
            kind: self.kind,
            addresses: pagetrace_format::Address(bytes(self.pages.start))
                ..pagetrace_format::Address(bytes(self.pages.end)),
            resident_bytes: self.resident_bytes,
            live_chunk_bytes: self.live_chunk_bytes,
            free_bytes: length.saturating_sub(self.live_chunk_bytes),
            free_resident_bytes: bytes(self.free_resident_pages),
            trimmable_bytes: bytes(self.trimmable_pages),
        }
    }
}
