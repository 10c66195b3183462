//! Takes what hooks have published out of the blocks and appends it to the file, the events of each stream in order.
//!
//! Everything about a block that outlives a look at it is in its header, in shared memory: another process of the
//! recording can go on where one has died.

use core::sync::atomic::{AtomicU64, Ordering};

use pagetrace_format::encode::{self, PackedItem, PackedReader, PackedWordsChunk, TickClock};
use pagetrace_format::records::{Stream, StreamKind};
use pagetrace_format::session::{BUFFER_BIT, BlockHeader, Session, block_state};
use pagetrace_format::{Address, ProcessId, RecordChunk, StreamId, TraceNanos};

use super::announcements::process_id;
use super::process::{INHERITED, PROCESS, lifecycle};
use super::scratch::Scratch;
use super::{flusher, go_buffers, own_session, page_sets, tick_line, trace_file};
use crate::sys;

/// What a look at the blocks gave.
#[derive(Clone, Copy, Debug, Default)]
pub struct Drained {
    /// Words written.
    pub words: u64,
    /// Blocks put back.
    pub freed: u32,
}

/// Whose blocks this process drains: its own, and all where it has the flusher or nobody has one.
pub fn of_whom(session: Session) -> Option<u32> {
    let has_flusher = PROCESS.flusher.load(Ordering::Acquire) != 0;
    (!has_flusher && flusher::somebody_flushes(session.header())).then(|| PROCESS.serial())
}

/// Drains all blocks, or those of one process.
pub fn drain(session: Session, scratch: &mut Scratch, only: Option<u32>) -> Drained {
    let mut drained = Drained::default();
    let clock = tick_line::line(session.header());
    let taken = session.header().blocks_taken.0.load(Ordering::Acquire).min(session.layout().block_count);
    for index in 0..taken {
        let Some(block) = session.block(index) else { continue };
        let of_interest = only.is_none_or(|serial| block.process_serial.load(Ordering::Relaxed) == serial);
        if of_interest && block.state.load(Ordering::Acquire) != block_state::FREE {
            drain_with_those_before(session, scratch, index, &clock, &mut drained);
        }
    }
    if drained.freed > 0 {
        let freed = &session.header().blocks_freed.0;
        freed.fetch_add(1, Ordering::Release);
        if session.header().waiting.0.load(Ordering::Relaxed) > 0 {
            sys::futex_wake_all(freed);
        }
    }
    drained
}

/// A block that its thread filled before may lie at an index that was free when the look came by: it is found by the
/// link back to it, and written first.
fn drain_with_those_before(session: Session, scratch: &mut Scratch, index: u32, clock: &TickClock, all: &mut Drained) {
    let mut length = 0;
    let mut next = Some(index);
    while let Some(index) = next
        && let Some(entry) = scratch.chain.get_mut(length)
    {
        *entry = index;
        length += 1;
        next = block_before(session, index);
    }
    for position in (0..length).rev() {
        let index = scratch.chain[position];
        drain_block(session, scratch, index, clock, all);
    }
}

/// The block that the same thread filled before this one, if it has not been put back yet.
fn block_before(session: Session, index: u32) -> Option<u32> {
    let block = session.block(index)?;
    let previous = block.previous.load(Ordering::Relaxed).checked_sub(1)?;
    let before = session.block(previous)?;
    let same = before.state.load(Ordering::Acquire) != block_state::FREE
        && before.thread_serial.load(Ordering::Relaxed) == block.thread_serial.load(Ordering::Relaxed)
        && before.sequence.load(Ordering::Relaxed).wrapping_add(1) == block.sequence.load(Ordering::Relaxed);
    same.then_some(previous)
}

fn drain_block(session: Session, scratch: &mut Scratch, index: u32, clock: &TickClock, all: &mut Drained) {
    let (Some(block), Some(words)) = (session.block(index), session.words(index)) else { return };
    // A full block's count is final, so the state is read first.
    let state = block.state.load(Ordering::Acquire);
    if state == block_state::FREE {
        return;
    }
    // While recording is off in this process, blocks are closed to it, also those that its relatives use.
    let closed = INHERITED.lifecycle.load(Ordering::Relaxed) != lifecycle::RECORDING;
    if closed && own_session::open_block(session, index).is_err() {
        return;
    }
    let end = (block.committed_words.load(Ordering::Acquire) as usize).min(words.len());
    let from = (block.drained_words.load(Ordering::Relaxed) as usize).min(end);
    if block.process_serial.load(Ordering::Relaxed) == PROCESS.serial() {
        page_sets::note_block(block, words);
    }
    if from < end || state == block_state::FULL {
        // A stream's first block may be handed over empty, and its events be in the next.
        announce_stream(block, from);
    }
    if from < end {
        write_words(scratch, block, &words[from..end], clock);
        block.drained_words.store(end as u32, Ordering::Release);
        all.words += (end - from) as u64;
    }
    if state == block_state::FULL {
        // What the program did is nobody's business once it is written.
        words[..end].iter().for_each(|word| word.store(0, Ordering::Relaxed));
        if closed {
            // Best effort: it stays in use where the kernel refuses.
            let _ = own_session::close_block(session, index);
        }
        session.put_free_block(index);
        all.freed += 1;
    }
}

