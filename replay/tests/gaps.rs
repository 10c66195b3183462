//! Times in which recording was switched off: what is known afterwards, and what never counts as a contradiction.

mod trace;

use pagetrace_format::encode::{PackedWordsChunk, TickClock, object_alloc_with_id, object_free_with_id, time_base};
use pagetrace_format::records::{Bucket, Gap, ProcessOrigin, Record, StackEnd, StackFrames};
use pagetrace_format::{
    Address, Event, EventKind, ObjectAlloc, ObjectFree, ObjectFunction, ObjectId, PageCount, PageRun, PageShift,
    ProcessId, StackId, StreamId, Trace, TraceNanos,
};
use pagetrace_replay::results::{ObjectState, PageAnomalies};
use pagetrace_replay::{Moment, Replayed, RssClasses, Timeline};

use trace::*;

const HEAP: u64 = 0x5555_0000_0000;
const PAGE: u64 = 4096;
const A: u64 = HEAP + 16;
const B: u64 = HEAP + 2 * PAGE + 16;
const C: u64 = HEAP + 4 * PAGE + 16;
const BUCKET: StackId = StackId(StackId::NAMED_BUCKET | 7);

fn gap(process: u32, start: u64, end: u64, kept: bool) -> Record {
    Record::Gap(Gap { process: ProcessId(process), start: TraceNanos(start), end: TraceNanos(end), kept })
}

/// A process with these events, and recording off from 30 to 50.
fn with_gap(kept: bool, events: &[Event]) -> Builder {
    Builder::new(PageShift::KIB_4)
        .records(&[process(0, ProcessOrigin::Command, None, 1), stream(1, 0, None), gap(0, 30, 50, kept)])
        .events(1, events)
}

fn objects(all: &Replayed) -> ObjectState {
    all.processes[0].objects.unwrap()
}

#[test]
fn objects_from_before_a_gap_that_drops_them_are_unknown() {
    let events = [
        alloc(10, A, 100, 1),
        alloc(11, B, 100, 1),
        free(12, 0xdead),
        // Its hook had begun when recording went off.
        alloc(31, C, 100, 1),
        free(50, A),
        alloc(51, B, 50, 1),
        free(52, C),
        free(53, B),
        alloc(54, B, 70, 1),
    ];
    let all = replayed(&with_gap(false, &events).end(60), Moment::End);
    let found = objects(&all);
    assert_eq!((found.live, found.live_bytes, found.forgotten), (1, 70, 3));
    assert_eq!((found.allocated, found.freed, found.replaced), (5, 1, 0));
    assert_eq!((found.unknown_frees, found.unknown_frees_after_gap), (1, 2));
    assert_eq!(found.live + found.freed + found.forgotten, found.allocated + found.inherited);
    assert!(all.complete);
    // At both ends of the gap and in it.
    let live = |at: u64| objects(&replayed(&with_gap(false, &events).end(60), Moment::At(TraceNanos(at - 1)))).live;
    assert_eq!([29, 30, 31, 49, 50, 51].map(live), [2, 2, 1, 1, 0, 1]);
}

#[test]
fn objects_that_are_kept_account_of_stay_and_are_made_up_for() {
    // What came and went meanwhile comes at the end of the gap.
    let events = [alloc(10, A, 100, 1), alloc(11, B, 100, 1), free(50, A), alloc(50, C, 30, 1), free(51, 0xdead)];
    let all = replayed(&with_gap(true, &events).end(60), Moment::End);
    let found = objects(&all);
    assert_eq!((found.live, found.live_bytes, found.forgotten), (2, 130, 0));
    assert_eq!((found.freed, found.unknown_frees, found.unknown_frees_after_gap), (1, 1, 0));
}

