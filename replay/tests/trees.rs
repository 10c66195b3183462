//! What several processes have together: each page once, whichever moment is asked for, and what is said where that is not known.

mod trace;

use pagetrace_format::records::{EndStatus, ProcessOrigin, Record, TreeLook};
use pagetrace_format::snapshot::PageFlags;
use pagetrace_format::{PageShift, ProcessId, Snapshot, Trace, TraceNanos};
use pagetrace_replay::results::{TreeBytes, TreeState};
use pagetrace_replay::{Moment, compact};

use trace::*;

const ANON: u64 = 0x7eee_0100_0000;
const SHARED: u64 = 0x7ddd_0000_0000;
const PAGE: u64 = 4096;

/// A process with 8 anonymous pages, of which it has `proportional` by the kernel, 4 pages of shared memory from one of them
/// on, and 2 of libc.
fn looked_at(process: u32, time: u64, first_shared: u64, proportional: Option<u64>) -> Snapshot {
    let maps = [(ANON, 8 * PAGE, "rw-p", ""), (SHARED, 16 * PAGE, "rw-s", "/dev/shm/x (deleted)")];
    let shared = SHARED + first_shared * PAGE;
    let resident = [(shared, 4, PageFlags::FILE), (ANON, 8, 0), (LIBC, 2, PageFlags::FILE)];
    let mut snapshot = snapshot(process, time, 14 * PAGE, &maps, &resident);
    snapshot.kernel.pss_anonymous = proportional.map(|pages| pages * PAGE);
    for mapping in snapshot.mappings.iter_mut().filter(|mapping| mapping.start.0 == SHARED) {
        mapping.inode = 77;
    }
    snapshot
}

fn look(start: u64, end: u64, frames: Option<(u64, u64)>, members: &[u32]) -> Record {
    Record::TreeLook(TreeLook {
        start: TraceNanos(start),
        end: TraceNanos(end),
        anonymous_once: Some(3 * PAGE),
        frames: frames.map(|(distinct, _)| distinct * PAGE),
        frames_of_several: frames.map(|(_, several)| several * PAGE),
        members: members.iter().copied().map(ProcessId).collect(),
    })
}

fn family() -> Builder {
    Builder::new(PageShift::KIB_4).records(&[
        process(0, ProcessOrigin::Command, None, 1),
        process(1, ProcessOrigin::Fork, Some(0), 5),
        ended(0, 1000, EndStatus::Exited(0)),
        ended(1, 900, EndStatus::Exited(0)),
    ])
}

fn tree(bytes: &[u8], at: Moment) -> Option<TreeState> {
    replayed(bytes, at).tree
}

#[test]
fn files_count_once_and_anonymous_memory_by_its_share() {
    let bytes = family()
        .snapshot(&looked_at(0, 100, 0, Some(6)))
        .snapshot(&looked_at(1, 110, 3, Some(5)))
        .records(&[look(99, 111, None, &[0, 1])])
        .end(1000);
    let found = tree(&bytes, Moment::Peak).expect("two processes");
    let expected = TreeBytes {
        anonymous: 11 * PAGE,
        is_upper_bound: false,
        file: 2 * PAGE,
        // Pages 0 to 3 and 3 to 6.
        shared_memory: 7 * PAGE,
        tracer: 0,
        // One of shared memory, two of libc, and all anonymous ones but three.
        of_several: Some((1 + 2 + 8) * PAGE),
    };
    assert_eq!(found.by_files, Some(expected));
    assert_eq!((found.distinct(), found.of_several()), (Some(20 * PAGE), Some(11 * PAGE)));
    assert_eq!(found.sum(|kernel| kernel.rss), Some(28 * PAGE));
    assert_eq!((found.at_once, found.is_steady, found.unseen), (true, true, 0));
    assert_eq!((found.start, found.end), (TraceNanos(100), TraceNanos(110)));
}

#[test]
fn frames_go_before_what_is_worked_out() {
    let bytes = family()
        .snapshot(&looked_at(0, 100, 0, Some(6)))
        .snapshot(&looked_at(1, 110, 0, Some(6)))
        .records(&[look(99, 111, Some((19, 4)), &[0, 1])])
        .end(1000);
    let found = tree(&bytes, Moment::End).expect("two processes");
    assert_eq!((found.distinct(), found.of_several()), (Some(19 * PAGE), Some(4 * PAGE)));
    assert_eq!(found.by_files.map(|bytes| bytes.distinct()), Some((12 + 2 + 4) * PAGE));
}

