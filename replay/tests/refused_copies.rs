//! Forks that a reader does not copy, so that memory stays in proportion to the trace: said of the whole trace and of what is left
//! of it.

mod trace;

use pagetrace_format::records::ProcessOrigin;
use pagetrace_format::{Event, PageShift, Trace, TraceNanos};
use pagetrace_replay::results::DefectKind;
use pagetrace_replay::{Moment, compact};

use trace::*;

const HEAP: u64 = 0x5555_0000_0000;

#[test]
fn refused_copies_in_what_is_dropped_are_told() {
    // Objects so far apart that children copy more of them than a trace of this length may have copied.
    let objects: Vec<Event> = (0..200).map(|number| alloc(2 + number, HEAP + (number << 30), 24, 1)).collect();
    let mut builder = Builder::new(PageShift::KIB_4);
    builder = builder.records(&[libc_module(0), process(0, ProcessOrigin::Command, None, 1), stream(1, 0, None)]);
    builder = builder.events(1, &objects);
    for id in 1..100 {
        let records = [process(id, ProcessOrigin::Fork, Some(0), 6_000), stream(id + 1, id, None)];
        builder = builder.records(&records).events(id + 1, &[free(6_001, HEAP)]);
    }
    let whole = builder.end(10_000);
    let defects = replayed(&whole, Moment::End).defects;
    assert!(
        defects.iter().any(|defect| defect.kind == DefectKind::TooManyCopies),
        "copies less than is allowed: {defects:?}"
    );
    // What cannot be said of a place in the file any more is a loss without a number.
    let cut = compacted(&whole, 9_000);
    for bytes in [&cut, &compacted(&cut, 9_500)] {
        let lost = replayed(bytes, Moment::End).lost;
        assert!(lost.contains_key("malformed"), "{lost:?}");
    }
}

fn compacted(bytes: &[u8], at: u64) -> Vec<u8> {
    compact(&Trace::open(bytes).unwrap(), TraceNanos(at), Vec::new()).unwrap().into_inner().unwrap()
}
