//! Histories against what a replay says at the same moments.

mod trace;

use std::fs;
use std::path::Path;

use pagetrace_format::records::ProcessOrigin;
use pagetrace_format::{Event, GoPageTrace, PageShift, ProcessId, Trace, TraceNanos, go_to_native};
use pagetrace_replay::history::{HistoryMoment, PageCell, PageClass, ProcessHistory};
use pagetrace_replay::page_detail::PageDetail;
use pagetrace_replay::{History, HistoryLimits, Moment, Replayed, pages_in_detail, replay_with_history};

use trace::*;

const HEAP: u64 = 0x5555_0000_0000;
const PAGE: u64 = 4096;
const WHOLE: HistoryLimits = HistoryLimits::whole(1 << 24);

fn with_history(bytes: &[u8], limits: HistoryLimits) -> (Replayed, History) {
    let trace = Trace::open(bytes).expect("a trace");
    replay_with_history(&trace, Moment::Peak, limits, &mut |_| {}).expect("it can be replayed")
}

/// A heap that grows by a page a moment; of two pages one object stays, the other is freed.
fn growing(moments: u64) -> Vec<u8> {
    let mut events: Vec<Event> = Vec::new();
    for page in 0..moments {
        events.push(alloc(page * 100 + 10, HEAP + page * PAGE + 16, 104, 1 + (page % 3) as u32));
        if page % 2 == 1 {
            events.push(free(page * 100 + 20, HEAP + page * PAGE + 16));
        }
    }
    let mut builder = Builder::new(PageShift::KIB_4)
        .records(&[process(0, ProcessOrigin::Command, None, 1), stream(1, 0, None), libc_module(0)])
        .events(1, &events);
    let maps = [(HEAP, (moments + 2) * PAGE, "rw-p", "[heap]")];
    for moment in 0..moments {
        let pages = moment + 1;
        builder = builder.snapshot(&snapshot(0, moment * 100 + 50, pages * PAGE, &maps, &[(HEAP, pages, 0)]));
    }
    // At the end the first page is not in memory any more.
    let last = snapshot(0, moments * 100 + 50, (moments - 1) * PAGE, &maps, &[(HEAP + PAGE, moments - 1, 0)]);
    builder.snapshot(&last).end(moments * 100 + 100)
}

fn class_at(history: &ProcessHistory, moment: &HistoryMoment, page: u64) -> PageClass {
    PageCell(history.pages.at(moment.pages.as_ref().expect("pages"), page)).class()
}

#[test]
fn moments_are_those_of_replays_at_their_times() {
    let bytes = growing(12);
    let (_, history) = with_history(&bytes, WHOLE);
    let process = &history.processes[0];
    assert_eq!(process.moments.len(), 13);
    for moment in &process.moments {
        let at = replayed(&bytes, Moment::At(TraceNanos(moment.time.0 - 1)));
        let rss = at.processes[0].rss.clone().expect("a snapshot");
        let explanation = rss.explanation.expect("explained");
        assert_eq!((moment.rss, moment.classes), (rss.kernel.rss, Some(explanation.classes)));
        for site in at.processes[0].sites.iter().filter(|site| site.live > 0) {
            let found = moment.sites.iter().find(|row| process.sites[row.site as usize].id == site.id);
            let found = found.expect("the site is in the moment");
            assert_eq!((found.live, found.live_bytes), (site.live, site.live_bytes));
            assert_eq!(found.pinned_bytes, site.pinned_bytes);
        }
        // What pages are adds up to the classes.
        let first = HEAP / PAGE;
        let pages_of = |class| (first..first + 20).filter(|&page| class_at(process, moment, page) == class).count();
        assert_eq!(pages_of(PageClass::Sparse) as u64, explanation.sparse_pages);
        assert_eq!((pages_of(PageClass::Retained) as u64 * PAGE) as i64, explanation.classes.retained);
    }
    let last = process.moments.last().expect("moments");
    let classes: Vec<PageClass> = [0, 1, 2, 12, 14].map(|page| class_at(process, last, HEAP / PAGE + page)).to_vec();
    let (retained, sparse, never) = (PageClass::Retained, PageClass::Sparse, PageClass::NeverTouched);
    assert_eq!(classes, [PageClass::Returned, retained, sparse, never, PageClass::Unmapped]);
}

#[test]
fn a_history_changes_nothing_of_the_rest() {
    let bytes = growing(30);
    let alone = format!("{:?}", replayed(&bytes, Moment::Peak).processes);
    for limits in [WHOLE, HistoryLimits::CLASSES] {
        assert_eq!(format!("{:?}", with_history(&bytes, limits).0.processes), alone);
    }
}

