//! Who wrote pages: epochs and accesses, and what a report is to know of them.

mod trace;

use pagetrace_format::kernel_event::FaultAccess;
use pagetrace_format::records::{EndStatus, ProcessOrigin};
use pagetrace_format::{
    Access, AccessSource, Address, FirstWriter, KernelEventKind, Modification, PageCall, PageCount, PageFault,
    PageIndex, PageRange, PageShift, StackId, SystemCall, TraceNanos, WatchedAccess, WriteEpoch, WriteLabel,
    WrittenRun,
};
use pagetrace_format::{ProcessId, Trace};
use pagetrace_replay::page_detail::{EPOCHS_TOLD, EpochWrite, PageDetail};
use pagetrace_replay::page_writes::{AGES_NS, LastWrite, PageWrites};
use pagetrace_replay::{HistoryLimits, Moment, compact, pages_in_detail, replay_with_history};

use trace::*;

const PAGE: u64 = 4096;
const BASE: u64 = 0x7eee_0000_0000;
const SECOND: u64 = 1_000_000_000;

fn range(page: u64, pages: u64) -> PageRange {
    PageRange { first: PageIndex(BASE / PAGE + page), pages: PageCount(pages) }
}

/// The epoch that ends at so many seconds.
fn epoch(number: u64, ranges_follow: bool) -> Access {
    let (begin, end) = (TraceNanos((number - 1) * SECOND + 1), TraceNanos(number * SECOND));
    Access::Epoch(WriteEpoch { number, begin, end, source: AccessSource::AsyncWriteProtection, ranges_follow })
}

fn written(range: PageRange, tid: u32, time: u64) -> Access {
    let label = WriteLabel::Written;
    let (instruction, stack) = (Address(LIBC + 0x100), StackId::UNKNOWN);
    let writer = FirstWriter { time: TraceNanos(time), span_ns: 0, tid, instruction, stack, task: None };
    Access::Written(WrittenRun { range, label, writer: (tid != 0).then_some(writer) })
}

/// Pages of a mapping are all touched, then what is given happens in ten seconds.
fn replayed_with(accesses: &[Access], objects: &[pagetrace_format::Event], at: Moment) -> PageWrites {
    let replayed = replayed(&bytes_of(accesses, objects, &[]), at);
    assert!(replayed.complete, "{:?}", replayed.defects);
    replayed.processes[0].writes.clone().expect("they were tracked")
}

/// The trace, with snapshots at these times.
fn bytes_of(accesses: &[Access], objects: &[pagetrace_format::Event], snapshots: &[u64]) -> Vec<u8> {
    let (mapped, file, stack) = (40 * PAGE, pagetrace_format::FileId(0), StackId(0));
    let arguments = [BASE, mapped, 3, 0x22, 0, 0];
    let mmap = SystemCall { call: PageCall::Mmap, arguments, result: BASE as i64, file, stack };
    let mut events = vec![(2, KernelEventKind::Call(mmap))];
    for page in 0..40 {
        let fault = PageFault {
            address: Address(BASE + page * PAGE),
            instruction: Address(LIBC),
            stack,
            access: FaultAccess::Write,
            in_kernel: false,
        };
        events.push((3, KernelEventKind::Fault(fault)));
    }
    let mut records = vec![libc_module(0), process(0, ProcessOrigin::Command, None, 1), stream(1, 0, None)];
    records.extend([process(1, ProcessOrigin::Fork, Some(0), 2 * SECOND + SECOND / 2)]);
    records.extend(trace::stack(0, 1, LIBC + 0x40));
    let ends = [ended(1, 4 * SECOND + SECOND / 2, EndStatus::Exited(0)), ended(0, 10 * SECOND, EndStatus::Exited(0))];
    let builder = Builder::new(PageShift::KIB_4).records(&records).kernel_events(0, &events).objects(1, objects);
    let snapshots =
        snapshots.iter().map(|&time| snapshot(0, time, mapped, &[(BASE, mapped, "rw-p", "")], &[(BASE, 40, 0)]));
    let builder = snapshots.fold(builder.accesses(0, accesses), |builder, snapshot| builder.snapshot(&snapshot));
    builder.records(&ends).end(10 * SECOND)
}

