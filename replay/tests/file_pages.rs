//! Which pages of files the kernel's events say are mapped: one small stream of events for each rule.
#![allow(clippy::single_range_in_vec_init, reason = "lists of ranges of pages, some of one range")]

mod trace;

use std::ops::Range;

use pagetrace_format::kernel_event::FaultAccess;
use pagetrace_format::records::{MappedFile, ProcessOrigin, Record};
use pagetrace_format::{
    Address, FileId, KernelEventKind, PageCall, PageFault, PageShift, ProcessId, StackId, SystemCall, Trace, TraceNanos,
};
use pagetrace_replay::predicted_file_pages;
use trace::{Builder, process};

const READ: u64 = 1;
const WRITE: u64 = 2;
const EXECUTE: u64 = 4;
const SHARED: u64 = 1;
const PRIVATE: u64 = 2;
const ANONYMOUS: u64 = 0x20;
const POPULATE: u64 = 0x8000;
const DONTNEED: u64 = 4;
const POPULATE_READ: u64 = 22;
const PAGE: u64 = 4096;
/// Pages under one page table.
const TABLE: u64 = 512;
const LIBRARY: FileId = FileId(1);
const SHARED_MEMORY: FileId = FileId(2);

fn files() -> Vec<Record> {
    let file = |id, inode, path: &str| Record::MappedFile(MappedFile { id, device: 8 << 32, inode, path: path.into() });
    vec![file(LIBRARY, 11, "/lib/libexample.so"), file(SHARED_MEMORY, 12, "/memfd:example (deleted)")]
}

fn call(call: PageCall, arguments: &[u64], result: u64, file: FileId) -> KernelEventKind {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    KernelEventKind::Call(SystemCall { call, arguments: all, result: result as i64, file, stack: StackId(0) })
}

/// Places and lengths are pages here and below.
fn map(page: u64, pages: u64, protection: u64, flags: u64) -> KernelEventKind {
    map_of(page, pages, protection, flags, LIBRARY)
}

fn map_of(page: u64, pages: u64, protection: u64, flags: u64, file: FileId) -> KernelEventKind {
    call(PageCall::Mmap, &[0, pages * PAGE, protection, flags, 0, 0], page * PAGE, file)
}

fn text(page: u64, pages: u64) -> KernelEventKind {
    map(page, pages, READ | EXECUTE, PRIVATE)
}

fn data(page: u64, pages: u64) -> KernelEventKind {
    map(page, pages, READ | WRITE, PRIVATE)
}

fn range_call(kind: PageCall, page: u64, pages: u64, third: u64) -> KernelEventKind {
    call(kind, &[page * PAGE, pages * PAGE, third], 0, FileId::NONE)
}

fn touch(page: u64) -> KernelEventKind {
    access(page, FaultAccess::Unknown)
}

fn access(page: u64, access: FaultAccess) -> KernelEventKind {
    let (address, instruction) = (Address(page * PAGE + 123), Address(0x1000));
    KernelEventKind::Fault(PageFault { address, instruction, stack: StackId(0), access, in_kernel: false })
}

fn check(events: &[KernelEventKind], expected: &[Range<u64>]) {
    let timed: Vec<_> = (10..).zip(events.iter().copied()).collect();
    let bytes = Builder::new(PageShift::KIB_4)
        .records(&[process(1, ProcessOrigin::Command, None, 5)])
        .records(&files())
        .kernel_events(1, &timed)
        .end(1000);
    assert_eq!(predicted(&bytes, 1, 1000), expected, "after {events:#?}");
}

fn predicted(bytes: &[u8], process: u32, time: u64) -> Vec<Range<u64>> {
    let trace = Trace::open(bytes).unwrap();
    predicted_file_pages(&trace, &[(ProcessId(process), TraceNanos(time))]).unwrap().remove(0)
}

#[test]
fn a_touch_maps_the_aligned_window_around_it() {
    check(&[text(96, 100), touch(133)], &[128..144]);
    check(&[text(96, 100), touch(128), touch(143)], &[128..144]);
    check(&[text(96, 100), touch(143), touch(160)], &[128..144, 160..176]);
    check(&[text(96, 100)], &[]);
}

#[test]
fn the_window_ends_with_the_mapping_and_the_page_table() {
    check(&[text(100, 34), touch(130)], &[128..134]);
    // Cut at its start it is as long as ever.
    check(&[text(100, 60), touch(105)], &[100..116]);
    check(&[text(TABLE - 3, 60), touch(TABLE - 1)], &[TABLE - 3..TABLE]);
    check(&[text(TABLE - 3, 60), touch(TABLE + 1)], &[TABLE..TABLE + 16]);
}

