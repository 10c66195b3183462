//! Which anonymous pages the kernel's events say are resident: one small stream of events for each rule.
#![allow(clippy::single_range_in_vec_init, reason = "lists of ranges of pages, some of one range")]

mod trace;

use std::ops::Range;

use pagetrace_format::kernel_event::FaultAccess;
use pagetrace_format::records::{HugePages, Machine, MappedFile, ProcessOrigin, Record};
use pagetrace_format::{
    Address, FileId, KernelEventKind, MappedRange, PageCall, PageFault, PageShift, ProcessId, StackId, SystemCall,
    Trace, TraceNanos,
};
use pagetrace_replay::predicted_anonymous_pages;
use trace::{Builder, process};

const READ: u64 = 1;
const WRITE: u64 = 2;
const EXECUTE: u64 = 4;
const SHARED: u64 = 1;
const PRIVATE: u64 = 2;
const ANONYMOUS: u64 = 0x20;
const POPULATE: u64 = 0x8000;
const NONBLOCK: u64 = 0x10000;
const LOCKED: u64 = 0x2000;
const ENOMEM: i64 = -12;
const EINVAL: i64 = -22;
const PAGE: u64 = 4096;
const HUGE: u64 = 512;
/// Files of [`files`].
const LIBRARY: FileId = FileId(1);
const DATA: FileId = FileId(2);
const STACK: FileId = FileId(3);
const VDSO: FileId = FileId(4);
const LIBRARY_AGAIN: FileId = FileId(5);

fn files() -> Vec<Record> {
    let file = |id: FileId, inode, path: &str| {
        Record::MappedFile(MappedFile { id, device: 8 << 32, inode, path: path.into() })
    };
    vec![
        file(LIBRARY, 11, "/lib/libexample.so"),
        file(DATA, 12, "/srv/data"),
        file(STACK, 0, "[stack]"),
        file(VDSO, 0, "[vdso]"),
        file(LIBRARY_AGAIN, 11, "/lib/libexample.so.1"),
    ]
}

fn machine(huge_pages: HugePages) -> Record {
    Record::Machine(Machine { huge_pages, huge_page_bytes: HUGE * PAGE, memory_bytes: 1 << 33 })
}

fn call(call: PageCall, arguments: &[u64], result: i64, file: FileId) -> KernelEventKind {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    KernelEventKind::Call(SystemCall { call, arguments: all, result, file, stack: StackId(0) })
}

/// Places and lengths are pages here and below.
fn mmap(page: u64, pages: u64, protection: u64, flags: u64) -> KernelEventKind {
    mmap_of(page, pages, protection, flags, FileId::NONE)
}

fn mmap_of(page: u64, pages: u64, protection: u64, flags: u64, file: FileId) -> KernelEventKind {
    call(PageCall::Mmap, &[0, pages * PAGE, protection, flags, 0, 0], (page * PAGE) as i64, file)
}

/// Private memory to read and write.
fn memory(page: u64, pages: u64) -> KernelEventKind {
    mmap(page, pages, READ | WRITE, PRIVATE | ANONYMOUS)
}

fn range_call(kind: PageCall, page: u64, pages: u64) -> KernelEventKind {
    call(kind, &[page * PAGE, pages * PAGE], 0, FileId::NONE)
}

fn munmap(page: u64, pages: u64) -> KernelEventKind {
    range_call(PageCall::Munmap, page, pages)
}

fn madvise(page: u64, pages: u64, advice: u64) -> KernelEventKind {
    madvise_gives(page, pages, advice, 0)
}

fn madvise_gives(page: u64, pages: u64, advice: u64, result: i64) -> KernelEventKind {
    call(PageCall::Madvise, &[page * PAGE, pages * PAGE, advice], result, FileId::NONE)
}

fn mprotect(page: u64, pages: u64, protection: u64) -> KernelEventKind {
    call(PageCall::Mprotect, &[page * PAGE, pages * PAGE, protection], 0, FileId::NONE)
}

fn mremap(old: Range<u64>, new: Range<u64>, flags: u64) -> KernelEventKind {
    let arguments = [old.start * PAGE, (old.end - old.start) * PAGE, (new.end - new.start) * PAGE, flags, 0];
    call(PageCall::Mremap, &arguments, (new.start * PAGE) as i64, FileId::NONE)
}

