//! Takes what the hooks have published out of the session's blocks, thread by thread, in the order of each thread.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pagetrace_format::encode::{PackedItem, PackedReader};
use pagetrace_format::records::{Loss, LossReason, Record, Stream, StreamKind};
use pagetrace_format::session::{BUFFER_BIT, BlockHeader, Session, block_state};
use pagetrace_format::{Address, ObjectColumns, ProcessId, StreamId};

use super::stack_tree::StackTree;
use super::stream_events::StreamEvents;
use super::tick_mapper::{TickMapper, now};

/// Events of a chunk: half a MiB of memory for a reader that has it open. An address is told by where it was met before, so the
/// more the better.
const CHUNK_EVENTS: usize = ObjectColumns::EVENTS_MAX;
/// The same with many threads, since a reader has a chunk of each open.
const CHUNK_EVENTS_OF_MANY: usize = CHUNK_EVENTS / 4;
const MANY_THREADS: usize = 32;
/// Events wait no longer than this for their chunk to fill, so that little is lost when the recorder is killed.
const CHUNK_AGE: Duration = Duration::from_secs(1);

/// The streams of a session.
#[derive(Debug)]
pub struct Drain {
    threads: HashMap<u32, Thread>,
    streams_given: u32,
    words: Vec<u64>,
}

/// A process as the drain sees it: its number and its stacks.
#[derive(Debug)]
pub struct DrainedProcess {
    /// Its number in the trace.
    pub id: ProcessId,
    /// Its stacks so far.
    pub stacks: StackTree,
    /// Words that were no events.
    pub malformed: u64,
}

#[derive(Debug)]
struct Thread {
    stream: StreamId,
    process_serial: u32,
    next_sequence: u32,
    words_read: usize,
    reader: PackedReader,
    events: StreamEvents,
    since: Instant,
}

/// A block with something in it.
#[derive(Clone, Copy, Debug)]
struct Published {
    thread_serial: u32,
    sequence: u32,
    index: u32,
    full: bool,
    words: usize,
}

/// Where events go whose chunk is full or old enough; they are gone from there afterwards.
pub type Write<'w> = dyn FnMut(StreamId, &mut StreamEvents) + 'w;

/// What one look at the blocks gave.
#[derive(Debug, Default)]
pub struct Drained {
    /// Records to write before the events.
    pub records: Vec<Record>,
    /// Blocks that threads hold.
    pub blocks_held: u32,
    /// Blocks put back.
    pub blocks_freed: u32,
    /// Threads that had something in their blocks.
    pub threads: usize,
}

impl Drain {
    /// No streams yet.
    pub fn new() -> Drain {
        Drain { threads: HashMap::new(), streams_given: 0, words: Vec::new() }
    }

    /// Takes everything that is published now. `processes` maps the serials of processes; blocks of unknown ones are
    /// left for the next round. Chunks that are full go to `write`.
    pub fn drain(
        &mut self,
        session: Session,
        blocks_ready: u32,
        clock: &mut TickMapper,
        processes: &mut HashMap<u32, DrainedProcess>,
        write: &mut Write<'_>,
    ) -> Drained {
        let mut drained = Drained::default();
        let mut published = published_blocks(session, blocks_ready);
        drained.blocks_held = published.iter().filter(|block| !block.full).count() as u32;
        // After the look, before the events are taken: see `TickMapper`.
        clock.read_clocks();
        published.sort_unstable_by_key(|block| (block.thread_serial, block.sequence));
        let mut last = None;
        for block in published {
            if last.replace(block.thread_serial) != Some(block.thread_serial) && self.has_more(&block) {
                drained.threads += 1;
            }
            self.take_block(session, block, clock, processes, &mut drained, write);
        }
        self.write_chunks(write, |thread| thread.since.elapsed() >= CHUNK_AGE);
        drained
    }

    /// Writes all events that wait for their chunk to fill; of one process or of all.
    pub fn flush(&mut self, process_serial: Option<u32>, write: &mut Write<'_>) {
        self.write_chunks(write, |thread| process_serial.is_none_or(|serial| serial == thread.process_serial));
    }

    /// Puts back the blocks of a process that has ended, once [`Drain::drain`] has taken what is in them, and forgets
    /// its threads.
    pub fn process_ended(&mut self, session: Session, blocks_ready: u32, process_serial: u32) {
        self.threads.retain(|_, thread| thread.process_serial != process_serial);
        for index in 0..blocks_ready {
            if let Some(block) = session.block(index)
                && block.state.load(Ordering::Acquire) != block_state::FREE
                && block.process_serial.load(Ordering::Relaxed) == process_serial
            {
                session.put_free_block(index);
            }
        }
    }

    /// Marks the blocks of threads that are gone as full: a thread that was cancelled or left by pthread_exit does not
    /// do so itself. `is_living` tells of a tid whether it is a thread of the process now. It is asked after the look at
    /// the block: a list made before it would lack the threads that have started since.
    pub fn threads_ended(
        &self,
        session: Session,
        blocks_ready: u32,
        process_serial: u32,
        is_living: impl Fn(u32) -> bool,
    ) {
        for index in 0..blocks_ready {
            if let Some(block) = session.block(index)
                && block.state.load(Ordering::Acquire) == block_state::OWNED
                && block.process_serial.load(Ordering::Relaxed) == process_serial
                && block.tid.load(Ordering::Relaxed) & BUFFER_BIT == 0
                && !is_living(block.tid.load(Ordering::Relaxed))
            {
                block.hand_over();
            }
        }
    }

