//! The worked examples of TRACE_FORMAT.md are what this crate reads and writes.

use pagetrace_format::records::{End, Record};
use pagetrace_format::*;

/// The bytes of the example with this title: hexadecimal digits in front of `|` in the code block that follows it.
fn example(title: &str) -> Vec<u8> {
    let specification = include_str!("../TRACE_FORMAT.md");
    let (_, rest) = specification.split_once(title).unwrap_or_else(|| panic!("no example {title:?}"));
    let block = rest.split("```").nth(1).expect("a code block behind the title");
    let digits = block.lines().filter_map(|line| line.split_once('|')).flat_map(|(bytes, _)| bytes.split_whitespace());
    digits.map(|digits| u8::from_str_radix(digits, 16).expect("two hexadecimal digits")).collect()
}

#[test]
fn the_example_of_a_trace() {
    let header = FileHeader {
        version: VERSION,
        page_shift: PageShift::KIB_4,
        origin: Origin::Recorded,
        start: TraceNanos(1_000_000_000),
        start_unix_ns: 1_700_000_000_000_000_000,
    };
    let mut events = EventColumns::new();
    let run = PageRun { base: Address(0x10000), pages: PageCount(4) };
    events.push(Event { time: TraceNanos(1_000_000_017), kind: EventKind::PageAlloc(run) });
    let object = ObjectFree { address: Address(0x10008), function: ObjectFunction::Realloc };
    events.push(Event { time: TraceNanos(1_000_000_300), kind: EventKind::ObjectFree(object) });
    let end = End { time: TraceNanos(1_000_000_400), unix_ns: 1_700_000_000_000_000_400 };
    let mut writer = TraceWriter::new(Vec::new(), &header).expect("memory takes it");
    writer.events(StreamId(1), &events).expect("memory takes it");
    writer.records(end.time, &[Record::End(end)]).expect("memory takes it");
    let written = writer.into_inner().expect("memory takes it");
    assert_eq!(example("## A worked example"), written);
}

#[test]
fn the_example_of_a_go_page_trace() {
    let bytes = example("### A worked example of Go's");
    let go = GoPageTrace::open(&bytes).expect("a Go page trace");
    assert_eq!((go.defects(), go.runs().len(), go.runs()[0].processor), (&[][..], 1, 2));
    let mut cursor = go.events(&go.runs()[0]);
    let run = |base, pages| PageRun { base: Address(base), pages: PageCount(pages) };
    let expected = [
        (581_099_279_488, EventKind::TimeSync),
        (581_099_279_488, EventKind::PageAlloc(run(0xc0_0000_0000, 4))),
        (581_099_279_744, EventKind::PageFree(run(0xc0_0040_0000, 5000))),
    ];
    for (time, kind) in expected {
        assert_eq!(cursor.next_event().expect("an event"), Some(Event { time: TraceNanos(time), kind }));
    }
    assert_eq!(cursor.next_event().expect("the end"), None);
}
