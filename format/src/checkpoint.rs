//! The state of a recording at a moment before which its events were dropped, as tables of numbers.
//!
//! A chunk holds one table of one process:
//!
//! ```text
//! table u8 · columns u8 · length of each column, varint · the columns, one after the other:
//!   a column  zigzag, the difference to the row before (to 0 at first), modulo 2⁶⁴
//! ```
//!
//! What the columns of each table mean stands in TRACE_FORMAT.md and beside the constants of [`TableKind`].

use crate::error::FormatError;
use crate::units::{ProcessId, TraceNanos};
use crate::varint::{Input, put, unzigzag, zigzag};

/// Rows of a chunk: far below the limit of a payload, however large the numbers are.
const CHUNK_ROWS: usize = 65_536;

/// The number of a table. Readers skip tables that they do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableKind(pub u8);

impl TableKind {
    /// The recording before the moment, in one row: how often it was cut; the kernel's page shift; events: page allocs, page frees, scavenges,
    /// object allocs, object frees, time syncs, others; pages of page allocs, of page frees, of scavenges; the peak of pages
    /// in use: its time plus one or 0, in use, free, returned, distinct; pages of processes that ended: in use, free, returned,
    /// distinct; anomalies: frees of unallocated, allocs of allocated, scavenges of allocated, impossible runs.
    pub const RECORDING: TableKind = TableKind(1);
    /// When the RSS of all processes in sum was larger than ever before: time, bytes.
    pub const RSS_MARKS: TableKind = TableKind(2);
    /// A process, in one row: first and last time that anything was told of it; ended flag; largest RSS, `VmHWM`, RSS of
    /// the last snapshot, each plus one, 0 for none; objects: known flag; of one that ended allocated, their bytes, died; unknown frees, unknown
    /// frees after a gap, replaced, forgotten, inherited; a gap hides objects flag; a gap hides page states flag;
    /// whose malloc it is (0 not known, 1 glibc, 2 jemalloc, 3 mimalloc, 4 tcmalloc, 5 another).
    pub const PROCESS: TableKind = TableKind(3);
    /// What a process that ended held then, in one row: live objects, bytes, usable bytes, bytes of chunks plus one or 0;
    /// objects by how far their stacks reach: to the thread's start, cut, not known, no stack, bucket.
    pub const ENDED: TableKind = TableKind(4);
    /// Live objects: address, size, usable bytes beyond it, time of birth, process and id of its stack.
    pub const OBJECTS: TableKind = TableKind(5);
    /// What sites allocated: process and id of the stack, objects, bytes, freed young, freed old.
    /// Where objects are sampled also how much more the estimates of objects and of bytes are than what was seen, each with its variance, as bits of
    /// a double.
    pub const SITES: TableKind = TableKind(6);
    /// Sets of pages: number of the set ([`PageSet`]), first page, pages.
    pub const PAGES: TableKind = TableKind(7);
    /// Mappings: first page, pages, kind, file, protection, traits.
    pub const AREAS: TableKind = TableKind(8);
    /// First touches of resident pages: first page, pages, time, tid, cause, instruction, stack.
    pub const TOUCHES: TableKind = TableKind(9);
    /// Kernel events: what (0 faults with a stack, 1 with an instruction only, 2 with neither, 3 calls; the rest in TRACE_FORMAT.md), stack or
    /// call, number.
    pub const KERNEL_COUNTS: TableKind = TableKind(10);
    /// An address space, in one row: heap's start plus one or 0, heap's end, lock of what will be mapped, called flag, forked
    /// flag.
    pub const ADDRESS_SPACE: TableKind = TableKind(11);
    /// Files of programs: id.
    pub const PROGRAM_FILES: TableKind = TableKind(12);
    /// How far scans agreed so far, in one row.
    pub const AGREEMENT: TableKind = TableKind(13);
    /// Frees just before the moment of objects that nobody knew, whose allocs may come yet: address, time, stream.
    pub const EARLY_FREES: TableKind = TableKind(14);
    /// Tracked writes of a process, in one row: page shift; source; epochs, begin of the first, end of the last; pages that were written,
    /// without a writer, in the epoch with the most, in the last that has ended, discarded, new; watched reads, writes, foreign
    /// ones; the last epoch's number plus one or 0, begin, end, written pages so far; pages of several threads beyond those of
    /// table 17.
    pub const WRITES: TableKind = TableKind(15);
    /// Written pages: first page, pages, milliseconds from the first epoch's begin to the end of the last in which they were
    /// written, its length in milliseconds, whether its first writer is known, epochs, the last writer known.
    pub const WRITTEN_PAGES: TableKind = TableKind(16);
    /// Pages of several threads: page, hand-overs, four threads, 0 for none.
    pub const CONTENDED_PAGES: TableKind = TableKind(17);
    /// From where pages were written: instruction, stack, pages.
    pub const WRITE_SITES: TableKind = TableKind(18);
    /// Forked children that were told of: process, start, end, pages, unclear pages.
    pub const FORK_COPIES: TableKind = TableKind(19);
    /// What was written while children live that have not ended: process, 0 written, 1 unclear, 2
    /// forked in the epoch that goes on, first page, pages; with no pages for a child alone.
    pub const FORK_PAGES: TableKind = TableKind(20);
    /// Live objects at whose address an alloc came just before the moment, where that may have come too late: address, size, usable
    /// bytes beyond it, time of birth, process and id of its stack, time and stream of the alloc, counted as freed young flag.
    pub const LATE_BIRTHS: TableKind = TableKind(21);
    /// Where objects are sampled, what is estimated of a process: which figure (0 objects that died; of one that ended 1 objects allocated, 2
    /// their bytes, 3 live objects, 4 bytes, 5 usable bytes, 6 bytes of chunks), how much more it is than what was seen, its variance,
    /// both as bits of a double.
    pub const ESTIMATES: TableKind = TableKind(22);
}

