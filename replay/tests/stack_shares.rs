//! How far the stacks of objects reach, counted.

mod trace;

use pagetrace_format::records::{ProcessOrigin, Record, StackEnd, StackFrames};
use pagetrace_format::{Address, PageShift, ProcessId, StackId};
use pagetrace_replay::{Moment, StackShares};

use trace::*;

fn frames(id: u32, frames: &[u64], end: StackEnd) -> Record {
    let frames = frames.iter().map(|&address| Address(address)).collect();
    Record::StackFrames(StackFrames { process: ProcessId(1), id: StackId(id), frames, end })
}

#[test]
fn each_allocation_counts_once_by_the_end_of_its_stack() {
    let events: Vec<_> = (0..15_u64)
        .map(|number| {
            // Stack 0 is none, 6 is not in the trace.
            let stack = [1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 0, 6, StackId::NAMED_BUCKET | 1, 5][number as usize];
            alloc(10 + number, 0x10000 + number * 64, 24, stack)
        })
        .collect();
    let bytes = Builder::new(PageShift::KIB_4)
        .records(&[process(1, ProcessOrigin::Command, None, 1), stream(1, 1, None)])
        .records(&stack(1, 1, LIBC + 0x20))
        .records(&[frames(2, &[1, 2], StackEnd::Cut), frames(3, &[1], StackEnd::Unknown)])
        .records(&[frames(4, &[1, 2, 3], StackEnd::ThreadStart), frames(5, &[], StackEnd::Cut)])
        .events(1, &events)
        .events(1, &[free(40, 0x10000), alloc(41, 0x10000, 24, 1)])
        .end(50);
    let shares = StackShares::of_objects(&replayed(&bytes, Moment::End).processes);
    assert_eq!(shares, StackShares { thread_start: 7, cut: 3, unknown: 2, none: 3, bucket: 1 });
    assert_eq!(shares.all(), 16);
}
