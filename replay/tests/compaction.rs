//! A trace that was cut at any moment, once or again and again, says from there on what the whole trace says.

mod trace;

use std::collections::BTreeMap;
use std::ops::Range;

use pagetrace_format::header::FILE_HEADER_BYTES;
use pagetrace_format::kernel_event::FaultAccess;
use pagetrace_format::records::{EndStatus, LossReason, ProcessOrigin, Record, Sampling};
use pagetrace_format::{
    Access, AccessSource, FirstWriter, Modification, PageIndex, PageRange, WatchedAccess, WriteEpoch, WriteLabel,
    WrittenRun,
};
use pagetrace_format::{
    Address, Event, EventKind, FileId, KernelEventKind, PageCall, PageCount, PageFault, PageShift, ProcessId, Snapshot,
    StackId, SystemCall, Trace, TraceNanos,
};
use pagetrace_replay::{Moment, Replayed, ReplayedProcess, StackShares, compact};
use proptest::prelude::*;

use trace::*;

const HEAP: u64 = 0x5555_0000_0000;
const HEAP_PAGES: u64 = 64;
const MAPPED: u64 = 0x7eee_0000_0000;
const PAGE: u64 = 4096;
/// Times of steps are so far apart.
const STEP: u64 = 10;

#[derive(Clone, Debug)]
enum Step {
    Alloc { process: usize, stream: u32, place: u64, size: u64, stack: u32 },
    Free { process: usize, stream: u32, place: u64 },
    Fault { process: usize, page: u64, stack: u32, access: FaultAccess },
    Call { process: usize, call: PageCall, page: u64, pages: u64, more: u64 },
    PageRun { process: usize, kind: u8, page: u64, pages: u64 },
    Snapshot { process: usize, scan: Vec<u64>, rss: u64 },
    Fork { process: usize },
    End { process: usize },
    Gap { process: usize, kept: bool },
    Loss { events: u64 },
    Epoch { process: usize, runs: Vec<(u64, u64, u32, u8)>, armed: bool },
    Watched { process: usize, page: u64, tid: u32, other: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    let process = 0_usize..4;
    let size = prop_oneof![6 => 0_u64..300, 2 => 300_u64..20_000, 1 => 140_000_u64..200_000];
    let access = prop::sample::select(vec![FaultAccess::Unknown, FaultAccess::Read, FaultAccess::Write]);
    let calls = vec![PageCall::Mmap, PageCall::Munmap, PageCall::Madvise, PageCall::Mremap, PageCall::Mprotect];
    let more = prop::sample::select(vec![4_u64, 10, 14, 18, 23, 25, 0, 1, 3]);
    prop_oneof![
        20 => (process.clone(), 0_u32..2, 0_u64..40, size, 0_u32..5).prop_map(|(process, stream, place, size, stack)| {
            Step::Alloc { process, stream, place, size, stack }
        }),
        16 => (process.clone(), 0_u32..2, 0_u64..40)
            .prop_map(|(process, stream, place)| Step::Free { process, stream, place }),
        16 => (process.clone(), 0_u64..100, 0_u32..4, access)
            .prop_map(|(process, page, stack, access)| Step::Fault { process, page, stack, access }),
        8 => (process.clone(), prop::sample::select(calls), 0_u64..80, 1_u64..40, more)
            .prop_map(|(process, call, page, pages, more)| Step::Call { process, call, page, pages, more }),
        4 => (process.clone(), 0_u8..3, 0_u64..40, 1_u64..8)
            .prop_map(|(process, kind, page, pages)| Step::PageRun { process, kind, page, pages }),
        8 => (process.clone(), prop::collection::vec(0_u64..100, 0..40), 1_u64..100)
            .prop_map(|(process, scan, rss)| Step::Snapshot { process, scan, rss: rss * PAGE }),
        2 => process.clone().prop_map(|process| Step::Fork { process }),
        1 => process.clone().prop_map(|process| Step::End { process }),
        1 => (process.clone(), any::<bool>()).prop_map(|(process, kept)| Step::Gap { process, kept }),
        12 => (process.clone(), prop::collection::vec((0_u64..100, 1_u64..6, 0_u32..4, 0_u8..6), 0..8), any::<bool>())
            .prop_map(|(process, runs, armed)| Step::Epoch { process, runs, armed }),
        2 => (process, 0_u64..100, 1_u32..4, 0_u32..4)
            .prop_map(|(process, page, tid, other)| Step::Watched { process, page, tid, other }),
        1 => (0_u64..3).prop_map(|events| Step::Loss { events }),
    ]
}

/// The first pages are the heap, those behind are mapped.
fn page_at(page: u64) -> u64 {
    if page < HEAP_PAGES { HEAP + page * PAGE } else { MAPPED + (page - HEAP_PAGES) * PAGE }
}

fn call(call: PageCall, page: u64, pages: u64, more: u64) -> KernelEventKind {
    let (start, bytes) = (page_at(page), pages * PAGE);
    let (arguments, result) = match call {
        PageCall::Mmap => ([start, bytes, 3, 0x22 | (more & 1) << 15, 0, 0], start),
        PageCall::Mremap => {
            let new = page_at((page + more * 7) % 100);
            ([start, bytes, (pages + more) * PAGE, 1, new, 0], new)
        }
        PageCall::Mprotect => ([start, bytes, more & 3, 0, 0, 0], 0),
        _ => ([start, bytes, more, 0, 0, 0], 0),
    };
    let (file, stack) = (FileId(0), StackId(more as u32));
    KernelEventKind::Call(SystemCall { call, arguments, result: result as i64, file, stack })
}

/// Where a run begins, how long it is, who wrote (0 for nobody that is known), and from where and with which label.
fn epoch(number: u64, time: u64, runs: &[(u64, u64, u32, u8)], armed: bool) -> Vec<Access> {
    let (begin, end) = (TraceNanos(time.saturating_sub(3 * STEP)), TraceNanos(time));
    let source = AccessSource::AsyncWriteProtection;
    let mut accesses = vec![Access::Epoch(WriteEpoch { number, begin, end, source, ranges_follow: armed })];
    let range = |page: u64, pages| PageRange { first: PageIndex(page_at(page) / PAGE), pages: PageCount(pages) };
    if armed {
        accesses.extend([range(0, HEAP_PAGES), range(HEAP_PAGES, number)].map(Access::Armed));
    }
    for &(page, pages, tid, more) in runs {
        let label = [WriteLabel::Written, WriteLabel::Discarded, WriteLabel::New][usize::from(more.saturating_sub(3))];
        let writer = (tid != 0).then_some(FirstWriter {
            time: TraceNanos(time.saturating_sub(u64::from(more) * STEP / 2)),
            span_ns: 0,
            tid,
            instruction: Address(LIBC + u64::from(more)),
            stack: StackId(u32::from(more)),
            task: None,
        });
        accesses.push(Access::Written(WrittenRun { range: range(page, pages), label, writer }));
    }
    accesses
}

/// A trace in the making: the chunks of each stream have some events each.
#[derive(Default)]
struct Recording {
    /// With the times at which they were written.
    records: Vec<(u64, Record)>,
    streams: BTreeMap<u32, Vec<Event>>,
    kernel: BTreeMap<u32, Vec<(u64, KernelEventKind)>>,
    snapshots: Vec<Snapshot>,
    /// Those of an epoch together.
    accesses: BTreeMap<u32, Vec<(u64, Vec<Access>)>>,
    /// Start and end of each process.
    lives: Vec<(u64, Option<u64>)>,
}

impl Recording {
    fn of(steps: &[Step], sampled: bool) -> Recording {
        let mut it = Recording::default();
        if sampled {
            it.records.push((1, Record::Sampling(Sampling { mean_bytes: 700 })));
        }
        it.begin(ProcessOrigin::Command, None, 1);
        it.kernel.entry(0).or_default().push((2, KernelEventKind::Exec { arguments: None, table: None }));
        for (index, step) in (1..).zip(steps) {
            it.step(index * STEP, step);
        }
        it
    }

