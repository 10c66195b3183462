//! Accesses on their way to the file of a program that writes its trace itself.

use core::sync::atomic::Ordering;

use pagetrace_format::access::{Access, AccessChunk};
use pagetrace_format::{PageShift, RecordChunk, TraceNanos};

use super::announcements::process_id;
use super::flush_lock::FlushLock;
use super::process::{INHERITED, PROCESS, lifecycle};
use super::{go_buffers, trace_file};
use crate::sys;

/// Whether there is a trace that they go to.
pub fn are_wanted() -> bool {
    INHERITED.lifecycle.load(Ordering::Acquire) == lifecycle::RECORDING
        && PROCESS.writes_itself()
        && !go_buffers::wanted()
}

/// Appends a chunk of them, built in `memory`.
pub fn append(memory: &mut [u8], items: &[Access]) {
    if let Some(chunk) = chunk_of(memory, items) {
        append_bytes(chunk);
    }
}

/// The same for who has the lock for writing, also when recording has just gone off.
pub fn append_locked(memory: &mut [u8], items: &[Access]) {
    if let Some(chunk) = chunk_of(memory, items)
        && PROCESS.writes_itself()
        && !go_buffers::wanted()
    {
        trace_file::append(chunk);
    }
}

fn chunk_of<'m>(memory: &'m mut [u8], items: &[Access]) -> Option<&'m [u8]> {
    AccessChunk::write(memory, process_id(PROCESS.serial()), PageShift::KIB_4, items)
}

/// Says of a source of accesses whether it is active, and what it misses.
pub fn append_source(name: &str, active: bool, missed: &str) {
    let mut memory = [0; 1024];
    if let Some(mut chunk) = RecordChunk::new(&mut memory)
        && are_wanted()
        && chunk.source(name, active, missed)
    {
        append_bytes(chunk.finish(TraceNanos(sys::monotonic_ns())));
    }
}

fn append_bytes(chunk: &[u8]) {
    let Some(session) = PROCESS.session() else { return };
    sys::with_signals_blocked(|| {
        if let Some(_lock) = FlushLock::take(session.header())
            && are_wanted()
        {
            trace_file::append(chunk);
        }
    });
}
