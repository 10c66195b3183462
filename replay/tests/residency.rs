//! RSS in classes: which page goes where, and that they always sum to the kernel's figure.

mod trace;

use pagetrace_format::records::{ProcessOrigin, Record, TracerMemory};
use pagetrace_format::{Address, Event, PageShift, ProcessId};
use pagetrace_replay::results::{Explanation, Site};
use pagetrace_replay::{Moment, RssClasses};

use trace::*;

const HEAP: u64 = 0x5555_0000_0000;
// Not at a multiple of 64 MiB, where glibc's heaps of other arenas start.
const ANON: u64 = 0x7eee_0100_0000;
const ARENA: u64 = 0x7e00_0000_0000;
const STACK: u64 = 0x7fff_0000_0000;
const PAGE: u64 = 4096;

/// Events before a snapshot of these mappings and resident pages, and the classes of it that are not zero.
fn check(
    events: &[Event],
    maps: &[Map],
    resident: &[(u64, u64, u8)],
    rss: u64,
    classes: &[(&str, i64)],
) -> Explanation {
    explained(events, maps, resident, rss, classes).0
}

fn explained(
    events: &[Event],
    maps: &[Map],
    resident: &[(u64, u64, u8)],
    rss: u64,
    classes: &[(&str, i64)],
) -> (Explanation, Vec<Site>) {
    let tracer =
        TracerMemory { process: ProcessId(0), start: Address(ANON + 0x10_0000), end: Address(ANON + 0x10_2000) };
    let bytes = Builder::new(PageShift::KIB_4)
        .records(&[
            process(0, ProcessOrigin::Command, None, 1),
            stream(1, 0, Some((ANON + 0x20_0000, ANON + 0x20_4000))),
        ])
        .records(&[Record::TracerMemory(tracer), libc_module(0)])
        .events(1, events)
        .snapshot(&snapshot(0, 1000, rss, maps, resident))
        .end(2000);
    let process = replayed(&bytes, Moment::Peak).processes.remove(0);
    let explanation = process.rss.unwrap().explanation.unwrap();
    let found: Vec<(&str, i64)> = explanation.classes.named().into_iter().filter(|(_, bytes)| *bytes != 0).collect();
    assert_eq!(found, classes);
    assert_eq!(explanation.classes.sum(), rss as i64);
    (explanation, process.sites)
}

#[test]
fn heap_pages_are_live_slack_pinned_retained_or_unexplained() {
    let (object, sparse, gone) = (HEAP + 16, HEAP + PAGE + 16, HEAP + 3 * PAGE + 16);
    let events = [alloc(10, object, 2008, 1), alloc(11, sparse, 104, 2), alloc(12, gone, 24, 3), free(13, gone)];
    let (explanation, sites) = explained(
        &events,
        &[(HEAP, 8 * PAGE, "rw-p", "[heap]")],
        &[(HEAP, 4, 0)],
        4 * PAGE,
        &[
            ("live_objects", 2008 + 104),
            ("slack", (PAGE - 2008 - 8) as i64),
            ("pinned", (PAGE - 104 - 8) as i64),
            ("retained", PAGE as i64),
            ("metadata", 16),
            ("unexplained", PAGE as i64),
        ],
    );
    assert_eq!(explanation.sparse_pages, 1);
    assert_eq!(explanation.allocator_bytes, 4 * PAGE);
    assert_eq!(explanation.explained_fraction(), Some(0.75));
    assert_eq!(explanation.allocator_explained_fraction(), Some(0.75));
    assert_eq!(explanation.retained_ranges[0].addresses.start, Address(HEAP + 3 * PAGE));
    let pinned: Vec<_> = sites.iter().map(|site| (site.id.stack.0, site.live_bytes, site.pinned_bytes)).collect();
    assert_eq!(pinned, [(1, 2008, 0), (2, 104, PAGE - 112), (3, 0, 0)]);
}