/// Page events over a gap: those of the gap itself were not recorded, so what follows contradicts nothing, once.
#[test]
fn page_states_are_unknown_after_any_gap() {
    let page = |time, kind: fn(PageRun) -> EventKind, first: u64, pages| {
        let run = PageRun { base: Address(HEAP + first * PAGE), pages: PageCount(pages) };
        Event { time: TraceNanos(time), kind: kind(run) }
    };
    let events = [
        page(10, EventKind::PageAlloc, 0, 10),
        page(11, EventKind::PageFree, 4, 2),
        page(12, EventKind::PageScavenge, 5, 1),
        // In use before, free before, returned before, and never seen before.
        page(51, EventKind::PageAlloc, 0, 2),
        page(52, EventKind::PageFree, 4, 2),
        page(53, EventKind::PageScavenge, 2, 1),
        page(54, EventKind::PageFree, 20, 1),
        // Known again by now: these do contradict.
        page(55, EventKind::PageAlloc, 0, 1),
        page(56, EventKind::PageFree, 5, 1),
        page(57, EventKind::PageScavenge, 1, 1),
    ];
    for kept in [true, false] {
        let all = replayed(&with_gap(kept, &events).end(60), Moment::End);
        let once = PageAnomalies {
            free_of_unallocated: 1,
            alloc_of_allocated: 1,
            scav_of_allocated: 1,
            ..PageAnomalies::default()
        };
        assert_eq!(all.anomalies, once, "kept: {kept}");
        let last = all.final_pages;
        assert_eq!((last.in_use, last.free, last.returned, last.distinct), (2, 3, 1, 11), "kept: {kept}");
        let peak = all.peak.unwrap();
        assert_eq!((peak.pages_in_use, peak.time), (10, TraceNanos(10)));
    }
}

#[test]
fn a_gap_is_its_own_process_s_and_a_fork_after_it_inherits_what_is_known() {
    let bytes = Builder::new(PageShift::KIB_4)
        .records(&[process(0, ProcessOrigin::Command, None, 1), stream(1, 0, None)])
        .records(&[process(1, ProcessOrigin::Fork, Some(0), 20), stream(2, 1, None)])
        .records(&[process(2, ProcessOrigin::Fork, Some(0), 60), stream(3, 2, None), gap(0, 30, 50, false)])
        .events(1, &[alloc(10, A, 100, 1), alloc(55, C, 100, 1)])
        .events(2, &[free(70, A)])
        .events(3, &[free(71, A), free(72, C)])
        .end(80);
    let all = replayed(&bytes, Moment::End);
    let found: Vec<_> = all
        .processes
        .iter()
        .map(|process| process.objects.unwrap())
        .map(|it| (it.live, it.freed, it.forgotten, it.inherited, it.unknown_frees, it.unknown_frees_after_gap))
        .collect();
    assert_eq!(found, [(1, 0, 1, 0, 0, 0), (0, 1, 0, 1, 0, 0), (0, 1, 0, 1, 0, 1)]);
}

/// Frees of objects older than the gap are no contradiction, also where the gap is the first that is known.
#[test]
fn a_gap_before_any_event_counts_too() {
    let found = objects(&replayed(&with_gap(false, &[free(51, A)]).end(60), Moment::End));
    assert_eq!((found.unknown_frees, found.unknown_frees_after_gap), (0, 1));
}

/// Pages that held objects before the gap may hold any since, so nothing is claimed of what is not live there.
#[test]
fn classes_sum_to_the_kernels_figure_before_in_and_after_a_gap() {
    let maps = [(HEAP, 16 * PAGE, "rw-p", "[heap]")];
    let resident = [(HEAP, 6, 0)];
    let events = [alloc(10, A, 2008, 1), alloc(11, B, 24, 1), free(12, B), alloc(51, B, 104, 2), alloc(52, C, 104, 2)];
    for stopped in [true, false] {
        let builder = [20, 40, 55].iter().fold(with_gap(false, &events), |builder, &time| {
            let mut taken = snapshot(0, time, 6 * PAGE + 100, &maps, &resident);
            taken.stopped = stopped;
            builder.snapshot(&taken)
        });
        let bytes = builder.end(60);
        let check = |at: u64, in_gap: bool, expected: RssClasses| {
            let rss = replayed(&bytes, Moment::At(TraceNanos(at - 1))).processes.remove(0).rss.unwrap();
            assert_eq!((rss.stopped, rss.gap.is_some()), (stopped, in_gap), "at {at}");
            let classes = rss.explanation.unwrap().classes;
            assert_eq!(classes.sum(), 6 * PAGE as i64 + 100, "at {at}");
            assert_eq!(RssClasses { unexplained: 0, ..classes }, expected, "at {at}");
        };
        let page = PAGE as i64;
        // Behind the last object that ever was it is the top of the heap.
        let before = RssClasses { live_objects: 2008, metadata: 8, slack: page - 2016, retained: 4 * page, ..none() };
        check(20, false, before);
        check(40, true, none());
        let pinned = page - 104 - 8;
        check(55, false, RssClasses { live_objects: 208, metadata: 16, pinned, ..none() });
    }
}

fn none() -> RssClasses {
    RssClasses::default()
}

