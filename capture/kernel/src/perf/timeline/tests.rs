//! Tests of the order and of what is joined.

use super::*;

fn record(time: u64, tid: u32, body: Body) -> PerfRecord {
    PerfRecord { time, pid: 1, tid, body }
}

fn fault(address: u64) -> Body {
    Body::Fault { address, instruction: 0x400, in_kernel: false }
}

fn enter(number: i64, arguments: [u64; 6]) -> Body {
    Body::Enter { number, arguments, stack: None }
}

fn sample(address: u64) -> Body {
    Body::StackSample { address, registers: Box::new([7; REGISTERS]), stack: vec![1] }
}

#[test]
fn a_call_whose_begin_alone_is_told_is_there_once_and_keeps_nothing_back() {
    let begun = |number, arguments| Body::Begun { number, arguments };
    let (out, missed) = all(vec![
        record(10, 1, begun(libc::SYS_munmap, [0x5000, 0x1000, 9, 9, 9, 9])),
        record(20, 1, fault(0x8000)),
        record(30, 2, begun(libc::SYS_mmap, [0, 0x2000, 3, 0x22, u64::MAX, 0])),
        record(40, 2, mapped("/lib/b")),
        // Not about pages.
        record(50, 1, begun(libc::SYS_read, [3, 0x5000, 100, 0, 0, 0])),
    ]);
    let unknown = pagetrace_format::SystemCall::RESULT_UNKNOWN;
    let found: Vec<(u64, u32, &str)> = out.iter().map(|(time, tid, text)| (*time, *tid, text.as_str())).collect();
    let expected = [format!("munmap {unknown}"), format!("mmap {unknown}")];
    assert_eq!(found[0], (10, 1, expected[0].as_str()));
    assert_eq!(found[1], (20, 1, "fault 0x8000 Unknown"));
    assert_eq!(found[2], (30, 2, expected[1].as_str()));
    assert!(found[3].2.contains("/lib/b") && found.len() == 4, "{found:?}");
    assert_eq!(missed, Missed::default());
}

#[test]
fn a_call_that_is_told_at_its_end_says_what_it_changed() {
    let end = |number, arguments, result| Body::Exit { number, result, arguments: Some(arguments) };
    let records = vec![
        // Of a program's start: no call makes them.
        record(10, 1, mapped("/bin/a")),
        record(20, 1, mapped("/lib/b")),
        record(25, 2, fault(0x9000)),
        record(30, 1, fault(0x8000)),
        // Changed by the call that ends next, and by none.
        record(40, 1, mapped("/lib/b")),
        record(45, 2, mapped("/lib/c")),
        record(50, 1, end(libc::SYS_mprotect, [0x7000, 0x1000, 1, 0, 0, 0], 0)),
        // Two mappings changed by one call, and one by a call that is not told before memory is read.
        record(51, 1, mapped("/lib/b")),
        record(52, 1, mapped("/lib/b")),
        record(53, 1, end(libc::SYS_mprotect, [0x6000, 0x2000, 1, 0, 0, 0], 0)),
        record(55, 1, mapped("/dev/shm/d")),
        record(60, 1, end(libc::SYS_read, [3, 0x5000, 100, 0, 0, 0], 60)),
        record(70, 1, end(libc::SYS_read, [3, 0x5000, 100, 0, 0, 0], -4)),
    ];
    let (out, missed) = all(records);
    let named = |(time, tid, text): &(u64, u32, String)| {
        let name = text.split('"').nth(1).unwrap_or(text).to_owned();
        (*time, *tid, name)
    };
    let out: Vec<_> = out.iter().map(named).collect();
    let expected = [
        (10, 1, "/bin/a"),
        (20, 1, "/lib/b"),
        (25, 2, "fault 0x9000 Unknown"),
        (30, 1, "fault 0x8000 Unknown"),
        (45, 2, "/lib/c"),
        (50, 1, "mprotect 0"),
        (53, 1, "mprotect 0"),
        (55, 1, "/dev/shm/d"),
        (60, 1, "filled 60"),
    ];
    assert_eq!(texts(&out), expected);
    assert_eq!(missed, Missed::default());
}