#[test]
fn counts_ages_and_hot_pages() {
    let mut accesses = vec![epoch(1, true), Access::Armed(range(0, 30)), written(range(0, 30), 7, 5)];
    for number in 2..=10 {
        accesses.push(epoch(number, false));
        accesses.push(written(range(5, 1), 7, number * SECOND - 9));
        if number == 8 {
            accesses.push(written(range(10, 10), 0, 0));
        }
    }
    let writes = replayed_with(&accesses, &[], Moment::End);
    assert_eq!((writes.epochs, writes.armed_pages, writes.page_bytes), (10, 30, PAGE));
    assert_eq!((writes.written, writes.without_writer), (49, 10));
    assert_eq!((writes.most_in_epoch, writes.last_in_epoch), (30, 1));
    assert_eq!(writes.span, (TraceNanos(1), TraceNanos(10 * SECOND)));
    let ages = writes.ages.expect("it is known what was resident");
    // Pages that are not armed are not counted.
    assert_eq!((ages.resident, ages.never_written), (30, 0));
    assert_eq!(AGES_NS[..2], [SECOND, 10 * SECOND]);
    assert_eq!(ages.written_within[..2], [1, 30], "{ages:?}");
    let hot = &writes.hot[0];
    assert_eq!((hot.address, hot.epochs_written), (Address(BASE + 5 * PAGE), 10));
    assert_eq!((hot.first_writer, &hot.threads[..]), (Some(7), &[7][..]));
    assert_eq!((hot.last_epoch.1.0 - 1) / 1_000_000, 9_999, "to the millisecond");
    let unknown = writes.hot.iter().find(|page| page.address == Address(BASE + 10 * PAGE)).expect("written twice");
    assert_eq!((unknown.epochs_written, unknown.first_writer), (2, None), "the kernel wrote last");
    assert_eq!(writes.sites.len(), 1);
    assert_eq!((writes.sites[0].pages, writes.sites[0].frames[0].address), (39, Address(LIBC + 0x101)));
    assert!(writes.contended.is_empty());
}

#[test]
fn a_moment_shows_what_was_known_then() {
    let accesses = [
        epoch(1, true),
        Access::Armed(range(0, 30)),
        written(range(0, 2), 7, 5),
        epoch(2, false),
        written(range(0, 1), 8, SECOND + 5),
        epoch(3, false),
        written(range(0, 1), 7, 2 * SECOND + 5),
    ];
    let early = replayed_with(&accesses, &[], Moment::At(TraceNanos(SECOND + SECOND / 2)));
    assert_eq!((early.hot.len(), early.contended.len()), (0, 0));
    let late = replayed_with(&accesses, &[], Moment::End);
    assert_eq!((late.hot.len(), late.contended.len(), late.contended_pages), (1, 1, 1));
    assert_eq!(early.written, late.written, "counts are of the whole trace");
}

#[test]
fn pages_of_several_threads_with_the_objects_on_them() {
    let mut accesses = vec![epoch(1, true), Access::Armed(range(0, 30))];
    for number in 1..=9 {
        if number > 1 {
            accesses.push(epoch(number, false));
        }
        let tid = 7 + (number % 2) as u32;
        accesses.push(written(range(3, 1), tid, number * SECOND - 9));
        // What nobody is known to have written is no hand-over.
        accesses.push(written(range(4, 1), if number == 5 { 8 } else { 0 }, number * SECOND - 8));
        accesses.push(written(range(6, 2), if number < 5 { 7 } else { 9 }, number * SECOND - 7));
    }
    let objects = [
        alloc(10, BASE + 3 * PAGE + 100, 200, 1),
        alloc(11, BASE + 4 * PAGE - 50, 100, 1),
        alloc(12, BASE + 5 * PAGE, 100, 1),
    ];
    let writes = replayed_with(&accesses, &objects, Moment::End);
    let pages: Vec<_> = writes.contended.iter().map(|page| (page.address.0 - BASE) / PAGE).collect();
    assert_eq!((pages, writes.contended_pages), (vec![3, 6, 7], 3));
    let most = &writes.contended[0];
    assert_eq!((most.hand_overs, &most.threads[..]), (8, &[8, 7][..]));
    let [(site, bytes)] = most.objects[..] else { panic!("one site: {most:?}") };
    assert_eq!((site.stack, bytes >= 250), (StackId(1), true), "the one on it and half of the next one");
    assert_eq!(most.object_frames[0][0].address, Address(LIBC + 0x40));
    assert_eq!(writes.contended[1].hand_overs, 1);
}

#[test]
fn a_fork_has_what_was_written_while_its_child_lived() {
    let accesses = [
        epoch(1, true),
        Access::Armed(range(0, 30)),
        written(range(0, 5), 7, 5),
        epoch(2, false),
        written(range(0, 5), 7, SECOND + 5),
        // The child lives from 2.5 to 4.5 seconds.
        epoch(3, false),
        written(range(0, 2), 7, 2 * SECOND + 5),
        written(range(2, 3), 7, 2 * SECOND + SECOND * 3 / 4),
        epoch(4, false),
        written(range(4, 4), 7, 3 * SECOND + 5),
        written(range(20, 1), 0, 0),
        epoch(5, false),
        written(range(10, 1), 7, 4 * SECOND + 5),
        written(range(11, 1), 7, 4 * SECOND + SECOND * 3 / 4),
        epoch(6, false),
        written(range(12, 9), 7, 5 * SECOND + 5),
    ];
    let writes = replayed_with(&accesses, &[], Moment::End);
    let [fork] = writes.forks[..] else { panic!("one fork: {:?}", writes.forks) };
    assert_eq!(fork.child.0, 1);
    assert_eq!((fork.pages, fork.unclear_pages), (3 + 3 + 1 + 1, 2));
}

