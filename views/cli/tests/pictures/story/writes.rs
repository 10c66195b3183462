//! Who writes the pages of the story: an epoch a step, which ends just before the step's snapshot.

use std::ops::Range;

use pagetrace_format::{
    Access, AccessSource, Address, FirstWriter, PageCount, PageIndex, PageRange, StackId, TraceNanos, WriteEpoch,
    WriteLabel, WrittenRun,
};

use super::{CODE, HEAP_PAGE, HEAP_PAGES, KEPT, MILLI, PAGES_A_STEP, START, STEPS};

/// Pages of the heap that two threads write in turns, one in each epoch.
pub const SHARED_PAGES: Range<u64> = 0..20;
/// Pages of the heap that nobody writes: their first touches read.
pub const READ_PAGES: Range<u64> = 500..560;
/// Pages that the kernel writes in the last epoch but one.
const KERNEL_PAGES: Range<u64> = 300..400;
/// Pages that the kernel writes for the main thread then, in a system call.
pub const CALL_PAGES: Range<u64> = 400..410;
/// The thread beside the main one.
const OTHER: u32 = 4243;
const KERNEL_CODE: Address = Address(0xffff_ffff_8100_0000);

/// The epochs.
pub fn accesses() -> Vec<Access> {
    let mut accesses = Vec::new();
    for step in 0..=STEPS {
        let (begin, end) = (step.saturating_sub(1) * 100 + if step == 0 { 0 } else { 55 }, step * 100 + 55);
        accesses.push(Access::Epoch(WriteEpoch {
            number: step + 1,
            begin: TraceNanos(START + begin * MILLI),
            end: TraceNanos(START + end * MILLI),
            source: AccessSource::AsyncWriteProtection,
            ranges_follow: step == 0,
        }));
        if step == 0 {
            accesses.push(Access::Armed(range(0..HEAP_PAGES)));
        }
        let write = TraceNanos(START + (begin + 20) * MILLI);
        if step > 0 {
            let (tid, stack) = if step % 2 == 1 { (OTHER, KEPT) } else { (4242, StackId::UNKNOWN) };
            accesses.push(written(SHARED_PAGES, Some((tid, write, stack))));
        }
        let grown = step * PAGES_A_STEP..(step + 1) * PAGES_A_STEP;
        if step + 1 == STEPS {
            accesses.push(written(KERNEL_PAGES, None));
            accesses.push(written_from(KERNEL_CODE, CALL_PAGES, Some((4242, write, StackId::UNKNOWN))));
        }
        let parts = [grown.start..grown.end.min(READ_PAGES.start), grown.start.max(READ_PAGES.end)..grown.end];
        for part in parts.into_iter().filter(|part| !part.is_empty() && step < STEPS) {
            accesses.push(written(part, Some((4242, write, StackId::UNKNOWN))));
        }
    }
    accesses
}

fn range(pages: Range<u64>) -> PageRange {
    PageRange { first: PageIndex(HEAP_PAGE + pages.start), pages: PageCount(pages.end - pages.start) }
}

fn written(pages: Range<u64>, writer: Option<(u32, TraceNanos, StackId)>) -> Access {
    written_from(Address(CODE + 0x30), pages, writer)
}

fn written_from(instruction: Address, pages: Range<u64>, writer: Option<(u32, TraceNanos, StackId)>) -> Access {
    let first = |(tid, time, stack)| FirstWriter { time, span_ns: 1000, tid, instruction, stack, task: None };
    Access::Written(WrittenRun { range: range(pages), label: WriteLabel::Written, writer: writer.map(first) })
}