fn announce_stream(block: &BlockHeader, from: usize) {
    if from != 0 || block.sequence.load(Ordering::Relaxed) != 0 || go_buffers::wanted() {
        return;
    }
    let tid = block.tid.load(Ordering::Relaxed);
    let (low, high) = (block.stack_low.load(Ordering::Relaxed), block.stack_high.load(Ordering::Relaxed));
    let stream = Stream {
        id: StreamId(block.thread_serial.load(Ordering::Relaxed)),
        process: process_id(block.process_serial.load(Ordering::Relaxed)),
        kind: if tid & BUFFER_BIT == 0 { StreamKind::Thread(tid) } else { StreamKind::Buffer(tid & !BUFFER_BIT) },
        stack_range: (high != 0).then_some((Address(low), Address(high))),
    };
    let mut memory = [0; 256];
    if let Some(mut chunk) = RecordChunk::new(&mut memory)
        && chunk.stream(&stream)
    {
        trace_file::append(chunk.finish(TraceNanos(sys::monotonic_ns())));
    }
}

/// Writes words of a block: stacks as records, events as one chunk.
fn write_words(scratch: &mut Scratch, block: &BlockHeader, words: &[AtomicU64], clock: &TickClock) {
    let stream = StreamId(block.thread_serial.load(Ordering::Relaxed));
    let process = process_id(block.process_serial.load(Ordering::Relaxed));
    let base = block.drained_base.load(Ordering::Relaxed);
    // A chunk starts with its time base; words that are taken from the middle of a block have theirs further up.
    let [first, second] = encode::time_base(base);
    scratch.words[0] = first;
    scratch.words[1] = second;
    let count = words.len().min(scratch.words.len() - 2);
    for (to, from) in scratch.words[2..].iter_mut().zip(words) {
        *to = from.load(Ordering::Relaxed);
    }
    let lead = if base == 0 { 2 } else { 0 };
    let events = take_stacks(scratch, lead, count + 2, process);
    if let Some(base) = last_base(&scratch.words[lead..events]) {
        block.drained_base.store(base, Ordering::Relaxed);
    }
    let taken = &scratch.words[lead..events];
    if go_buffers::wanted() {
        go_buffers::write(taken, clock, stream, scratch.chunk);
        return;
    }
    if let Some(chunk) = PackedWordsChunk::new(scratch.chunk, *clock, taken)
        && chunk.events() > 0
    {
        trace_file::append(chunk.finish(stream));
    }
}

/// Writes the stacks among the words as records and closes the gaps. Returns where the words end then.
fn take_stacks(scratch: &mut Scratch, lead: usize, end: usize, process: ProcessId) -> usize {
    let Scratch { words, chunk, .. } = scratch;
    let mut reader = PackedReader::default();
    let (mut at, mut kept) = (lead, lead);
    // A page trace of Go has no place for stacks: they are dropped.
    let mut records = if go_buffers::wanted() { None } else { RecordChunk::new(chunk) };
    while at < end {
        let mut rest = &words[at..end];
        let before = rest.len();
        // A time base is stepped over together with the item behind it: stacks need none, so none is in front of one.
        let item = reader.next(&mut rest);
        let length = before - rest.len();
        match item {
            Ok(Some(PackedItem::Stack(id, frames, reach))) => {
                let bases = length - frames.len() - 2;
                let written = records.as_mut().is_some_and(|records| records.stack_frames(process, id, frames, reach));
                if !written && let Some(full) = records.take() {
                    trace_file::append(full.finish(TraceNanos(sys::monotonic_ns())));
                }
                words.copy_within(at..at + bases, kept);
                kept += bases;
            }
            Ok(Some(PackedItem::Event(..))) => {
                words.copy_within(at..at + length, kept);
                kept += length;
            }
            // Only time bases are left, or words that the program has overwritten.
            Ok(None) | Err(_) => break,
        }
        at += length;
    }
    if let Some(records) = records.filter(|records| !records.is_empty()) {
        trace_file::append(records.finish(TraceNanos(sys::monotonic_ns())));
    }
    kept
}

/// The last time base among the words.
fn last_base(words: &[u64]) -> Option<u64> {
    let mut reader = PackedReader::default();
    let mut rest = words;
    while let Ok(Some(_)) = reader.next(&mut rest) {}
    reader.base()
}

/// Marks the blocks of a process as full. No hook of it may be at work.
pub fn fill_blocks_of(session: Session, process_serial: u32) {
    let taken = session.header().blocks_taken.0.load(Ordering::Acquire).min(session.layout().block_count);
    for block in (0..taken).filter_map(|index| session.block(index)) {
        if block.state.load(Ordering::Acquire) == block_state::OWNED
            && block.process_serial.load(Ordering::Relaxed) == process_serial
        {
            block.state.store(block_state::FULL, Ordering::Release);
        }
    }
}
