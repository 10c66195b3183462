//! The text format: what was recorded, when, and one line an event, merged by time.
//!
//! ```text
//! start profile: Jan 02 15:04:05.000
//! execname and pid: NAME PID
//! pagesize: 4096
//! start date: 1767366245 (Jan  2 15:04:05 2026 UTC)
//! samples and events:
//! 912 4242 object_alloc 0x55d0c3a92a0 24 bytes
//! 1310 4242 object_free 0x55d0c3a92a0 24 bytes
//! 1402 B3 object_alloc 0x7f04c2000000 4096 bytes id 17
//! end date: 1767366247 (Jan  2 15:04:07 2026 UTC)
//! ```
//! An event line is: nanoseconds since the start of the recording (the trace's clock, where the start is unknown),
//! thread (Go: P0, P1, … and P-1 for none; buffers of an allocator: B0, B1, …), kind, address, count, unit, and where
//! the trace has it the word `id` with the object's id. The events of all processes of a tree are there; the name and
//! the pid are those of the first. Lines of what the kernel said of pages are those of `kernel_lines`, of who wrote and read those of `access_lines`. What is not known says `unknown`.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;

use jiff::{Timestamp, tz::TimeZone};
use pagetrace_format::records::{Stream, StreamKind};
use pagetrace_format::{Address, Event, EventKind, ObjectId, ProcessId, Trace, TraceNanos};
use pagetrace_replay::{AccessTimeline, KernelTimeline, Metadata, Timeline};

use super::access_lines::AccessLines;
use super::kernel_lines::write_kernel_event;
use super::{Export, ExportOptions};
use crate::trace_input::TraceInput;

/// Writes the text format.
pub struct TextExport;

impl Export for TextExport {
    fn export(&self, input: &TraceInput, _options: &ExportOptions, out: &mut dyn Write) -> anyhow::Result<u64> {
        let trace = input.trace()?;
        let metadata = Metadata::read(&trace);
        let first = metadata.processes.first().map(|info| &info.process);
        let name = first.and_then(|process| exec_name(&process.exe));
        // No process has the pid 0; it stands for none known.
        let pid = first.map(|process| process.pid).filter(|pid| *pid != 0);
        let start = unix_time(trace.header().start_unix_ns);
        let profile = start.as_ref().map(|start| start.strftime("%b %d %H:%M:%S.%3f"));
        writeln!(out, "start profile: {}", or_unknown(profile))?;
        writeln!(out, "execname and pid: {} {}", or_unknown(name), or_unknown(pid))?;
        writeln!(out, "pagesize: {}", trace.header().page_shift.bytes())?;
        writeln!(out, "start date: {}", date(start))?;
        if let Some(dropped) = metadata.dropped() {
            let before_ns = dropped.before.0.saturating_sub(trace.header().start.0);
            writeln!(out, "events dropped before: {before_ns} ns after the start")?;
        }
        writeln!(out, "samples and events:")?;
        let mut timeline = Timeline::new(&trace);
        let threads: Vec<Thread> = timeline.streams().map(|id| Thread::of(metadata.streams.get(&id))).collect();
        let mut sizes = LiveSizes::default();
        sizes.0.extend(metadata.objects_before().map(|(process, address, size)| ((Some(process), address), size)));
        let mut gaps = metadata.gaps.iter().filter(|gap| !gap.kept).peekable();
        let start = trace.header().start.0;
        let mut beside = Beside::new(&trace);
        while let Some((slot, event, id)) = timeline.next_with_id() {
            beside.write_until(out, start, &metadata, event.time)?;
            while let Some(gap) = gaps.next_if(|gap| gap.end <= event.time) {
                sizes.forget(gap.process);
            }
            write_event(out, start, &threads[slot], &event, id, &mut sizes)?;
        }
        beside.write_until(out, start, &metadata, TraceNanos(u64::MAX))?;
        writeln!(out, "end date: {}", date(metadata.end.and_then(|end| unix_time(end.unix_ns))))?;
        let defects = timeline.into_defects().len() + beside.kernel.into_defects().len();
        Ok((defects + beside.accesses.into_defects().len()) as u64)
    }
}

/// What is told beside the events of streams.
struct Beside<'t, 'b> {
    kernel: KernelTimeline<'t, 'b>,
    accesses: AccessTimeline<'t, 'b>,
    lines: AccessLines,
}