fn brk(address: u64) -> KernelEventKind {
    call(PageCall::Brk, &[address], address as i64, FileId::NONE)
}

fn touch(page: u64) -> KernelEventKind {
    access(page, FaultAccess::Unknown)
}

fn access(page: u64, access: FaultAccess) -> KernelEventKind {
    let (address, instruction) = (Address(page * PAGE + 123), Address(0x1000));
    KernelEventKind::Fault(PageFault { address, instruction, stack: StackId(0), access, in_kernel: false })
}

fn touches(pages: Range<u64>) -> Vec<KernelEventKind> {
    pages.map(touch).collect()
}

fn mapped(page: u64, pages: u64, protection: u64, flags: u64, file: FileId) -> KernelEventKind {
    let (start, bytes) = (Address(page * PAGE), pages * PAGE);
    let (protection, flags) = (protection as u32, flags as u32);
    KernelEventKind::Mapped(MappedRange { start, bytes, file_offset: 0, protection, flags, file })
}

const EXEC: KernelEventKind = KernelEventKind::Exec { arguments: None, table: None };

/// Pages resident after these events.
fn check(events: &[KernelEventKind], expected: &[Range<u64>]) {
    check_on(HugePages::Never, events, expected);
}

fn check_on(huge_pages: HugePages, events: &[KernelEventKind], expected: &[Range<u64>]) {
    let timed: Vec<_> = (10..).zip(events.iter().copied()).collect();
    let bytes = Builder::new(PageShift::KIB_4)
        .records(&[process(1, ProcessOrigin::Command, None, 5), machine(huge_pages)])
        .records(&files())
        .kernel_events(1, &timed)
        .end(1000);
    assert_eq!(predicted(&bytes, 1, 1000), expected, "after {events:#?}");
}

fn predicted(bytes: &[u8], process: u32, time: u64) -> Vec<Range<u64>> {
    let trace = Trace::open(bytes).unwrap();
    predicted_anonymous_pages(&trace, &[(ProcessId(process), TraceNanos(time))]).unwrap().remove(0)
}

#[test]
fn a_touch_of_private_memory_gets_a_page() {
    check(&[memory(100, 10), touch(103), touch(104), touch(109)], &[103..105, 109..110]);
    check(&[memory(100, 10), access(103, FaultAccess::Write)], &[103..104]);
}

#[test]
fn a_known_read_gets_the_page_of_zeros_until_a_write() {
    check(&[memory(100, 10), access(103, FaultAccess::Read)], &[]);
    check(&[memory(100, 10), access(103, FaultAccess::Read), access(103, FaultAccess::Write)], &[103..104]);
    check(&[memory(100, 10), access(103, FaultAccess::Write), access(103, FaultAccess::Read)], &[103..104]);
}

#[test]
fn a_touch_that_is_forbidden_gets_nothing() {
    check(&[mmap(100, 10, 0, PRIVATE | ANONYMOUS), touch(103)], &[]);
    check(&[mmap(100, 10, READ, PRIVATE | ANONYMOUS), access(103, FaultAccess::Write)], &[]);
    check(
        &[mmap(100, 10, 0, PRIVATE | ANONYMOUS), mprotect(102, 2, READ | WRITE), touch(103), touch(104)],
        &[103..104],
    );
}

#[test]
fn taking_rights_away_takes_no_pages() {
    check(&[memory(100, 10), touch(103), mprotect(100, 10, 0)], &[103..104]);
}

#[test]
fn shared_memory_and_files_are_not_anonymous() {
    check(&[mmap(100, 10, READ | WRITE, SHARED | ANONYMOUS), access(103, FaultAccess::Write)], &[]);
    check(&[mmap_of(100, 10, READ | WRITE, SHARED, DATA), access(103, FaultAccess::Write)], &[]);
    check(&[mmap_of(100, 10, READ, PRIVATE, DATA), touch(103)], &[]);
    check(&[mapped(100, 2, READ, PRIVATE, VDSO), touch(100)], &[]);
}

