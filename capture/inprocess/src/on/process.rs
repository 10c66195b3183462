//! What a process of a recording knows of itself: whether it records, and its session.

use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use pagetrace_format::session::{ProcessSlot, Session, SessionLayout, clock, writer};

use super::modules::ModuleWatch;
use super::stack_table;
use crate::sys;

/// What a hook needs, on a page of its own that a forked child finds zeroed: so a child knows that it is one whichever
/// way it was forked.
pub static PROCESS: Process = Process::new();

/// What a forked child inherits.
pub static INHERITED: Inherited = Inherited::new();

/// What [`Process::active`] says, in its low two bits; the rest is an epoch that never comes back, so that a buffer
/// that was taken in another epoch is known by one comparison.
pub mod active {
    /// Nothing is recorded. The whole word is 0 before anyone has looked whether to.
    pub const IDLE: u32 = 0;
    /// Events are recorded.
    pub const RECORDING: u32 = 1;
    /// Ids and the live table go on, nothing else.
    pub const KEEPING: u32 = 2;
    /// The bits that say so.
    pub const BITS: u32 = 3;
    /// One epoch.
    pub const EPOCH: u32 = 4;
}

/// Where a recording stands that the program runs itself; the numbers of [`crate::State`].
pub mod lifecycle {
    /// Not started, or a recorder's.
    pub const UNINITIALIZED: u32 = 0;
    /// Events are recorded.
    pub const RECORDING: u32 = 1;
    /// Off, ids and live table go on.
    pub const KEEPING: u32 = 2;
    /// Off, nothing goes on.
    pub const DROPPED: u32 = 3;
    /// Over.
    pub const FINISHED: u32 = 4;
}

/// Beside the session's clocks: none can be read.
const NO_CLOCK: u32 = u32::MAX;

/// See [`PROCESS`].
#[repr(C, align(4096))]
pub struct Process {
    active: AtomicU32,
    clock: AtomicU32,
    /// 1 where objects go into the live table.
    table: AtomicU32,
    /// 1 while someone looks whether to record, and after that.
    pub attaching: AtomicU32,
    serial: AtomicU32,
    slot: AtomicU32,
    stacks: AtomicU32,
    stacks_forgotten: AtomicU32,
    stack_table: AtomicPtr<AtomicU64>,
    /// Frees of addresses at which no object was known.
    pub unknown_frees: AtomicU64,
    /// Held while the recording is switched: the holder's tid.
    pub control: AtomicU32,
    /// Held for the shared buffer.
    pub shared_buffer: AtomicU32,
    /// 1 while this process has a flusher's thread.
    pub flusher: AtomicU32,
    /// Which thread that is: one that is on its way out finds another number here.
    pub flusher_run: AtomicU32,
    /// Threads that wait for the right to write to the file.
    pub waits_to_write: AtomicU32,
    /// The tick at which recording resumed, until what was kept is in the trace; else 0.
    pub resumed_at: AtomicU64,
    /// When that gap began, and whether ids went on in it.
    pub resumed_since: AtomicU64,
    /// See above.
    pub resumed_kept: AtomicU32,
    /// No event is older than this: hooks that took their time before recording resumed write this one.
    pub earliest_tick: AtomicU64,
    /// When it went off, in ticks.
    pub off_since: AtomicU64,
    /// The modules that are in the trace.
    pub modules_seen: ModuleWatch,
    /// Resident bytes and tick of the last snapshot.
    pub last_snapshot: [AtomicU64; 2],
    /// Blocks whose pages this process has, as bits.
    populated: [AtomicU64; POPULATED_WORDS],
}

/// For the blocks that nearly all recordings have; more of them are populated each time.
const POPULATED_WORDS: usize = 64;

/// The page size of hooks before anyone has chosen one: 4096 bytes.
const PAGE_SHIFT: u32 = 12;

/// See [`INHERITED`].
pub struct Inherited {
    base: AtomicPtr<u8>,
    process_slots: AtomicU32,
    block_count: AtomicU32,
    block_bytes: AtomicU32,
    /// The process's serial.
    pub serial: AtomicU32,
    /// When the fork that is going on began.
    pub fork_tick: AtomicU64,
    /// The table of stacks.
    pub stack_table: AtomicPtr<AtomicU64>,
    /// The real malloc.
    pub malloc: AtomicUsize,
    /// The last epoch.
    pub epoch: AtomicU32,
    /// See [`lifecycle`].
    pub lifecycle: AtomicU32,
    /// Whether there is a live table, whether snapshots are taken, and whether arguments go into the trace.
    pub table: AtomicBool,
    /// See above.
    pub snapshots: AtomicBool,
    /// See above.
    pub args: AtomicBool,
    /// Whether the file has Go's format.
    pub go_format: AtomicBool,
    /// The binary logarithm of the page size that page hooks count in.
    pub page_shift: AtomicU32,
    /// Numbers given to buffers that allocators own.
    pub buffers: AtomicU32,
}

