//! A trace without its oldest events: what it says before a moment becomes a checkpoint, the rest stays as it is.

use std::io::Write;

use hashbrown::{HashMap, HashSet};
use pagetrace_format::records::{Loss, LossReason, ProcessOrigin, Record};
use pagetrace_format::{
    Access, Chunk, ChunkKind, EventColumns, FileHeader, FormatError, KernelColumns, Origin, ProcessId, StreamId, Trace,
    TraceNanos, TraceWriter, VERSION,
};

use crate::metadata::Metadata;
use crate::replay::{Taken, checkpoint_at};
use crate::results::Defect;

/// Records of a chunk.
const CHUNK_RECORDS: usize = 8192;

/// Writes a trace that holds what another says from `at` on, and before it what must be known to go on from there: the
/// file header, the records, a checkpoint, and the chunks with something at or after `at`, those that have more without it.
/// Gives what it was written to, at its end.
///
/// Nothing may be missing of `trace` before `at`: what comes later with an earlier time is taken for something that happens
/// at its time, behind the checkpoint.
///
/// # Errors
/// What the output gives. Page traces of Go, whose times go back, are refused as [`FormatError::Payload`].
pub fn compact<W: Write>(trace: &Trace<'_>, at: TraceNanos, out: W) -> Result<TraceWriter<W>, FormatError> {
    if trace.header().origin == Origin::GoPageTrace {
        return Err(FormatError::Payload("a page trace of Go: it cannot be cut"));
    }
    let metadata = Metadata::read(trace);
    // A checkpoint that is there already covers what is before it.
    let at = at.max(metadata.checkpoint.as_ref().map_or(TraceNanos(1), |checkpoint| checkpoint.time));
    let Taken { tables, ended, mut defects } = checkpoint_at(trace, &metadata, at);
    defects.extend_from_slice(&metadata.defects);
    // Damage in a chunk that stays as it is goes on being reported.
    let stays = |chunk: &&Chunk| is_kept_whole(chunk, at);
    let kept: HashSet<usize> = trace.chunks().iter().filter(stays).map(|chunk| chunk.payload_offset).collect();
    defects.retain(|defect| !kept.contains(&defect.offset));
    // Readers of earlier versions know no checkpoints.
    let version = trace.header().version.max(VERSION);
    let mut writer = TraceWriter::new(out, &FileHeader { version, ..*trace.header() })?;
    let records = kept_records(trace, &metadata, at, &ended, &defects);
    for records in records.chunks(CHUNK_RECORDS) {
        writer.records(at, records)?;
    }
    for table in &tables {
        writer.checkpoint(table)?;
    }
    let mut passed = HashSet::new();
    for chunk in trace.chunks() {
        keep_chunk(trace, chunk, at, &mut passed, &mut writer)?;
    }
    Ok(writer)
}

fn is_kept_whole(chunk: &Chunk, at: TraceNanos) -> bool {
    let is_of_state = matches!(chunk.header.kind, ChunkKind::RECORDS | ChunkKind::CHECKPOINT);
    !is_of_state && chunk.header.first >= at
}