#[test]
fn a_write_to_a_private_file_mapping_makes_a_copy() {
    check(&[mmap_of(100, 10, READ | WRITE, PRIVATE, DATA), access(103, FaultAccess::Write)], &[103..104]);
    check(&[mmap_of(100, 10, READ | WRITE, PRIVATE, DATA), access(103, FaultAccess::Read)], &[]);
    // Whether it was a write is not known, and a file that is no program is mostly read.
    check(&[mmap_of(100, 10, READ | WRITE, PRIVATE, DATA), touch(103)], &[]);
    // A file whose name is not known is one all the same.
    check(&[mmap(100, 10, READ | WRITE, PRIVATE), touch(103)], &[]);
}

#[test]
fn writable_data_of_a_program_is_copied_by_any_touch() {
    let text = |file| mmap_of(100, 10, READ | EXECUTE, PRIVATE, file);
    check(&[text(LIBRARY), mmap_of(110, 4, READ | WRITE, PRIVATE, LIBRARY), touch(103), touch(111)], &[111..112]);
    check(&[text(LIBRARY), mmap_of(110, 4, READ | WRITE, PRIVATE, LIBRARY_AGAIN), touch(111)], &[111..112]);
    check(&[text(LIBRARY), mmap_of(110, 4, READ | WRITE, PRIVATE, LIBRARY), access(111, FaultAccess::Read)], &[]);
    check(&[text(LIBRARY), mmap_of(110, 4, READ, PRIVATE, LIBRARY), touch(111)], &[]);
}

#[test]
fn exec_fills_arguments_and_the_last_page_of_data() {
    let data = mapped(110, 4, READ | WRITE, PRIVATE, LIBRARY);
    let arguments = KernelEventKind::Exec {
        arguments: Some((Address(0x7000_3800), Address(0x7000_4000))),
        table: Some((Address(0x7000_1800), Address(0x7000_2800))),
    };
    check(&[arguments, data], &[113..114, 0x70001..0x70004]);
    check(&[EXEC, mapped(100, 4, READ, PRIVATE, LIBRARY), data, touch(111)], &[111..112, 113..114]);
    let table = call(PageCall::Filled, &[0x6fff_f800, 0x300], 0x300, FileId::NONE);
    check(&[arguments, table, data], &[113..114, 0x6ffff..0x70000, 0x70001..0x70004]);
    // With the first call exec is over, and what is mapped then ends on no zeroed page.
    check(&[EXEC, brk(0x5000_0000), data], &[]);
}

#[test]
fn a_mapping_told_again_keeps_its_pages() {
    let again = mapped(100, 20, READ | WRITE, PRIVATE, FileId::NONE);
    check(&[memory(100, 10), touch(103), again], &[103..104]);
    check(&[memory(100, 10), touch(103), mapped(100, 10, READ | WRITE, SHARED, FileId::NONE)], &[]);
}

#[test]
fn what_the_kernel_filled_is_resident() {
    let filled = |address: u64, bytes: u64| call(PageCall::Filled, &[address, bytes], bytes as i64, FileId::NONE);
    check(&[memory(100, 10), filled(102 * PAGE + 4000, 200)], &[102..104]);
    check(&[memory(100, 10), filled(102 * PAGE, PAGE)], &[102..103]);
    check(&[mmap_of(100, 10, READ | WRITE, PRIVATE, DATA), filled(102 * PAGE, 1)], &[102..103]);
    check(&[mmap(100, 10, READ | WRITE, SHARED | ANONYMOUS), filled(102 * PAGE, 1)], &[]);
    check(&[memory(100, 10), filled(102 * PAGE, u64::MAX)], &[]);
}

#[test]
fn populated_mappings_are_resident_where_they_can_be_written() {
    let populated = |protection| mmap(100, 10, protection, PRIVATE | ANONYMOUS | POPULATE);
    check(&[populated(READ | WRITE)], &[100..110]);
    check(&[populated(READ)], &[]);
    check(&[populated(0)], &[]);
    check(&[mmap(100, 10, READ | WRITE, PRIVATE | ANONYMOUS | POPULATE | NONBLOCK)], &[]);
    check(&[mmap(100, 10, READ | WRITE, PRIVATE | ANONYMOUS | LOCKED)], &[100..110]);
    check(&[memory(100, 10), madvise(102, 3, 22)], &[]);
    check(&[memory(100, 10), madvise(102, 3, 23)], &[102..105]);
}

