//! Who wrote and who read as lines of the text format.
//!
//! ```text
//! 2000451200 unknown epoch 2 of 4242 since 1000211400 ns by async_write_protection
//! 2000451200 unknown armed 0x7f04c2000000 256 pages epoch 2 of 4242
//! 1402117000 4243 written 0x7f04c2000000 3 pages within 2200 ns by 0x55d0c3a92a0 epoch 2 of 4242
//! 2000451200 unknown written 0x7f04c2009000 1 pages epoch 2 of 4242
//! 2101200300 4244 watched_read 0x7f04c2000010 by 0x55d0c3a92b0 modified by 4243 at 2101100200 of 4242
//! ```
//! All of an epoch stands at its end, and where the recording has it told which memory was armed. A run of written pages with a
//! thread has the time of its first write, one without has the epoch's end: the kernel wrote, or it is not known who did.
//! `discarded` and `new` stand in the place of `written` where it is not known whether pages were.

use std::collections::HashMap;
use std::io::{self, Write};

use pagetrace_format::{Access, PageRange, PageShift, ProcessId, TraceNanos, WatchedAccess, WriteEpoch, WrittenRun};
use pagetrace_replay::Metadata;

/// Writes accesses, those of each process being about its last epoch.
#[derive(Default)]
pub struct AccessLines {
    epochs: HashMap<ProcessId, WriteEpoch>,
}

impl AccessLines {
    /// Writes one; `start` is the nanosecond that times count from.
    ///
    /// # Errors
    /// What `out` gives.
    pub fn write(
        &mut self,
        out: &mut dyn Write,
        start: u64,
        metadata: &Metadata,
        (process, (shift, access)): (ProcessId, (PageShift, Access)),
    ) -> io::Result<()> {
        let since = |time: TraceNanos| time.0.saturating_sub(start);
        let pid = match metadata.index(process) {
            Some(index) => metadata.processes[index].process.pid.to_string(),
            None => "unknown".into(),
        };
        if let Access::Epoch(epoch) = access {
            let before = self.epochs.insert(process, epoch);
            if before.is_some_and(|before| before.number == epoch.number) {
                return Ok(());
            }
            let WriteEpoch { number, begin, end, source, .. } = epoch;
            let (begin, end, source) = (since(begin), since(end), source.name());
            return writeln!(out, "{end} unknown epoch {number} of {pid} since {begin} ns by {source}");
        }
        if let Access::Watched(access) = access {
            return write_watched(out, start, &pid, &access);
        }
        let Some(WriteEpoch { number, end, .. }) = self.epochs.get(&process) else { return Ok(()) };
        let end = since(*end);
        let pages = |range: PageRange| format!("{} {} pages", shift.address_of(range.first), range.pages.0);
        match access {
            Access::Armed(range) => writeln!(out, "{end} unknown armed {} epoch {number} of {pid}", pages(range)),
            Access::Written(WrittenRun { range, label, writer: None }) => {
                writeln!(out, "{end} unknown {} {} epoch {number} of {pid}", label.name(), pages(range))
            }
            Access::Written(WrittenRun { range, label, writer: Some(writer) }) => {
                let (time, tid, label, pages) = (since(writer.time), writer.tid, label.name(), pages(range));
                let within = match writer.span_ns {
                    0 => String::new(),
                    span_ns => format!(" within {span_ns} ns"),
                };
                let task = writer.task.map_or(String::new(), |task| format!(" task {task}"));
                let by = writer.instruction;
                writeln!(out, "{time} {tid} {label} {pages}{within} by {by}{task} epoch {number} of {pid}")
            }
            _ => Ok(()),
        }
    }
}

fn write_watched(out: &mut dyn Write, start: u64, pid: &str, access: &WatchedAccess) -> io::Result<()> {
    let &WatchedAccess { time, tid, address, instruction, task, write, foreign, .. } = access;
    let (time, kind) = (time.0.saturating_sub(start), if write { "watched_write" } else { "watched_read" });
    let thread = if tid == 0 { "unknown".into() } else { tid.to_string() };
    write!(out, "{time} {thread} {kind} {address}")?;
    if instruction.0 != 0 {
        write!(out, " by {instruction}")?;
    }
    if let Some(task) = task {
        write!(out, " task {task}")?;
    }
    if let Some(modification) = foreign {
        write!(out, " modified by {}", modification.tid)?;
        if modification.time.0 != 0 {
            write!(out, " at {}", modification.time.0.saturating_sub(start))?;
        }
    }
    writeln!(out, " of {pid}")
}