const MS: u64 = 1_000_000;

/// What comes out once everything is complete: time, thread and what, in short.
fn all(records: Vec<PerfRecord>) -> (Vec<(u64, u32, String)>, Missed) {
    let (mut timeline, mut out) = (Timeline::default(), Vec::new());
    records.into_iter().for_each(|record| timeline.push(record));
    timeline.release(u64::MAX, |told| out.push(short(&told)));
    (out, timeline.missed())
}

fn short(told: &Told) -> (u64, u32, String) {
    let text = match &told.kind {
        ToldKind::Fault { address, access, stack, .. } => {
            format!("fault {address:#x} {access:?}{}", if stack.is_some() { " stack" } else { "" })
        }
        ToldKind::Call { call, result, mapped, .. } => {
            let path = mapped.as_ref().map(|mapped| format!(" {}", mapped.path)).unwrap_or_default();
            format!("{} {result}{path}", call.name())
        }
        other => format!("{other:?}"),
    };
    (told.time, told.tid, text)
}

fn texts(out: &[(u64, u32, String)]) -> Vec<(u64, u32, &str)> {
    out.iter().map(|(time, tid, text)| (*time, *tid, text.as_str())).collect()
}

fn mapped(path: &str) -> Body {
    let (path, device) = (path.to_owned(), 0);
    Body::Mapped(Box::new(MappedRecord {
        start: 0x7000,
        bytes: 0x1000,
        file_offset: 0,
        device,
        inode: 1,
        protection: 1,
        flags: 2,
        path,
    }))
}

#[test]
fn calls_that_take_away_count_from_their_begin_and_others_from_their_end() {
    let (munmap, mmap) = (libc::SYS_munmap, libc::SYS_mmap);
    let (out, missed) = all(vec![
        record(30, 2, Body::Exit { number: mmap, result: 0x7000, arguments: None }),
        record(40, 1, Body::Exit { number: munmap, result: 0, arguments: None }),
        record(10, 1, enter(munmap, [0x7000, 0x1000, 0, 0, 0, 0])),
        record(20, 2, enter(mmap, [0, 0x1000, 3, 0x22, 0, 0])),
        record(25, 2, mapped("/file")),
        record(35, 2, fault(0x7000)),
    ]);
    let expected = [(10, 1, "munmap 0"), (30, 2, "mmap 28672 /file"), (35, 2, "fault 0x7000 Unknown")];
    assert_eq!(texts(&out), expected);
    assert_eq!(missed, Missed::default());
}

#[test]
fn a_fixed_mapping_takes_away() {
    let fixed = [0x7000, 0x1000, 3, libc::MAP_FIXED as u64 | 0x22, 0, 0];
    let (out, _) = all(vec![
        record(10, 1, enter(libc::SYS_mmap, fixed)),
        record(20, 2, fault(0x9000)),
        record(30, 1, Body::Exit { number: libc::SYS_mmap, result: 0x7000, arguments: None }),
    ]);
    assert_eq!(texts(&out), [(10, 1, "mmap 28672"), (20, 2, "fault 0x9000 Unknown")]);
}

#[test]
fn what_no_call_mapped_stands_for_itself() {
    let (out, _) = all(vec![
        record(5, 1, mapped("[vdso]")),
        record(10, 1, enter(libc::SYS_read, [3, 0x7000, 100, 0, 0, 0])),
        record(12, 1, mapped("[stack]")),
        record(20, 1, Body::Exit { number: libc::SYS_read, result: 60, arguments: None }),
    ]);
    assert_eq!(out.len(), 3);
    assert!(out[0].2.contains("vdso") && out[1].2.contains("stack"), "{out:?}");
    assert_eq!((out[2].0, out[2].2.as_str()), (20, "filled 60"));
}

#[test]
fn a_failed_call_is_told_and_a_failed_read_is_not() {
    let (out, _) = all(vec![
        record(10, 1, enter(libc::SYS_read, [3, 0x7000, 100, 0, 0, 0])),
        record(20, 1, Body::Exit { number: libc::SYS_read, result: -4, arguments: None }),
        record(30, 1, enter(libc::SYS_mmap, [0; 6])),
        record(40, 1, Body::Exit { number: libc::SYS_mmap, result: -22, arguments: None }),
    ]);
    assert_eq!(texts(&out), [(40, 1, "mmap -22")]);
}