/// Sets of pages in [`TableKind::PAGES`]: pages of the kernel's size, those of allocators of the trace's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum PageSet {
    /// An object was there since they were mapped, inner pages of large ones left out.
    Held = 0,
    /// A chunk of a glibc heap was.
    HeldChunk = 1,
    /// Inner pages of large objects that were there.
    HeldLarge = 2,
    /// An object was there before a gap that left nothing known.
    HeldBeforeGap = 3,
    /// A chunk of a glibc heap was.
    ChunkBeforeGap = 4,
    /// An allocator has them in use.
    InUse = 5,
    /// An allocator keeps them free.
    Free = 6,
    /// An allocator has given them back.
    Returned = 7,
    /// The allocator's state of them is lost in a gap.
    Forgotten = 8,
    /// Anonymous pages that events say are resident.
    Resident = 9,
    /// Pages of files and shared memory with a fault.
    TouchedFiles = 10,
    /// Pages of files that must be mapped.
    FilePages = 11,
    /// Places of huge pages that have a table of small ones.
    SmallPageTables = 12,
    /// Anonymous pages of the last scan that was compared.
    ScanAnonymous = 13,
    /// What events said of them then.
    ScanPredicted = 14,
    /// Pages of files of that scan.
    ScanFiles = 15,
    /// Whose writes are tracked.
    Armed = 16,
    /// Anonymous pages that were resident when the recording attached: what lies on them is not known.
    BeforeAttach = 17,
}

/// One table of one process, or a part of its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointTable {
    /// Which process; 0 for tables of the whole recording.
    pub process: ProcessId,
    /// Which table.
    pub kind: TableKind,
    /// The moment.
    pub time: TraceNanos,
    columns: usize,
    /// Row after row.
    numbers: Vec<u64>,
}

impl CheckpointTable {
    /// A table without rows.
    #[must_use]
    pub fn new(process: ProcessId, kind: TableKind, time: TraceNanos) -> CheckpointTable {
        CheckpointTable { process, kind, time, columns: 0, numbers: Vec::new() }
    }