#[test]
fn pinned_bytes_are_shared_by_live_bytes() {
    let events = [alloc(10, HEAP + 16, 600, 1), alloc(11, HEAP + 800, 200, 2)];
    let maps = [(HEAP, 8 * PAGE, "rw-p", "[heap]")];
    let rest = PAGE as i64 - 800 - 16;
    let classes = [("live_objects", 800), ("pinned", rest), ("metadata", 16)];
    let (_, sites) = explained(&events, &maps, &[(HEAP, 1, 0)], PAGE, &classes);
    let share = |live: u64| (rest as f64 * live as f64 / 800.0).round() as u64;
    assert_eq!(sites.iter().map(|site| site.pinned_bytes).collect::<Vec<_>>(), [share(600), share(200)]);
}

#[test]
fn only_resident_parts_of_objects_count() {
    // 64 pages in a mapping of its own, as glibc does from 128 KiB: 16 bytes of header, half of it touched.
    let big = [alloc_usable(10, ANON + 16, 64 * PAGE - 16)];
    let live = (32 * PAGE - 16) as i64;
    let explanation = check(
        &big,
        &[(ANON, 64 * PAGE, "rw-p", "")],
        &[(ANON, 32, 0)],
        32 * PAGE,
        &[("live_objects", live), ("metadata", 16)],
    );
    assert_eq!(explanation.allocator_explained_fraction(), Some(1.0));
}

#[test]
fn large_objects_leave_retained_pages_while_mapped() {
    let events = [alloc(10, ANON + 16, 100 * PAGE, 1), free(11, ANON + 16)];
    let maps = [(ANON, 128 * PAGE, "rw-p", "")];
    // Behind it is the top of the heap.
    let rest = [("retained", 128 * PAGE as i64)];
    let explanation = check(&events, &maps, &[(ANON, 128, 0)], 128 * PAGE, &rest);
    assert_eq!(explanation.retained_ranges.len(), 1);
    assert_eq!(explanation.retained_ranges[0].bytes(), 128 * PAGE);
}

/// glibc maps a large object by itself and unmaps it when it is freed. The kernel shows such a block and memory that others
/// mapped right beside it as one mapping.
#[test]
fn memory_beside_mapped_blocks_is_not_the_allocators() {
    let maps = [(ANON, 128 * PAGE, "rw-p", "")];
    let block = alloc_usable(10, ANON + 16 * PAGE + 16, 64 * PAGE - 16);
    let classes = [("live_objects", 64 * PAGE as i64 - 16), ("metadata", 16), ("other_anonymous", 64 * PAGE as i64)];
    let explanation = check(&[block], &maps, &[(ANON, 128, 0)], 128 * PAGE, &classes);
    let heaps = explanation.heaps.unwrap();
    assert_eq!((heaps.mapped_block_bytes, heaps.live_chunk_bytes), (64 * PAGE, 64 * PAGE));
    // What is there after it is gone was mapped by somebody else.
    let freed = [block, free(11, ANON + 16 * PAGE + 16)];
    check(&freed, &maps, &[(ANON, 128, 0)], 128 * PAGE, &[("other_anonymous", 128 * PAGE as i64)]);
}

