//! The memory that a recorder shares with the programs it records: a header, a table of processes, a pool of blocks.
//!
//! ```text
//! 0                    SessionHeader
//! PROCESS_TABLE_OFFSET ProcessSlot × process_slots
//! block_table_offset   BlockHeader × block_count
//! blocks_offset        block_bytes × block_count      packed words (see `encode`)
//! ```
//! A thread takes a block from the free list, appends packed words, and publishes each event by storing the number of
//! finished words with release order. A full block is marked so and another one taken. The recorder copies what is
//! published, and puts full blocks that it has read whole, and those of ended threads and processes, back.
//! The sizes are fixed when the session is made; the recorder backs blocks with memory a part at a time and only
//! then puts them on the free list, so that no program ever writes to a block that has no memory behind it.
//!
//! All fields are atomics, since other processes write them at any time. A program can write anything here: the
//! recorder takes every value for a claim and checks it.

// The models in `tests/loom` check this very code, with loom's atomics in place of the processor's.
#[cfg(not(loom))]
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Identifies a session ("PGTSESS" and the layout's version).
pub const SESSION_MAGIC: u64 = u64::from_le_bytes(*b"PGTSESS1");
/// Where the table of processes starts.
pub const PROCESS_TABLE_OFFSET: usize = 4096;
/// The environment variable with the session's path.
pub const SESSION_VARIABLE: &str = "PAGETRACE_SESSION";

/// The clock of the ticks in packed words.
pub mod clock {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub const MONOTONIC: u32 = 0;
    /// The time stamp counter of x86-64, where the kernel itself takes it for its clock.
    pub const TSC: u32 = 1;
}

/// What a hook does when there is no free block.
pub mod when_full {
    /// Wait for the recorder, as long as it is alive.
    pub const WAIT: u32 = 0;
    /// Count the event as lost and go on.
    pub const LOSE: u32 = 1;
}

/// Limits that are remembered.
pub const LIMITS_NOTED: usize = 32;

/// The start of a session.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct SessionHeader {
    /// [`SESSION_MAGIC`], stored last by the recorder.
    pub magic: AtomicU64,
    /// Bytes of the whole session.
    pub total_bytes: AtomicU64,
    /// Offset of the table of block headers.
    pub block_table_offset: AtomicU64,
    /// Offset of the first block.
    pub blocks_offset: AtomicU64,
    /// Slots in the table of processes.
    pub process_slots: AtomicU32,
    /// Blocks, backed or not.
    pub block_count: AtomicU32,
    /// Bytes of a block.
    pub block_bytes: AtomicU32,
    /// See [`clock`].
    pub clock: AtomicU32,
    /// See [`when_full`].
    pub when_full: AtomicU32,
    /// 1 while events are wanted; 0 makes all hooks idle for good.
    pub recording: AtomicU32,
    /// The recorder's pid. Where the programs write themselves: the tid of the thread that flushes, 0 for unknown.
    pub recorder_pid: AtomicU32,

    /// Grows with every round of the recorder: when it stands still for long, the recorder is dead.
    pub heartbeat: AlignedCounter,
    /// The tick of the recorder's last round, for programs that have no clock.
    pub present: AlignedWide,
    /// A futex: programs add one and wake it when the recorder should look now.
    pub doorbell: AlignedCounter,
    /// A futex: the recorder adds one and wakes all whenever it has put blocks back.
    pub blocks_freed: AlignedCounter,
    /// Hooks that wait for a block at this moment.
    pub waiting: AlignedCounter,
    /// The free list: block index plus one in the low half, a count of changes in the high half.
    pub free_head: AlignedWide,
    /// The last process serial given.
    pub process_serial: AlignedCounter,
    /// The last thread serial given.
    pub thread_serial: AlignedCounter,
    /// Processes that found no slot.
    pub processes_refused: AlignedCounter,

    /// Limits of memory that programs have set, to which the tracer's own memory was added: the soft and the hard one as they
    /// were set, and as the program asked for them. The oldest is overwritten.
    pub limits: [[AtomicU64; 4]; LIMITS_NOTED],
    /// How many were ever noted.
    pub limits_noted: AlignedCounter,

    /// Programs that have linked the tracer and leave it idle, since the preload library is at work in them.
    pub idle_tracers: AlignedCounter,
    /// See [`writer`].
    pub writer: AtomicU32,
    /// Where the programs write themselves: the pid of the process whose thread flushes, 0 for none.
    pub flusher_pid: AtomicU32,
    /// Who is writing to the file at this moment: pid in the high half, tid in the low one; 0 for nobody.
    pub flush_lock: AlignedWide,
    /// Blocks that were ever taken: those behind have never been used and are on no list.
    pub blocks_taken: AlignedCounter,
    /// As many of these may be.
    pub blocks_allowed: AlignedCounter,
    /// The last object id given.
    pub object_id: AlignedWide,
    /// The clock of the ticks, as [`crate::encode::TickClock`]: base tick, its time, and the factor with its binary
    /// fraction digits in the high half; the factor is 0 until it is known.
    pub clock_line: [AtomicU64; 3],
    /// The file that the programs write to: device, inode, bytes written so far, and the error that ended the writing.
    pub file: FileState,
    /// 1 where the recorder wants a descriptor of each program by which it learns of writes, see [`handover`].
    pub track_writes: AtomicU32,
    /// 1 where no events are wanted of programs that join: their hooks do nothing.
    pub hooks_idle: AtomicU32,
    /// Objects are sampled, one in so many bytes as they are allocated; all are recorded for 0 and 1.
    pub sample_bytes: AtomicU64,
}