    fn begin(&mut self, origin: ProcessOrigin, parent: Option<u32>, start: u64) {
        let id = self.lives.len() as u32;
        self.lives.push((start, None));
        let mut records = vec![libc_module(id), process(id, origin, parent, start)];
        records.extend([stream(2 * id + 1, id, None), stream(2 * id + 2, id, None)]);
        for number in 1..5 {
            records.extend(stack(id, number, LIBC + 64 * u64::from(number)));
        }
        self.records.extend(records.into_iter().map(|record| (start, record)));
    }

    fn step(&mut self, time: u64, step: &Step) {
        use Step::*;
        let process = match *step {
            Alloc { process, .. } | Free { process, .. } | Fault { process, .. } | Call { process, .. } => process,
            PageRun { process, .. } | Snapshot { process, .. } | Fork { process } | End { process } => process,
            Gap { process, .. } | Epoch { process, .. } | Watched { process, .. } => process,
            Loss { .. } => 0,
        };
        if self.lives.get(process).is_none_or(|(_, end)| end.is_some()) {
            return;
        }
        let id = process as u32;
        match *step {
            Alloc { stream, place, size, stack, .. } => {
                let address = HEAP + 16 + place * 5216;
                self.streams.entry(2 * id + 1 + stream).or_default().push(alloc(time, address, size, stack));
            }
            Free { stream, place, .. } => {
                self.streams.entry(2 * id + 1 + stream).or_default().push(free(time, HEAP + 16 + place * 5216));
            }
            PageRun { kind, page, pages, .. } => {
                let run = pagetrace_format::PageRun { base: Address(page_at(page)), pages: PageCount(pages) };
                let kinds = [EventKind::PageAlloc(run), EventKind::PageFree(run), EventKind::PageScavenge(run)];
                let kind = kinds[usize::from(kind)];
                self.streams.entry(2 * id + 1).or_default().push(Event { time: TraceNanos(time), kind });
            }
            Fault { page, stack, access, .. } => {
                let (address, instruction) = (Address(page_at(page)), Address(LIBC + page));
                let fault = PageFault { address, instruction, stack: StackId(stack), access, in_kernel: page % 7 == 0 };
                self.kernel.entry(id).or_default().push((time, KernelEventKind::Fault(fault)));
            }
            Call { call: which, page, pages, more, .. } => {
                self.kernel.entry(id).or_default().push((time, call(which, page, pages, more)));
            }
            Snapshot { ref scan, rss, .. } => {
                let mut pages = scan.clone();
                pages.sort_unstable();
                pages.dedup();
                let runs: Vec<(u64, u64, u8)> = pages.iter().map(|&page| (page_at(page), 1, 0)).collect();
                let maps = [(HEAP, HEAP_PAGES * PAGE, "rw-p", "[heap]"), (MAPPED, 40 * PAGE, "rw-p", "")];
                self.snapshots.push(snapshot(id, time, rss, &maps, &runs));
            }
            Fork { .. } if self.lives.len() < 4 => {
                let child = self.lives.len() as u32;
                self.begin(ProcessOrigin::Fork, Some(id), time);
                let parent = ProcessId(id);
                self.kernel.entry(child).or_default().push((time, KernelEventKind::Fork { parent }));
            }
            Fork { .. } => {}
            End { .. } => {
                self.lives[process].1 = Some(time);
                self.records.push((time, ended(id, time, EndStatus::Exited(0))));
            }
            Gap { kept, .. } => {
                let (start, end) = (TraceNanos(time), TraceNanos(time + 5));
                let gap = pagetrace_format::records::Gap { process: ProcessId(id), start, end, kept };
                self.records.push((time, Record::Gap(gap)));
            }
            Epoch { ref runs, armed, .. } => {
                let of_process = self.accesses.entry(id).or_default();
                let number = of_process.len() as u64 + 1;
                of_process.push((time, epoch(number, time, runs, armed)));
            }
            Watched { page, tid, other, .. } => {
                let foreign = (other != 0).then_some(Modification { tid: other, time: TraceNanos(time - 1) });
                let access = WatchedAccess {
                    time: TraceNanos(time),
                    tid,
                    address: Address(page_at(page)),
                    instruction: Address(LIBC + page),
                    stack: StackId::UNKNOWN,
                    task: None,
                    write: page % 2 == 0,
                    source: AccessSource::MissingPages,
                    foreign,
                };
                self.accesses.entry(id).or_default().push((time, vec![Access::Watched(access)]));
            }
            Loss { events } => {
                let (process, reason) = (None, LossReason::BufferFull);
                let loss = pagetrace_format::records::Loss { process, reason, events, time: TraceNanos(time) };
                self.records.push((time, Record::Loss(loss)));
            }
        }
    }