#[test]
fn locked_memory_is_resident() {
    let mlock2 = |flags| call(PageCall::Mlock2, &[102 * PAGE, 3 * PAGE, flags], 0, FileId::NONE);
    check(&[memory(100, 10), range_call(PageCall::Mlock, 102, 3)], &[102..105]);
    check(&[memory(100, 10), mlock2(0)], &[102..105]);
    check(&[memory(100, 10), mlock2(1)], &[]);
    check(&[memory(100, 10), range_call(PageCall::Mlock, 102, 3), range_call(PageCall::Munlock, 102, 3)], &[102..105]);
}

#[test]
fn mlockall_fills_what_is_and_what_will_be() {
    let mlockall = |flags: u64| call(PageCall::Mlockall, &[flags], 0, FileId::NONE);
    let munlockall = call(PageCall::Munlockall, &[], 0, FileId::NONE);
    check(&[memory(100, 10), mlockall(1), memory(200, 10)], &[100..110]);
    check(&[memory(100, 10), mlockall(2), memory(200, 10)], &[200..210]);
    check(&[memory(100, 10), mlockall(3), memory(200, 10), munlockall, memory(300, 10)], &[100..110, 200..210]);
    check(&[memory(100, 10), mlockall(7), memory(200, 10)], &[]);
    check(&[mlockall(2), brk(100 * PAGE), brk(102 * PAGE)], &[100..102]);
}

#[test]
fn unmapping_and_mapping_over_drop_pages() {
    let filled: Vec<_> = [memory(100, 10)].into_iter().chain(touches(100..110)).collect();
    let with = |event| filled.iter().copied().chain([event]).collect::<Vec<_>>();
    check(&with(munmap(102, 3)), &[100..102, 105..110]);
    check(&with(memory(108, 10)), &[100..108]);
    check(&with(mmap(102, 3, 0, PRIVATE | ANONYMOUS)), &[100..102, 105..110]);
}

#[test]
fn advice_drops_pages_or_keeps_them() {
    let filled: Vec<_> = [memory(100, 10)].into_iter().chain(touches(100..110)).collect();
    let with = |advice| filled.iter().copied().chain([madvise(102, 3, advice)]).collect::<Vec<_>>();
    let dropped = [100..102, 105..110];
    for advice in [4, 24, 102] {
        check(&with(advice), &dropped);
    }
    const KEPT: [(u64, &str); 5] = [(8, "FREE"), (9, "REMOVE"), (20, "COLD"), (21, "PAGEOUT"), (103, "GUARD_REMOVE")];
    for (advice, name) in KEPT {
        println!("MADV_{name}");
        check(&with(advice), &[100..110]);
    }
    // Copies of a file's pages are dropped too.
    let copied = [mmap_of(100, 10, READ | WRITE, PRIVATE, DATA), access(103, FaultAccess::Write), madvise(100, 10, 4)];
    check(&copied, &[]);
}

#[test]
fn failed_calls_change_nothing_but_for_holes() {
    let start = [memory(100, 10), touch(103), touch(104)];
    let with = |event| start.iter().copied().chain([event]).collect::<Vec<_>>();
    check(&with(madvise_gives(100, 10, 4, EINVAL)), &[103..105]);
    check(&with(call(PageCall::Munmap, &[100 * PAGE, PAGE * 10], EINVAL, FileId::NONE)), &[103..105]);
    check(&with(call(PageCall::Mlock, &[100 * PAGE, PAGE * 10], ENOMEM, FileId::NONE)), &[103..105]);
    // It goes on over what is not mapped, and says so.
    check(&with(madvise_gives(104, 20, 4, ENOMEM)), &[103..104]);
}