    /// Whether there are words in the block that have not been taken.
    fn has_more(&self, block: &Published) -> bool {
        let read = self.threads.get(&block.thread_serial).map_or(0, |thread| thread.words_read);
        block.words > read
    }

    fn take_block(
        &mut self,
        session: Session,
        found: Published,
        clock: &TickMapper,
        processes: &mut HashMap<u32, DrainedProcess>,
        drained: &mut Drained,
        write: &mut Write<'_>,
    ) {
        let (Some(block), Some(words)) = (session.block(found.index), session.words(found.index)) else { return };
        let process_serial = block.process_serial.load(Ordering::Relaxed);
        let Some(process) = processes.get_mut(&process_serial) else { return };
        let chunk_events = if self.threads.len() < MANY_THREADS { CHUNK_EVENTS } else { CHUNK_EVENTS_OF_MANY };
        let streams_given = &mut self.streams_given;
        let thread = self.threads.entry(found.thread_serial).or_insert_with(|| {
            *streams_given += 1;
            let stream = StreamId(*streams_given);
            let (low, high) = (block.stack_low.load(Ordering::Relaxed), block.stack_high.load(Ordering::Relaxed));
            drained.records.push(Record::Stream(Stream {
                id: stream,
                process: process.id,
                kind: kind_of(block),
                stack_range: (high != 0).then_some((Address(low), Address(high))),
            }));
            Thread {
                stream,
                process_serial,
                // Not the sequence found: the look may have passed the first block by before the thread took it.
                next_sequence: 0,
                words_read: 0,
                reader: PackedReader::default(),
                events: StreamEvents::new(),
                since: Instant::now(),
            }
        });
        if thread.next_sequence != found.sequence {
            // The block before it got more words since this round's look: the next round comes back here.
            return;
        }
        let end = found.words.min(words.len());
        self.words.clear();
        self.words.extend(words[thread.words_read.min(end)..end].iter().map(|word| word.load(Ordering::Relaxed)));
        let mut rest = &self.words[..];
        if thread.events.len() == 0 {
            thread.since = Instant::now();
        }
        loop {
            thread.events.take_packed(&thread.reader, &mut rest, chunk_events, |tick| clock.time_of(tick));
            if thread.events.len() >= chunk_events {
                write(thread.stream, &mut thread.events);
                thread.since = Instant::now();
                continue;
            }
            match thread.reader.next(&mut rest) {
                Ok(Some(PackedItem::Event(tick, kind))) => thread.events.push(clock.time_of(tick), kind),
                Ok(Some(PackedItem::Stack(id, frames, end))) => {
                    process.stacks.add(process.id, id, frames, end, &mut drained.records);
                }
                Ok(None) => break,
                Err(_) => {
                    // The program has overwritten its own buffer: nothing after this can be trusted.
                    process.malformed += 1;
                    break;
                }
            }
        }
        thread.words_read = end;
        if found.full {
            thread.next_sequence = thread.next_sequence.wrapping_add(1);
            thread.words_read = 0;
            thread.reader = PackedReader::default();
            session.put_free_block(found.index);
            drained.blocks_freed += 1;
        }
    }

    fn write_chunks(&mut self, write: &mut Write<'_>, due: impl Fn(&Thread) -> bool) {
        for thread in self.threads.values_mut().filter(|thread| thread.events.len() > 0) {
            if due(thread) {
                write(thread.stream, &mut thread.events);
            }
        }
    }
}

/// A thread's block, or one of a buffer that an allocator owns.
fn kind_of(block: &BlockHeader) -> StreamKind {
    match block.tid.load(Ordering::Relaxed) {
        tid if tid & BUFFER_BIT == 0 => StreamKind::Thread(tid),
        number => StreamKind::Buffer(number & !BUFFER_BIT),
    }
}

fn published_blocks(session: Session, blocks_ready: u32) -> Vec<Published> {
    let blocks = (0..blocks_ready).filter_map(|index| session.block(index).map(|block| (index, block)));
    blocks
        .filter_map(|(index, block)| {
            let found = block.published()?;
            Some(Published {
                thread_serial: block.thread_serial.load(Ordering::Relaxed),
                sequence: block.sequence.load(Ordering::Relaxed),
                index,
                full: found.full,
                words: found.words as usize,
            })
        })
        .collect()
}

/// The losses that a process's slot and blocks tell of, as records.
pub fn loss_reasons(full: u64, reentered: u64, stacks: u64, malformed: u64) -> impl Iterator<Item = (LossReason, u64)> {
    [
        (LossReason::BufferFull, full),
        (LossReason::Reentered, reentered),
        (LossReason::StackTableFull, stacks),
        (LossReason::Malformed, malformed),
    ]
    .into_iter()
    .filter(|&(_, events)| events > 0)
}

/// A loss that concerns no process.
pub fn refused_loss(refused: u32) -> Option<Record> {
    let reason = LossReason::TooManyProcesses;
    (refused > 0).then(|| Record::Loss(Loss { process: None, reason, events: 0, time: now() }))
}
