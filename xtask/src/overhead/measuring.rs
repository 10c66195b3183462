//! One run of a command: its time by the clock, the processors' time of all its processes, and the most memory of the
//! first of them.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use pagetrace_format::ChunkKind;
use pagetrace_format::header::{CHUNK_HEADER_BYTES, ChunkHeader, FILE_HEADER_BYTES};

use crate::sys::{self, Ended};

/// Any run ends within this time, or has failed.
pub const LONGEST: Duration = Duration::from_secs(600);
/// How often it is looked whether a run has ended: the error of its time by the clock.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// One in so many looks is at the memory, too.
const LOOKS_A_MEMORY_LOOK: u32 = 4;

/// What one run took and gave. What it does not have is `None`.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub wall_seconds: f64,
    /// Of the process and of all that it waited for.
    pub cpu_seconds: f64,
    /// `VmHWM` of the first process: the recorder where there is one. Seen to some milliseconds before its end.
    pub peak_bytes: Option<u64>,
    pub trace_bytes: Option<u64>,
    /// Events of objects in the trace.
    pub events: Option<u64>,
    /// What they take of it.
    pub object_bytes: Option<u64>,
    /// Requests a second.
    pub set_per_second: Option<f64>,
    pub get_per_second: Option<f64>,
}

/// Runs a command until it ends. What it prints goes to files in `directory`, and is told where it fails.
pub fn measure(command: &mut Command, directory: &Path) -> Result<Sample> {
    let messages = directory.join("messages");
    command.stdout(File::create(directory.join("printed"))?).stderr(File::create(&messages)?);
    let start = Instant::now();
    let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let run = follow(child, start)?;
    let Ended { status, cpu } = run.ended;
    ensure!(status.success(), "{command:?} failed ({status}): {}", fs::read_to_string(&messages).unwrap_or_default());
    Ok(Sample {
        wall_seconds: run.wall.as_secs_f64(),
        cpu_seconds: cpu.as_secs_f64(),
        peak_bytes: run.peak_bytes,
        ..Sample::default()
    })
}

/// A run that has ended.
#[derive(Debug)]
pub struct Run {
    pub ended: Ended,
    pub wall: Duration,
    pub peak_bytes: Option<u64>,
}

/// Waits for a child that was started at `start`.
pub fn follow(mut child: Child, start: Instant) -> Result<Run> {
    let status = format!("/proc/{}/status", child.id());
    let mut peak_bytes = None;
    for look in 0_u32.. {
        if let Some(ended) = sys::ended(&child).context("waiting for a run")? {
            return Ok(Run { ended, wall: start.elapsed(), peak_bytes });
        }
        if look.is_multiple_of(LOOKS_A_MEMORY_LOOK) {
            // The mark is that of the program that is running now, and never falls while it does.
            peak_bytes = fs::read_to_string(&status).ok().and_then(|it| high_water_mark(&it)).or(peak_bytes);
        }
        if start.elapsed() > LONGEST {
            let _ = child.kill();
            let _ = child.wait();
            bail!("a run has not ended after {LONGEST:?}, and was killed");
        }
        std::thread::sleep(LOOK_EVERY);
    }
    bail!("a run has not ended")
}

/// `VmHWM` of proc_pid_status(5), which is in KiB; a process that has ended has none.
fn high_water_mark(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

/// Chunks that hold events of objects.
const OF_EVENTS: [ChunkKind; 3] = [ChunkKind::EVENTS, ChunkKind::PACKED_EVENTS, ChunkKind::OBJECT_EVENTS];

/// What a trace consists of.
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceFigures {
    pub bytes: u64,
    /// Events of objects.
    pub events: u64,
    /// What they take.
    pub object_bytes: u64,
}

/// By the headers of the trace's chunks: the file is not read into memory.
pub fn trace_figures(path: &Path) -> Result<TraceFigures> {
    let shown = path.display();
    let mut file = File::open(path).with_context(|| format!("no trace {shown}"))?;
    let bytes = file.metadata()?.len();
    let mut figures = TraceFigures { bytes, ..TraceFigures::default() };
    let mut at = FILE_HEADER_BYTES as u64;
    let mut header = [0; CHUNK_HEADER_BYTES];
    while at < bytes {
        file.seek(SeekFrom::Start(at))?;
        let read: io::Result<()> = file.read_exact(&mut header);
        read.with_context(|| format!("{shown} is cut"))?;
        let Ok(header) = ChunkHeader::decode(&header) else { bail!("{shown}: no chunk at {at}") };
        let length = CHUNK_HEADER_BYTES as u64 + u64::from(header.stored_bytes);
        if OF_EVENTS.contains(&header.kind) {
            figures.events += u64::from(header.count);
            figures.object_bytes += length;
        }
        at += length;
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_works_and_waits_is_measured() {
        let directory = std::env::temp_dir();
        let mut command = Command::new("sh");
        command.args(["-c", "i=0; while [ $i -lt 40000 ]; do i=$((i + 1)); done; sleep 0.2"]);
        let sample = measure(&mut command, &directory).unwrap();
        assert!(sample.wall_seconds >= 0.2, "{sample:?}");
        assert!(sample.cpu_seconds > 0.0 && sample.cpu_seconds < sample.wall_seconds, "{sample:?}");
        assert!(sample.peak_bytes.is_some_and(|bytes| bytes > 100_000), "{sample:?}");
        assert!(measure(Command::new("false").arg("-"), &directory).is_err());
    }

    #[test]
    fn the_mark_is_in_bytes() {
        assert_eq!(high_water_mark("Name:\tx\nVmHWM:\t    1234 kB\nVmRSS:\t 1000 kB\n"), Some(1234 << 10));
        assert_eq!(high_water_mark("Name:\tx\nState:\tZ (zombie)\n"), None);
    }
}