impl<'t, 'b> Beside<'t, 'b> {
    fn new(trace: &'t Trace<'b>) -> Beside<'t, 'b> {
        let (kernel, accesses) = (KernelTimeline::new(trace), AccessTimeline::new(trace));
        Beside { kernel, accesses, lines: AccessLines::default() }
    }

    /// Writes what was told up to a time. What was known at the same time of the kernel's events comes first.
    fn write_until(
        &mut self,
        out: &mut dyn Write,
        start: u64,
        metadata: &Metadata,
        until: TraceNanos,
    ) -> io::Result<()> {
        loop {
            let accessed = self.accesses.next_time().filter(|&time| time <= until);
            let kernel_until = accessed.unwrap_or(until);
            while self.kernel.next_time().is_some_and(|time| time <= kernel_until)
                && let Some((_, event)) = self.kernel.next()
            {
                write_kernel_event(out, start, metadata, &event)?;
            }
            match accessed.and_then(|_| self.accesses.next()) {
                Some(access) => self.lines.write(out, start, metadata, access)?,
                None => return Ok(()),
            }
        }
    }
}

/// Whose events a stream has.
struct Thread {
    process: Option<ProcessId>,
    name: String,
}

impl Thread {
    fn of(stream: Option<&Stream>) -> Thread {
        let name = match stream.map(|stream| stream.kind) {
            Some(StreamKind::Thread(tid)) => tid.to_string(),
            Some(StreamKind::GoProcessor(p)) => format!("P{p}"),
            Some(StreamKind::Buffer(buffer)) => format!("B{buffer}"),
            None => "unknown".into(),
        };
        Thread { process: stream.map(|stream| stream.process), name }
    }
}

/// Sizes of live objects: a free names only an address. The same address lives once in each process.
#[derive(Default)]
struct LiveSizes(HashMap<(Option<ProcessId>, Address), u64>);

impl LiveSizes {
    /// What lives at the addresses of a process is not known any more.
    fn forget(&mut self, process: ProcessId) {
        self.0.retain(|(of, _), _| *of != Some(process));
    }
}

fn write_event(
    out: &mut dyn Write,
    start: u64,
    thread: &Thread,
    event: &Event,
    id: Option<ObjectId>,
    sizes: &mut LiveSizes,
) -> io::Result<()> {
    let Thread { process, name: thread } = thread;
    let process = *process;
    let (kind, address, count, unit) = match &event.kind {
        EventKind::PageAlloc(run) => ("alloc", run.base, Some(run.pages.0), "pages"),
        EventKind::PageFree(run) => ("free", run.base, Some(run.pages.0), "pages"),
        EventKind::PageScavenge(run) => ("scavenge", run.base, Some(run.pages.0), "pages"),
        EventKind::ObjectAlloc(object) => {
            sizes.0.insert((process, object.address), object.size);
            ("object_alloc", object.address, Some(object.size), "bytes")
        }
        EventKind::ObjectFree(object) => {
            ("object_free", object.address, sizes.0.remove(&(process, object.address)), "bytes")
        }
        // It says nothing beside the time, which every line has.
        EventKind::TimeSync => return Ok(()),
        _ => return Ok(()),
    };
    let time = event.time.0.saturating_sub(start);
    match count {
        Some(count) => write!(out, "{time} {thread} {kind} {address} {count} {unit}")?,
        None => write!(out, "{time} {thread} {kind} {address} unknown {unit}")?,
    }
    match id {
        Some(ObjectId(id)) => writeln!(out, " id {id}"),
        None => writeln!(out),
    }
}

fn exec_name(exe: &str) -> Option<String> {
    let name = Path::new(exe).file_name()?.to_string_lossy();
    Some(name.split_whitespace().collect::<Vec<_>>().join("_")).filter(|name| !name.is_empty())
}

fn unix_time(unix_ns: u64) -> Option<jiff::Zoned> {
    // Zero is the format's word for unknown.
    let time = Timestamp::from_nanosecond(i128::from(unix_ns)).ok().filter(|_| unix_ns != 0)?;
    Some(time.to_zoned(TimeZone::UTC))
}

fn date(time: Option<jiff::Zoned>) -> String {
    or_unknown(
        time.map(|time| format!("{} ({})", time.timestamp().as_second(), time.strftime("%b %e %H:%M:%S %Y UTC"))),
    )
}

fn or_unknown<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "unknown".into(), |value| value.to_string())
}