    /// Appends a row; all rows of a table have the same length.
    pub fn push(&mut self, row: &[u64]) {
        debug_assert!(self.numbers.is_empty() || self.columns == row.len(), "rows of one length");
        self.columns = row.len();
        self.numbers.extend_from_slice(row);
    }

    /// The rows.
    pub fn rows(&self) -> impl Iterator<Item = &[u64]> {
        self.numbers.chunks_exact(self.columns.max(1))
    }

    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.numbers.len() / self.columns.max(1)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Parts that fit a chunk each.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (usize, Vec<u8>)> {
        let part = self.columns.max(1) * CHUNK_ROWS;
        self.numbers.chunks(part).map(|numbers| (numbers.len() / self.columns.max(1), self.encode(numbers)))
    }

    fn encode(&self, numbers: &[u64]) -> Vec<u8> {
        let mut columns = vec![Vec::new(); self.columns];
        let mut last = vec![0_u64; self.columns];
        for row in numbers.chunks_exact(self.columns.max(1)) {
            for ((column, last), &number) in columns.iter_mut().zip(&mut last).zip(row) {
                put(column, zigzag(number.wrapping_sub(std::mem::replace(last, number)) as i64));
            }
        }
        let mut payload = vec![self.kind.0, self.columns as u8];
        columns.iter().for_each(|column| put(&mut payload, column.len() as u64));
        columns.iter().for_each(|column| payload.extend_from_slice(column));
        payload
    }

    /// Reads the payload of a chunk whose header gives process, rows and time.
    ///
    /// # Errors
    /// [`FormatError::Payload`] where the columns do not hold that many rows.
    pub fn decode(
        payload: &[u8],
        process: ProcessId,
        rows: u32,
        time: TraceNanos,
    ) -> Result<CheckpointTable, FormatError> {
        let bad = || FormatError::Payload("a table of a checkpoint that does not have its rows");
        let mut input = Input::new(payload);
        let kind = TableKind(input.byte().ok_or_else(bad)?);
        let columns = usize::from(input.byte().ok_or_else(bad)?);
        let rows = rows as usize;
        let mut lengths = Vec::with_capacity(columns);
        for _ in 0..columns {
            lengths.push(input.number().and_then(|length| usize::try_from(length).ok()).ok_or_else(bad)?);
        }
        let mut rest = input.rest();
        // A number takes a byte at least, so that forged counts cannot make a reader allocate without end.
        if columns == 0 || lengths.iter().any(|&length| length < rows) {
            return Err(bad());
        }
        let mut numbers = vec![0_u64; columns * rows];
        for (place, &length) in lengths.iter().enumerate() {
            let (column, behind) = rest.split_at_checked(length).ok_or_else(bad)?;
            rest = behind;
            let (mut column, mut last) = (Input::new(column), 0_u64);
            for row in 0..rows {
                last = last.wrapping_add(unzigzag(column.number().ok_or_else(bad)?) as u64);
                numbers[row * columns + place] = last;
            }
            if !column.rest().is_empty() {
                return Err(bad());
            }
        }
        if !rest.is_empty() {
            return Err(bad());
        }
        Ok(CheckpointTable { process, kind, time, columns, numbers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tables_come_back(columns in 1_usize..9, numbers in prop::collection::vec(any::<u64>(), 0..200)) {
            let mut table = CheckpointTable::new(ProcessId(3), TableKind::OBJECTS, TraceNanos(7));
            numbers.chunks_exact(columns).for_each(|row| table.push(row));
            let mut back = CheckpointTable::new(ProcessId(3), TableKind::OBJECTS, TraceNanos(7));
            for (rows, payload) in table.parts() {
                let part = CheckpointTable::decode(&payload, ProcessId(3), rows as u32, TraceNanos(7)).unwrap();
                part.rows().for_each(|row| back.push(row));
            }
            prop_assert_eq!(back, table);
        }

        #[test]
        fn any_bytes_are_a_table_or_an_error(payload: Vec<u8>, rows in 0_u32..100) {
            let _ = CheckpointTable::decode(&payload, ProcessId(0), rows, TraceNanos(0));
        }
    }
}
