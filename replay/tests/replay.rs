//! Small traces through the whole replay: merging, forks, execs, moments, losses, damage.

mod trace;

use pagetrace_format::records::{EndStatus, Loss, LossReason, Module, ProcessOrigin, Record};
use pagetrace_format::{
    Address, Event, EventKind, PageCount, PageRun, PageShift, ProcessId, StackId, Trace, TraceNanos,
};
use pagetrace_replay::results::{DefectKind, LostEvents, MomentRule};
use pagetrace_replay::{Moment, ReplayError, Replayed, Timeline, replay};

use trace::*;

const A: u64 = 0x5555_0000_0010;
const B: u64 = 0x5555_0000_2010;

/// The merged order of the events of a trace: stream slot and time.
fn check_order(bytes: &[u8], expected: &[(usize, u64)]) {
    let trace = Trace::open(bytes).unwrap();
    let mut timeline = Timeline::new(&trace);
    let order: Vec<_> = std::iter::from_fn(|| timeline.next()).map(|(slot, event)| (slot, event.time.0)).collect();
    assert_eq!(order, expected);
}

/// Live objects of each process at a moment.
fn check_live(bytes: &[u8], at: Moment, expected: &[u64]) -> Replayed {
    let all = replayed(bytes, at);
    let live: Vec<u64> = all.processes.iter().map(|it| it.objects.map_or(0, |objects| objects.live)).collect();
    assert_eq!(live, expected, "{at:?}");
    all
}

fn at(times: &[u64]) -> Vec<Event> {
    times.iter().map(|&time| free(time, A)).collect()
}

#[test]
fn streams_are_merged_by_time_then_by_place_in_the_file() {
    let builder = Builder::new(PageShift::KIB_4).events(7, &at(&[10, 20, 30])).events(3, &at(&[10, 20, 25, 40]));
    let bytes = builder.events(7, &at(&[40, 41])).events(9, &at(&[5])).cut();
    check_order(&bytes, &[(2, 5), (0, 10), (1, 10), (0, 20), (1, 20), (1, 25), (0, 30), (1, 40), (0, 40), (0, 41)]);
}

#[test]
fn a_stream_whose_times_go_back_keeps_its_order() {
    let builder = Builder::new(PageShift::KIB_4).events(1, &at(&[30, 10, 50])).events(1, &at(&[20, 60]));
    let bytes = builder.events(2, &at(&[15, 35, 55])).cut();
    check_order(&bytes, &[(1, 15), (0, 30), (0, 10), (1, 35), (0, 50), (0, 20), (1, 55), (0, 60)]);
}

#[test]
fn empty_and_single_streams() {
    check_order(&Builder::new(PageShift::KIB_4).cut(), &[]);
    check_order(&Builder::new(PageShift::KIB_4).events(1, &at(&[1, 1, 1])).cut(), &[(0, 1), (0, 1), (0, 1)]);
}

fn forked() -> Vec<u8> {
    Builder::new(PageShift::KIB_4)
        .records(&[process(1, ProcessOrigin::Command, None, 1), stream(1, 1, None)])
        .records(&stack(1, 5, LIBC + 0x20))
        .records(&[process(2, ProcessOrigin::Fork, Some(1), 20), stream(2, 2, None)])
        .records(&stack(2, 5, LIBC + 0x40))
        .events(1, &[alloc(10, A, 100, 5), alloc(30, B, 100, 5), free(40, A)])
        .events(2, &[free(25, A), alloc(26, B, 300, 5), free(27, 0xdead), alloc(28, B, 50, 5)])
        .records(&[ended(2, 50, EndStatus::Exited(0)), ended(1, 60, EndStatus::Exited(3))])
        .end(70)
}

#[test]
fn a_fork_copies_the_objects_of_its_time() {
    check_live(&forked(), Moment::At(TraceNanos(9)), &[1, 0]);
    check_live(&forked(), Moment::At(TraceNanos(23)), &[1, 1]);
    check_live(&forked(), Moment::At(TraceNanos(25)), &[1, 1]);
    let all = check_live(&forked(), Moment::End, &[1, 1]);
    let child = all.processes[1].objects.unwrap();
    assert_eq!((child.inherited, child.allocated, child.freed, child.unknown_frees, child.replaced), (1, 2, 1, 1, 1));
    assert_eq!(child.live_bytes, 50);
    assert_eq!(all.processes[0].status(), EndStatus::Exited(3));
}

#[test]
fn inherited_objects_keep_the_sites_of_the_parent() {
    let all = replayed(&forked(), Moment::At(TraceNanos(23)));
    let site = all.processes[1].sites.iter().find(|site| site.live == 1).unwrap();
    assert_eq!((site.id.process, site.id.stack), (ProcessId(1), StackId(5)));
    assert_eq!(site.frames[0].address, Address(LIBC + 0x20));
}

