//! Looks and faults put together.

use pagetrace_format::Address;
use pagetrace_format::StackId;
use pagetrace_format::kernel_event::{FaultAccess, PageCall};

use super::*;
use crate::writes::WriteProtection;

const UNKNOWN: FaultAccess = FaultAccess::Unknown;
const WRITE: FaultAccess = FaultAccess::Write;

fn address(page: u64) -> u64 {
    page << WriteProtection::page_shift().get()
}

/// The epoch from 100 to 210, the look being from 200 on.
fn look(found: &[(u64, u64, HowFound)]) -> Look {
    let run = |&(first, pages, how): &(u64, u64, HowFound)| {
        let range = PageRange { first: PageIndex(first), pages: PageCount(pages) };
        FoundRun { range, how }
    };
    Look {
        number: 1,
        begin: TraceNanos(100),
        looked: TraceNanos(200),
        end: TraceNanos(210),
        armed: None,
        found: found.iter().map(run).collect(),
    }
}

fn fault(told: &mut WriteFaults, time: u64, tid: u32, page: u64, access: FaultAccess) {
    told.fault(TraceNanos(time), tid, Address(address(page) + 5), Address(7), StackId::UNKNOWN, access);
}

fn call(told: &mut WriteFaults, time: u64, call: PageCall, page: u64, pages: u64, advice: u64) {
    let result = if call == PageCall::Mmap { address(page) as i64 } else { 0 };
    told.call(TraceNanos(time), call, &[address(page), address(pages), advice, 0, 0, 0], result);
}

/// First page, pages, label, and thread and time of the first writer.
type Run = (u64, u64, WriteLabel, Option<(u32, u64)>);

fn check(what: &str, look: &Look, told: &mut WriteFaults, expected: &[Run]) {
    let run = |run: WrittenRun| {
        let writer = run.writer.map(|writer| (writer.tid, writer.time.0));
        (run.range.first.0, run.range.pages.0, run.label, writer)
    };
    let found: Vec<Run> = runs_of(look, told).into_iter().map(run).collect();
    assert_eq!(found, expected, "{what}");
}

#[test]
fn the_first_write_counts_and_a_read_does_not() {
    let mut told = WriteFaults::default();
    fault(&mut told, 110, 1, 5, FaultAccess::Read);
    fault(&mut told, 120, 2, 5, UNKNOWN);
    fault(&mut told, 130, 3, 5, WRITE);
    fault(&mut told, 140, 4, 5, WRITE);
    fault(&mut told, 150, 5, 6, UNKNOWN);
    let found = look(&[(5, 3, HowFound::Armed)]);
    let written = WriteLabel::Written;
    let expected = [(5, 1, written, Some((3, 130))), (6, 1, written, Some((5, 150))), (7, 1, written, None)];
    check("pages of three", &found, &mut told, &expected);
    assert!(told.faults.is_empty());
}

#[test]
fn what_comes_while_it_is_looked_belongs_to_the_epoch_in_which_the_page_is_found() {
    let mut told = WriteFaults::default();
    fault(&mut told, 150, 1, 5, WRITE);
    fault(&mut told, 205, 2, 5, WRITE);
    fault(&mut told, 206, 3, 6, WRITE);
    fault(&mut told, 207, 4, 7, WRITE);
    fault(&mut told, 220, 5, 8, WRITE);
    let expected = [(5, 1, WriteLabel::Written, Some((1, 150))), (6, 1, WriteLabel::Written, Some((3, 206)))];
    check("the first look", &look(&[(5, 2, HowFound::Armed)]), &mut told, &expected);
    let next = Look {
        number: 2,
        begin: TraceNanos(200),
        looked: TraceNanos(300),
        end: TraceNanos(310),
        ..look(&[(5, 1, HowFound::Armed), (7, 2, HowFound::Armed)])
    };
    let expected = [
        (5, 1, WriteLabel::Written, Some((2, 205))),
        (7, 1, WriteLabel::Written, Some((4, 207))),
        (8, 1, WriteLabel::Written, Some((5, 220))),
    ];
    check("the next one", &next, &mut told, &expected);
}

