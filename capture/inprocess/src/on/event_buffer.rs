//! The event buffer: a place in a block of the session, where events are appended.
//!
//! There is one for each thread and one in each buffer that an allocator owns. A hook *enters* its buffer, writes, and
//! leaves; whoever switches recording off first changes [`active`], then waits until nobody is inside:
//!
//! ```text
//! hook                                    off()
//! at work ← 1                             active ← another epoch
//! (the compiler's fence)                  membarrier: a full fence on every processor
//! active as it was? else leave            for each mark: wait until at work is 0
//! write, publish                          drain, give the memory back
//! at work ← 0 (release)
//! ```
//! Either the hook sees the new epoch or `off` sees its mark ([`super::marks`]): the fence that this takes is paid by
//! `off` alone.

use core::cell::Cell;
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use pagetrace_format::encode::{self, EVENT_WORDS_MAX};
use pagetrace_format::session::{BlockHeader, block_state};

use super::block_wait::{give_back, obtain_block};
use super::call_stack::CallStack;
use super::marks::{self, Mark};
use super::page_sets::{self, Node};
use super::process::{INHERITED, PROCESS, active};
use super::{stack_bounds, thread_state};
use crate::sys;

/// A place where events are appended, by one thread at a time. All zero at first.
#[repr(C)]
#[derive(Debug)]
pub struct EventBuffer {
    /// The header of its block.
    header: Cell<*const BlockHeader>,
    /// First word of the block.
    words: Cell<*const AtomicU64>,
    /// Words written.
    used: Cell<u32>,
    /// Words of a block.
    limit: Cell<u32>,
    /// The base of ticks in this block, [`NO_BASE`] before the first event.
    base_tick: Cell<u64>,
    /// The latest tick: times do not go back within a stream.
    last_tick: Cell<u64>,
    /// The epoch in which the block was taken, 0 for no block.
    active: Cell<u32>,
    /// The block's index plus one.
    block: Cell<u32>,
    /// The stream's serial, 0 before its first block.
    serial: Cell<u32>,
    /// The process that the serial belongs to.
    owner: Cell<u32>,
    /// The thread's tid, or the buffer's number with [`pagetrace_format::session::BUFFER_BIT`].
    tid: Cell<u32>,
    /// Blocks taken so far.
    blocks_taken: Cell<u32>,
    /// Index plus one of the block that was handed over before it was full, until the next is taken.
    released: Cell<u32>,
    /// The kinds of events that it does not record, as bits.
    masked_out: AtomicU32,
    /// The page runs that it traced.
    pages: Cell<*const Node>,
    /// Where it says that it is at work, null before its first block.
    mark: Cell<*const Mark>,
}

const TIME_BASE_WORDS: u32 = 2;
/// The base of ticks in a block without one: so far from every tick that one is taken.
const NO_BASE: u64 = 1 << 63;

impl EventBuffer {
    /// Without a block.
    pub const fn new() -> EventBuffer {
        EventBuffer {
            header: Cell::new(ptr::null()),
            words: Cell::new(ptr::null()),
            used: Cell::new(0),
            limit: Cell::new(0),
            base_tick: Cell::new(0),
            last_tick: Cell::new(0),
            active: Cell::new(0),
            block: Cell::new(0),
            serial: Cell::new(0),
            owner: Cell::new(0),
            tid: Cell::new(0),
            blocks_taken: Cell::new(0),
            released: Cell::new(0),
            masked_out: AtomicU32::new(0),
            pages: Cell::new(ptr::null()),
            mark: Cell::new(ptr::null()),
        }
    }

    /// Whether events of this kind are recorded.
    #[inline]
    pub fn wants(&self, kind: u8) -> bool {
        self.masked_out.load(Ordering::Relaxed) & 1 << kind == 0
    }

    /// The kinds of events that are not recorded, as bits.
    pub fn masked_out(&self) -> &AtomicU32 {
        &self.masked_out
    }

    /// The page runs that it traced, null before the first.
    #[inline]
    pub fn pages(&self) -> &Cell<*const Node> {
        &self.pages
    }

