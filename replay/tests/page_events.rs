//! How far predicted pages agree with scans, and what is known of touches.

mod trace;

use std::ops::Range;

use pagetrace_format::kernel_event::FaultAccess;
use pagetrace_format::records::{EndStatus, ProcessOrigin, Record};
use pagetrace_format::snapshot::PageFlags;
use pagetrace_format::{
    Address, FileId, KernelEventKind, PageCall, PageFault, PageShift, ProcessId, Snapshot, StackId, SystemCall, Trace,
    TraceNanos,
};
use pagetrace_replay::page_events::{Agreement, FaultCounts, TouchCause};
use pagetrace_replay::{Moment, PageEvents, predicted_anonymous_pages, replay, replay_objects};
use proptest::prelude::*;
use trace::{Builder, alloc, ended, free, process, replayed, snapshot, stack, stream};

const PAGE: u64 = 4096;
const MEMORY: u64 = 0x1000_0000;
const MEMORY_PAGES: u64 = 10_000;

fn call(call: PageCall, arguments: &[u64], result: u64) -> KernelEventKind {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    let (file, stack) = (FileId::NONE, StackId(0));
    KernelEventKind::Call(SystemCall { call, arguments: all, result: result as i64, file, stack })
}

fn memory() -> KernelEventKind {
    call(PageCall::Mmap, &[0, MEMORY_PAGES * PAGE, 3, 0x22, 0, 0], MEMORY)
}

fn touch(page: u64) -> KernelEventKind {
    touch_from(page, 0x7777, 0)
}

fn touch_from(page: u64, instruction: u64, stack: u32) -> KernelEventKind {
    let (address, instruction) = (Address(MEMORY + page * PAGE), Address(instruction));
    let (stack, access) = (StackId(stack), FaultAccess::Unknown);
    KernelEventKind::Fault(PageFault { address, instruction, stack, access, in_kernel: false })
}

fn drop_pages(page: u64, pages: u64) -> KernelEventKind {
    call(PageCall::Madvise, &[MEMORY + page * PAGE, pages * PAGE, 4], 0)
}

/// Resident pages of the memory: first page and number.
fn scan(time: u64, resident: &[(u64, u64)]) -> Snapshot {
    let runs: Vec<_> = resident.iter().map(|&(page, pages)| (MEMORY + page * PAGE, pages, 0)).collect();
    scan_of(time, &runs)
}

fn scan_of(time: u64, runs: &[(u64, u64, u8)]) -> Snapshot {
    let maps = [(MEMORY, MEMORY_PAGES * PAGE, "rw-p", ""), (0x7fff_0000, 2 * PAGE, "r-xp", "[vdso]")];
    snapshot(1, time, 1 << 20, &maps, runs)
}

fn page_events(events: &[(u64, KernelEventKind)], scans: &[Snapshot]) -> Option<PageEvents> {
    page_events_with(&[], events, scans)
}

fn page_events_with(records: &[Record], events: &[(u64, KernelEventKind)], scans: &[Snapshot]) -> Option<PageEvents> {
    let records = [&[process(1, ProcessOrigin::Command, None, 5), ended(1, 9000, EndStatus::Exited(0))], records];
    let builder = Builder::new(PageShift::KIB_4).records(&records.concat()).kernel_events(1, events);
    let bytes = scans.iter().fold(builder, Builder::snapshot).end(10_000);
    replayed(&bytes, Moment::End).processes.remove(0).page_events
}

/// Figures of events and scans.
fn check(events: &[(u64, KernelEventKind)], scans: &[Snapshot], residency: f64, change: Option<f64>) {
    let found = page_events(events, scans).and_then(|events| events.agreement).expect("there are scans");
    let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
    assert!(
        found.residency.is_some_and(|it| near(it, residency)),
        "residency: expected {residency}, found {:?}",
        found.residency
    );
    let changes_near = match (found.change, change) {
        (Some(found), Some(expected)) => near(found, expected),
        (found, expected) => found == expected,
    };
    assert!(changes_near, "change: expected {change:?}, found {:?}", found.change);
}