/// Of [`Process::active`], for assembly.
pub const ACTIVE_OFFSET: usize = core::mem::offset_of!(Process, active);

impl Process {
    const fn new() -> Process {
        Process {
            active: AtomicU32::new(0),
            clock: AtomicU32::new(0),
            table: AtomicU32::new(0),
            attaching: AtomicU32::new(0),
            serial: AtomicU32::new(0),
            slot: AtomicU32::new(0),
            stacks: AtomicU32::new(0),
            stacks_forgotten: AtomicU32::new(0),
            stack_table: AtomicPtr::new(ptr::null_mut()),
            unknown_frees: AtomicU64::new(0),
            control: AtomicU32::new(0),
            shared_buffer: AtomicU32::new(0),
            flusher: AtomicU32::new(0),
            waits_to_write: AtomicU32::new(0),
            flusher_run: AtomicU32::new(0),
            resumed_at: AtomicU64::new(0),
            resumed_since: AtomicU64::new(0),
            resumed_kept: AtomicU32::new(0),
            earliest_tick: AtomicU64::new(0),
            off_since: AtomicU64::new(0),
            modules_seen: ModuleWatch::new(),
            last_snapshot: [const { AtomicU64::new(0) }; 2],
            populated: [const { AtomicU64::new(0) }; POPULATED_WORDS],
        }
    }

    /// See [`active`].
    #[inline]
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// Where the words lie that a recorder sets to zero to wake this process: what hooks look at, and whether someone looks.
    pub fn words_to_wake(&self) -> [*const u32; 2] {
        [self.active.as_ptr(), self.attaching.as_ptr()].map(<*mut u32>::cast_const)
    }

    /// Begins an epoch of this kind.
    pub fn activate(&self, kind: u32) {
        let epoch = INHERITED.epoch.fetch_add(active::EPOCH, Ordering::Relaxed).wrapping_add(active::EPOCH);
        self.active.store(epoch | kind, Ordering::SeqCst);
    }

    /// Whether events are wanted.
    #[inline]
    pub fn is_recording(&self) -> bool {
        self.active() & active::RECORDING != 0
    }

    /// Whether objects go into the live table.
    #[inline]
    pub fn has_table(&self) -> bool {
        self.table.load(Ordering::Relaxed) != 0
    }

    /// Takes over what the process inherited.
    pub fn begin(&self, clock: u32, serial: u32, slot: u32) {
        self.clock.store(if sys::sandbox::is_strict() { NO_CLOCK } else { clock }, Ordering::Relaxed);
        self.stacks.store(0, Ordering::Relaxed);
        self.stacks_forgotten.store(0, Ordering::Relaxed);
        self.serial.store(serial, Ordering::Relaxed);
        self.slot.store(slot + 1, Ordering::Relaxed);
        let table = INHERITED.table.load(Ordering::Relaxed) && self.writes_itself();
        self.table.store(table.into(), Ordering::Relaxed);
        INHERITED.serial.store(serial, Ordering::Relaxed);
    }

    /// The present in ticks of the session's clock; never 0, which stands for none.
    #[inline]
    pub fn tick(&self) -> u64 {
        if self.clock.load(Ordering::Relaxed) == clock::TSC { sys::time_stamp_counter() } else { self.slow_tick() }
    }

    fn slow_tick(&self) -> u64 {
        match self.session() {
            // Nobody has written it in the session of a program that records itself.
            Some(session) if sys::sandbox::is_strict() => session.header().present.0.load(Ordering::Relaxed).max(1),
            _ => sys::monotonic_ns(),
        }
    }

    /// From here on there is no clock but the recorder's.
    pub fn lose_clock(&self) {
        self.clock.store(NO_CLOCK, Ordering::Relaxed);
    }

    /// There is one after all.
    pub fn have_clock(&self) {
        let clock = self.session().map_or(clock::MONOTONIC, |session| session.header().clock.load(Ordering::Relaxed));
        self.clock.store(clock, Ordering::Relaxed);
    }

    /// This process's serial.
    pub fn serial(&self) -> u32 {
        self.serial.load(Ordering::Relaxed)
    }

    /// The session, once attached.
    pub fn session(&self) -> Option<Session> {
        INHERITED.session()
    }

    /// Whether there is a session to which no recorder listens.
    pub fn writes_itself(&self) -> bool {
        self.session().is_some_and(|session| session.header().writer.load(Ordering::Relaxed) == writer::PROGRAMS)
    }

