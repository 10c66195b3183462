//! Page traces of Go, properties: random words never break the reader, random canonical files come back byte for
//! byte, and recorded page events survive the way to Go's format.

use pagetrace_format::records::{Process, ProcessOrigin, Record, Stream, StreamKind};
use pagetrace_format::{
    Address, Event, EventColumns, EventKind, FileHeader, FormatError, GoPageTrace, ObjectAlloc, ObjectFunction, Origin,
    PageCount, PageRun, PageShift, ProcessId, StackId, StreamId, Trace, TraceNanos, TraceWriter, VERSION, go_to_native,
    native_to_go,
};
use proptest::prelude::*;

fn to_go(native: &[u8]) -> Result<Vec<u8>, FormatError> {
    let mut out = Vec::new();
    native_to_go(&Trace::open(native)?, &mut out)?;
    Ok(out)
}

/// Words of every kind, likely and unlikely.
fn any_word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0_u64..8).prop_map(|p| p << 3 | 4),
        Just(u64::MAX << 3 | 4),
        (1_u64..1 << 40).prop_map(|time| time << 3),
        page_word(),
    ]
}

fn page_word() -> impl Strategy<Value = u64> {
    (any::<u16>(), 0_u64..1 << 35, 0_u64..1024, 1_u64..4)
        .prop_map(|(delta, page, pages, kind)| u64::from(delta) << 48 | page << 13 | pages << 3 | kind)
}

/// One buffer as Go writes them.
fn canonical_run() -> impl Strategy<Value = Vec<u64>> {
    let large = (page_word(), 1024_u64..1 << 35).prop_map(|(word, pages)| vec![word & !(0x3ff << 3) | 4, pages]);
    let sync = (1_u64..1 << 50).prop_map(|time| vec![time << 3]);
    let item = prop_oneof![6 => page_word().prop_map(|word| vec![word]), 1 => large, 1 => sync.clone()];
    (-1_i64..1000, sync, prop::collection::vec(item, 0..50)).prop_map(|(p, sync, items)| {
        let mut words = vec![(p as u64) << 3 | 4];
        words.extend(sync);
        words.extend(items.concat());
        words
    })
}

/// Times at least, page numbers and counts of one thread's page events; gaps of all sizes.
fn recorded_events() -> impl Strategy<Value = Vec<Event>> {
    let gap = prop_oneof![8 => 0_u64..1 << 16, 2 => 0_u64..1 << 24, 1 => 0_u64..1 << 40];
    let pages = prop_oneof![8 => 1_u64..1024, 1 => 1024_u64..1 << 30];
    let event = (gap, 0_u64..1 << 35, pages, 0_u8..3);
    (1_u64..1 << 50, prop::collection::vec(event, 1..300)).prop_map(|(mut time, events)| {
        let one = |(gap, page, pages, kind)| {
            time += gap;
            let run = PageRun { base: Address(page << 13), pages: PageCount(pages) };
            let kind = [EventKind::PageAlloc, EventKind::PageFree, EventKind::PageScavenge][usize::from(kind)](run);
            Event { time: TraceNanos(time), kind }
        };
        events.into_iter().map(one).collect()
    })
}

fn recorded(page_shift: PageShift, threads: &[Vec<Event>], processes: u32) -> Vec<u8> {
    let start = TraceNanos(0);
    let header = FileHeader { version: VERSION, page_shift, origin: Origin::Recorded, start, start_unix_ns: 0 };
    let mut writer = TraceWriter::new(Vec::new(), &header).expect("memory");
    for (index, events) in threads.iter().enumerate() {
        let (id, process) = (StreamId(index as u32 + 1), ProcessId(index as u32 % processes));
        let stream = Stream { id, process, kind: StreamKind::Thread(100 + index as u32), stack_range: None };
        let origin = ProcessOrigin::Command;
        let (parent, exe, args, malloc) = (None, String::new(), None, Address(0));
        let process = Process { id: process, pid: 1, parent, origin, start, exe, args, malloc };
        writer.records(start, &[Record::Process(process), Record::Stream(stream)]).expect("memory");
        for part in events.chunks(100) {
            let mut columns = EventColumns::new();
            part.iter().for_each(|event| columns.push(*event));
            writer.events(id, &columns).expect("memory");
        }
    }
    writer.into_inner().expect("memory")
}

