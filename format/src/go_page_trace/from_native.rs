//! This crate's format → Go's page trace.

use std::collections::BTreeMap;
use std::io::Write;

use super::buffer::{GoBufferState, NotTaken, page_event};
use super::words::{self, BUFFER_WORDS, TIME_SHIFT, WORD_BYTES};
use crate::decode::{Chunk, Trace};
use crate::error::FormatError;
use crate::event::{Event, EventKind, PageRun};
use crate::header::{ChunkKind, Origin};
use crate::records::{Record, Stream, StreamKind};
use crate::units::{PageShift, ProcessId, StreamId, TraceNanos};

/// Writes a native trace as a page trace of Go: byte for byte the file that [`super::go_to_native`] was given; for a
/// recorded trace the page events, in the buffers that Go's runtime would have written them in, each thread as a P.
/// Objects, snapshots and whatever else that format has no place for stay behind.
///
/// # Errors
/// [`FormatError::CannotConvert`] for a trace without page events, with pages of another size than 8 KiB, of several
/// processes, or with what the format cannot hold; [`FormatError::Payload`] for damage; and what the output gives.
/// `out` then holds a part of the trace.
pub fn native_to_go<W: Write>(trace: &Trace, mut out: W) -> Result<(), FormatError> {
    let page_bytes = trace.header().page_shift.bytes();
    if trace.header().page_shift != PageShift::KIB_8 {
        return Err(cannot(format!("its pages are 8192 bytes, those of this trace {page_bytes}")));
    }
    if let Some(defect) = trace.defects().first() {
        let (offset, what) = (defect.offset, defect.what);
        return Err(cannot(format!("the trace is damaged at offset {offset} ({what}), so events are missing")));
    }
    let known = KnownRecords::of(trace)?;
    match trace.header().origin {
        Origin::GoPageTrace => rebuild(trace, &known, &mut out)?,
        Origin::Recorded => write_recorded(trace, &known, &mut out)?,
    }
    Ok(out.flush()?)
}

pub(super) fn cannot(why: String) -> FormatError {
    FormatError::CannotConvert { format: "a Go page trace", why }
}

/// The records that the conversion needs.
#[derive(Default)]
struct KnownRecords {
    streams: BTreeMap<StreamId, Stream>,
    ended: bool,
}

impl KnownRecords {
    fn of(trace: &Trace) -> Result<KnownRecords, FormatError> {
        let mut known = KnownRecords::default();
        for chunk in trace.chunks().iter().filter(|chunk| chunk.header.kind == ChunkKind::RECORDS) {
            for record in trace.records(chunk)? {
                match record {
                    Record::Stream(stream) => drop(known.streams.insert(stream.id, stream)),
                    Record::End(_) => known.ended = true,
                    _ => {}
                }
            }
        }
        Ok(known)
    }

    fn stream(&self, id: StreamId) -> Result<&Stream, FormatError> {
        let StreamId(number) = id;
        self.streams.get(&id).ok_or_else(|| cannot(format!("the trace does not say what stream {number} is")))
    }
}

fn event_chunks<'t>(trace: &'t Trace) -> impl Iterator<Item = &'t Chunk> {
    trace.chunks().iter().filter(|chunk| chunk.header.kind.has_events())
}

/// One buffer a chunk, as [`super::go_to_native`] made them.
fn rebuild<W: Write>(trace: &Trace, known: &KnownRecords, out: &mut W) -> Result<(), FormatError> {
    if !known.ended {
        return Err(cannot(
            "the trace has no end, so what follows in the Go page trace it was made from is missing".into(),
        ));
    }
    let (mut events, mut bytes) = (Vec::new(), Vec::new());
    for chunk in event_chunks(trace) {
        let StreamKind::GoProcessor(processor) = known.stream(chunk.header.stream)?.kind else {
            return Err(cannot("the trace says that a Go program made it, but has a stream that is no P".into()));
        };
        events.clear();
        let mut cursor = trace.events(chunk)?;
        while let Some(event) = cursor.next_event()? {
            events.push(event);
        }
        bytes.clear();
        encode_run(processor, &events, &mut bytes)?;
        out.write_all(&bytes)?;
    }
    Ok(())
}