/// See [`SessionHeader::file`].
#[repr(C)]
#[derive(Debug, Default)]
pub struct FileState {
    /// `st_dev`.
    pub device: AtomicU64,
    /// `st_ino`.
    pub inode: AtomicU64,
    /// Bytes written.
    pub bytes: AtomicU64,
    /// The error number of the write that failed, after which nothing is written; 0 for none.
    pub errno: AtomicU32,
    /// 1 once the end of the trace is written.
    pub ended: AtomicU32,
}

/// Who takes the events out of the blocks.
pub mod writer {
    /// A recorder, outside.
    pub const RECORDER: u32 = 0;
    /// The programs themselves.
    pub const PROGRAMS: u32 = 1;
}

/// A counter that shares its cache line with nothing.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct AlignedCounter(pub AtomicU32);

/// As [`AlignedCounter`], of 64 bits.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct AlignedWide(pub AtomicU64);

/// The states of a process slot.
pub mod slot_state {
    /// Free to be claimed.
    pub const EMPTY: u32 = 0;
    /// Being filled in.
    pub const CLAIMED: u32 = 1;
    /// The process runs and records.
    pub const RUNNING: u32 = 2;
    /// A futex value: the process is about to exit and waits for its last snapshot.
    pub const PARKED: u32 = 3;
    /// The last snapshot is taken: go on.
    pub const RELEASED: u32 = 4;
}

/// How far a process's userfaultfd(2) is on its way to the recorder, which learns by it which pages are written. A futex.
pub mod handover {
    /// There is none.
    pub const NONE: u32 = 0;
    /// It lies in the slot; the process waits a moment for the recorder to take it.
    pub const OFFERED: u32 = 1;
    /// The recorder has it, or never will: the process has closed its own.
    pub const TAKEN: u32 = 2;
    /// The kernel has refused it, with the error number in its place.
    pub const REFUSED: u32 = 3;
    /// The program is about to use userfaultfd(2) itself, and waits for the recorder to let go.
    pub const ASKED_BACK: u32 = 4;
    /// The recorder has let go.
    pub const LET_GO: u32 = 5;
}

/// Ranges of its own memory that a process can name.
pub const TRACER_RANGES: usize = 4;

/// One process of the session.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct ProcessSlot {
    /// See [`slot_state`]; also the futex that a parked process waits on.
    pub state: AtomicU32,
    /// Its pid in its own pid namespace.
    pub pid: AtomicU32,
    /// Its serial, unique in the session.
    pub serial: AtomicU32,
    /// For a forked process the serial of its parent, else 0.
    pub forked_from: AtomicU32,
    /// The tick when it joined; for a forked process, of the fork.
    pub start_tick: AtomicU64,
    /// Address of the real malloc.
    pub malloc: AtomicU64,
    /// Events lost because no block was free.
    pub lost_full: AtomicU64,
    /// Events lost because a hook was interrupted by a handler that allocated.
    pub lost_reentered: AtomicU64,
    /// Events recorded without their stack because the table of stacks was full.
    pub stacks_lost: AtomicU64,
    /// Memory of the tracer in this process: first address and one past the last; zero for none.
    pub tracer_ranges: [[AtomicU64; 2]; TRACER_RANGES],
    /// Where the programs write themselves: 1 once the process is in the trace.
    pub announced: AtomicU32,
    /// As before: of the buckets that were named, how many are in the trace for this process.
    pub buckets_announced: AtomicU32,
    /// As before: the losses that are in the trace, in the order of the counters above.
    pub lost_written: [AtomicU64; 3],
    /// See [`handover`].
    pub handover: AtomicU32,
    /// The descriptor's number in the process, or the error number.
    pub userfaultfd: AtomicU32,
    /// Its inode, since the number may be another file's by the time it is looked at.
    pub userfaultfd_inode: AtomicU64,
}