/// What malloc_trim returns: whole free pages inside of heaps, and the top of the main heap alone.
#[test]
fn heaps_and_what_trimming_gives_back() {
    let arena = |page: u64| ARENA + page * PAGE + 16;
    let heap = |page: u64| HEAP + page * PAGE + 16;
    let events = [
        alloc(10, heap(0), 104, 1),
        alloc(11, heap(2), 5 * PAGE, 1),
        alloc(12, heap(8), 104, 1),
        free(13, heap(2)),
        alloc(14, ARENA + 0x900, 104, 2),
        alloc(15, arena(3), 104, 2),
        alloc(16, arena(5), 5 * PAGE, 2),
        free(17, arena(5)),
    ];
    let maps =
        [(HEAP, 16 * PAGE, "rw-p", "[heap]"), (ARENA, 33 * PAGE, "rw-p", ""), (ARENA + 33 * PAGE, PAGE, "---p", "")];
    let resident = [(HEAP, 12, 0), (ARENA, 12, 0)];
    let classes = [
        ("live_objects", 4 * 104),
        ("pinned", 3 * (PAGE as i64 - 112)),
        ("retained", 16 * PAGE as i64),
        ("metadata", PAGE as i64 - 104 + 3 * 8),
        ("unexplained", 4 * PAGE as i64),
    ];
    let heaps = check(&events, &maps, &resident, 24 * PAGE, &classes).heaps.unwrap();
    assert_eq!((heaps.live_chunk_bytes, heaps.arena_heaps, heaps.mapped_block_bytes), (4 * 112, 1, 0));
    assert_eq!(heaps.free_heap_bytes, (16 + 33) * PAGE - 4 * 112);
    assert_eq!(heaps.free_resident_bytes, 20 * PAGE);
    // All ten of the main heap, and of the arena those in front of its last object.
    assert_eq!(heaps.trimmable_bytes, (10 + 2) * PAGE);
    assert_eq!(heaps.top_resident_bytes, (3 + 8) * PAGE);
    assert_eq!(heaps.heaps.len(), 2);
}

/// Of an allocator that is not glibc's every object is seen too: pages that never held one are its own structures, as far
/// as that can be.
#[test]
fn pages_without_objects_are_structures_of_other_allocators_up_to_a_share() {
    let check = |pages: u64, structures: u64| {
        let jemalloc = (LIBC + 0x10_0000, 0x10000, "r-xp", "/usr/lib/libjemalloc.so.2");
        let maps = [(ANON, 0x1000_0000, "rw-p", ""), jemalloc];
        let bytes = Builder::new(PageShift::KIB_4)
            .records(&[process_with_malloc(0, LIBC + 0x10_1000), stream(1, 0, None)])
            .events(1, &[alloc_usable(10, ANON, 32_000 * PAGE)])
            .snapshot(&snapshot(0, 20, (32_000 + pages) * PAGE, &maps, &[(ANON, 32_000 + pages, 0)]))
            .end(40);
        let explanation = replayed(&bytes, Moment::End).processes.remove(0).rss.unwrap().explanation.unwrap();
        let classes = explanation.classes;
        assert_eq!((classes.live_objects, classes.metadata), (32_000 * PAGE as i64, (structures * PAGE) as i64));
        assert_eq!(classes.unexplained, ((pages - structures) * PAGE) as i64);
        assert_eq!(explanation.allocator_unexplained_bytes, (pages - structures) * PAGE);
        assert!(explanation.heaps.is_none());
    };
    check(100, 100);
    check(4000, 4000);
    check(5000, 4000);
}

#[test]
fn heaps_of_other_arenas_start_with_metadata() {
    let events = [alloc(10, ARENA + 0x900, 24, 1)];
    let maps = [(ARENA, 33 * PAGE, "rw-p", "")];
    let classes = [("live_objects", 24), ("retained", PAGE as i64), ("metadata", PAGE as i64 - 24)];
    check(&events, &maps, &[(ARENA, 2, 0)], 2 * PAGE, &classes);
}