#[test]
fn mremap_moves_grows_and_shrinks() {
    let start = [memory(100, 10), touch(103), touch(108)];
    let with = |events: &[KernelEventKind]| start.iter().chain(events).copied().collect::<Vec<_>>();
    check(&with(&[mremap(100..110, 100..105, 1)]), &[103..104]);
    check(&with(&[mremap(100..110, 100..120, 1), touch(115)]), &[103..104, 108..109, 115..116]);
    check(&with(&[mremap(100..110, 500..520, 1), touch(515), touch(103)]), &[103..104, 503..504, 508..509, 515..516]);
    check(&with(&[mremap(100..110, 500..505, 1)]), &[503..504]);
    check(&with(&[mremap(102..104, 500..502, 1)]), &[108..109, 501..502]);
    let taken = [memory(500, 10), touch(501), touch(509)];
    check(&with(&[&taken[..], &[mremap(100..105, 500..505, 3)]].concat()), &[108..109, 503..504, 509..510]);
    // The mapping stays, empty.
    check(&with(&[mremap(100..110, 500..510, 5), touch(109)]), &[109..110, 503..504, 508..509]);
    // What was locked is filled as it grows.
    check(&[memory(100, 2), range_call(PageCall::Mlock, 100, 2), mremap(100..102, 100..104, 1)], &[100..104]);
}

#[test]
fn the_heap_of_brk_grows_and_shrinks() {
    let heap = |end: u64| brk(0x5000_0800 + end * PAGE);
    let first = 0x50000;
    let grown = [heap(0), heap(10), touch(first + 1), touch(first + 5), touch(first + 9)];
    check(&grown, &[first + 1..first + 2, first + 5..first + 6, first + 9..first + 10]);
    let shrunk: Vec<_> = grown.iter().copied().chain([heap(5), heap(10)]).collect();
    check(&shrunk, &[first + 1..first + 2, first + 5..first + 6]);
}

#[test]
fn a_touch_without_a_mapping_is_the_stack_or_was_missed() {
    check(&[touch(777)], &[777..778]);
    let stack = mapped(0x7_0000, 33, READ | WRITE, PRIVATE, STACK);
    let below = 0x7_0000 - 40;
    check(&[stack, touch(below), munmap(below, 1)], &[]);
    // The stack has grown to there: what lies between is the stack's.
    check(&[stack, touch(below), access(below + 7, FaultAccess::Read)], &[below..below + 1]);
}

#[test]
fn huge_pages_come_whole_where_a_program_asked_or_always() {
    let whole = [HUGE..2 * HUGE];
    let asked = [memory(HUGE - 10, 2 * HUGE), madvise(HUGE, HUGE, 14), touch(HUGE + 77)];
    check_on(HugePages::Madvise, &asked, &whole);
    check_on(HugePages::Never, &asked, &[HUGE + 77..HUGE + 78]);
    let silent = [memory(HUGE - 10, 2 * HUGE), touch(HUGE + 77)];
    check_on(HugePages::Always, &silent, &whole);
    check_on(HugePages::Madvise, &silent, &[HUGE + 77..HUGE + 78]);
    check_on(HugePages::Unknown, &silent, &[HUGE + 77..HUGE + 78]);
    let refused = [memory(HUGE - 10, 2 * HUGE), madvise(HUGE, HUGE, 15), touch(HUGE + 77)];
    check_on(HugePages::Always, &refused, &[HUGE + 77..HUGE + 78]);
    // Not all of its place is in the mapping.
    check_on(HugePages::Always, &[memory(HUGE + 1, 2 * HUGE), touch(HUGE + 77)], &[HUGE + 77..HUGE + 78]);
    // A part of it is resident already.
    let mixed = [memory(HUGE, HUGE - 1), touch(HUGE), memory(2 * HUGE - 1, 1), touch(HUGE + 9)];
    check_on(HugePages::Always, &mixed, &[HUGE..HUGE + 1, HUGE + 9..HUGE + 10]);
    // Giving back a part of it is exact.
    let part = [memory(HUGE, HUGE), touch(HUGE), madvise(HUGE + 10, 5, 4)];
    check_on(HugePages::Always, &part, &[HUGE..HUGE + 10, HUGE + 15..2 * HUGE]);
    // A read gets a huge page of zeros.
    check_on(HugePages::Always, &[memory(HUGE, HUGE), access(HUGE, FaultAccess::Read)], &[]);
    // Neighbours that are alike are one mapping to the kernel.
    let joined = [memory(HUGE, 100), memory(HUGE + 100, HUGE - 100), touch(HUGE)];
    check_on(HugePages::Always, &joined, &whole);
}