#[test]
fn too_many_moments_are_thinned_out() {
    let bytes = growing(60);
    let tight = HistoryLimits { bytes: 12_000, ..WHOLE };
    let (replayed, history) = with_history(&bytes, tight);
    let process = &history.processes[0];
    assert_eq!(process.moments.len(), 61);
    let whole: Vec<&HistoryMoment> = process.moments.iter().filter(|moment| moment.pages.is_some()).collect();
    assert!((4..50).contains(&whole.len()), "{} moments have pages", whole.len());
    assert!(process.pages.bytes() < tight.bytes);
    // The shown one is among those that stay, and what stays is right.
    assert!(whole.iter().any(|moment| moment.time == replayed.moment.time));
    let full = with_history(&bytes, WHOLE).1;
    for moment in whole {
        let same = full.processes[0].moments.iter().find(|it| it.time == moment.time).expect("it is there");
        for page in HEAP / PAGE..HEAP / PAGE + 64 {
            assert_eq!(class_at(process, moment, page), class_at(&full.processes[0], same, page));
        }
    }
}

#[test]
fn page_traces_have_moments_at_equal_distances_and_lanes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../format/tests/data/go-page-trace/go1.22-churn.pagetrace");
    let bytes = fs::read(path).expect("the trace is there");
    let native = go_to_native(&GoPageTrace::open(&bytes).expect("a page trace"), Vec::new()).expect("in memory");
    let (replayed, history) = with_history(&native, WHOLE);
    let process = &history.processes[0];
    let last = process.moments.last().expect("moments");
    let counts = last.page_counts.expect("page events");
    assert_eq!(counts, replayed.final_pages);
    let cells = last.pages.as_ref().expect("pages");
    let mut pages_of = [0_u64; 16];
    for run in cells {
        let block = process.pages.block(run.content);
        block.iter().for_each(|&cell| pages_of[usize::from(cell & 15)] += run.blocks);
    }
    let of = |class: PageClass| pages_of[class as usize];
    assert_eq!(
        [of(PageClass::InUse), of(PageClass::Retained), of(PageClass::Returned)],
        [counts.in_use, counts.free, counts.returned]
    );
    let kinds = history.lanes.iter().flat_map(|lane| &lane.parts).fold([0_u64; 3], |mut all, part| {
        all.iter_mut().zip(part).for_each(|(all, part)| *all += u64::from(*part));
        all
    });
    assert_eq!(kinds, [replayed.events.page_alloc, replayed.events.page_free, replayed.events.page_scavenge]);
}

#[test]
fn a_page_in_detail_has_the_objects_that_live_on_it() {
    let fork = 500;
    let child = [process(1, ProcessOrigin::Fork, Some(0), fork), stream(2, 1, None)];
    let (first, second) = (HEAP + PAGE - 64, HEAP + PAGE + 512);
    let bytes = Builder::new(PageShift::KIB_4)
        .records(&[process(0, ProcessOrigin::Command, None, 1), stream(1, 0, None), libc_module(0)])
        .records(&child)
        .records(&stack(0, 1, 0x40_0010))
        // The first reaches from one page to the next; the parent frees it after the fork, and takes a third.
        .events(
            1,
            &[alloc(10, first, 104, 1), alloc(20, second, 40, 1), free(600, first), alloc(700, HEAP + 16, 24, 1)],
        )
        .events(2, &[free(800, second)])
        .end(1000);
    let trace = Trace::open(&bytes).expect("a trace");
    let page = HEAP / PAGE;
    let at = |process: u32, time: u64| {
        let details =
            pages_in_detail(&trace, ProcessId(process), &[page, page + 1], TraceNanos(time)).expect("processes");
        let objects = |detail: &PageDetail| -> Vec<(u64, u64, u64)> {
            detail.objects.iter().map(|it| (it.address.0, it.bytes_here, it.born.0)).collect()
        };
        details.iter().map(objects).collect::<Vec<_>>()
    };
    let (on_first, on_second) = (vec![(first, 64, 10)], vec![(first, 40, 10), (second, 40, 20)]);
    assert_eq!(at(0, 15), [on_first.clone(), vec![(first, 40, 10)]]);
    assert_eq!(at(0, 550), [on_first.clone(), on_second.clone()]);
    assert_eq!(at(0, 750), [vec![(HEAP + 16, 24, 700)], vec![(second, 40, 20)]]);
    assert_eq!(at(1, 750), [on_first.clone(), on_second]);
    assert_eq!(at(1, 900), [on_first, vec![(first, 40, 10)]]);
    let detail = &pages_in_detail(&trace, ProcessId(1), &[page], TraceNanos(750)).expect("processes")[0];
    assert_eq!(detail.objects[0].frames.len(), 1);
    assert_eq!(detail.first_touch, None);
}