#[test]
fn a_missing_figure_makes_it_an_upper_bound() {
    let bytes = family()
        .snapshot(&looked_at(0, 100, 0, Some(4)))
        .snapshot(&looked_at(1, 110, 0, None))
        .records(&[look(99, 111, None, &[0, 1])])
        .end(1000);
    let found = tree(&bytes, Moment::Peak).and_then(|tree| tree.by_files).expect("two processes");
    assert_eq!((found.anonymous, found.is_upper_bound, found.of_several), (16 * PAGE, true, None));
}

#[test]
fn the_last_look_before_a_moment_is_shown() {
    let bytes = family()
        .snapshot(&looked_at(0, 100, 0, Some(6)))
        .snapshot(&looked_at(1, 110, 0, Some(6)))
        .records(&[look(99, 111, None, &[0, 1])])
        .snapshot(&looked_at(0, 300, 0, Some(8)))
        .snapshot(&looked_at(1, 310, 0, Some(8)))
        .records(&[look(299, 311, None, &[0, 1])])
        .end(1000);
    let anonymous = |at| {
        let found: TreeState = tree(&bytes, at)?;
        Some((found.at_once, found.by_files?.anonymous / PAGE))
    };
    assert_eq!(anonymous(Moment::At(TraceNanos(200))), Some((true, 12)));
    assert_eq!(anonymous(Moment::At(TraceNanos(500))), Some((true, 16)));
    assert_eq!(anonymous(Moment::End), Some((true, 16)));
    // Before the first look each has its last snapshot, if there are two.
    assert_eq!(anonymous(Moment::At(TraceNanos(105))), None);
    // One of them is left.
    assert_eq!(anonymous(Moment::At(TraceNanos(950))), None);
}

#[test]
fn without_a_look_each_has_its_last_snapshot() {
    let bytes = family().snapshot(&looked_at(0, 100, 0, Some(8))).snapshot(&looked_at(1, 400, 0, Some(4))).end(1000);
    let found = tree(&bytes, Moment::At(TraceNanos(500))).expect("two processes");
    assert_eq!((found.at_once, found.is_steady, found.of_several()), (false, false, None));
    assert_eq!(found.distinct(), Some((12 + 2 + 4) * PAGE));
}

#[test]
fn a_process_that_comes_meanwhile_is_told_of() {
    let bytes = family()
        .records(&[process(2, ProcessOrigin::Fork, Some(0), 105)])
        .snapshot(&looked_at(0, 100, 0, Some(6)))
        .snapshot(&looked_at(1, 110, 0, Some(6)))
        .records(&[look(99, 111, None, &[0, 1])])
        .end(1000);
    let found = tree(&bytes, Moment::End).expect("two processes");
    assert_eq!((found.is_steady, found.unseen), (false, 1));
}

#[test]
fn a_look_whose_snapshots_are_gone_is_none() {
    let whole = |builder: Builder| {
        builder.snapshot(&looked_at(0, 100, 0, Some(6))).snapshot(&looked_at(1, 110, 0, Some(6))).records(&[look(
            99,
            111,
            None,
            &[0, 1],
        )])
    };
    let lacking = whole(family()).records(&[look(200, 300, Some((1, 1)), &[0, 1])]).end(1000);
    assert_eq!(tree(&lacking, Moment::End).and_then(|tree| tree.distinct()), Some((12 + 2 + 4) * PAGE));

    let bytes = whole(family())
        .snapshot(&looked_at(0, 300, 0, Some(8)))
        .snapshot(&looked_at(1, 310, 0, Some(8)))
        .records(&[look(299, 311, None, &[0, 1])])
        .end(1000);
    let cut = compact(&Trace::open(&bytes).expect("a trace"), TraceNanos(105), Vec::new()).expect("cut");
    let cut = cut.into_inner().expect("cut");
    let trace = Trace::open(&cut).expect("a trace");
    let records = trace.chunks().iter().flat_map(|chunk| trace.records(chunk).unwrap_or_default());
    let looks = records.filter(|record| matches!(record, Record::TreeLook(_))).count();
    assert_eq!(looks, 1, "the one that is not whole any more is gone");
    assert_eq!(tree(&cut, Moment::End).and_then(|tree| tree.distinct()), Some((16 + 2 + 4) * PAGE));
}
