//! What a trace tells of a program, for comparison with what the program itself counted.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

use pagetrace_format::records::{Gap, LossReason};
use pagetrace_format::{Event, EventKind, GoPageTrace, Trace};
use pagetrace_replay::results::{Defect, DefectKind};
use pagetrace_replay::{Moment, Timeline, replay};

use crate::counts::{Counts, TAGGED_BYTES};

/// A trace, read and replayed.
#[derive(Debug, Default)]
pub struct Seen {
    /// By pid.
    pub processes: BTreeMap<u32, SeenProcess>,
    /// Events counted as lost.
    pub lost: u64,
    /// Whether the end is there and nothing is damaged.
    pub complete: bool,
    /// Whether its last chunk is cut.
    pub cut: bool,
    /// Damage, and events that contradict others.
    pub faults: Vec<String>,
}

/// One process of a trace.
#[derive(Debug, Default)]
pub struct SeenProcess {
    /// Its events.
    pub counts: Counts,
    /// Addresses of its tagged objects that live at the end.
    live: HashSet<u64>,
}

impl SeenProcess {
    /// Tagged objects that live at the end.
    pub fn live(&self) -> u64 {
        self.live.len() as u64
    }

    fn event(&mut self, event: &Event) {
        match &event.kind {
            EventKind::ObjectAlloc(object) if object.size == TAGGED_BYTES as u64 => {
                self.counts.made += 1;
                self.live.insert(object.address.0);
            }
            EventKind::ObjectFree(object) if self.live.remove(&object.address.0) => self.counts.freed += 1,
            EventKind::PageAlloc(_) | EventKind::PageFree(_) | EventKind::PageScavenge(_) => {
                self.counts.page_events += 1;
            }
            _ => {}
        }
    }
}

/// Reads and replays a trace of either format.
pub fn read(path: &Path) -> Result<Seen, String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if GoPageTrace::looks_like(&bytes) { read_go(&bytes) } else { read_native(&bytes) }
}

fn read_native(bytes: &[u8]) -> Result<Seen, String> {
    let trace = Trace::open(bytes).map_err(|error| error.to_string())?;
    let replayed = replay(&trace, Moment::End, &mut |_events| {}).map_err(|error| error.to_string())?;
    let mut seen = Seen { complete: replayed.complete, ..Seen::default() };
    // Events whose stack is missing are there.
    let stacks = LossReason::StackTableFull.name();
    let events = replayed.lost.iter().filter(|(reason, _)| **reason != stacks);
    seen.lost = events.map(|(_, lost)| lost.events).sum();
    seen.cut = replayed.defects.last().is_some_and(|defect| is_cut(defect, bytes.len()));
    let damage = &replayed.defects[..replayed.defects.len() - usize::from(seen.cut)];
    seen.faults.extend(damage.iter().map(|defect| format!("{defect:?}")));
    seen.faults.extend(replayed.anomalies.named().map(|(name, count)| format!("{count} {name}")));
    for process in &replayed.processes {
        let objects = process.objects.unwrap_or_default();
        // A free that was lost makes one.
        if objects.replaced > 0 && seen.lost == 0 {
            seen.faults.push(format!("{} objects at the address of a living one", objects.replaced));
        }
    }
    let mut timeline = Timeline::new(&trace);
    let process_of = |stream| {
        let process = replayed.metadata.streams.get(&stream).map(|stream| stream.process)?;
        replayed.processes.iter().map(|it| &it.process).find(|it| it.id == process)
    };
    let processes: Vec<_> = timeline.streams().map(process_of).collect();
    // After such a gap nothing is known of what was alive.
    let mut gaps: Vec<&Gap> = replayed.metadata.gaps.iter().filter(|gap| !gap.kept).collect();
    while let Some((stream, event)) = timeline.next() {
        let Some(process) = processes[stream] else { return Err("events of a stream without a process".to_owned()) };
        let of_process = seen.processes.entry(process.pid).or_default();
        gaps.retain(|gap| {
            let over = gap.process == process.id && gap.end <= event.time;
            if over {
                of_process.live.clear();
            }
            !over
        });
        of_process.event(&event);
    }
    Ok(seen)
}

fn is_cut(defect: &Defect, file_bytes: usize) -> bool {
    matches!(defect.kind, DefectKind::Unreadable { bytes, .. } if defect.offset + bytes == file_bytes)
}

/// Go's format knows no processes: everything is under pid 0.
fn read_go(bytes: &[u8]) -> Result<Seen, String> {
    let trace = GoPageTrace::open(bytes).map_err(|error| error.to_string())?;
    let mut seen = Seen { complete: trace.defects().is_empty(), ..Seen::default() };
    seen.faults.extend(trace.defects().iter().map(|defect| format!("{defect:?}")));
    let process = seen.processes.entry(0).or_default();
    for run in trace.runs() {
        let mut events = trace.events(run);
        while let Some(event) = events.next_event().map_err(|error| error.to_string())? {
            process.event(&event);
        }
    }
    Ok(seen)
}
