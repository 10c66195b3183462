//! Processes that ran before the recording began, and the tracers in them that were started idle.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use pagetrace_format::records::{Gap, ProcessOrigin, Record};
use pagetrace_format::session::ProcessSlot;
use pagetrace_format::snapshot::SnapshotReason;
use pagetrace_format::{Address, TraceNanos};

use crate::proc_maps::read_mappings;
use crate::process_tree::descendants;
use crate::stop::Stopped;

use super::super::idle_tracer::{IdleTracer, NotWoken};
use super::super::tick_mapper::TickMapper;
use super::super::tracked::Tracked;
use super::{Processes, SnapshotAndModules, now, take};

/// What is needed to wake idle tracers, and how it went.
#[derive(Debug, Default)]
pub(super) struct Waking {
    /// The session that they are to join, `None` where none is to.
    session: Option<PathBuf>,
    /// Programs that have none, and those whose tracer could not be woken, with the reason.
    pub(super) without: u32,
    pub(super) refused: Vec<String>,
}

impl Processes {
    /// From now on tracers that are found idle are woken, to join the session at this path.
    pub fn wake_tracers(&mut self, session: &Path) {
        self.waking.session = Some(session.to_owned());
    }

    /// Wakes the tracer in a process that stands still, if it has one.
    ///
    /// # Errors
    /// It cannot be woken right now.
    pub fn wake(&mut self, pid: u32) -> Result<Option<IdleTracer>, NotWoken> {
        let Some(session) = &self.waking.session else { return Ok(None) };
        let Some(tracer) = IdleTracer::find(pid) else {
            self.waking.without += 1;
            return Ok(None);
        };
        match tracer.wake(session) {
            Ok(()) => {
                // Their children join by themselves.
                self.joins = true;
                Ok(Some(tracer))
            }
            Err(NotWoken::Because(why)) => {
                self.waking.refused.push(format!("process {pid}: {why}"));
                Ok(None)
            }
            Err(NotWoken::Now) => Err(NotWoken::Now),
        }
    }

    /// The same of a process that runs.
    pub(super) fn wake_held(&mut self, pid: u32) -> Option<IdleTracer> {
        self.waking.session.as_ref()?;
        let _stopped = Stopped::stop(pid).ok()?;
        self.wake(pid).ok()?
    }

    /// What the trace says of the malloc of a tracer's program: 0 where no objects are wanted.
    pub(super) fn malloc_of(&self, tracer: &IdleTracer) -> Address {
        if self.with_objects { tracer.malloc } else { Address(0) }
    }

    /// Follows a process that runs already, and the tracer in it that was woken. Gives its records and what it has in memory now.
    pub fn attach(&mut self, pid: u32, tracer: Option<IdleTracer>) -> (Vec<Record>, Option<SnapshotAndModules>) {
        let (mut records, parent) = (Vec::new(), self.parent_by_pid(pid));
        self.attached.push(pid);
        let (start, malloc) = (now(), tracer.map_or(Address(0), |tracer| self.malloc_of(&tracer)));
        self.track(pid, None, ProcessOrigin::Attached, parent, start, malloc, &mut records);
        let Some(process) = self.tracked.last_mut() else { return (records, None) };
        process.woken = tracer.map(|tracer| (tracer, start));
        let snapshot = take(process, &mut self.modules, SnapshotReason::Asked);
        self.snapshots += u32::from(snapshot.is_some());
        (records, snapshot)
    }

    /// Whether the process in this slot is one whose tracer was woken; then it is followed inside from here on.
    pub(super) fn was_woken(
        &mut self,
        pid: u32,
        serial: u32,
        index: u32,
        slot: &ProcessSlot,
        clock: &TickMapper,
        records: &mut Vec<Record>,
    ) -> bool {
        let is_it = |process: &&mut Tracked| {
            process.pid == pid && process.replaced.is_none() && process.joined.is_none() && process.woken.is_some()
        };
        let forked = slot.forked_from.load(Ordering::Relaxed) != 0;
        let Some(process) = self.tracked.iter_mut().find(is_it).filter(|_| !forked) else { return false };
        process.joined = Some((index, serial));
        process.session_at = Some(Address(slot.tracer_ranges[0][0].load(Ordering::Relaxed)));
        let since = process.woken.map_or(TraceNanos(0), |(_, since)| since);
        let id = process.id;
        if slot.malloc.load(Ordering::Relaxed) != 0 {
            let end = clock.time_of(slot.start_tick.load(Ordering::Relaxed)).max(since);
            records.push(Record::Gap(Gap { process: id, start: since, end, kept: false }));
        }
        let mappings = read_mappings(pid).unwrap_or_default();
        records.extend(process.new_modules(&mut self.modules, &mappings));
        self.note_joined(id, serial, slot, records);
        true
    }

    /// Lets the tracers in all processes be idle again that this recording has woken, those of their children too.
    pub fn let_go_of_tracers(&mut self) {
        if self.waking.session.is_none() {
            return;
        }
        for process in &self.tracked {
            let woken = process.woken.map(|(tracer, _)| tracer);
            if let Some(why) = woken.filter(|_| process.joined.is_none()).and_then(|tracer| tracer.refused()) {
                self.waking.refused.push(format!("process {}: {why}", process.pid));
            }
            if let Some(tracer) = woken.or_else(|| IdleTracer::find(process.pid)) {
                tracer.let_go();
            }
        }
    }

    /// Whether the recording has attached to anything.
    pub fn has_attached(&self) -> bool {
        !self.attached.is_empty()
    }

    /// Where the pid of a process has to be as long as it is held.
    pub fn held(&self) -> Option<&'static AtomicU32> {
        self.held
    }

    /// The pids of the command, of what the recording attached to, and of all below them; each once.
    pub(super) fn family(&self) -> Vec<u32> {
        let roots = self.command.iter().map(|command| command.pid).chain(self.attached.iter().copied());
        let mut seen = HashSet::new();
        let below = roots.flat_map(|root| descendants(root).unwrap_or_default().into_iter().chain([root]));
        // A recorder may lie below what it attached to.
        below.filter(|&pid| pid != std::process::id() && seen.insert(pid)).collect()
    }
}

/// Of a process whose tracer was woken and has not joined, for want of any hook, no object is known in all its time.
pub(super) fn gap_of_unwoken(process: &Tracked, time: TraceNanos) -> Option<Record> {
    let (tracer, start) = process.woken.filter(|_| process.joined.is_none())?;
    let is_traced = tracer.malloc != Address(0);
    is_traced.then(|| Record::Gap(Gap { process: process.id, start, end: time.max(start), kept: false }))
}