fn touches(time: u64, pages: impl Iterator<Item = u64>) -> Vec<(u64, KernelEventKind)> {
    pages.map(|page| (time, touch(page))).collect()
}

fn after_memory(events: &[Vec<(u64, KernelEventKind)>]) -> Vec<(u64, KernelEventKind)> {
    [vec![(10, memory())], events.concat()].concat()
}

#[test]
fn what_agrees_agrees_wholly() {
    let events = after_memory(&[touches(20, 0..1000), vec![(40, drop_pages(0, 500))], touches(50, 2000..2300)]);
    let scans = [scan(30, &[(0, 1000)]), scan(60, &[(500, 500), (2000, 300)])];
    check(&events, &scans, 1.0, Some(1.0));
    // Events of a snapshot's own time were before it.
    check(&events, &[scan(20, &[(0, 1000)])], 1.0, None);
    check(&[(10, memory())], &[scan(20, &[]), scan(30, &[])], 1.0, Some(1.0));
}

#[test]
fn lost_events_lower_both_figures() {
    let lossy = |from: u64| (from..from + 1000).filter(move |page| page % 100 != 7);
    let events = after_memory(&[touches(20, lossy(0)), touches(40, lossy(1000))]);
    check(&events, &[scan(30, &[(0, 1000)]), scan(50, &[(0, 2000)])], 0.99, Some(0.99));
}

#[test]
fn the_worst_snapshot_counts_and_no_scan_corrects() {
    let events = after_memory(&[touches(20, 0..900), touches(40, 900..1900)]);
    // The hundred pages that are missing at the first stay missing.
    let scans = [scan(30, &[(0, 900), (5000, 100)]), scan(50, &[(0, 1900), (5000, 100)])];
    check(&events, &scans, 0.9, Some(1.0));
}

#[test]
fn all_that_is_mapped_is_no_prediction_of_changes() {
    // Everything was resident for long; then other pages go than those of which events tell.
    let events = after_memory(&[touches(20, 0..10_000), vec![(40, drop_pages(0, 300))]]);
    check(&events, &[scan(30, &[(0, 10_000)]), scan(50, &[(0, 9700)])], 9400.0 / 10_000.0, Some(0.0));
}

#[test]
fn times_with_few_changes_count_with_the_next() {
    let events = after_memory(&[
        touches(20, 0..1000),
        touches(40, 1000..1010),
        touches(60, 2000..2290),
        touches(80, 3000..3001),
    ]);
    let scans = [
        scan(30, &[(0, 1000)]),
        scan(50, &[(0, 1000)]),
        scan(70, &[(0, 1010), (2000, 290)]),
        scan(90, &[(0, 1010), (2000, 290)]),
    ];
    // In the first time 10 are predicted and do not come; they come in the second, where none are predicted. The page of
    // the last time counts with the ones before.
    check(&events, &scans, 1000.0 / 1010.0, Some(290.0 / (10.0 + 300.0 + 1.0)));
}

#[test]
fn files_zeros_and_the_kernels_own_mappings_are_not_compared() {
    let runs = [
        (MEMORY, 10, 0),
        (MEMORY + 20 * PAGE, 5, PageFlags::FILE),
        (MEMORY + 40 * PAGE, 5, PageFlags::ZERO),
        (0x7fff_0000, 2, 0),
    ];
    check(&after_memory(&[touches(20, 0..10)]), &[scan_of(30, &runs)], 1.0, None);
}