#[test]
fn windows_stop_where_another_protection_or_file_begins() {
    check(&[text(96, 36), map(132, 64, READ, PRIVATE), touch(130)], &[128..132]);
    check(&[text(96, 36), map(132, 64, READ, PRIVATE), touch(132)], &[132..148]);
    // What was relocated and then protected is no part of what could never be written.
    let relocated = range_call(PageCall::Mprotect, 132, 8, READ);
    check(&[map(96, 36, READ, PRIVATE), data(132, 8), relocated, touch(130)], &[128..132]);
}

#[test]
fn a_write_takes_its_page_and_maps_no_others() {
    check(&[data(128, 16), access(133, FaultAccess::Write)], &[]);
    let both = [data(128, 16), access(133, FaultAccess::Read), access(134, FaultAccess::Write)];
    check(&both, &[128..134, 135..144]);
    check(&[both[0], both[2], both[1]], &[128..134, 135..144]);
}

#[test]
fn data_of_a_program_that_is_touched_twice_was_read_first() {
    check(&[text(64, 16), data(128, 16), touch(133)], &[]);
    check(&[text(64, 16), data(128, 16), touch(133), touch(133)], &[128..133, 134..144]);
}

#[test]
fn shared_files_get_single_pages_by_writing() {
    let shared = map(128, 16, READ | WRITE, SHARED);
    check(&[shared, access(133, FaultAccess::Write)], &[133..134]);
    check(&[shared, access(133, FaultAccess::Read)], &[128..144]);
    check(&[map_of(128, 16, READ | WRITE, SHARED, SHARED_MEMORY), touch(133)], &[]);
    check(&[map_of(128, 16, READ | WRITE, SHARED | ANONYMOUS, FileId::NONE), touch(133)], &[]);
    check(&[map_of(128, 16, READ | WRITE, PRIVATE | ANONYMOUS, FileId::NONE), touch(133)], &[]);
}

#[test]
fn calls_fill_what_can_only_be_read() {
    check(&[map(100, 40, READ, PRIVATE | POPULATE)], &[100..140]);
    check(&[map(100, 40, READ | WRITE, PRIVATE | POPULATE)], &[]);
    check(&[map(100, 40, 0, PRIVATE | POPULATE)], &[]);
    check(&[text(100, 40), range_call(PageCall::Mlock, 110, 7, 0)], &[110..117]);
    check(&[data(100, 40), range_call(PageCall::Madvise, 110, 7, POPULATE_READ)], &[110..117]);
    let copied = [data(100, 40), access(112, FaultAccess::Write), range_call(PageCall::Madvise, 110, 7, POPULATE_READ)];
    check(&copied, &[110..112, 113..117]);
}

#[test]
fn pages_go_with_their_mapping_and_by_advice() {
    let mapped = [text(128, 32), touch(133)];
    let with = |last: KernelEventKind| [mapped[0], mapped[1], last];
    check(&with(range_call(PageCall::Munmap, 130, 4, 0)), &[128..130, 134..144]);
    check(&with(range_call(PageCall::Madvise, 130, 4, DONTNEED)), &[128..130, 134..144]);
    check(&with(map_of(130, 4, READ, PRIVATE | ANONYMOUS, FileId::NONE)), &[128..130, 134..144]);
    check(&with(range_call(PageCall::Mprotect, 128, 32, 0)), &[128..144]);
    let moved = call(PageCall::Mremap, &[128 * PAGE, 32 * PAGE, 8 * PAGE, 1], 1000 * PAGE, FileId::NONE);
    check(&with(moved), &[1000..1008]);
}

#[test]
fn a_child_begins_with_the_files_of_mappings_that_hold_copies() {
    let parent = [
        (10, text(64, 32)),
        (11, touch(70)),
        (12, data(128, 16)),
        (13, access(130, FaultAccess::Read)),
        (14, access(131, FaultAccess::Write)),
    ];
    let child = [(20, KernelEventKind::Fork { parent: ProcessId(1) }), (22, touch(80))];
    let bytes = Builder::new(PageShift::KIB_4)
        .records(&[process(1, ProcessOrigin::Command, None, 5), process(2, ProcessOrigin::Fork, Some(1), 30)])
        .records(&files())
        .kernel_events(2, &child)
        .kernel_events(1, &parent)
        .end(1000);
    assert_eq!(predicted(&bytes, 1, 1000), [64..80, 128..131, 132..144]);
    assert_eq!(predicted(&bytes, 2, 20), [128..131, 132..144]);
    assert_eq!(predicted(&bytes, 2, 22), [80..96, 128..131, 132..144]);
}