#[test]
fn labels_and_watched_accesses_are_counted_apart() {
    let discarded = |label| Access::Written(WrittenRun { range: range(0, 3), label, writer: None });
    let watched = |write, foreign: Option<u32>| {
        Access::Watched(WatchedAccess {
            time: TraceNanos(2 * SECOND),
            tid: 9,
            address: Address(BASE + 5),
            instruction: Address(0),
            stack: StackId::UNKNOWN,
            task: None,
            write,
            source: AccessSource::MissingPages,
            foreign: foreign.map(|tid| Modification { tid, time: TraceNanos(0) }),
        })
    };
    let accesses = [
        epoch(1, true),
        discarded(WriteLabel::Discarded),
        discarded(WriteLabel::New),
        watched(false, Some(8)),
        watched(true, None),
        watched(true, Some(8)),
    ];
    let writes = replayed_with(&accesses, &[], Moment::End);
    assert_eq!((writes.written, writes.discarded, writes.new), (0, 3, 3));
    assert_eq!((writes.watched.reads, writes.watched.writes, writes.watched.foreign), (1, 2, 2));
    assert_eq!((writes.contended_pages, writes.contended[0].hand_overs), (1, 2));
    assert_eq!(writes.contended[0].threads, [8, 9]);
}

/// Ten epochs: everything is written in the first one, the kernel writes some pages in the eighth, and two threads take turns.
fn varied() -> Vec<Access> {
    let mut accesses = vec![epoch(1, true), Access::Armed(range(0, 35)), written(range(0, 30), 7, 5)];
    for number in 2..=10 {
        accesses.push(epoch(number, false));
        accesses.push(written(range(5, 1), 7 + (number % 2) as u32, number * SECOND - 9));
        if number == 8 {
            accesses.push(written(range(10, 10), 0, 0));
        }
    }
    accesses
}

#[test]
fn a_history_has_the_writes_of_a_replay_at_each_moment() {
    let times: Vec<u64> = (0..10).map(|number| number * SECOND + SECOND / 2).collect();
    let bytes = bytes_of(&varied(), &[], &times);
    let trace = Trace::open(&bytes).expect("a trace");
    let (_, history) = replay_with_history(&trace, Moment::End, HistoryLimits::whole(1 << 24), &mut |_| {})
        .expect("it can be replayed");
    let process = &history.processes[0];
    assert_eq!(process.moments.iter().map(|moment| moment.time.0).collect::<Vec<_>>(), times);
    assert_eq!(process.moments[0].writes, None, "no epoch has ended");
    for moment in &process.moments[1..] {
        let runs = moment.writes.as_ref().expect("they are tracked");
        let at = |page: u64| match process.writes.at(runs, BASE / PAGE + page) {
            0 => None,
            number => Some(process.last_writes[number as usize - 1]),
        };
        let all: Vec<LastWrite> = (0..45).filter_map(at).collect();
        let at_moment = replayed(&bytes, Moment::At(moment.time)).processes[0].writes.clone().expect("tracked");
        let ages = at_moment.ages.expect("it is known what was resident");
        assert_eq!(all.len() as u64, ages.resident);
        let written_within = |limit: u64| {
            let ends = all.iter().filter_map(|write| write.epoch_end);
            ends.filter(|end| moment.time.0 - end.0 <= limit).count() as u64
        };
        assert_eq!(AGES_NS.map(written_within), ages.written_within, "at {:?}", moment.time);
        assert_eq!(all.iter().filter(|write| write.epoch_end.is_none()).count() as u64, ages.never_written);
        let epochs = moment.time.0 / SECOND;
        assert_eq!(at(32), Some(LastWrite::default()), "tracked and not written");
        assert_eq!(at(36), None, "not tracked");
        let turns = at(5).expect("tracked");
        let writer = if epochs == 1 { 7 } else { 7 + (epochs % 2) as u32 };
        assert_eq!((turns.writer, turns.threads), (Some(writer), if epochs > 2 { 2 } else { 1 }), "in epoch {epochs}");
        let kernels = at(12).expect("tracked");
        assert_eq!((kernels.writer, kernels.threads), (if epochs < 8 { Some(7) } else { None }, 1));
    }
}

