//! What a replay found of the allocator, for a report.

use pagetrace_replay::results::{AllocatorKind, Explanation, HeapKind, HeapState};

use super::report_model::{Allocator, Heap};

/// The allocator's part of an explanation; all unknown without one.
pub fn allocator_of(explanation: Option<&Explanation>) -> Allocator {
    let heaps = explanation.and_then(|it| it.heaps.as_ref());
    Allocator {
        kind: explanation.and_then(|it| it.allocator).map(kind_name),
        live_chunk_bytes: heaps.map(|it| it.live_chunk_bytes),
        free_heap_bytes: heaps.map(|it| it.free_heap_bytes),
        free_resident_bytes: heaps.map(|it| it.free_resident_bytes),
        trimmable_bytes: heaps.map(|it| it.trimmable_bytes),
        top_resident_bytes: heaps.map(|it| it.top_resident_bytes),
        mapped_block_bytes: heaps.map(|it| it.mapped_block_bytes),
        arena_heaps: heaps.map(|it| it.arena_heaps),
        arenas: heaps.map_or_else(Vec::new, |it| it.heaps.iter().map(heap_of).collect()),
    }
}

fn kind_name(kind: AllocatorKind) -> &'static str {
    match kind {
        AllocatorKind::Glibc => "glibc",
        AllocatorKind::Jemalloc => "jemalloc",
        AllocatorKind::Mimalloc => "mimalloc",
        AllocatorKind::Tcmalloc => "tcmalloc",
        AllocatorKind::Other => "other",
        AllocatorKind::InProgram => "in_program",
    }
}

fn heap_of(heap: &HeapState) -> Heap {
    Heap {
        kind: match heap.kind {
            HeapKind::Main => "main heap",
            HeapKind::Arena => "arena heap",
            HeapKind::Mapped => "mapped heap",
        },
        start: format!("{:#x}", heap.addresses.start.0),
        bytes: heap.addresses.end.0 - heap.addresses.start.0,
        resident_bytes: heap.resident_bytes,
        live_chunk_bytes: heap.live_chunk_bytes,
        free_bytes: heap.free_bytes,
        free_resident_bytes: heap.free_resident_bytes,
        trimmable_bytes: heap.trimmable_bytes,
    }
}