proptest! {
    #[test]
    fn random_words_are_read_or_stepped_over(words in prop::collection::vec(any_word(), 0..200), tail in 0_usize..8) {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(&[0x5a; 8][..tail]);
        let Ok(go) = GoPageTrace::open(&bytes) else { return Ok(()) };
        let mut parts: Vec<_> = go.runs().iter().map(|run| (run.payload_offset - 8, run.bytes + 8)).collect();
        parts.extend(go.defects().iter().map(|defect| (defect.offset, defect.bytes)));
        parts.sort_unstable();
        let mut end = 0;
        for (offset, bytes) in parts {
            prop_assert_eq!(offset, end, "every byte belongs to one buffer or one defect");
            end = offset + bytes;
        }
        prop_assert_eq!(end, bytes.len());
        match go_to_native(&go, Vec::new()) {
            Ok(native) if go.defects().is_empty() => prop_assert_eq!(to_go(&native).expect("canonical"), bytes),
            Ok(native) => prop_assert!(to_go(&native).is_err()),
            Err(error) => prop_assert!(matches!(error, FormatError::CannotConvert { .. }), "{}", error),
        }
    }

    #[test]
    fn canonical_files_come_back(runs in prop::collection::vec(canonical_run(), 1..20)) {
        let bytes: Vec<u8> = runs.concat().iter().flat_map(|word| word.to_le_bytes()).collect();
        prop_assert!(GoPageTrace::looks_like(&bytes));
        let go = GoPageTrace::open(&bytes).expect("canonical");
        prop_assert_eq!((go.runs().len(), go.defects().len()), (runs.len(), 0));
        let native = go_to_native(&go, Vec::new()).expect("canonical");
        prop_assert_eq!(to_go(&native).expect("canonical"), bytes);
    }

    #[test]
    fn recorded_page_events_survive(threads in prop::collection::vec(recorded_events(), 1..4)) {
        let bytes = to_go(&recorded(PageShift::KIB_8, &threads, 1)).expect("it fits");
        prop_assert!(GoPageTrace::looks_like(&bytes));
        let go = GoPageTrace::open(&bytes).expect("a Go page trace");
        prop_assert_eq!(go.defects(), &[]);
        let mut found = vec![Vec::new(); threads.len()];
        for run in go.runs() {
            prop_assert!(run.bytes + 8 <= 32 << 10);
            let mut cursor = go.events(run);
            let mut syncs = 0;
            while let Some(event) = cursor.next_event().expect("opening has checked it") {
                match event.kind {
                    EventKind::TimeSync => syncs += 1,
                    _ => found[run.processor as usize].push(event),
                }
            }
            prop_assert!(syncs > 0);
        }
        for (found, thread) in found.iter().zip(&threads) {
            prop_assert_eq!(found.len(), thread.len());
            for (found, event) in found.iter().zip(thread) {
                prop_assert_eq!(found.kind, event.kind);
                // The sync loses up to 127 ns, and so does the delta.
                let lost = event.time.0 - found.time.0;
                prop_assert!(lost < 255, "{} ns lost", lost);
            }
        }
        let again = to_go(&go_to_native(&go, Vec::new()).expect("canonical")).expect("canonical");
        prop_assert_eq!(again, bytes);
    }
}

#[test]
fn full_buffers_go_out_whole() {
    let run = PageRun { base: Address(0x2000), pages: PageCount(2000) };
    let event = |n: u64| Event { time: TraceNanos(1_000_000 + n * 128), kind: EventKind::PageAlloc(run) };
    let bytes = to_go(&recorded(PageShift::KIB_8, &[(0..5000).map(event).collect()], 1)).expect("it fits");
    let go = GoPageTrace::open(&bytes).expect("a Go page trace");
    // A P word, a sync, and 2047 events of two words each: 4096 words.
    assert_eq!(go.runs().iter().map(|run| run.events - 1).collect::<Vec<_>>(), [2047, 2047, 906]);
}

#[test]
fn what_does_not_fit_is_refused_with_a_reason() {
    let at = |time, kind| Event { time: TraceNanos(time), kind };
    let page = |base, pages| EventKind::PageAlloc(PageRun { base: Address(base), pages: PageCount(pages) });
    let object = EventKind::ObjectAlloc(ObjectAlloc {
        address: Address(16),
        size: 8,
        usable: 24,
        stack: StackId::UNKNOWN,
        function: ObjectFunction::Plain,
    });
    let check = |shift, threads: &[Vec<Event>], processes, expected: &str| {
        let error = to_go(&recorded(shift, threads, processes)).expect_err(expected).to_string();
        assert!(error.contains(expected) && error.contains("a Go page trace"), "{error}");
    };
    check(PageShift::KIB_4, &[vec![at(1, page(0x2000, 1))]], 1, "pages are 8192 bytes, those of this trace 4096");
    check(PageShift::KIB_8, &[vec![at(1, object)]], 1, "no page events");
    check(PageShift::KIB_8, &[], 1, "no page events");
    check(PageShift::KIB_8, &[vec![at(1, page(0x1000, 1))]], 1, "an event has 0x1000");
    check(PageShift::KIB_8, &[vec![at(1, page(1 << 48, 1))]], 1, "below 2^48");
    let two = [vec![at(1, page(0x2000, 1))], vec![at(2, page(0x4000, 1))]];
    check(PageShift::KIB_8, &two, 2, "room for one process");
}