#[test]
fn what_was_given_back_is_told_apart() {
    let mut told = WriteFaults::default();
    fault(&mut told, 110, 1, 5, WRITE);
    fault(&mut told, 111, 1, 6, UNKNOWN);
    fault(&mut told, 112, 1, 7, WRITE);
    call(&mut told, 120, PageCall::Madvise, 5, 3, 4);
    fault(&mut told, 130, 2, 7, WRITE);
    // After it was given back, and not found: it is not known what became of it.
    fault(&mut told, 140, 2, 6, WRITE);
    fault(&mut told, 150, 1, 9, WRITE);
    call(&mut told, 160, PageCall::Munmap, 9, 1, 0);
    let expected = [
        (5, 1, WriteLabel::Discarded, Some((1, 110))),
        (7, 1, WriteLabel::Written, Some((1, 112))),
        (9, 1, WriteLabel::Discarded, Some((1, 150))),
    ];
    check("advised and unmapped", &look(&[(7, 1, HowFound::Armed)]), &mut told, &expected);
}

#[test]
fn memory_that_was_not_armed_is_written_where_it_is_new() {
    let mut told = WriteFaults::default();
    call(&mut told, 110, PageCall::Mmap, 10, 4, 3);
    fault(&mut told, 120, 1, 11, WRITE);
    told.call(TraceNanos(130), PageCall::Mremap, &[address(40), address(2), address(2), 1, 0, 0], address(20) as i64);
    fault(&mut told, 140, 1, 21, WRITE);
    fault(&mut told, 150, 1, 31, UNKNOWN);
    fault(&mut told, 160, 1, 32, WRITE);
    let found = [(10, 2, HowFound::Unarmed), (20, 2, HowFound::Unarmed), (30, 3, HowFound::UnarmedShared)];
    let (written, new) = (WriteLabel::Written, WriteLabel::New);
    let expected = [
        (10, 1, written, None),
        (11, 1, written, Some((1, 120))),
        (20, 1, new, None),
        (21, 1, written, Some((1, 140))),
        (30, 2, new, None),
        (32, 1, written, Some((1, 160))),
    ];
    check("mapped, moved and shared", &look(&found), &mut told, &expected);
}

#[test]
fn neighbours_with_one_writer_are_one_run() {
    let mut told = WriteFaults::default();
    for page in 0..3000 {
        // From the last to the first.
        fault(&mut told, 100_000_000 - 1_000 * page, 1 + u32::from(page == 2_500), page, WRITE);
    }
    let found =
        Look { end: TraceNanos(200_000_000), looked: TraceNanos(199_000_000), ..look(&[(0, 3000, HowFound::Armed)]) };
    let runs = runs_of(&found, &mut told);
    let pages: Vec<(u64, u64, u64)> =
        runs.iter().map(|run| (run.range.first.0, run.range.pages.0, run.writer.unwrap().span_ns)).collect();
    assert_eq!(
        pages,
        [(0, 1001, 1_000_000), (1001, 1001, 1_000_000), (2002, 498, 497_000), (2500, 1, 0), (2501, 499, 498_000)]
    );
    assert_eq!(runs[0].writer.unwrap().time, TraceNanos(99_000_000));
}

#[test]
fn an_epoch_waits_until_all_of_it_was_told_and_is_cut_into_chunks() {
    let mut builder = EpochBuilder::default();
    let mut told = WriteFaults::default();
    let lone: Vec<(u64, u64, HowFound)> = (0..70_000).map(|page| (2 * page, 1, HowFound::Armed)).collect();
    let ranges = vec![PageRange { first: PageIndex(0), pages: PageCount(140_000) }];
    builder.looked(Look { armed: Some(ranges), ..look(&lone) });
    assert_eq!(builder.waits_from(), Some(TraceNanos(210)));
    assert!(builder.take(&mut told, 210).is_empty());
    let chunks = builder.take(&mut told, 211);
    assert_eq!(chunks.iter().map(Vec::len).collect::<Vec<_>>(), [65_537, 4_466]);
    let follow =
        |chunk: &Vec<Access>| matches!(chunk[0], Access::Epoch(WriteEpoch { number: 1, ranges_follow: true, .. }));
    assert_eq!(chunks.iter().map(follow).collect::<Vec<_>>(), [true, false]);
    assert_eq!(builder.waits_from(), None);
}