/// The states of a block.
pub mod block_state {
    /// On the free list, or not backed yet.
    pub const FREE: u32 = 0;
    /// A thread writes to it.
    pub const OWNED: u32 = 1;
    /// Its thread is done with it.
    pub const FULL: u32 = 2;
}

/// What is known of a block.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct BlockHeader {
    /// See [`block_state`]. Stored last, with release order, by a thread that takes the block.
    pub state: AtomicU32,
    /// Finished words. Stored with release order after the words themselves.
    pub committed_words: AtomicU32,
    /// The owner's process.
    pub process_serial: AtomicU32,
    /// The owner: a serial that is unique in the session, also when tids are reused.
    pub thread_serial: AtomicU32,
    /// The owner's tid.
    pub tid: AtomicU32,
    /// Which block of its thread this is: 0, 1, 2 …
    pub sequence: AtomicU32,
    /// Index plus one of the next free block, while on the free list. While owned: number of the owner's set of page runs,
    /// a matter of the owner's process alone.
    pub next_free: AtomicU32,
    /// Index plus one of the block that its owner filled before it, 0 for none.
    pub previous: AtomicU32,
    /// Bounds of the owner's stack, zero where unknown.
    pub stack_low: AtomicU64,
    /// One past its highest address.
    pub stack_high: AtomicU64,
    /// Words whose page runs are in the owner's set.
    pub noted_words: AtomicU32,
    /// Words that are in the file already, where the programs write themselves.
    pub drained_words: AtomicU32,
    /// The time base in force behind these words.
    pub drained_base: AtomicU64,
}

/// Set in [`BlockHeader::tid`] of the blocks of a buffer that an allocator owns; the rest is the buffer's number.
pub const BUFFER_BIT: u32 = 1 << 31;

/// What a block's owner has published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Whether the owner is done with the block: the words are all there will be.
    pub full: bool,
    /// Finished words.
    pub words: u32,
}

impl BlockHeader {
    /// Publishes the first `words` words, which are written.
    #[inline]
    pub fn publish(&self, words: u32) {
        self.committed_words.store(words, Ordering::Release);
    }

    /// Hands the block over to who drains it: its owner writes nothing more.
    #[inline]
    pub fn hand_over(&self) {
        self.state.store(block_state::FULL, Ordering::Release);
    }

    /// What can be read now, `None` of a free block.
    #[inline]
    #[must_use]
    pub fn published(&self) -> Option<Published> {
        // A full block's count is final, so the state is read first.
        let state = self.state.load(Ordering::Acquire);
        let words = self.committed_words.load(Ordering::Acquire);
        (state != block_state::FREE).then_some(Published { full: state == block_state::FULL, words })
    }
}

/// Where the parts of a session are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLayout {
    /// Slots in the table of processes.
    pub process_slots: u32,
    /// Blocks.
    pub block_count: u32,
    /// Bytes of a block, a multiple of 4096.
    pub block_bytes: u32,
}

impl SessionLayout {
    /// Offset of the table of block headers.
    #[must_use]
    pub const fn block_table_offset(&self) -> usize {
        page_up(PROCESS_TABLE_OFFSET + self.process_slots as usize * size_of::<ProcessSlot>())
    }

    /// Offset of the first block.
    #[must_use]
    pub const fn blocks_offset(&self) -> usize {
        page_up(self.block_table_offset() + self.block_count as usize * size_of::<BlockHeader>())
    }

    /// Bytes of the whole session.
    #[must_use]
    pub const fn total_bytes(&self) -> usize {
        self.blocks_offset() + self.block_count as usize * self.block_words() * size_of::<AtomicU64>()
    }

    const fn block_words(&self) -> usize {
        self.block_bytes as usize / 8
    }
}

const _: () = assert!(size_of::<SessionHeader>() <= PROCESS_TABLE_OFFSET);

const fn page_up(bytes: usize) -> usize {
    (bytes + 4095) & !4095
}

/// A mapped session.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    base: *const u8,
    layout: SessionLayout,
}