#[test]
fn an_exec_starts_empty() {
    let bytes = Builder::new(PageShift::KIB_4)
        .records(&[process(1, ProcessOrigin::Command, None, 1), stream(1, 1, None)])
        .events(1, &[alloc(10, A, 100, 5)])
        .records(&[ended(1, 20, EndStatus::Replaced), process(2, ProcessOrigin::Exec, Some(1), 20), stream(2, 2, None)])
        .events(2, &[alloc(30, B, 100, 5)])
        .end(40);
    let all = check_live(&bytes, Moment::End, &[1, 1]);
    assert_eq!(all.processes[1].objects.unwrap().inherited, 0);
    assert!(all.complete);
}

#[test]
fn the_peak_is_the_largest_sum_of_rss() {
    let bytes = Builder::new(PageShift::KIB_4)
        .records(&[process(1, ProcessOrigin::Command, None, 1), stream(1, 1, None)])
        .records(&[process(2, ProcessOrigin::Fork, Some(1), 15), ended(2, 35, EndStatus::Unknown)])
        .events(1, &[alloc(10, A, 10, 1), alloc(25, B, 10, 1), free(45, B)])
        .snapshot(&snapshot(1, 20, 500, &[], &[]))
        .snapshot(&snapshot(2, 30, 400, &[], &[]))
        .snapshot(&snapshot(1, 40, 800, &[], &[]))
        .end(50);
    let all = check_live(&bytes, Moment::Peak, &[2, 1]);
    assert_eq!((all.moment.rule, all.moment.time), (MomentRule::PeakRss, TraceNanos(30)));
    assert_eq!(all.processes[0].rss.as_ref().map(|rss| rss.time), Some(TraceNanos(20)));
    assert_eq!(all.rss_timeline.len(), 3);
    let late = replayed(&bytes, Moment::At(TraceNanos(39)));
    assert_eq!(late.processes.iter().map(|process| process.running).collect::<Vec<_>>(), [true, false]);
    let at_end = check_live(&bytes, Moment::End, &[1, 1]);
    assert_eq!(at_end.processes.iter().map(|process| process.running).collect::<Vec<_>>(), [true, false]);
    assert_eq!(at_end.processes[0].rss.as_ref().and_then(|rss| rss.kernel.rss), Some(800));
    // Before its first snapshot a process is shown with that.
    let early = check_live(&bytes, Moment::At(TraceNanos(11)), &[1, 0]);
    assert_eq!(early.processes[0].rss.as_ref().map(|rss| rss.time), Some(TraceNanos(20)));
    assert!(early.processes[0].running && !early.processes[1].running);
}

#[test]
fn the_largest_snapshot_is_the_peak_and_its_plateau_is_known() {
    let cases = [
        ([1000, 1015, 500], 30, Some(20)),
        ([900, 1015, 500], 30, None),
        ([990, 1000, 1000], 30, Some(20)),
        ([1000, 500, 1001], 40, Some(20)),
        ([0, 0, 0], 20, None),
    ];
    for (rss, expected, since) in cases {
        let snapshots = [20, 30, 40].into_iter().zip(rss);
        let builder = Builder::new(PageShift::KIB_4).records(&[process(1, ProcessOrigin::Command, None, 1)]);
        let with_all =
            snapshots.fold(builder, |builder, (time, rss)| builder.snapshot(&snapshot(1, time, rss, &[], &[])));
        let bytes = with_all.end(50);
        let all = replayed(&bytes, Moment::Peak);
        assert_eq!((all.moment.time, all.near_peak_since), (TraceNanos(expected), since.map(TraceNanos)), "{rss:?}");
        assert_eq!(all.processes[0].largest_rss, rss.iter().max().copied());
        assert_eq!(replayed(&bytes, Moment::End).near_peak_since, None);
    }
}

#[test]
fn page_events_have_a_peak_and_a_final_state() {
    let page = |time, kind: fn(PageRun) -> EventKind, first: u64, pages| {
        let run = PageRun { base: Address(0x10_0000 + first * 8192), pages: PageCount(pages) };
        Event { time: TraceNanos(time), kind: kind(run) }
    };
    let bytes = Builder::new(PageShift::KIB_8)
        .events(
            1,
            &[
                page(10, EventKind::PageAlloc, 0, 2000),
                page(20, EventKind::PageFree, 100, 1000),
                page(30, EventKind::PageScavenge, 100, 300),
                page(40, EventKind::PageAlloc, 100, 1000),
                page(50, EventKind::PageFree, 0, 10),
                page(60, EventKind::PageAlloc, 0, u64::MAX),
            ],
        )
        .end(70);
    let all = replayed(&bytes, Moment::Peak);
    let peak = all.peak.unwrap();
    assert_eq!((peak.time, peak.pages_in_use), (TraceNanos(10), 2000));
    let last = all.final_pages;
    assert_eq!((last.in_use, last.free, last.returned, last.distinct), (1990, 10, 0, 2000));
    assert_eq!(all.anomalies.named().collect::<Vec<_>>(), [("impossible_runs", 1)]);
}