#[test]
fn a_call_in_flight_holds_back_the_order_but_not_for_long() {
    let (mut timeline, mut out) = (Timeline::default(), Vec::new());
    timeline.push(record(MS, 1, enter(libc::SYS_munmap, [0x7000, 0x1000, 0, 0, 0, 0])));
    timeline.push(record(2 * MS, 2, fault(0x7000)));
    timeline.release(30 * MS, |told| out.push(short(&told)));
    assert!(out.is_empty(), "{out:?}");
    timeline.release(60 * MS, |told| out.push(short(&told)));
    assert_eq!(texts(&out), [(2 * MS, 2, "fault 0x7000 Unknown")]);
    timeline.push(record(70 * MS, 1, Body::Exit { number: libc::SYS_munmap, result: 0, arguments: None }));
    timeline.release(80 * MS, |told| out.push(short(&told)));
    assert_eq!(texts(&out)[1..], [(70 * MS, 1, "munmap 0")]);
}

#[test]
fn a_thread_that_ends_in_a_call_leaves_no_place() {
    let (out, missed) = all(vec![
        record(10, 1, enter(libc::SYS_munmap, [0; 6])),
        record(20, 1, Body::ThreadEnded),
        record(30, 2, fault(0x1000)),
        record(40, 2, Body::Exit { number: libc::SYS_brk, result: 0, arguments: None }),
    ]);
    assert_eq!(out.len(), 2);
    assert_eq!(missed.ends, 1, "of a call that began before the recording");
}

#[test]
fn only_what_is_complete_comes_out() {
    let (mut timeline, mut out) = (Timeline::default(), Vec::new());
    timeline.push(record(5 * MS, 1, fault(0x5000)));
    timeline.push(record(3 * MS, 2, fault(0x3000)));
    timeline.release(4 * MS, |told| out.push(told.time));
    assert_eq!(out, [3 * MS]);
    timeline.push(record(4 * MS, 3, fault(0x4000)));
    timeline.release(6 * MS, |told| out.push(told.time));
    assert_eq!(out, [3 * MS, 4 * MS, 5 * MS]);
}

#[test]
fn a_stack_joins_its_fault_whichever_is_first() {
    let (out, missed) = all(vec![
        record(10, 1, fault(0x1000)),
        record(11, 1, sample(0x1000)),
        record(20, 1, sample(0x2000)),
        record(21, 1, fault(0x2000)),
        record(30, 1, fault(0x3000)),
        record(31, 2, sample(0x3000)),
        record(40, 1, sample(0x4000)),
        record(40, 1, sample(0x4000)),
        record(3 * MS, 1, sample(0x3000)),
    ]);
    let expected = [
        (10, 1, "fault 0x1000 Unknown stack"),
        (21, 1, "fault 0x2000 Unknown stack"),
        (30, 1, "fault 0x3000 Unknown"),
        (40, 1, "fault 0x4000 Unknown stack"),
    ];
    assert_eq!(texts(&out), expected);
    assert_eq!(missed.stacks, 0, "those that may still get their fault are not missed yet");
}

#[test]
fn a_fault_in_the_kernel_gets_its_access() {
    let in_kernel = |address| Body::Fault { address, instruction: 1 << 63, in_kernel: true };
    let (out, _) = all(vec![
        record(10, 1, Body::KernelAccess { address: 0x1000, write: true }),
        record(11, 1, in_kernel(0x1000)),
        record(20, 1, Body::KernelAccess { address: 0x2000, write: false }),
        record(21, 1, in_kernel(0x3000)),
        record(30, 1, Body::KernelAccess { address: 0x4000, write: false }),
        record(31, 1, in_kernel(0x4000)),
    ]);
    let expected = [(11, 1, "fault 0x1000 Write"), (21, 1, "fault 0x3000 Unknown"), (31, 1, "fault 0x4000 Read")];
    assert_eq!(texts(&out), expected);
}