fn keep_chunk<W: Write>(
    trace: &Trace<'_>,
    chunk: &Chunk,
    at: TraceNanos,
    passed: &mut HashSet<StreamId>,
    writer: &mut TraceWriter<W>,
) -> Result<(), FormatError> {
    let header = &chunk.header;
    let is_of_stream = header.kind.has_events();
    if is_kept_whole(chunk, at) || is_of_stream && passed.contains(&header.stream) {
        if is_of_stream {
            passed.insert(header.stream);
        }
        return writer.whole_chunk(header, trace.whole_chunk(chunk));
    }
    match header.kind {
        _ if header.last < at => Ok(()),
        kind if kind.has_events() => {
            let mut columns = EventColumns::new();
            let Ok(mut cursor) = trace.events(chunk) else { return Ok(()) };
            while let Ok(Some(event)) = cursor.next_event() {
                if event.time >= at || passed.contains(&header.stream) {
                    passed.insert(header.stream);
                    columns.push(event);
                }
            }
            writer.events(header.stream, &columns)
        }
        ChunkKind::KERNEL_EVENTS => {
            let mut columns = KernelColumns::new();
            let Ok(mut cursor) = trace.kernel_events(chunk) else { return Ok(()) };
            while let Ok(Some(event)) = cursor.next_event() {
                if event.time >= at {
                    columns.push(event);
                }
            }
            writer.kernel_events(ProcessId(header.stream.0), &columns)
        }
        ChunkKind::ACCESSES => {
            let mut kept = Vec::new();
            let Ok(mut cursor) = trace.accesses(chunk) else { return Ok(()) };
            let mut is_epoch_kept = false;
            while let Ok(Some(access)) = cursor.next_access() {
                let is_kept = match access {
                    Access::Watched(access) => access.time >= at,
                    Access::Epoch(epoch) => {
                        is_epoch_kept = epoch.end >= at;
                        is_epoch_kept
                    }
                    _ => is_epoch_kept,
                };
                if is_kept {
                    kept.push(access);
                }
            }
            writer.accesses(ProcessId(header.stream.0), cursor.page_shift(), &kept)
        }
        // Records and tables were written anew; a snapshot has one time.
        _ => Ok(()),
    }
}

/// All records but those that only events and objects of processes that have ended need. Losses are added up, and what is
/// damaged in the trace becomes one.
fn kept_records(
    trace: &Trace<'_>,
    metadata: &Metadata,
    at: TraceNanos,
    ended: &[ProcessId],
    defects: &[Defect],
) -> Vec<Record> {
    let ended: HashSet<ProcessId> = ended.iter().copied().collect();
    let mut needed: HashSet<ProcessId> = HashSet::new();
    for info in metadata.processes.iter().filter(|info| !ended.contains(&info.process.id)) {
        // Objects that were inherited have the stacks of the process that made them.
        let mut process = Some(&info.process);
        while let Some(found) = process.filter(|found| needed.insert(found.id)) {
            let parent = found.parent.filter(|_| found.origin == ProcessOrigin::Fork);
            process = parent.and_then(|id| metadata.index(id)).map(|index| &metadata.processes[index].process);
        }
    }
    let mut records = Vec::new();
    let mut losses: HashMap<(Option<ProcessId>, LossReason, bool), Loss> = HashMap::new();
    let mut lose = |loss: Loss| {
        let key = (loss.process, loss.reason, loss.events == 0);
        let all = losses.entry(key).or_insert(Loss { events: 0, ..loss });
        (all.events, all.time) = (all.events.saturating_add(loss.events), all.time.max(loss.time));
    };
    for chunk in trace.chunks().iter().filter(|chunk| chunk.header.kind == ChunkKind::RECORDS) {
        for record in trace.records(chunk).unwrap_or_default() {
            let process = match &record {
                Record::Loss(loss) => {
                    lose(*loss);
                    continue;
                }
                // What it found of each process is dropped.
                Record::TreeLook(look) if look.start < at => continue,
                Record::Stream(it) => it.process,
                Record::Module(it) => it.process,
                Record::StackNode(it) => it.process,
                Record::Stack(it) => it.process,
                Record::StackFrames(it) => it.process,
                Record::Bucket(it) => it.process,
                Record::TracerMemory(it) => it.process,
                _ => {
                    records.push(record);
                    continue;
                }
            };
            if needed.contains(&process) || metadata.index(process).is_none() {
                records.push(record);
            }
        }
    }
    for defect in defects {
        let (reason, events, time) = (LossReason::Malformed, defect.events_lost, TraceNanos(0));
        lose(Loss { process: None, reason, events, time });
    }
    let mut losses: Vec<Loss> = losses.into_values().collect();
    losses.sort_unstable_by_key(|loss| (loss.time, loss.process, loss.events));
    records.extend(losses.into_iter().map(Record::Loss));
    records
}
