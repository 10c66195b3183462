//! Go's page trace → this crate's format: the events, not the bytes.

use std::io::Write;

use super::GoPageTrace;
use super::from_native::encode_run;
use super::words::WORD_BYTES;
use crate::columns::EventColumns;
use crate::error::FormatError;
use crate::header::{FileHeader, Origin, VERSION};
use crate::records::{End, Loss, LossReason, Process, ProcessOrigin, Record, Stream, StreamKind};
use crate::units::{Address, PageShift, ProcessId, StreamId, TraceNanos};
use crate::writer::TraceWriter;

/// Writes a page trace of Go as a native trace: one stream a P, one chunk of events a buffer, in the order of the file.
/// The recording starts with the earliest event, as the file says nothing else of it.
///
/// A trace with defects gets a record of the loss and no record of an end.
///
/// # Errors
/// What the output gives, and [`FormatError::CannotConvert`] for a buffer that Go's runtime does not write and that
/// [`super::native_to_go`] would therefore not rebuild byte for byte.
pub fn go_to_native<W: Write>(go: &GoPageTrace, out: W) -> Result<W, FormatError> {
    let start = go.runs().iter().map(|run| run.first).min().unwrap_or_default();
    let end = go.runs().iter().map(|run| run.last).max().unwrap_or_default();
    let header = FileHeader {
        version: VERSION,
        page_shift: PageShift::KIB_8,
        origin: Origin::GoPageTrace,
        start,
        start_unix_ns: 0,
    };
    let mut writer = TraceWriter::new(out, &header)?;
    let processors = processors_of(go);
    writer.records(start, &first_records(&processors, start))?;
    let mut columns = EventColumns::new();
    let mut rebuilt = Vec::new();
    for run in go.runs() {
        columns.clear();
        let mut cursor = go.events(run);
        while let Some(event) = cursor.next_event()? {
            columns.push(event);
        }
        rebuilt.clear();
        encode_run(run.processor, columns.events(), &mut rebuilt)?;
        if rebuilt.get(WORD_BYTES..) != Some(go.payload(run)) {
            return Err(FormatError::CannotConvert {
                format: "a native trace",
                why: format!(
                    "the buffer at offset {} of the Go page trace has an event of under 1024 pages in the form for \
                     many, which Go's runtime does not write and which could not be written back",
                    run.payload_offset - WORD_BYTES
                ),
            });
        }
        writer.events(stream_of(&processors, run.processor), &columns)?;
    }
    let last = match go.defects() {
        [] => Record::End(End { time: end, unix_ns: 0 }),
        _ => Record::Loss(Loss { process: Some(PROCESS), reason: LossReason::Malformed, events: 0, time: end }),
    };
    writer.records(end, &[last])?;
    writer.into_inner()
}

/// The one process of a Go page trace.
const PROCESS: ProcessId = ProcessId(0);

/// The Ps in ascending order.
fn processors_of(go: &GoPageTrace) -> Vec<i64> {
    let mut processors: Vec<i64> = go.runs().iter().map(|run| run.processor).collect();
    processors.sort_unstable();
    processors.dedup();
    processors
}

/// Streams are numbered from 1 in the order of their Ps.
fn stream_of(processors: &[i64], processor: i64) -> StreamId {
    StreamId(processors.partition_point(|&other| other <= processor) as u32)
}

fn first_records(processors: &[i64], start: TraceNanos) -> Vec<Record> {
    let process = Record::Process(Process {
        id: PROCESS,
        pid: 0,
        parent: None,
        origin: ProcessOrigin::Command,
        start,
        exe: String::new(),
        args: None,
        malloc: Address(0),
    });
    let stream = |&processor: &i64| {
        let kind = StreamKind::GoProcessor(processor);
        Record::Stream(Stream { id: stream_of(processors, processor), process: PROCESS, kind, stack_range: None })
    };
    std::iter::once(process).chain(processors.iter().map(stream)).collect()
}
