//! The thread's block: taking one, appending an event, giving it back.

use core::sync::atomic::Ordering;

use pagetrace_format::encode::{self, EVENT_WORDS_MAX};
use pagetrace_format::session::{BlockHeader, block_state, when_full};

use crate::process::PROCESS;
use crate::recursion_guard::RecursionGuard;
use crate::sys;
use crate::thread_state::ThreadState;

/// How long a hook waits at a time before it looks whether the recorder is alive.
const WAIT_MS: u32 = 20;
/// A recorder whose heartbeat stands still for so long is dead if its process is gone too…
const RECORDER_SILENT_MS: u64 = 1_000;
/// …and is taken for dead, whatever else, after so long: a disk may stall it for a while.
const RECORDER_DEAD_MS: u64 = 30_000;
const TIME_BASE_WORDS: u32 = 2;

/// Appends the words that `encode` makes of the ticks since the block's time base, and publishes them. An event that
/// finds no block is counted.
#[inline]
pub fn append<const N: usize>(guard: &mut RecursionGuard, tick: u64, encode: impl FnOnce(u32) -> [u64; N]) {
    const { assert!(N <= EVENT_WORDS_MAX) };
    if !reserve(guard, N as u32) {
        return;
    }
    let thread = guard.thread();
    let ticks = match u32::try_from(tick.wrapping_sub(thread.base_tick.get())) {
        Ok(ticks) if thread.base_tick.get() != 0 => ticks,
        _ => {
            thread.base_tick.set(tick);
            put(thread, &encode::time_base(tick));
            0
        }
    };
    put(thread, &encode(ticks));
    publish(thread);
}

/// Makes room for so many words besides a time base, in a new block if need be. `false`, and one event counted as
/// lost, when there is none.
#[inline]
pub fn reserve(guard: &mut RecursionGuard, words: u32) -> bool {
    let thread = guard.thread();
    thread.used.get() + words + TIME_BASE_WORDS <= thread.limit.get() || sys::keeping_errno(|| take_block(thread))
}

/// Writes a stack, for which [`reserve`] has made room, and publishes it.
pub fn append_stack(guard: &mut RecursionGuard, id: u32, frames: &[u64]) {
    let thread = guard.thread();
    put(thread, &encode::stack(frames.len() as u16, pagetrace_format::StackId(id)));
    put(thread, frames);
    publish(thread);
}

/// Gives the thread's block to the recorder.
pub fn release(guard: &mut RecursionGuard) {
    let thread = guard.thread();
    if let Some(block) = current_block(thread) {
        block.state.store(block_state::FULL, Ordering::Release);
    }
    thread.block.set(0);
    thread.used.set(0);
    thread.limit.set(0);
    thread.base_tick.set(0);
}

#[inline]
fn put(thread: &ThreadState, words: &[u64]) {
    let used = thread.used.get();
    for (index, word) in words.iter().enumerate() {
        // SAFETY: `reserve` made sure that the words fit the thread's own block, which nobody else writes to.
        unsafe { (*thread.words.get().add(used as usize + index)).store(*word, Ordering::Relaxed) };
    }
    thread.used.set(used + words.len() as u32);
}

/// From here on the event survives the program.
#[inline]
fn publish(thread: &ThreadState) {
    // SAFETY: set together with `words`, and the session is never unmapped.
    unsafe { (*thread.committed.get()).store(thread.used.get(), Ordering::Release) };
}

fn current_block(thread: &ThreadState) -> Option<&'static BlockHeader> {
    PROCESS.session()?.block(thread.block.get().checked_sub(1)?)
}

#[cold]
#[inline(never)]
fn take_block(thread: &ThreadState) -> bool {
    let Some(session) = PROCESS.session() else { return false };
    if let Some(block) = current_block(thread) {
        block.state.store(block_state::FULL, Ordering::Release);
        thread.block.set(0);
        thread.used.set(0);
        thread.limit.set(0);
    }
    let Some(index) = session.take_free_block().or_else(wait_for_block) else {
        if let Some(slot) = PROCESS.slot() {
            slot.lost_full.fetch_add(1, Ordering::Relaxed);
        }
        return false;
    };
    let (Some(block), Some(words)) = (session.block(index), session.words(index)) else { return false };
    if thread.serial.get() == 0 {
        thread.serial.set(session.header().thread_serial.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1));
        thread.tid.set(sys::gettid());
    }
    let (low, high) = thread.stack.get();
    block.committed_words.store(0, Ordering::Relaxed);
    block.process_serial.store(PROCESS.serial(), Ordering::Relaxed);
    block.thread_serial.store(thread.serial.get(), Ordering::Relaxed);
    block.tid.store(thread.tid.get(), Ordering::Relaxed);
    block.sequence.store(thread.blocks_taken.get(), Ordering::Relaxed);
    block.stack_low.store(low as u64, Ordering::Relaxed);
    block.stack_high.store(high as u64, Ordering::Relaxed);
    block.state.store(block_state::OWNED, Ordering::Release);
    thread.blocks_taken.set(thread.blocks_taken.get().wrapping_add(1));
    thread.block.set(index + 1);
    thread.words.set(words.as_ptr());
    thread.committed.set(&block.committed_words);
    thread.used.set(0);
    thread.limit.set(words.len() as u32);
    thread.base_tick.set(0);
    true
}

/// Waits until the recorder has put a block back. Ends when the session closes or the recorder is dead, and makes the
/// process idle then: a program must not stand still for a tracer.
fn wait_for_block() -> Option<u32> {
    let session = PROCESS.session()?;
    let header = session.header();
    header.waiting.0.fetch_add(1, Ordering::Relaxed);
    let mut heartbeat = header.heartbeat.0.load(Ordering::Relaxed);
    let mut still_for_ms = 0;
    let mut looked = sys::monotonic_ms();
    let block = loop {
        let freed = header.blocks_freed.0.load(Ordering::Acquire);
        if let Some(index) = session.take_free_block() {
            break Some(index);
        }
        if header.when_full.load(Ordering::Relaxed) == when_full::LOSE {
            break None;
        }
        let gone =
            still_for_ms >= RECORDER_SILENT_MS && !sys::process_runs(header.recorder_pid.load(Ordering::Relaxed));
        if header.recording.load(Ordering::Relaxed) == 0 || gone || still_for_ms >= RECORDER_DEAD_MS {
            PROCESS.become_idle();
            break None;
        }
        PROCESS.ring_doorbell();
        sys::futex_wait(&header.blocks_freed.0, freed, WAIT_MS);
        let (beat, present) = (header.heartbeat.0.load(Ordering::Relaxed), sys::monotonic_ms());
        // By the clock, since signals cut a wait short; a step counts once however long, since this process and the
        // recorder may both have been stopped meanwhile.
        let step = (present - looked).min(2 * u64::from(WAIT_MS));
        still_for_ms = if beat == heartbeat { still_for_ms + step } else { 0 };
        (heartbeat, looked) = (beat, present);
    };
    header.waiting.0.fetch_sub(1, Ordering::Relaxed);
    block
}
