//! Any events leave an address space in which what is resident is mapped, and whose pages all have a first touch.

use pagetrace_format::kernel_event::FaultAccess;
use pagetrace_format::records::HugePages;
use pagetrace_format::{PageCall, SystemCall};
use proptest::prelude::*;

use super::*;

const PAGE: u64 = 4096;

fn space(huge_pages: HugePages) -> AddressSpace {
    let machine = Machine { huge_pages, huge_page_bytes: 16 * PAGE, memory_bytes: 0 };
    AddressSpace::new(PageShift::KIB_4, Some(&machine))
}

/// Mostly small numbers of pages, so that events meet; now and then anything.
fn bytes() -> impl Strategy<Value = u64> {
    prop_oneof![20 => (0_u64..100).prop_map(|pages| pages * PAGE), 1 => any::<u64>(), 1 => 0_u64..100]
}

fn advice() -> impl Strategy<Value = u64> {
    prop_oneof![4 => prop::sample::select(vec![4, 10, 11, 14, 15, 18, 22, 23, 24, 25, 102]), 1 => any::<u64>()]
}

fn call() -> impl Strategy<Value = KernelEventKind> {
    let kind = prop::sample::select(PageCall::ALL.to_vec());
    let result = prop_oneof![6 => bytes().prop_map(|bytes| bytes as i64), 1 => -4100_i64..0];
    (kind, [bytes(), bytes(), bytes()], 0_u64..8, advice(), result, any::<[bool; 6]>()).prop_map(
        |(call, [a, b, c], low, advice, result, bits)| {
            let flags = [0x1, 0x20, 0x100, 0x2000, 0x8000, 0x20000];
            let flags = flags.iter().zip(bits).filter(|(_, on)| *on).map(|(flag, _)| flag).sum::<u64>();
            let arguments = match call {
                PageCall::Mmap => [a, b, low, flags, 0, 0],
                PageCall::Mremap => [a, b, c, low, 0, 0],
                PageCall::Madvise | PageCall::ProcessMadvise => [a, b, advice, 0, 0, 0],
                PageCall::Mprotect | PageCall::Mlock2 => [a, b, low, 0, 0, 0],
                PageCall::Mlockall => [low, 0, 0, 0, 0, 0],
                _ => [a, b, 0, 0, 0, 0],
            };
            KernelEventKind::Call(SystemCall { call, arguments, result, file: FileId(0), stack: StackId(0) })
        },
    )
}

fn event() -> impl Strategy<Value = KernelEventKind> {
    let access = prop::sample::select(vec![FaultAccess::Unknown, FaultAccess::Read, FaultAccess::Write]);
    let fault = (bytes(), access).prop_map(|(address, access)| {
        let (address, instruction) = (Address(address), Address(7));
        KernelEventKind::Fault(PageFault { address, instruction, stack: StackId(0), access, in_kernel: false })
    });
    let mapped =
        (bytes(), bytes(), 0_u32..8, 0_u32..4, 0_u32..3).prop_map(|(start, bytes, protection, flags, file)| {
            let (start, file) = (Address(start), FileId(file));
            KernelEventKind::Mapped(MappedRange { start, bytes, file_offset: 0, protection, flags, file })
        });
    let exec = prop::option::of((bytes(), bytes()))
        .prop_map(|range| range.map(|(low, high)| (Address(low), Address(high))))
        .prop_map(|range| KernelEventKind::Exec { arguments: range, table: range });
    prop_oneof![8 => fault, 8 => call(), 2 => mapped, 1 => exec]
}

fn check(space: &AddressSpace, whole: bool) {
    let touched: u64 = space.pages_by_site().map(|(_, pages)| pages).sum();
    assert_eq!(touched, space.resident().count(), "every resident page has a first touch, and one alone");
    assert_eq!(space.file_pages().intersection(space.resident()).count(), 0, "a page is of a file or a copy");
    for range in space.file_pages().iter() {
        let of_files = space.areas.within(range.clone()).filter(|(_, area)| area.is_file());
        assert_eq!(of_files.map(|(part, _)| part.end - part.start).sum::<u64>(), range.end - range.start);
    }
    for range in space.resident().iter() {
        let mapped: u64 = space.areas.within(range.clone()).map(|(part, _)| part.end - part.start).sum();
        assert_eq!(mapped, range.end - range.start, "what is resident is mapped");
        if whole && range.end - range.start < 1000 {
            for page in range {
                assert!(space.areas.at(page).is_some_and(|(_, area)| area.is_private()), "page {page} is not private");
                assert!(space.touches.of(page).is_some_and(|touch| touch.time.0 != 0), "page {page} has no touch");
            }
        }
    }
}

proptest! {
    #[test]
    fn what_is_resident_is_mapped_and_was_touched(
        events in prop::collection::vec(event(), 0..60),
        huge_pages in prop::sample::select(vec![HugePages::Never, HugePages::Madvise, HugePages::Always]),
    ) {
        let metadata = Metadata::default();
        let mut space = space(huge_pages);
        for (time, kind) in (1..).zip(events) {
            space.apply(&KernelEvent { time: TraceNanos(time), tid: 3, kind }, &metadata);
            check(&space, false);
        }
        check(&space, true);
        check(&space.forked(), true);
    }
}