    /// Gives it a place for its page runs, for the block that it has and those that follow.
    pub fn set_pages(&self, node: &'static Node) {
        self.pages.set(node);
        if let Some(header) = self.header() {
            header.next_free.store(node.number(), Ordering::Relaxed);
        }
    }

    /// Makes sure that there is a block and that it stays until the result is dropped.
    ///
    /// # Errors
    /// Nothing is recorded now, or no block was free and one event has been counted as lost.
    #[inline]
    pub fn enter(&self, identity: impl FnOnce() -> Identity) -> Result<Entered<'_>, NotWritten> {
        if let Some(entered) = self.enter_again() {
            return Ok(entered);
        }
        sys::keeping_errno(|| self.take_block(identity)).map(|mark| Entered { buffer: self, mark })
    }

    /// As [`EventBuffer::enter`], if there is a block already.
    #[inline]
    pub fn enter_again(&self) -> Option<Entered<'_>> {
        let now = PROCESS.active();
        if self.active.get() == now && now & active::RECORDING != 0 {
            // SAFETY: set before `active`, when the block was taken; marks are never unmapped.
            let mark = unsafe { &*self.mark.get() };
            if mark.begin(now) {
                return Some(Entered { buffer: self, mark });
            }
        }
        None
    }

    /// This buffer's mark. `None` without memory for one.
    pub fn mark(&self) -> Option<&'static Mark> {
        // SAFETY: null, or a mark, which is never unmapped.
        if let Some(mark) = unsafe { self.mark.get().as_ref() } {
            return Some(mark);
        }
        let mark = marks::take()?;
        self.mark.set(mark);
        Some(mark)
    }

    /// Leaves the mark of a buffer that goes to the next that needs one.
    pub fn leave_mark(&self) {
        // SAFETY: as in `mark`.
        if let Some(mark) = unsafe { self.mark.replace(ptr::null()).as_ref() } {
            mark.leave();
        }
    }

    /// Hands the block over to who drains.
    pub fn release(&self) {
        // Entered, since a block that is not this buffer's any more may be another's.
        if let Some(_entered) = self.enter_again()
            && let Some(header) = self.header()
        {
            self.hand_over(header);
            self.released.set(self.block.get());
        }
        self.forget_block();
    }

    /// Forgets everything of the process that this buffer was copied from by fork.
    pub fn forget_process(&self) {
        self.forget_block();
        self.serial.set(0);
        self.tid.set(0);
        self.blocks_taken.set(0);
        self.released.set(0);
    }

    /// The words that were published and not written to the file yet, with the base of their ticks.
    pub fn buffered(&self) -> Option<(&'static [AtomicU64], u64)> {
        let header = self.header().filter(|_| self.active.get() == PROCESS.active())?;
        let session = PROCESS.session()?;
        let words = session.words(self.block.get().checked_sub(1)?)?;
        let drained = header.drained_words.load(Ordering::Acquire) as usize;
        Some((words.get(drained..self.used.get() as usize)?, header.drained_base.load(Ordering::Relaxed)))
    }

    fn hand_over(&self, header: &BlockHeader) {
        if PROCESS.flusher.load(Ordering::Relaxed) == 0
            && let Some(words) = self.block.get().checked_sub(1).and_then(|index| PROCESS.session()?.words(index))
        {
            // Another process drains it, which has not our sets.
            page_sets::note_block(header, words);
        }
        header.hand_over();
    }

    fn header(&self) -> Option<&'static BlockHeader> {
        // SAFETY: null, or the header of a block in a session, which is never unmapped.
        unsafe { self.header.get().as_ref() }
    }

    fn forget_block(&self) {
        self.header.set(ptr::null());
        self.words.set(ptr::null());
        self.used.set(0);
        self.limit.set(0);
        self.base_tick.set(0);
        self.active.set(0);
        self.block.set(0);
    }

    /// Takes a block and enters it.
    #[cold]
    #[inline(never)]
    fn take_block(&self, identity: impl FnOnce() -> Identity) -> Result<&'static Mark, NotWritten> {
        let now = PROCESS.active();
        let mut previous = self.released.take();
        if self.active.get() == now
            && let Some(header) = self.header()
        {
            // A hook comes here that is at work and has found no room.
            self.hand_over(header);
            previous = self.block.get();
        }
        self.forget_block();
        let Some(mark) = self.mark() else {
            return Err(count_lost(now));
        };
        // It may have to wait for a block, and recording may go off meanwhile.
        mark.end();
        if now & active::RECORDING == 0 {
            return Err(NotWritten::Off);
        }
        let session = PROCESS.session().ok_or(NotWritten::Off)?;
        if self.owner.get() != PROCESS.serial() {
            self.forget_process();
        }
        let Some(index) = obtain_block(session) else {
            return Err(count_lost(now));
        };
        let (Some(header), Some(words)) = (session.block(index), session.words(index)) else {
            return Err(count_lost(now));
        };
        if !mark.begin(now) {
            give_back(session, index);
            return Err(NotWritten::Off);
        }
        let identity = identity();
        if self.serial.get() == 0 {
            self.serial.set(session.header().thread_serial.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1));
            self.owner.set(PROCESS.serial());
            self.tid.set(identity.tid);
        }
        header.committed_words.store(0, Ordering::Relaxed);
        header.drained_words.store(0, Ordering::Relaxed);
        header.drained_base.store(0, Ordering::Relaxed);
        header.noted_words.store(0, Ordering::Relaxed);
        // SAFETY: null, or a node, which is never unmapped.
        let pages = unsafe { self.pages.get().as_ref() };
        header.next_free.store(pages.map_or(0, Node::number), Ordering::Relaxed);
        header.process_serial.store(PROCESS.serial(), Ordering::Relaxed);
        header.thread_serial.store(self.serial.get(), Ordering::Relaxed);
        header.tid.store(self.tid.get(), Ordering::Relaxed);
        header.sequence.store(self.blocks_taken.get(), Ordering::Relaxed);
        header.previous.store(previous, Ordering::Relaxed);
        header.stack_low.store(identity.stack.0 as u64, Ordering::Relaxed);
        header.stack_high.store(identity.stack.1 as u64, Ordering::Relaxed);
        header.state.store(block_state::OWNED, Ordering::Release);
        if self.blocks_taken.get() > 0 {
            // Who has filled one fills another. The first gets its pages as they are touched: many threads never do.
            PROCESS.populate(index, words);
        }
        self.blocks_taken.set(self.blocks_taken.get().wrapping_add(1));
        self.header.set(header);
        self.words.set(words.as_ptr());
        self.limit.set(words.len() as u32);
        self.base_tick.set(NO_BASE);
        self.last_tick.set(self.last_tick.get().max(PROCESS.earliest_tick.load(Ordering::Relaxed)));
        self.block.set(index + 1);
        self.active.set(now);
        Ok(mark)
    }
}