// SAFETY: a session is a shared mapping that stays for the life of the process (the contract of `Session::new`), and
// everything in it that is reached by reference is atomic.
unsafe impl Send for Session {}
// SAFETY: as above.
unsafe impl Sync for Session {}

impl Session {
    /// Takes a mapping for a session.
    ///
    /// # Safety
    /// `base` points to a readable and writable mapping of at least `layout.total_bytes()` bytes, page aligned, that
    /// is never unmapped nor made shorter while this value or anything it hands out is in use.
    #[must_use]
    pub const unsafe fn new(base: *const u8, layout: SessionLayout) -> Session {
        Session { base, layout }
    }

    /// Where its parts are.
    #[must_use]
    pub const fn layout(&self) -> SessionLayout {
        self.layout
    }

    /// Where it is mapped.
    #[must_use]
    pub const fn base(&self) -> *const u8 {
        self.base
    }

    /// Its header.
    #[inline]
    #[must_use]
    pub fn header(&self) -> &'static SessionHeader {
        // SAFETY: the mapping starts with a header, is page aligned and outlives this value (`Session::new`).
        unsafe { &*self.base.cast::<SessionHeader>() }
    }

    /// A slot of the table of processes, `None` beyond its end.
    #[inline]
    #[must_use]
    pub fn slot(&self, index: u32) -> Option<&'static ProcessSlot> {
        if index >= self.layout.process_slots {
            return None;
        }
        let offset = PROCESS_TABLE_OFFSET + index as usize * size_of::<ProcessSlot>();
        // SAFETY: within the table by the check above, aligned since the table and a slot's size are.
        Some(unsafe { &*self.base.add(offset).cast::<ProcessSlot>() })
    }

    /// The header of a block, `None` beyond the last.
    #[inline]
    #[must_use]
    pub fn block(&self, index: u32) -> Option<&'static BlockHeader> {
        if index >= self.layout.block_count {
            return None;
        }
        let offset = self.layout.block_table_offset() + index as usize * size_of::<BlockHeader>();
        // SAFETY: within the table by the check above, aligned since the table and a header's size are.
        Some(unsafe { &*self.base.add(offset).cast::<BlockHeader>() })
    }

    /// The words of a block, `None` beyond the last.
    #[inline]
    #[must_use]
    pub fn words(&self, index: u32) -> Option<&'static [AtomicU64]> {
        if index >= self.layout.block_count {
            return None;
        }
        let words = self.layout.block_words();
        let offset = self.layout.blocks_offset() + index as usize * words * size_of::<AtomicU64>();
        // SAFETY: within the mapping by the check above; block bytes are a multiple of 4096, so the words are aligned;
        // atomics allow other processes to write them meanwhile.
        Some(unsafe { core::slice::from_raw_parts(self.base.add(offset).cast(), words) })
    }

    /// Takes a block from the free list. Never blocks, makes no system call.
    #[inline]
    #[must_use]
    pub fn take_free_block(&self) -> Option<u32> {
        let head = &self.header().free_head.0;
        let mut seen = head.load(Ordering::Acquire);
        loop {
            let index = (seen as u32).checked_sub(1)?;
            let next = self.block(index)?.next_free.load(Ordering::Relaxed);
            let changed = ((seen >> 32).wrapping_add(1) << 32) | u64::from(next);
            match head.compare_exchange_weak(seen, changed, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(index),
                Err(other) => seen = other,
            }
        }
    }

    /// Takes a block that has never been used, where the programs write themselves: there all blocks have memory.
    #[must_use]
    pub fn take_fresh_block(&self) -> Option<u32> {
        let taken = &self.header().blocks_taken.0;
        let end = self.header().blocks_allowed.0.load(Ordering::Relaxed).min(self.layout.block_count);
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| (taken < end).then_some(taken + 1)).ok()
    }

    /// Puts a block on the free list. Only who drains does so, with blocks that nobody owns, and a thread with one that
    /// it has just taken.
    pub fn put_free_block(&self, index: u32) {
        let Some(block) = self.block(index) else { return };
        block.committed_words.store(0, Ordering::Relaxed);
        block.state.store(block_state::FREE, Ordering::Relaxed);
        let head = &self.header().free_head.0;
        let mut seen = head.load(Ordering::Relaxed);
        loop {
            block.next_free.store(seen as u32, Ordering::Relaxed);
            let changed = ((seen >> 32).wrapping_add(1) << 32) | u64::from(index + 1);
            match head.compare_exchange_weak(seen, changed, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => seen = other,
            }
        }
    }
}