#[test]
fn a_place_with_a_table_of_small_pages_gets_no_huge_page() {
    let place = memory(HUGE, HUGE);
    let again = [HUGE + 5..HUGE + 6];
    // Dropped at once it is as new, dropped piece by piece it is not.
    let whole = [place, touch(HUGE), madvise(HUGE, HUGE, 4), touch(HUGE + 5)];
    check_on(HugePages::Always, &whole, &[HUGE..2 * HUGE]);
    let small = [place, madvise(HUGE, HUGE, 15), touch(HUGE), touch(HUGE + 9), madvise(HUGE, HUGE, 14)];
    let with = |events: &[KernelEventKind]| small.iter().chain(events).copied().collect::<Vec<_>>();
    check_on(HugePages::Always, &with(&[madvise(HUGE, HUGE, 4), touch(HUGE + 5)]), &[HUGE..2 * HUGE]);
    check_on(HugePages::Always, &with(&[madvise(HUGE, 1, 4), madvise(HUGE + 9, 1, 4), touch(HUGE + 5)]), &again);
    let parts = [place, touch(HUGE), madvise(HUGE, 300, 4), madvise(HUGE + 300, HUGE - 300, 4), touch(HUGE + 5)];
    check_on(HugePages::Always, &parts, &again);
    // A small page of zeros has a table too; a huge one has not.
    let read = access(HUGE + 3, FaultAccess::Read);
    let zeros = [place, madvise(HUGE, HUGE, 15), read, madvise(HUGE, HUGE, 14), touch(HUGE + 5)];
    check_on(HugePages::Always, &zeros, &again);
    check_on(HugePages::Always, &[place, read, touch(HUGE + 5)], &[HUGE..2 * HUGE]);
    // With the last mapping in a place its table goes.
    check_on(HugePages::Always, &with(&[munmap(HUGE, HUGE), place, touch(HUGE + 5)]), &[HUGE..2 * HUGE]);
    check_on(
        HugePages::Always,
        &with(&[munmap(HUGE, 9), munmap(HUGE + 9, HUGE), place, touch(HUGE)]),
        &[HUGE..2 * HUGE],
    );
}

#[test]
fn collapse_makes_huge_pages_of_what_is_there() {
    let events = [memory(HUGE, 3 * HUGE), touch(HUGE + 3), madvise(HUGE, 3 * HUGE, 25)];
    check_on(HugePages::Madvise, &events, &[HUGE..2 * HUGE]);
}

#[test]
fn a_child_begins_with_its_parents_pages() {
    let parent = [
        (10, memory(100, 10)),
        (11, touch(101)),
        (12, touch(103)),
        (13, touch(105)),
        (14, madvise(103, 1, 10)),
        (15, madvise(105, 1, 18)),
        (21, touch(107)),
    ];
    let child = [
        (20, KernelEventKind::Fork { parent: ProcessId(1) }),
        (22, touch(105)),
        (23, touch(108)),
        // It does not have this page mapped, so that this is a mapping nobody told of.
        (24, munmap(101, 1)),
    ];
    let bytes = Builder::new(PageShift::KIB_4)
        .records(&[process(1, ProcessOrigin::Command, None, 5), process(2, ProcessOrigin::Fork, Some(1), 30)])
        .kernel_events(2, &child)
        .kernel_events(1, &parent)
        .end(1000);
    assert_eq!(predicted(&bytes, 2, 20), [101..102]);
    assert_eq!(predicted(&bytes, 2, 23), [101..102, 105..106, 108..109]);
    assert_eq!(predicted(&bytes, 2, 24), [105..106, 108..109]);
    assert_eq!(predicted(&bytes, 1, 1000), [101..102, 103..104, 105..106, 107..108]);
}

#[test]
fn moments_are_given_in_the_order_in_which_they_are_asked_for() {
    let events = [(10, memory(100, 10)), (11, touch(101)), (20, touch(105))];
    let bytes = Builder::new(PageShift::KIB_4)
        .records(&[process(1, ProcessOrigin::Command, None, 15)])
        .kernel_events(1, &events[..2])
        .kernel_events(1, &events[2..])
        .end(1000);
    let trace = Trace::open(&bytes).unwrap();
    let wanted = [(1, 20), (1, 19), (7, 20), (1, 9)].map(|(process, time)| (ProcessId(process), TraceNanos(time)));
    let predicted = predicted_anonymous_pages(&trace, &wanted).unwrap();
    assert_eq!(predicted, [vec![101..102, 105..106], vec![101..102], vec![], vec![]]);
}
