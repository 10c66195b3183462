//! Forged checkpoints: rows of a few bytes that say something of very much, in each way that a table allows.

use pagetrace_format::kernel_event::{FaultAccess, KernelEventKind, PageFault};
use pagetrace_format::records::ProcessOrigin;
use pagetrace_format::{Address, CheckpointTable, PageShift, ProcessId, StackId, TableKind, TraceNanos};

use crate::attacks::Attack;
use crate::trace::{Builder, alloc, free, process, stream};

/// The moment of all checkpoints here.
const MOMENT: u64 = 1000;
const ROWS: u64 = 10_000;
/// Columns of the longest table.
const COLUMNS: usize = 25;

/// All of them.
pub const ATTACKS: &[Attack] = &[
    ("a checkpoint of all pages", all_pages),
    ("a checkpoint of all pages, of each process", all_pages_of_each),
    ("a checkpoint that tells the same pages again and again", same_pages),
    ("a checkpoint of pages that lie alone", sparse_pages),
    ("a checkpoint of objects that lie alone", sparse_objects),
    ("a checkpoint of touches that lie alone", sparse_touches),
    ("a checkpoint of sites", sites),
    ("a checkpoint of mappings", areas),
    ("a checkpoint of pages behind all addresses", pages_behind_all),
    ("a checkpoint of counts as large as may be", largest_counts),
    ("a checkpoint of processes that ended, with counts as large as may be", largest_counts_of_ended),
    ("a checkpoint of frees that nobody counted", early_frees),
];

fn started() -> Builder {
    let of_one = [process(0, ProcessOrigin::Command, None, 1), stream(1, 0, None), stream(2, 0, None)];
    Builder::new(PageShift::KIB_4).records(&of_one)
}

fn table<const N: usize>(
    builder: Builder,
    process: u32,
    kind: TableKind,
    rows: impl IntoIterator<Item = [u64; N]>,
) -> Builder {
    let mut table = CheckpointTable::new(ProcessId(process), kind, TraceNanos(MOMENT));
    rows.into_iter().for_each(|row| table.push(&row));
    builder.checkpoint(&table)
}

/// A process that runs and has objects, pages of an allocator and an address space.
fn running(builder: Builder, process: u32) -> Builder {
    let builder = table(builder, process, TableKind::PROCESS, [[1, MOMENT, 0, 0, 0, 0, 1]]);
    table(builder, process, TableKind::ADDRESS_SPACE, [[0; 5]])
}

fn one() -> Builder {
    running(started(), 0)
}

fn end(builder: Builder) -> Vec<u8> {
    let events = [alloc(MOMENT + 1, 64, 24, 0), free(MOMENT + 2, 64), free(MOMENT + 3, 1 << 40)];
    builder.events(1, &events).kernel_events(0, &[(MOMENT + 1, fault(1 << 30))]).end(1 << 40)
}

fn fault(address: u64) -> KernelEventKind {
    KernelEventKind::Fault(PageFault {
        address: Address(address),
        instruction: Address(1),
        stack: StackId(0),
        access: FaultAccess::Write,
        in_kernel: false,
    })
}

/// In all sets that there are, and one that is not there.
fn in_all_sets(first: u64, pages: u64) -> impl Iterator<Item = [u64; 3]> {
    (0..17).map(move |set| [set, first, pages])
}

fn all_pages() -> Vec<u8> {
    end(table(one(), 0, TableKind::PAGES, in_all_sets(0, 1 << 60)))
}

fn all_pages_of_each() -> Vec<u8> {
    let add = |builder, id| table(running(builder, id), id, TableKind::PAGES, in_all_sets(0, 1 << 60));
    end((0..300).fold(started(), add))
}

fn same_pages() -> Vec<u8> {
    end(table(one(), 0, TableKind::PAGES, (0..ROWS / 20).flat_map(|_| in_all_sets(0, 1 << 26))))
}

fn sparse_pages() -> Vec<u8> {
    let sets = (0..16).flat_map(|set| (0..ROWS / 16).map(move |row| [set, row << 9, 1]));
    end(table(one(), 0, TableKind::PAGES, sets))
}

fn sparse_objects() -> Vec<u8> {
    // From the last page of a leaf to the first of the next.
    end(table(one(), 0, TableKind::OBJECTS, (1..ROWS).map(|row| [(row << 21) - 1, 2])))
}

fn sparse_touches() -> Vec<u8> {
    let builder = table(one(), 0, TableKind::PAGES, [[9, 0, 1 << 60]]);
    end(table(builder, 0, TableKind::TOUCHES, (0..ROWS).map(|row| [row << 9, 1, 1])))
}

fn sites() -> Vec<u8> {
    end(table(one(), 0, TableKind::SITES, (0..ROWS).map(|row| [0, row, 1])))
}

fn areas() -> Vec<u8> {
    end(table(one(), 0, TableKind::AREAS, (0..ROWS).map(|row| [2 * row, 1 + row % 3, row % 5])))
}

fn pages_behind_all() -> Vec<u8> {
    let rows = || [[u64::MAX, 1], [u64::MAX - 1, 7], [1 << 52, 1], [(1 << 52) - 1, 1], [(1 << 52) - 1, u64::MAX]];
    let sets = (0..17).flat_map(|set| rows().map(|[first, pages]| [set, first, pages]));
    let builder = table(one(), 0, TableKind::PAGES, sets);
    let builder = table(builder, 0, TableKind::AREAS, rows());
    let builder = table(builder, 0, TableKind::TOUCHES, rows().map(|[first, pages]| [first, pages, 1]));
    let builder = table(builder, 0, TableKind::OBJECTS, rows().map(|[address, size]| [address, size, u64::MAX]));
    end(builder)
}

fn largest_counts_in(ended: u64) -> Vec<u8> {
    let kinds = (1..15).map(TableKind).filter(|&kind| kind != TableKind::PROCESS);
    let mut builder = started();
    for id in 0..300 {
        let mut row = [u64::MAX; COLUMNS];
        (row[0], row[1], row[2], row[17]) = (1, MOMENT, ended, 1);
        builder = table(builder, id, TableKind::PROCESS, [row]);
        for kind in kinds.clone() {
            builder = table(builder, id, kind, [[u64::MAX; COLUMNS], [1; COLUMNS]]);
        }
        builder = table(builder, id, TableKind::KERNEL_COUNTS, (0..7).flat_map(|what| [[what, 0, u64::MAX]; 2]));
    }
    end(builder)
}

fn largest_counts() -> Vec<u8> {
    largest_counts_in(0)
}

fn largest_counts_of_ended() -> Vec<u8> {
    largest_counts_in(1)
}

fn early_frees() -> Vec<u8> {
    let frees = (0..64).map(|row| [64 + 64 * row, MOMENT - 1, 2]);
    let builder = table(one(), 0, TableKind::EARLY_FREES, frees);
    let allocs: Vec<_> = (0..64).map(|row| alloc(MOMENT + 1, 64 + 64 * row, 24, 0)).collect();
    end(builder.events(2, &[free(MOMENT + 5, 1 << 30)]).events(1, &allocs))
}