#[test]
fn first_touches_move_and_stay_with_their_pages() {
    let metadata = Metadata::default();
    let mut space = space(HugePages::Never);
    let call = |call, arguments: [u64; 6], result: u64| {
        let (file, stack) = (FileId(0), StackId(0));
        KernelEventKind::Call(SystemCall { call, arguments, result: result as i64, file, stack })
    };
    let touch = |page: u64| {
        let (address, instruction, access) = (Address(page * PAGE), Address(page), FaultAccess::Unknown);
        KernelEventKind::Fault(PageFault { address, instruction, stack: StackId(0), access, in_kernel: false })
    };
    let events = [
        call(PageCall::Mmap, [0, 10 * PAGE, 3, 0x22, 0, 0], 100 * PAGE),
        touch(101),
        touch(103),
        touch(101),
        call(PageCall::Mremap, [100 * PAGE, 10 * PAGE, 20 * PAGE, 1, 0, 0], 500 * PAGE),
        call(PageCall::Filled, [502 * PAGE, 3 * PAGE, 0, 0, 0, 0], 3 * PAGE),
        call(PageCall::Madvise, [501 * PAGE, PAGE, 4, 0, 0, 0], 0),
        touch(501),
    ];
    for (time, kind) in (1..).zip(events) {
        space.apply(&KernelEvent { time: TraceNanos(time), tid: 3, kind }, &metadata);
    }
    let time_of = |page| space.touches.of(page).filter(|_| space.resident().contains(page)).map(|touch| touch.time.0);
    let times: Vec<_> = (500..506).map(time_of).collect();
    assert_eq!(times, [None, Some(8), Some(6), Some(3), Some(6), None]);
}

#[test]
fn touches_of_pages_that_went_are_forgotten_in_time() {
    let metadata = Metadata::default();
    let mut space = space(HugePages::Never);
    let mut apply = |time: u64, kind| space.apply(&KernelEvent { time: TraceNanos(time), tid: 3, kind }, &metadata);
    for round in 0..2000_u64 {
        let (address, instruction) = (Address((round * 512 + 7) * PAGE), Address(1));
        let (stack, access) = (StackId(0), FaultAccess::Write);
        apply(
            2 * round + 1,
            KernelEventKind::Fault(PageFault { address, instruction, stack, access, in_kernel: false }),
        );
        let arguments = [address.0, PAGE, 0, 0, 0, 0];
        let gone = SystemCall { call: PageCall::Munmap, arguments, result: 0, file: FileId(0), stack: StackId(0) };
        apply(2 * round + 2, KernelEventKind::Call(gone));
    }
    assert!(space.touches.records() <= 300, "{} records are kept of no page", space.touches.records());
}

#[test]
fn an_attached_space_goes_on_from_what_a_scan_found() {
    use pagetrace_format::PageCount;
    use pagetrace_format::snapshot::{
        KernelFigures, Mapping, PageFlags, Permissions, ResidencySource, ResidentRun, SnapshotReason,
    };

    let mapping = |pages: Range<u64>, permissions, path: &str| Mapping {
        start: Address(pages.start * PAGE),
        end: Address(pages.end * PAGE),
        permissions: Permissions(permissions),
        file_offset: 0,
        device: 1,
        inode: if path.starts_with('/') { 7 } else { 0 },
        path: path.into(),
    };
    let run = |first: u64, pages, state| ResidentRun {
        start: Address(first * PAGE),
        pages: PageCount(pages),
        state: PageFlags(state),
    };
    let (read, write, execute) = (Permissions::READ, Permissions::WRITE, Permissions::EXECUTE);
    let snapshot = pagetrace_format::Snapshot {
        process: pagetrace_format::ProcessId(0),
        time: TraceNanos(100),
        reason: SnapshotReason::Asked,
        stopped: true,
        residency_source: ResidencySource::PagemapScan,
        page_bytes: PAGE,
        kernel: KernelFigures::default(),
        mappings: vec![
            mapping(20..30, read | execute, "/bin/program"),
            mapping(30..40, read | write, "/bin/program"),
            mapping(100..200, read | write, ""),
            mapping(300..310, read | write, "[heap]"),
        ],
        resident: vec![
            run(20, 4, PageFlags::PRESENT | PageFlags::FILE),
            run(30, 2, PageFlags::PRESENT),
            run(100, 50, PageFlags::PRESENT),
            run(150, 5, PageFlags::PRESENT | PageFlags::ZERO),
        ],
    };
    let metadata = Metadata::default();
    let mut space = AddressSpace::attached(PageShift::KIB_4, &snapshot, &metadata);
    let resident = |space: &AddressSpace| space.resident().iter().collect::<Vec<_>>();
    assert_eq!(resident(&space), [30..32, 100..150]);
    assert!(space.touched_files().iter().eq(std::iter::once(20..24)));
    let sites: Vec<(TouchCause, u64)> = space.pages_by_site().map(|(site, pages)| (site.cause, pages)).collect();
    assert_eq!(sites, [(TouchCause::NotSeen, 52)], "nobody saw who touched them");

    let mut apply = |kind| space.apply(&KernelEvent { time: TraceNanos(200), tid: 5, kind }, &metadata);
    let fault = |page: u64| {
        let (access, stack) = (FaultAccess::Unknown, StackId::UNKNOWN);
        KernelEventKind::Fault(PageFault {
            address: Address(page * PAGE),
            instruction: Address(9),
            stack,
            access,
            in_kernel: false,
        })
    };
    let call = |call, first: u64, pages: u64| {
        let arguments = [first * PAGE, pages * PAGE, 0, 0, 0, 0];
        KernelEventKind::Call(SystemCall { call, arguments, result: 0, file: FileId::NONE, stack: StackId::UNKNOWN })
    };
    apply(fault(160));
    // Data of a program: a copy.
    apply(fault(35));
    apply(call(PageCall::Munmap, 100, 10));
    assert_eq!(resident(&space), [30..32, 35..36, 110..150, 160..161]);
    assert_eq!(space.first_touch(160).map(|(time, tid, _)| (time.0, tid)), Some((200, 5)));
}