#[test]
fn pages_that_scans_alone_know_are_counted_once() {
    let events = after_memory(&[touches(20, 0..10)]);
    let runs = |anonymous| [(MEMORY, anonymous, 0), (MEMORY + 200 * PAGE, 7, PageFlags::FILE)];
    let scans = [scan_of(30, &runs(13)), scan_of(40, &runs(14)), scan_of(50, &runs(14))];
    let Agreement { snapshots, scan_only_anonymous, scan_only_files, .. } =
        page_events(&events, &scans).unwrap().agreement.unwrap();
    assert_eq!((snapshots, scan_only_anonymous, scan_only_files), (3, 4, 7));
}

/// A call of which only the begin was seen.
fn begun(call_: PageCall, arguments: &[u64]) -> KernelEventKind {
    call(call_, arguments, SystemCall::RESULT_UNKNOWN as u64)
}

#[test]
fn calls_without_faults_predict_nothing_and_scans_are_told_apart() {
    let events = [
        (10, begun(PageCall::Mmap, &[0, MEMORY_PAGES * PAGE, 3, 0x22, 0, 0])),
        (20, begun(PageCall::Madvise, &[MEMORY, 5 * PAGE, 4])),
        (30, begun(PageCall::Mlock, &[MEMORY, 5 * PAGE])),
    ];
    let found = page_events(&events, &[scan(15, &[(0, 10)]), scan(40, &[(5, 8)])]).expect("there are events");
    let agreement = found.agreement.expect("there are scans");
    assert_eq!((agreement.snapshots, agreement.residency, agreement.change), (2, None, None));
    // Nobody is made up who touched them first.
    assert_eq!((agreement.scan_only_anonymous, found.first_touches.len(), found.faults.all()), (13, 0, 0));
    assert_eq!(found.calls, [("mmap", 1), ("madvise", 1), ("mlock", 1)]);
}

#[test]
fn calls_whose_results_are_not_known_do_what_their_arguments_say() {
    let check_after = |unknown: KernelEventKind, resident: &[(u64, u64)]| {
        let mut events = after_memory(&[touches(20, 0..100)]);
        events.push((200, unknown));
        check(&events, &[scan(300, resident)], 1.0, None);
    };
    let at = |page: u64| MEMORY + page * PAGE;
    check_after(begun(PageCall::Munmap, &[at(10), 20 * PAGE]), &[(0, 10), (30, 70)]);
    check_after(begun(PageCall::Madvise, &[at(10), 20 * PAGE, 4]), &[(0, 10), (30, 70)]);
    // MAP_FIXED drops what was there; without it the kernel chooses, and not what is mapped.
    check_after(begun(PageCall::Mmap, &[at(50), 50 * PAGE, 3, 0x32, 0, 0]), &[(0, 50)]);
    check_after(begun(PageCall::Mmap, &[at(50), 50 * PAGE, 3, 0x22, 0, 0]), &[(0, 100)]);
    // MREMAP_MAYMOVE | MREMAP_FIXED; shorter; longer, to wherever.
    check_after(begun(PageCall::Mremap, &[at(0), 10 * PAGE, 10 * PAGE, 3, at(200)]), &[(10, 90), (200, 10)]);
    check_after(begun(PageCall::Mremap, &[at(0), 100 * PAGE, 60 * PAGE, 1, 0]), &[(0, 60)]);
    check_after(begun(PageCall::Mremap, &[at(90), 10 * PAGE, 20 * PAGE, 1, 0]), &[(0, 100)]);
    // What would fill pages may not have.
    check_after(begun(PageCall::Mlock, &[at(100), 50 * PAGE]), &[(0, 100)]);
    check_after(begun(PageCall::Madvise, &[at(100), 50 * PAGE, 23]), &[(0, 100)]);
}

#[test]
fn without_page_events_there_are_no_figures() {
    assert_eq!(page_events(&[], &[scan(30, &[(0, 10)])]), None);
    let without_scans = page_events(&[(10, memory()), (20, touch(1))], &[]).unwrap();
    assert_eq!(without_scans.agreement, None);
    assert_eq!(without_scans.faults.all(), 1);
}