#[test]
fn buckets_have_names_and_whole_stacks_their_frames() {
    let (name, frames) = ("sessions".to_owned(), vec![Address(LIBC + 0x20), Address(LIBC + 0x40)]);
    let bytes = Builder::new(PageShift::KIB_4)
        .records(&[process(0, ProcessOrigin::Command, None, 1), stream(1, 0, None)])
        .records(&[process(1, ProcessOrigin::Fork, Some(0), 20), stream(2, 1, None)])
        .records(&[Record::Bucket(Bucket { process: ProcessId(0), id: BUCKET, name })])
        .records(&[Record::StackFrames(StackFrames {
            process: ProcessId(0),
            id: StackId(3),
            frames: frames.clone(),
            end: StackEnd::Unknown,
        })])
        .events(1, &[alloc(10, A, 300, BUCKET.0), alloc(11, B, 200, 3), alloc(12, C, 100, BUCKET.0 + 1)])
        .events(2, &[alloc(30, C + PAGE, 400, BUCKET.0), alloc(31, C + 2 * PAGE, 50, 3)])
        .end(60);
    let all = replayed(&bytes, Moment::End);
    let sites: Vec<Vec<(u64, Option<&str>, usize)>> = all
        .processes
        .iter()
        .map(|it| it.sites.iter().map(|site| (site.live_bytes, site.bucket.as_deref(), site.frames.len())).collect())
        .collect();
    let inherited = [(300, Some("sessions"), 0), (200, None, 2), (100, Some(""), 0)];
    assert_eq!(sites[0], inherited);
    // The child's own objects have the parent's buckets; its stacks are its own.
    let mut child = vec![(400, Some("sessions"), 0)];
    child.extend(inherited);
    child.push((50, None, 0));
    assert_eq!(sites[1], child);
    let addresses: Vec<Address> = all.processes[0].sites[1].frames.iter().map(|frame| frame.address).collect();
    assert_eq!(addresses, frames);
}

#[test]
fn ids_of_objects_come_with_their_events_in_the_merged_order() {
    let function = ObjectFunction::Plain;
    let object = |address| ObjectAlloc { address: Address(address), size: 24, usable: 24, stack: BUCKET, function };
    let gone = |address| ObjectFree { address: Address(address), function };
    let mut words = time_base(100).to_vec();
    words.extend(object_alloc_with_id(1, &object(A), ObjectId(41)));
    words.extend(object_alloc_with_id(5, &object(B), ObjectId(u64::MAX)));
    words.extend(object_free_with_id(9, &gone(A), ObjectId(41)));
    let mut memory = [0; 512];
    let chunk = PackedWordsChunk::new(&mut memory, TickClock::NANOSECONDS, &words).unwrap();
    let mut bytes = Builder::new(PageShift::KIB_4).events(1, &[alloc(104, C, 24, 1), free(106, C)]).cut();
    bytes.extend_from_slice(chunk.finish(StreamId(2)));
    let trace = Trace::open(&bytes).unwrap();
    let mut timeline = Timeline::new(&trace);
    let found: Vec<_> = std::iter::from_fn(|| timeline.next_with_id())
        .map(|(_, event, id)| (event.time.0, id.map(|id| id.0)))
        .collect();
    assert_eq!(found, [(101, Some(41)), (104, None), (105, Some(u64::MAX)), (106, None), (109, Some(41))]);
    let mut timeline = Timeline::new(&trace);
    assert_eq!(std::iter::from_fn(|| timeline.next()).map(|(_, event)| event.time.0).last(), Some(109));
}

/// Gaps that no tracer writes: the wrong way round, of nobody, of the whole of time, one in the other.
#[test]
fn forged_gaps_are_survived() {
    let events = [alloc(10, A, 100, 1), free(55, A)];
    let forged = [
        gap(0, 50, 30, false),
        gap(9, 1, 2, false),
        gap(0, 0, u64::MAX, true),
        gap(0, 0, 0, false),
        gap(0, 57, 57, true),
    ];
    let bytes = Builder::new(PageShift::KIB_4)
        .records(&[process(0, ProcessOrigin::Command, None, 1), stream(1, 0, None)])
        .records(&forged)
        .events(1, &events)
        .end(60);
    let all = replayed(&bytes, Moment::End);
    assert_eq!(all.metadata.gaps.len(), 4);
    let found = objects(&all);
    assert_eq!((found.live, found.freed, found.forgotten), (0, 1, 0));
}