    /// What was written from one time up to another one.
    fn part(&self, times: Range<u64>, chunk_events: usize) -> Builder {
        let records: Vec<Record> =
            self.records.iter().filter(|(time, _)| times.contains(time)).map(|(_, record)| record.clone()).collect();
        let mut builder = Builder::new(PageShift::KIB_4).records(&records);
        for (&stream, events) in &self.streams {
            let events: Vec<Event> = events.iter().filter(|event| times.contains(&event.time.0)).copied().collect();
            for events in events.chunks(chunk_events) {
                builder = builder.objects(stream, events);
            }
        }
        for (&process, events) in &self.kernel {
            let events: Vec<_> = events.iter().filter(|(time, _)| times.contains(time)).copied().collect();
            for events in events.chunks(chunk_events) {
                builder = builder.kernel_events(process, events);
            }
        }
        for (&process, groups) in &self.accesses {
            let groups: Vec<_> = groups.iter().filter(|(time, _)| times.contains(time)).collect();
            for groups in groups.chunks(chunk_events) {
                let accesses: Vec<Access> = groups.iter().flat_map(|(_, group)| group.iter().copied()).collect();
                builder = builder.accesses(process, &accesses);
            }
        }
        for snapshot in self.snapshots.iter().filter(|snapshot| times.contains(&snapshot.time.0)) {
            builder = builder.snapshot(snapshot);
        }
        builder
    }

