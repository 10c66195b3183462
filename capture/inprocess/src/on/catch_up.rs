//! What happened to objects while recording was off and ids went on: when it resumes, the trace gets a free for each
//! object that died meanwhile and an allocation for each that was born, all at the moment of resuming.

use core::sync::atomic::Ordering;

use pagetrace_format::encode::{self, PackedWordsChunk};
use pagetrace_format::records::{Stream, StreamKind};
use pagetrace_format::session::Session;
use pagetrace_format::{Address, ObjectAlloc, ObjectFree, ObjectFunction, ObjectId, RecordChunk, StackId, StreamId};

use super::announcements::{self, process_id};
use super::process::PROCESS;
use super::scratch::Scratch;
use super::{OBJECTS, go_buffers, tick_line, trace_file};
use crate::sys;

/// The number of its buffer in the trace: no allocator has so many.
const NUMBER: u32 = (1 << 31) - 1;

/// Writes the gap and that, if this process has resumed since it was last called.
pub fn announce(session: Session, scratch: &mut Scratch) {
    let tick = PROCESS.resumed_at.swap(0, Ordering::AcqRel);
    if tick == 0 {
        return;
    }
    let clock = tick_line::line(session.header());
    let kept = PROCESS.resumed_kept.load(Ordering::Relaxed) != 0;
    let since = clock.time_of(PROCESS.resumed_since.load(Ordering::Relaxed));
    announcements::gap(since, clock.time_of(tick), kept, scratch);
    if !kept {
        return;
    }
    let mut events = Events::new(session, scratch, tick);
    OBJECTS.drain_dead(|dead| {
        let free = ObjectFree { address: Address(dead.address as u64), function: ObjectFunction::Other };
        events.push(&encode::object_free_with_id(0, &free, ObjectId(dead.id)));
    });
    OBJECTS.announce_all(|entry| {
        let alloc = ObjectAlloc {
            address: Address(entry.address as u64),
            size: entry.size,
            usable: entry.size,
            stack: StackId(entry.bucket),
            function: ObjectFunction::Other,
        };
        events.push(&encode::object_alloc_with_id(0, &alloc, ObjectId(entry.id)));
    });
    events.write();
}

/// A stream of its own: its events are older than those that the threads have recorded since.
struct Events<'s> {
    session: Session,
    scratch: &'s mut Scratch,
    stream: StreamId,
    announced: bool,
    used: usize,
    first: [u64; 2],
}

impl<'s> Events<'s> {
    fn new(session: Session, scratch: &'s mut Scratch, tick: u64) -> Events<'s> {
        let number = session.header().thread_serial.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let stream = StreamId(number);
        let first = encode::time_base(tick);
        Events { session, scratch, stream, announced: false, used: 0, first }
    }

    fn push(&mut self, words: &[u64]) {
        if self.used + words.len() > self.scratch.words.len() {
            self.write();
        }
        if self.used == 0 {
            self.scratch.words[..2].copy_from_slice(&self.first);
            self.used = 2;
        }
        self.scratch.words[self.used..self.used + words.len()].copy_from_slice(words);
        self.used += words.len();
    }

    fn write(&mut self) {
        if self.used == 0 || go_buffers::wanted() {
            return;
        }
        let clock = tick_line::line(self.session.header());
        if !self.announced {
            self.announced = true;
            self.announce_stream();
        }
        if let Some(chunk) = PackedWordsChunk::new(self.scratch.chunk, clock, &self.scratch.words[..self.used]) {
            trace_file::append(chunk.finish(self.stream));
        }
        self.used = 0;
    }

    fn announce_stream(&mut self) {
        let process = process_id(PROCESS.serial());
        let stream = Stream { id: self.stream, process, kind: StreamKind::Buffer(NUMBER), stack_range: None };
        let mut memory = [0; 256];
        if let Some(mut chunk) = RecordChunk::new(&mut memory)
            && chunk.stream(&stream)
        {
            trace_file::append(chunk.finish(pagetrace_format::TraceNanos(sys::monotonic_ns())));
        }
    }
}