/// Why an event is not in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotWritten {
    /// Recording is off, or was switched meanwhile.
    Off,
    /// There was no room, and it is counted as lost.
    Lost,
}

/// Counts an event for which there was no room, unless recording has gone off since the epoch.
pub fn count_lost(epoch: u32) -> NotWritten {
    if PROCESS.active() != epoch {
        return NotWritten::Off;
    }
    if let Some(slot) = PROCESS.slot() {
        slot.lost_full.fetch_add(1, Ordering::Relaxed);
    }
    NotWritten::Lost
}

/// Who writes a stream.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The thread's tid, or the buffer's number with [`pagetrace_format::session::BUFFER_BIT`].
    pub tid: u32,
    /// Bounds of the thread's stack, zero where unknown.
    pub stack: (usize, usize),
}

impl Identity {
    /// The calling thread's.
    pub fn of_thread() -> Identity {
        let thread = thread_state::current();
        if thread.watched.replace(1) == 0 {
            sys::watch_this_thread();
        }
        Identity { tid: sys::gettid(), stack: stack_bounds::known() }
    }

    /// That of a buffer which an allocator owns.
    pub fn of_buffer() -> Identity {
        let number = INHERITED.buffers.fetch_add(1, Ordering::Relaxed);
        Identity { tid: pagetrace_format::session::BUFFER_BIT | number, stack: (0, 0) }
    }
}