    /// The last part, in which all that still run are told to.
    fn last_part(&self, from: u64, end: u64, chunk_events: usize) -> Vec<u8> {
        let running = self.lives.iter().enumerate().filter(|(_, (_, ended))| ended.is_none());
        let running: Vec<Record> = running.map(|(id, _)| ended(id as u32, end, EndStatus::Running)).collect();
        self.part(from..end, chunk_events).records(&running).end(end)
    }
}

/// Chunks of one trace behind another.
fn appended(mut bytes: Vec<u8>, more: &[u8]) -> Vec<u8> {
    bytes.extend_from_slice(&more[FILE_HEADER_BYTES..]);
    bytes
}

fn compacted(bytes: &[u8], at: u64) -> Vec<u8> {
    compact(&Trace::open(bytes).unwrap(), TraceNanos(at), Vec::new()).unwrap().into_inner().unwrap()
}

/// Cuts the trace as it grows: at each of `cuts`, when there is more of it by the second number of steps.
fn check(steps: &[Step], sampled: bool, chunk_events: usize, cuts: &[(usize, usize)]) {
    let recording = Recording::of(steps, sampled);
    let end = (steps.len() as u64 + 2) * STEP;
    let mut cuts: Vec<(u64, u64)> =
        cuts.iter().map(|&(at, more)| (at.min(steps.len()) as u64 * STEP + 3, more as u64 * STEP)).collect();
    cuts.sort_unstable();
    let (mut written, mut whole) = (0, Builder::new(PageShift::KIB_4).cut());
    let mut cut = whole.clone();
    for &(at, more) in &cuts {
        let until = (at + more).max(written);
        let part = recording.part(written..until, chunk_events).cut();
        (whole, cut) = (appended(whole, &part), compacted(&appended(cut, &part), at));
        written = until;
    }
    let part = recording.last_part(written, end.max(written), chunk_events);
    (whole, cut) = (appended(whole, &part), appended(cut, &part));
    let end = end.max(written);
    let (at, _) = *cuts.last().unwrap();
    let moments = (at..end).step_by(STEP as usize).map(|time| Moment::At(TraceNanos(time - 1)));
    for moment in moments.chain([Moment::End]) {
        compare(&recording, at, moment, &replayed(&whole, moment), &replayed(&cut, moment));
    }
    let (all, kept) = (replayed(&whole, Moment::Peak), replayed(&cut, Moment::Peak));
    if all.moment.time.0 >= at && all.rss_timeline.iter().any(|point| point.rss.is_some()) {
        compare(&recording, at, Moment::Peak, &all, &kept);
        assert_eq!(all.near_peak_since, kept.near_peak_since);
    }
}

fn compare(recording: &Recording, at: u64, moment: Moment, whole: &Replayed, cut: &Replayed) {
    let what = format!("cut at {at}, {moment:?}");
    assert_eq!(cut.dropped.unwrap().before, TraceNanos(at), "{what}");
    let facts = |it: &Replayed| {
        let totals = (it.events, it.pages, it.peak, it.final_pages, it.anomalies, it.lost.clone());
        (totals, it.moment, it.complete, it.start, it.last, StackShares::of_objects(&it.processes))
    };
    assert_eq!(facts(cut), facts(whole), "{what}");
    for (whole, cut) in named_modules(whole).iter().zip(&named_modules(cut)) {
        let id = whole.process.id;
        let ended_before = recording.lives[id.0 as usize].1.is_some_and(|end| end < at);
        let figures = |it: &ReplayedProcess| {
            let counts = it.page_events.as_ref().map(|events| (events.faults, events.calls.clone(), events.agreement));
            // Of a process that never had an object nothing says whether its allocator is known.
            let mut objects = it.objects;
            objects.iter_mut().filter(|it| it.live == 0).for_each(|it| it.live_chunk_bytes = None);
            (it.process.clone(), it.end, it.running, it.largest_rss, it.peak_rss, objects, counts)
        };
        assert_eq!(figures(cut), figures(whole), "{what}, {id:?}");
        let of_writes = |it: &ReplayedProcess| {
            let mut writes = it.writes.clone();
            if ended_before && let Some(it) = &mut writes {
                (it.hot, it.contended, it.sites, it.ages) = (Vec::new(), Vec::new(), Vec::new(), None);
                it.armed_pages = 0;
            }
            writes
        };
        assert_eq!(of_writes(cut), of_writes(whole), "{what}, {id:?}");
        if ended_before {
            continue;
        }
        assert_eq!(cut.page_events, whole.page_events, "{what}, {id:?}");
        // What is explained by a snapshot of before the cut is explained by the first one behind it.
        let same_snapshot = whole.rss.as_ref().is_some_and(|rss| rss.time.0 >= at);
        if same_snapshot {
            assert_eq!(cut.rss, whole.rss, "{what}, {id:?}");
            assert_eq!(cut.sites, whole.sites, "{what}, {id:?}");
        } else {
            let live = |it: &ReplayedProcess| {
                let sites = it.sites.iter().map(|it| {
                    (it.id, (it.live, it.live_bytes, it.live_usable_bytes, it.allocated, it.allocated_bytes))
                });
                let sites = sites.filter(|(_, figures)| *figures != (0, 0, 0, 0, 0));
                sites.collect::<BTreeMap<_, _>>()
            };
            assert_eq!(live(cut), live(whole), "{what}, {id:?}");
        }
    }
}

/// The processes, their frames' modules given by the processes that have them: modules that nobody needs are dropped.
fn named_modules(replayed: &Replayed) -> Vec<ReplayedProcess> {
    let mut processes = replayed.processes.clone();
    for process in &mut processes {
        let touches = process.page_events.iter_mut().flat_map(|events| &mut events.first_touches);
        let writes = process.writes.iter_mut().flat_map(|writes| {
            let pages = writes.hot.iter_mut().chain(&mut writes.contended);
            let of_pages = pages.flat_map(|page| &mut page.object_frames);
            of_pages.chain(writes.sites.iter_mut().map(|site| &mut site.frames))
        });
        let frames = process.sites.iter_mut().map(|site| &mut site.frames).chain(touches.map(|it| &mut it.frames));
        let frames = frames.chain(writes);
        for module in frames.flatten().filter_map(|frame| frame.module.as_mut()) {
            *module = replayed.metadata.modules[*module].process.0 as usize;
        }
    }
    processes
}

proptest! {
    #[test]
    fn a_cut_trace_says_what_the_whole_one_says(
        steps in prop::collection::vec(step(), 1..120),
        sampled in any::<bool>(),
        chunk_events in 1_usize..20,
        cuts in prop::collection::vec((0_usize..120, 0_usize..30), 1..4),
    ) {
        check(&steps, sampled, chunk_events, &cuts);
    }
}

#[test]
fn a_moment_that_was_dropped_is_refused() {
    let recording = Recording::of(&[Step::Alloc { process: 0, stream: 0, place: 0, size: 8, stack: 1 }], false);
    let bytes = compacted(&recording.last_part(0, 500, 10), 200);
    let trace = Trace::open(&bytes).unwrap();
    let error = pagetrace_replay::replay(&trace, Moment::At(TraceNanos(100)), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("dropped"), "{error}");
}

#[test]
fn damage_in_what_is_dropped_is_told() {
    let steps: Vec<Step> =
        (0..40).map(|place| Step::Alloc { process: 0, stream: 0, place, size: 8, stack: 1 }).collect();
    let mut bytes = Recording::of(&steps, false).last_part(0, 900, 10);
    let chunk = Trace::open(&bytes).unwrap().chunks().iter().find(|chunk| chunk.header.kind.has_events()).copied();
    bytes[chunk.unwrap().payload_offset + 9] ^= 0x55;
    let cut = replayed(&compacted(&bytes, 300), Moment::End);
    assert_eq!(cut.lost["malformed"].events, 10, "{:?}", cut.lost);
}

#[test]
fn nothing_is_lost_where_rounded_times_go_back() {
    // Each chunk ends with an alloc, whose time is rounded up, and the next one begins with a free, whose time is rounded down.
    let chunk = |begin: u64| -> Vec<Event> {
        let time = |step: u64| begin + 700 * step;
        (0..10)
            .flat_map(|step| {
                [free(time(2 * step), HEAP + 64 * step), alloc(time(2 * step + 1), HEAP + 64 * step, 8, 1)]
            })
            .collect()
    };
    let mut builder = Builder::new(PageShift::KIB_4);
    builder = builder.records(&[libc_module(0), process(0, ProcessOrigin::Command, None, 1), stream(1, 0, None)]);
    for first in 0..4 {
        builder = builder.objects(1, &chunk(1 + 13_301 * first));
    }
    let whole = builder.records(&[ended(0, 100_000, EndStatus::Running)]).end(100_000);
    let lasts: Vec<u64> = Trace::open(&whole).unwrap().chunks().iter().map(|chunk| chunk.header.last.0).collect();
    let of_whole = replayed(&whole, Moment::End).processes[0].objects;
    for at in lasts.iter().flat_map(|&last| [last - 1, last, last + 1]).filter(|&at| at > 2 && at < 60_000) {
        assert_eq!(replayed(&compacted(&whole, at), Moment::End).processes[0].objects, of_whole, "cut at {at}");
    }
}

#[test]
fn readers_take_what_is_behind_a_much_shorter_start() {
    // Hardly to be compressed, all of it gone before the cut.
    let scattered: Vec<Event> = (0..40_000_u64)
        .flat_map(|number| {
            let (time, address) = (2 + 2 * number, number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 17 << 4);
            [alloc(time, address, address >> 9 & 0xffff, 1), free(time + 1, address)]
        })
        .collect();
    let (first, at) = (200_000, 150_000);
    let mut builder = Builder::new(PageShift::KIB_4);
    builder = builder.records(&[libc_module(0), process(0, ProcessOrigin::Command, None, 1), stream(1, 0, None)]);
    for events in scattered.chunks(10_000) {
        builder = builder.events(1, events);
    }
    // All the same, again and again.
    let fault = PageFault {
        address: Address(HEAP),
        instruction: Address(LIBC),
        stack: StackId::UNKNOWN,
        access: FaultAccess::Read,
        in_kernel: false,
    };
    for begin in (0..8).map(|chunk| first + 40_000 * chunk) {
        let pairs =
            (0..16_000).flat_map(|pair| [alloc(begin + 2 * pair, HEAP, 8, 1), free(begin + 2 * pair + 1, HEAP)]);
        let faults: Vec<(u64, KernelEventKind)> =
            (0..30_000).map(|number| (begin + number, KernelEventKind::Fault(fault))).collect();
        builder = builder.objects(1, &pairs.collect::<Vec<Event>>()).kernel_events(0, &faults);
    }
    let end = first + 400_000;
    let whole = builder.records(&[ended(0, end, EndStatus::Running)]).end(end);
    assert_eq!(Trace::open(&whole).unwrap().defects(), []);
    let cut = compacted(&whole, at);
    assert_eq!(Trace::open(&cut).unwrap().defects(), []);
    let objects = |bytes: &[u8]| replayed(bytes, Moment::End).processes[0].objects;
    assert_eq!(objects(&cut), objects(&whole));
}