    /// This process's slot, once attached.
    pub fn slot(&self) -> Option<&'static ProcessSlot> {
        self.session()?.slot(self.slot.load(Ordering::Relaxed).checked_sub(1)?)
    }

    /// The table of stacks.
    #[inline]
    pub fn stack_table(&self) -> Option<&'static [AtomicU64; stack_table::SLOTS]> {
        let table = self.stack_table.load(Ordering::Acquire).cast::<[AtomicU64; stack_table::SLOTS]>();
        // SAFETY: null, or a mapping of this size that is never unmapped.
        unsafe { table.as_ref() }
    }

    /// See [`Process::stack_table`].
    pub fn set_stack_table(&self, table: *mut AtomicU64) {
        INHERITED.stack_table.store(table, Ordering::Relaxed);
        self.stack_table.store(table, Ordering::Release);
    }

    /// How many stacks the table holds.
    pub fn stacks_in_table(&self) -> u32 {
        self.stacks.load(Ordering::Relaxed).wrapping_sub(self.stacks_forgotten.load(Ordering::Relaxed))
    }

    /// The table has been emptied; numbers go on.
    pub fn forget_stacks(&self) {
        self.stacks_forgotten.store(self.stacks.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The number for a new stack, from 1.
    pub fn next_stack(&self) -> u32 {
        self.stacks.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Stops recording for good.
    pub fn become_idle(&self) {
        self.activate(active::IDLE);
    }

    /// Makes a forked child see that it is one where the kernel has not wiped the page.
    pub fn forget(&self) {
        self.stack_table.store(ptr::null_mut(), Ordering::Relaxed);
        for word in
            [&self.slot, &self.serial, &self.control, &self.shared_buffer, &self.flusher, &self.attaching, &self.table]
        {
            word.store(0, Ordering::Relaxed);
        }
        self.modules_seen.forget();
        for word in [&self.unknown_frees, &self.resumed_at] {
            word.store(0, Ordering::Relaxed);
        }
        self.active.store(0, Ordering::Relaxed);
    }

    /// Has the kernel give the process the pages of a block that it fills for the first time. Where they were given back meanwhile
    /// they come by faults.
    pub fn populate(&self, block: u32, words: &[AtomicU64]) {
        if self.fills_first(block) {
            sys::populate(words.as_ptr().cast(), size_of_val(words));
        }
    }

    fn fills_first(&self, block: u32) -> bool {
        let bit = 1 << (block % u64::BITS);
        let word = self.populated.get((block / u64::BITS) as usize);
        word.is_none_or(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0)
    }

    /// Tells who drains to look now.
    pub fn ring_doorbell(&self) {
        if let Some(session) = self.session() {
            let doorbell = &session.header().doorbell.0;
            doorbell.fetch_add(1, Ordering::Release);
            sys::futex_wake_all(doorbell);
        }
    }
}

impl Inherited {
    const fn new() -> Inherited {
        Inherited {
            base: AtomicPtr::new(ptr::null_mut()),
            process_slots: AtomicU32::new(0),
            block_count: AtomicU32::new(0),
            block_bytes: AtomicU32::new(0),
            serial: AtomicU32::new(0),
            fork_tick: AtomicU64::new(0),
            stack_table: AtomicPtr::new(ptr::null_mut()),
            malloc: AtomicUsize::new(0),
            epoch: AtomicU32::new(0),
            lifecycle: AtomicU32::new(lifecycle::UNINITIALIZED),
            table: AtomicBool::new(false),
            snapshots: AtomicBool::new(false),
            args: AtomicBool::new(false),
            go_format: AtomicBool::new(false),
            page_shift: AtomicU32::new(PAGE_SHIFT),
            buffers: AtomicU32::new(0),
        }
    }

    /// The session, once there is one.
    #[inline]
    pub fn session(&self) -> Option<Session> {
        let base = self.base.load(Ordering::Acquire);
        if base.is_null() {
            return None;
        }
        let layout = SessionLayout {
            process_slots: self.process_slots.load(Ordering::Relaxed),
            block_count: self.block_count.load(Ordering::Relaxed),
            block_bytes: self.block_bytes.load(Ordering::Relaxed),
        };
        // SAFETY: `set_session` is only given mappings that fit the layout and are never unmapped; fork keeps them.
        Some(unsafe { Session::new(base, layout) })
    }

    /// Makes this the session.
    ///
    /// # Safety
    /// As [`Session::new`]; and nobody uses an earlier session any more.
    pub unsafe fn set_session(&self, base: *const u8, layout: SessionLayout) {
        sys::linker::find_out();
        self.process_slots.store(layout.process_slots, Ordering::Relaxed);
        self.block_count.store(layout.block_count, Ordering::Relaxed);
        self.block_bytes.store(layout.block_bytes, Ordering::Relaxed);
        self.base.store(base.cast_mut(), Ordering::Release);
        sys::wipe_on_fork((&raw const PROCESS).cast(), size_of::<Process>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_filled_first_once() {
        let process = Process::new();
        let first: Vec<u32> = (0..3).chain(60..70).chain(0..70).filter(|&block| process.fills_first(block)).collect();
        assert_eq!(first, (0..3).chain(60..70).chain(3..60).collect::<Vec<_>>());
        let beyond = POPULATED_WORDS as u32 * u64::BITS;
        assert!(process.fills_first(beyond) && process.fills_first(beyond));
    }
}