#[test]
fn owners_of_mappings() {
    let page = PAGE as i64;
    let maps = [
        (0x40_0000, PAGE, "r-xp", "/bin/program"),
        (0x40_1000, PAGE, "rw-p", "/bin/program"),
        (0x40_2000, PAGE, "rw-p", ""),
        (0x60_0000, PAGE, "r--p", "/usr/share/table"),
        (0x70_0000, PAGE, "rw-s", "/dev/shm/queue"),
        (ANON, 16 * PAGE, "rw-p", ""),
        (ANON + 0x10_0000, 2 * PAGE, "rw-p", ""),
        (ANON + 0x20_0000, 4 * PAGE, "rw-p", ""),
        (STACK, 4 * PAGE, "rw-p", "[stack]"),
        (STACK + 0x10_0000, PAGE, "r--p", "[vvar]"),
        (STACK + 0x20_0000, PAGE, "r-xp", "[vdso]"),
    ];
    let resident: Vec<(u64, u64, u8)> = maps.iter().map(|map| (map.0, map.1 / PAGE, 0)).collect();
    let classes = [
        ("thread_stacks", 8 * page),
        ("other_anonymous", 16 * page),
        ("file_text", 2 * page),
        ("file_data", 2 * page),
        ("file_mapped", page),
        ("shared_memory", page),
        ("tracer", 2 * page),
    ];
    let explanation = check(&[], &maps, &resident, 32 * PAGE, &classes);
    assert_eq!(explanation.other_anonymous[0].resident_bytes, 16 * PAGE);
    assert_eq!(explanation.allocator_explained_fraction(), None);
}

#[test]
fn swapped_pages_and_pages_of_zeros_are_in_no_class() {
    let heap = [(HEAP, 8 * PAGE, "rw-p", "[heap]")];
    let zero = pagetrace_format::snapshot::PageFlags::ZERO;
    check(&[], &heap, &[(HEAP, 2, 0), (HEAP + 2 * PAGE, 4, zero)], 2 * PAGE, &[("unexplained", 2 * PAGE as i64)]);
}

/// A page held an object, was unmapped, and then mapped again for something else.
#[test]
fn what_was_unmapped_is_forgotten() {
    let bytes = Builder::new(PageShift::KIB_4)
        .records(&[process(0, ProcessOrigin::Command, None, 1), stream(1, 0, None)])
        .events(
            1,
            &[
                alloc(10, ANON + 16, 200 * PAGE, 1),
                alloc(11, ANON - PAGE, 24, 1),
                free(12, ANON + 16),
                free(13, ANON - PAGE),
            ],
        )
        .snapshot(&snapshot(0, 20, PAGE, &[], &[]))
        .snapshot(&snapshot(0, 30, 9 * PAGE, &[(ANON - PAGE, 256 * PAGE, "rw-p", "")], &[(ANON - PAGE, 9, 0)]))
        .end(40);
    let classes = replayed(&bytes, Moment::End).processes.remove(0).rss.unwrap().explanation.unwrap().classes;
    assert_eq!(classes, RssClasses { other_anonymous: 9 * PAGE as i64, ..RssClasses::default() });
}

/// The scan saw more than the kernel's figure has, as happens to a process that was not stopped.
#[test]
fn too_much_seen_is_negative_and_not_explained() {
    let explanation = check(
        &[],
        &[(ANON, 16 * PAGE, "rw-p", "")],
        &[(ANON, 4, 0)],
        2 * PAGE,
        &[("other_anonymous", 4 * PAGE as i64), ("unexplained", -2 * (PAGE as i64))],
    );
    assert_eq!(explanation.explained_fraction(), Some(0.0));
}

/// Figures that no kernel gives are survived, and quickly.
#[test]
fn forged_figures_and_runs() {
    let (heap, anon) = (1 << 50, 1 << 61);
    let maps = [(heap, 1 << 59, "rw-p", "[heap]"), (anon, 1 << 50, "rw-p", "")];
    let runs = [(heap, 1 << 46, 0), (anon, 1 << 20, 0)];
    let (most, anonymous) = (i64::MAX as u64, 1 << 32);
    let unexplained = most as i64 - anonymous;
    let classes = [("other_anonymous", anonymous), ("unexplained", unexplained)];
    check(&[], &maps, &runs, most, &classes);
}

fn alloc_usable(time: u64, address: u64, usable: u64) -> Event {
    let mut event = alloc(time, address, usable, 1);
    if let pagetrace_format::EventKind::ObjectAlloc(object) = &mut event.kind {
        object.usable = usable;
    }
    event
}