/// A hook at work in a buffer.
#[derive(Debug)]
#[must_use]
pub struct Entered<'b> {
    buffer: &'b EventBuffer,
    mark: &'static Mark,
}

impl Entered<'_> {
    /// Appends the words that `encode` makes of the ticks since the block's time base, and publishes them.
    ///
    /// # Errors
    /// As [`EventBuffer::enter`].
    #[inline(always)]
    pub fn append<const N: usize>(
        &mut self,
        tick: u64,
        encode: impl FnOnce(u32) -> [u64; N],
    ) -> Result<(), NotWritten> {
        const { assert!(N <= EVENT_WORDS_MAX) };
        self.reserve(N as u32)?;
        let buffer = self.buffer;
        let tick = tick.max(buffer.last_tick.get());
        buffer.last_tick.set(tick);
        let mut used = buffer.used.get();
        let since_base = tick.wrapping_sub(buffer.base_tick.get());
        let ticks = match u32::try_from(since_base) {
            Ok(ticks) => ticks,
            Err(_) => {
                used = self.put_time_base(used, tick);
                0
            }
        };
        let used = self.put(used, &encode(ticks));
        self.publish(used);
        Ok(())
    }

    #[cold]
    fn put_time_base(&self, used: u32, tick: u64) -> u32 {
        self.buffer.base_tick.set(tick);
        self.put(used, &encode::time_base(tick))
    }

    /// Makes room for so many words besides a time base, in a new block if need be.
    ///
    /// # Errors
    /// As [`EventBuffer::enter`].
    #[inline]
    pub fn reserve(&mut self, words: u32) -> Result<(), NotWritten> {
        let buffer = self.buffer;
        if buffer.used.get() + words + TIME_BASE_WORDS <= buffer.limit.get() {
            return Ok(());
        }
        self.take_another()
    }

    #[cold]
    #[inline(never)]
    fn take_another(&self) -> Result<(), NotWritten> {
        let buffer = self.buffer;
        let (tid, low, high) = match buffer.header() {
            Some(header) => (header.tid.load(Ordering::Relaxed), &header.stack_low, &header.stack_high),
            // A block could not be had for this event's stack, which has been counted.
            None => return Err(NotWritten::Lost),
        };
        let stack = (low.load(Ordering::Relaxed) as usize, high.load(Ordering::Relaxed) as usize);
        sys::keeping_errno(|| buffer.take_block(|| Identity { tid, stack })).map(|_same_mark| ())
    }

    /// Writes a stack, for which [`Entered::reserve`] has made room, and publishes it.
    pub fn append_stack(&mut self, id: u32, stack: &CallStack) {
        let first = encode::stack(stack.len() as u16, pagetrace_format::StackId(id), stack.end());
        let mut used = self.put(self.buffer.used.get(), &first);
        for frame in stack.frames() {
            used = self.put(used, &[frame]);
        }
        self.publish(used);
    }

    /// Writes words behind the `used` ones, and says how many are used then.
    #[inline]
    fn put(&self, used: u32, words: &[u64]) -> u32 {
        let block = self.buffer.words.get();
        for (index, word) in words.iter().enumerate() {
            // SAFETY: `reserve` made sure that the words fit the buffer's own block, which nobody else writes to, and
            // whose memory stays while it is marked to be at work.
            unsafe { (*block.add(used as usize + index)).store(*word, Ordering::Relaxed) };
        }
        used + words.len() as u32
    }

    /// From here on the event survives the program, where a recorder drains.
    #[inline]
    fn publish(&self, used: u32) {
        self.buffer.used.set(used);
        // SAFETY: set together with `words`, and the session is never unmapped.
        unsafe { (*self.buffer.header.get()).publish(used) };
    }
}

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        self.mark.end();
    }
}