/// Appends the words of one buffer whose events have the format's own times.
pub(super) fn encode_run(processor: i64, events: &[Event], out: &mut Vec<u8>) -> Result<(), FormatError> {
    let mut put = |word: u64| out.extend_from_slice(&word.to_le_bytes());
    put(words::processor(processor).ok_or_else(|| processor_does_not_fit(processor))?);
    let mut time_base = 0;
    for event in events {
        let time = event.time.0;
        if time % (1 << TIME_SHIFT) != 0 {
            return Err(cannot(format!("its times are multiples of 128 ns, and one is {time} ns")));
        }
        if event.kind == EventKind::TimeSync {
            time_base = time;
            put(words::sync(event.time));
            continue;
        }
        let Some((number, run)) = page_event(&event.kind) else {
            return Err(cannot("it has page events only, and this trace has objects".into()));
        };
        let delta = time.checked_sub(time_base).and_then(|delta| u16::try_from(delta >> TIME_SHIFT).ok());
        let delta = delta.ok_or_else(|| cannot(format!("the event at {time} ns is too far from its time sync")))?;
        let (first, second) = words::page(delta, number, run).ok_or_else(|| address_does_not_fit(run))?;
        put(first);
        second.into_iter().for_each(&mut put);
    }
    Ok(())
}

/// The page events of each stream through a buffer like that of Go's runtime.
fn write_recorded<W: Write>(trace: &Trace, known: &KnownRecords, out: &mut W) -> Result<(), FormatError> {
    let mut buffers: BTreeMap<StreamId, Buffer> = BTreeMap::new();
    let mut process: Option<ProcessId> = None;
    for chunk in event_chunks(trace) {
        let mut cursor = trace.events(chunk)?;
        while let Some(event) = cursor.next_event()? {
            let Some((number, run)) = page_event(&event.kind) else { continue };
            let id = chunk.header.stream;
            let next_processor = buffers.len() as u64;
            let buffer = match buffers.entry(id) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    let stream = known.stream(id)?;
                    if *process.get_or_insert(stream.process) != stream.process {
                        return Err(cannot("it has room for one process, and this trace has pages of several".into()));
                    }
                    entry.insert(Buffer::new(stream.kind, next_processor))
                }
            };
            buffer.push(event.time, number, run, out)?;
        }
    }
    if buffers.is_empty() {
        return Err(cannot("the trace has no page events: its sources saw objects and snapshots only".into()));
    }
    buffers.values_mut().try_for_each(|buffer| buffer.flush(out))
}

fn processor_does_not_fit(processor: i64) -> FormatError {
    cannot(format!("P ids have 61 bits, and one is {processor}"))
}

fn address_does_not_fit(run: &PageRun) -> FormatError {
    let base = run.base;
    cannot(format!("it holds multiples of 8192 below 2^48 as page addresses, and an event has {base}"))
}

/// The buffer of one P.
struct Buffer {
    processor: i64,
    state: GoBufferState,
    memory: Vec<u8>,
}

impl Buffer {
    /// Threads and allocators' buffers get the ids of Ps in the order of their first page event; a P keeps its own.
    fn new(kind: StreamKind, next_processor: u64) -> Buffer {
        let processor = match kind {
            StreamKind::Thread(_) | StreamKind::Buffer(_) => next_processor as i64,
            StreamKind::GoProcessor(processor) => processor,
        };
        Buffer { processor, state: GoBufferState::new(processor), memory: vec![0; BUFFER_WORDS * WORD_BYTES] }
    }

    fn push<W: Write>(&mut self, time: TraceNanos, number: u8, run: &PageRun, out: &mut W) -> Result<(), FormatError> {
        let mut taken = self.state.push(&mut self.memory, time, number, run);
        if taken == Err(NotTaken::Full) {
            self.flush(out)?;
            taken = self.state.push(&mut self.memory, time, number, run);
        }
        taken.map_err(|why| match why {
            NotTaken::Processor => processor_does_not_fit(self.processor),
            // An empty buffer of this size is never full.
            NotTaken::Full | NotTaken::Address => address_does_not_fit(run),
        })
    }

    fn flush<W: Write>(&mut self, out: &mut W) -> Result<(), FormatError> {
        out.write_all(&self.memory[..self.state.bytes_used()])?;
        self.state.clear();
        Ok(())
    }
}