#[test]
fn touches_are_counted_by_what_is_known_of_them() {
    let filled = call(PageCall::Filled, &[MEMORY + 50 * PAGE, 3 * PAGE], 3 * PAGE);
    let events = [
        (10, memory()),
        (20, touch_from(0, 0x5555, 1)),
        (21, touch_from(1, 0x5555, 1)),
        (22, touch_from(2, 0x6666, 9)),
        (23, touch_from(3, 0x7777, 0)),
        (24, touch_from(4, 0x7777, 0)),
        (25, touch_from(5, 0, 0)),
        (26, filled),
        (27, touch_from(3, 0x8888, 0)),
        (28, drop_pages(4, 1)),
    ];
    // Of stack 9 the trace has no more than its number.
    let found = page_events_with(&stack(1, 1, 0x5550), &events, &[]).unwrap();
    assert_eq!(found.faults, FaultCounts { full: 2, cut: 1, instruction_only: 3, unknown: 1 });
    assert_eq!(found.calls, [("mmap", 1), ("madvise", 1), ("filled", 1)]);
    let touches: Vec<_> = found
        .first_touches
        .iter()
        .map(|it| (it.site.cause, it.pages, it.frames.iter().map(|frame| frame.address.0).collect::<Vec<_>>()))
        .collect();
    // An instruction is given as the return address behind it.
    let expected = [
        (TouchCause::Call(PageCall::Filled), 3, vec![]),
        (TouchCause::Fault, 2, vec![0x5550]),
        (TouchCause::Fault, 1, vec![]),
        (TouchCause::Fault, 1, vec![0x6667]),
        (TouchCause::Fault, 1, vec![0x7778]),
    ];
    assert_eq!(touches, expected);
}

/// What a process does, as small numbers: time, kind, page, and for forks the parent.
type Step = (u64, u8, u64, u32);

fn step(&(time, kind, page, parent): &Step) -> (u64, KernelEventKind) {
    let kind = match kind {
        0 => KernelEventKind::Fork { parent: ProcessId(parent) },
        1 => KernelEventKind::Exec { arguments: None, table: None },
        2 => memory(),
        3 => drop_pages(page, 7),
        4 => call(PageCall::Munmap, &[MEMORY + page * PAGE, 3 * PAGE], 0),
        5 => call(PageCall::Mremap, &[MEMORY + page * PAGE, 9 * PAGE, 20 * PAGE, 1], MEMORY + 50 * page * PAGE),
        _ => touch(page),
    };
    (time, kind)
}

proptest! {
    #[test]
    fn any_processes_are_replayed(
        streams in prop::collection::vec(prop::collection::vec((0_u64..100, 0_u8..12, 0_u64..100, 0_u32..5), 1..40), 1..5),
        scans in prop::collection::vec((0_u64..100, 0_u64..50, 1_u64..50), 0..6),
        unordered: bool,
    ) {
        let mut builder = Builder::new(PageShift::KIB_4).records(&[process(0, ProcessOrigin::Command, None, 5)]);
        for (id, mut steps) in (0..).zip(streams) {
            if !unordered {
                steps.sort_unstable();
            }
            let events: Vec<_> = steps.iter().map(step).collect();
            for part in events.chunks(7) {
                builder = builder.kernel_events(id, part);
            }
        }
        let scans = scans.iter().map(|&(time, page, pages)| scan(time, &[(page, pages)]));
        let bytes = scans.fold(builder, |builder, scan| builder.snapshot(&scan)).end(200);
        for moment in [Moment::Peak, Moment::End] {
            for events in replayed(&bytes, moment).processes.iter().filter_map(|process| process.page_events.as_ref()) {
                let figures = events.agreement.map(|it| [it.residency, it.change]).unwrap_or_default();
                prop_assert!(figures.into_iter().flatten().all(|it| (0.0..=1.0).contains(&it)), "{figures:?}");
            }
        }
        let trace = Trace::open(&bytes).unwrap();
        let wanted: Vec<_> = (0..5).map(|id| (ProcessId(id), TraceNanos(200))).collect();
        let predicted = predicted_anonymous_pages(&trace, &wanted).unwrap();
        let ascending = |pages: &Vec<Range<u64>>| pages.windows(2).all(|pair| pair[0].end < pair[1].start);
        prop_assert!(predicted.iter().all(ascending));
    }
}