#[test]
fn a_page_in_detail_has_its_last_epochs() {
    let bytes = bytes_of(&varied(), &[], &[]);
    let trace = Trace::open(&bytes).expect("a trace");
    let pages = [5, 12, 32, 36].map(|page| BASE / PAGE + page);
    let at = |time: u64| {
        let details = pages_in_detail(&trace, ProcessId(0), &pages, TraceNanos(time)).expect("processes");
        details.into_iter().map(|detail| detail.writes).collect::<Vec<_>>()
    };
    assert_eq!(at(SECOND / 2), [None, None, None, None], "no epoch has ended");
    let details: Vec<_> = at(9 * SECOND + 1).into_iter().map(|writes| writes.expect("they are tracked")).collect();
    let [turns, kernels, never, beside] = &details[..] else { panic!("four pages") };
    assert_eq!((turns.epochs, turns.since, turns.known.epochs_written), (9, TraceNanos(1), 9));
    assert_eq!((&turns.known.threads[..], turns.known.hand_overs), (&[7, 8][..], 7));
    let writer = |write: &EpochWrite| write.writer.as_ref().map(|writer| (writer.first.tid, writer.first.time.0));
    let told: Vec<_> = turns.last.iter().map(|write| (write.number, writer(write))).collect();
    let expected = (2..=9).rev().map(|number| (number, Some((7 + (number % 2) as u32, number * SECOND - 9))));
    assert_eq!(told, expected.chain([(1, Some((7, 5)))]).collect::<Vec<_>>());
    assert_eq!(turns.last[0].writer.as_ref().expect("known").frames[0].address, Address(LIBC + 0x101));
    assert_eq!(
        kernels.last.iter().map(|write| (write.number, writer(write))).collect::<Vec<_>>(),
        [(8, None), (1, Some((7, 5)))]
    );
    assert_eq!((kernels.known.epochs_written, kernels.known.first_writer), (2, None));
    assert_eq!((never.tracked, never.known.epochs_written, never.last.len()), (true, 0, 0));
    assert!(!beside.tracked);
}

#[test]
fn of_a_page_that_is_written_for_ever_the_last_epochs_are_told() {
    let mut accesses = vec![epoch(1, true), Access::Armed(range(0, 30))];
    for number in 2..=10 {
        accesses.push(epoch(number, false));
        // More runs than are kept, as if they were epochs: a damaged trace says so.
        (0..EPOCHS_TOLD as u64).for_each(|run| accesses.push(written(range(5, 1), 7, number * SECOND - 100 + run)));
    }
    let bytes = bytes_of(&accesses, &[], &[]);
    let trace = Trace::open(&bytes).expect("a trace");
    let details = pages_in_detail(&trace, ProcessId(0), &[BASE / PAGE + 5], TraceNanos(9 * SECOND)).expect("processes");
    let last = &details[0].writes.as_ref().expect("tracked").last;
    assert_eq!(last.len(), EPOCHS_TOLD);
    assert!(last.iter().all(|write| write.number == 9), "{last:?}");
}

#[test]
fn a_page_in_detail_is_the_same_in_a_cut_recording() {
    let whole = bytes_of(&varied(), &[alloc(4, BASE + 5 * PAGE + 16, 100, 1)], &[]);
    let at = TraceNanos(6 * SECOND + SECOND / 2);
    let cut = compact(&Trace::open(&whole).expect("a trace"), at, Vec::new()).expect("it can be cut");
    let cut = cut.into_inner().expect("in memory");
    let details = |bytes: &[u8]| -> Vec<PageDetail> {
        let pages = [5, 12, 32, 36].map(|page| BASE / PAGE + page);
        let trace = Trace::open(bytes).expect("a trace");
        pages_in_detail(&trace, ProcessId(0), &pages, TraceNanos(9 * SECOND + 1)).expect("processes")
    };
    for (whole, cut) in details(&whole).iter().zip(details(&cut)) {
        let objects = |it: &PageDetail| it.objects.iter().map(|it| (it.address, it.size, it.born)).collect::<Vec<_>>();
        assert_eq!((&cut.first_touch, objects(&cut)), (&whole.first_touch, objects(whole)));
        assert!(whole.first_touch.is_some());
        let (whole, cut) = (whole.writes.as_ref().expect("tracked"), cut.writes.as_ref().expect("tracked"));
        assert_eq!((cut.tracked, cut.since, cut.epochs), (whole.tracked, whole.since, whole.epochs));
        assert_eq!(cut.known, whole.known);
        let after: Vec<&EpochWrite> = whole.last.iter().filter(|write| write.span.1 >= at).collect();
        assert_eq!(cut.last.iter().collect::<Vec<_>>(), after);
    }
}