#[test]
fn a_damaged_chunk_costs_its_events_only() {
    let whole = Builder::new(PageShift::KIB_4)
        .records(&[process(1, ProcessOrigin::Command, None, 1), stream(1, 1, None)])
        .events(1, &[alloc(10, A, 100, 1), alloc(11, B, 100, 1)])
        .events(1, &[alloc(20, A + 0x1000, 100, 1)])
        .end(30);
    let chunk = Trace::open(&whole).unwrap().chunks()[1];
    let mut bytes = whole.clone();
    bytes[chunk.payload_offset + 5] ^= 0x10;
    let all = check_live(&bytes, Moment::End, &[1]);
    assert!(!all.complete);
    assert_eq!((all.defects.len(), all.defects[0].kind), (1, DefectKind::DamagedEvents));
    assert_eq!(all.lost["damaged_chunk"], LostEvents { events: 2, and_more: false });
    assert!(check_live(&whole, Moment::End, &[3]).complete);
}

/// Whatever byte is flipped and wherever the file is cut: an answer or an error, no panic.
#[test]
fn any_flip_and_any_cut_is_survived() {
    let whole = forked();
    let mut answers = 0;
    for offset in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[offset] ^= 1 << (offset % 8);
        for bytes in [&flipped[..], &whole[..offset]] {
            let Ok(trace) = Trace::open(bytes) else { continue };
            if let Ok(all) = replay(&trace, Moment::Peak, &mut |_| {}) {
                assert!(!all.complete || bytes == whole, "offset {offset}");
                answers += 1;
            }
        }
    }
    assert!(answers > whole.len(), "most of it can be analysed: {answers} of {}", 2 * whole.len());
}

#[test]
fn losses_and_a_missing_end_are_told() {
    let loss = |reason, events| Record::Loss(Loss { process: None, reason, events, time: TraceNanos(5) });
    let bytes = Builder::new(PageShift::KIB_4)
        .records(&[process(1, ProcessOrigin::Command, None, 1)])
        .records(&[loss(LossReason::BufferFull, 3), loss(LossReason::BufferFull, 0), loss(LossReason::Reentered, 2)])
        .cut();
    let all = replayed(&bytes, Moment::Peak);
    assert!(!all.complete);
    assert_eq!(all.lost["buffer_full"], LostEvents { events: 3, and_more: true });
    assert_eq!(all.lost["reentered"], LostEvents { events: 2, and_more: false });
    assert_eq!(all.moment.rule, MomentRule::EachEnd);
}

#[test]
fn modules_are_found_in_the_parent_of_a_fork() {
    let (process_id, path) = (ProcessId(1), "/lib/libc.so.6".into());
    let module = Module {
        process: process_id,
        start: Address(LIBC),
        end: Address(LIBC + 0x1000),
        file_offset: 0x2000,
        path,
        build_id: vec![],
    };
    let bytes = Builder::new(PageShift::KIB_4)
        .records(&[process(1, ProcessOrigin::Command, None, 1), Record::Module(module)])
        .records(&[process(2, ProcessOrigin::Fork, Some(1), 20), process(3, ProcessOrigin::Exec, Some(2), 30)])
        .end(40);
    let metadata = replayed(&bytes, Moment::End).metadata;
    let found = [1, 2, 3].map(|id| metadata.module_of(ProcessId(id), Address(LIBC + 0x1000)));
    assert_eq!(found, [Some(0), Some(0), None]);
    assert_eq!(metadata.module_of(process_id, Address(LIBC + 0x1001)), None);
}

#[test]
fn errors_say_what_to_do() {
    let empty = Builder::new(PageShift::KIB_4).cut();
    let error = replay(&Trace::open(&empty).unwrap(), Moment::Peak, &mut |_| {}).unwrap_err();
    assert!(matches!(error, ReplayError::NothingRecorded { chunks: 0 }), "{error}");
    let bytes = forked();
    let error = replay(&Trace::open(&bytes).unwrap(), Moment::At(TraceNanos(70)), &mut |_| {}).unwrap_err();
    assert!(matches!(error, ReplayError::MomentOutside { asked_ns: 70, lasts_ns: 69 }), "{error}");
}