#[test]
fn damage_costs_its_chunk() {
    let first = [(10, memory()), (11, touch(1))];
    let second: Vec<_> = touches(20, 100..5000);
    let bytes = Builder::new(PageShift::KIB_4)
        .records(&[process(1, ProcessOrigin::Command, None, 5)])
        .kernel_events(1, &first)
        .kernel_events(1, &second)
        .kernel_events(1, &[(30, touch(9000))])
        .end(10_000);
    let offset = Trace::open(&bytes).unwrap().chunks()[2].payload_offset;
    let mut bytes = bytes;
    bytes[offset + 9] ^= 0xff;
    let found = replay(&Trace::open(&bytes).unwrap(), Moment::End, &mut |_| {}).unwrap();
    assert_eq!(found.defects.iter().map(|defect| defect.events_lost).collect::<Vec<_>>(), [4900]);
    let events = found.processes[0].page_events.as_ref().unwrap();
    assert_eq!(events.first_touches.iter().map(|touch| touch.pages).sum::<u64>(), 2);
}

#[test]
fn first_touches_are_those_of_the_shown_moment() {
    let events = after_memory(&[touches(20, 0..10), touches(40, 10..30), vec![(60, drop_pages(0, 25))]]);
    let bytes = Builder::new(PageShift::KIB_4)
        .records(&[process(1, ProcessOrigin::Command, None, 5)])
        .kernel_events(1, &events)
        .end(100);
    let pages = |at: u64| {
        let at = Moment::At(TraceNanos(at));
        let process = replayed(&bytes, at).processes.remove(0);
        process.page_events.unwrap().first_touches.iter().map(|touch| touch.pages).sum::<u64>()
    };
    assert_eq!([30, 45, 90].map(pages), [10, 30, 5]);
}

#[test]
fn a_replay_of_objects_alone_differs_in_what_the_kernel_told_alone() {
    let events = after_memory(&[touches(20, 0..100), vec![(40, drop_pages(0, 50))], touches(60, 200..300)]);
    let objects = [alloc(22, MEMORY + 16, 5000, 1), alloc(23, MEMORY + 9000, 100, 1), free(45, MEMORY + 16)];
    let bytes = Builder::new(PageShift::KIB_4)
        .records(&[process(1, ProcessOrigin::Command, None, 5), stream(7, 1, None)])
        .records(&stack(1, 1, 0x8888))
        .kernel_events(1, &events)
        .objects(7, &objects)
        .snapshot(&scan(30, &[(0, 100)]))
        .snapshot(&scan(70, &[(50, 50), (200, 100)]))
        .records(&[ended(1, 9000, EndStatus::Exited(0))])
        .end(10_000);
    let trace = Trace::open(&bytes).expect("the header is whole");
    for at in [Moment::Peak, Moment::End, Moment::At(TraceNanos(40))] {
        let mut whole = replay(&trace, at, &mut |_| {}).expect("there is a process");
        let of_objects = replay_objects(&trace, at, &mut |_| {}).expect("there is a process");
        let told = whole.processes[0].page_events.take().expect("the kernel told something");
        assert!(told.agreement.is_some() && told.faults.all() > 0);
        assert!(whole.processes[0].objects.is_some_and(|objects| objects.allocated == 2 && objects.freed == 1));
        let shown = |replayed: &pagetrace_replay::Replayed| {
            format!("{:?} {:?} {:?}", replayed.processes, replayed.moment, replayed.events)
        };
        assert_eq!(shown(&of_objects), shown(&whole), "{at:?}");
    }
}
