//! Which processes there are: those that joined the session by themselves, and those found below the command.

mod attached;
mod seen;
mod tree_looks;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pagetrace_format::records::{EndStatus, Loss, Process, ProcessEnd, ProcessOrigin, Record, TracerMemory};
use pagetrace_format::session::{ProcessSlot, Session, slot_state};
use pagetrace_format::snapshot::SnapshotReason;
use pagetrace_format::{Address, ProcessId, Snapshot, TimeRounding, TraceNanos};

use crate::elf::{ElfKind, Executable};
use crate::error::KernelError;
use crate::modules::{KeptFile, ModuleFinder};
use crate::proc_maps::read_mappings;
use crate::process_tree::{args_of, exe_of, parent_of};
use crate::sys::share_address_space;

use super::RecorderOptions;
use super::drain::{Drain, DrainedProcess, loss_reasons};
use super::pid_namespaces::pid_here;
use super::stack_tree::StackTree;
use super::sys;
use super::tick_mapper::{TickMapper, now};
use super::tracked::Tracked;
use super::unseen::{Unseen, name_of_hidden};
use attached::{Waking, gap_of_unwoken};
pub use tree_looks::TreeLooked;
use tree_looks::TreeLooks;

/// A program joins within so much time of its start, or it has no tracer in it.
const JOINS_WITHIN: Duration = Duration::from_millis(150);

/// A snapshot and the records of modules that go before it.
pub type SnapshotAndModules = (Snapshot, Vec<Record>);

/// The processes of a recording.
#[derive(Debug)]
pub struct Processes {
    tracked: Vec<Tracked>,
    drained: HashMap<u32, DrainedProcess>,
    /// The numbers of all that ever joined, by their serials: a child may join after its parent's end.
    joined_ids: HashMap<u32, ProcessId>,
    ids_given: u32,
    with_args: bool,
    /// Whether programs are to join, and whether with their objects.
    joins: bool,
    with_objects: bool,
    held: Option<&'static AtomicU32>,
    command: Option<Command>,
    /// Those that ran when the recording attached to them.
    attached: Vec<u32>,
    waking: Waking,
    first_seen: HashMap<u32, Instant>,
    joined: u32,
    snapshots: u32,
    unseen: Unseen,
    snapshot_errors: HashSet<String>,
    modules: ModuleFinder,
    tree: TreeLooks,
}

#[derive(Debug)]
struct Command {
    pid: u32,
    exe: String,
    start: TraceNanos,
    status: Option<EndStatus>,
    tracked: bool,
}

impl Processes {
    /// None yet. The pid of the one that is held for a snapshot is noted in `held`.
    pub fn new(options: &RecorderOptions, held: Option<&'static AtomicU32>) -> Processes {
        Processes {
            tracked: Vec::new(),
            drained: HashMap::new(),
            joined_ids: HashMap::new(),
            ids_given: 0,
            with_args: options.args,
            joins: options.joins,
            with_objects: options.objects,
            held,
            command: None,
            attached: Vec::new(),
            waking: Waking::default(),
            first_seen: HashMap::new(),
            joined: 0,
            snapshots: 0,
            unseen: Unseen::default(),
            snapshot_errors: HashSet::new(),
            modules: ModuleFinder::new().keeping_files(options.keep_files),
            tree: TreeLooks::new(),
        }
    }

    /// The command runs under this pid.
    pub fn command_started(&mut self, pid: u32, exe: String) {
        self.command = Some(Command { pid, exe, start: now(), status: None, tracked: false });
    }

    /// The command was waited for.
    pub fn command_ended(&mut self, status: EndStatus) {
        if let Some(command) = &mut self.command {
            command.status = Some(status);
        }
    }

    /// What the drain needs of the joined processes, by their serials.
    pub fn drained(&mut self) -> &mut HashMap<u32, DrainedProcess> {
        &mut self.drained
    }

    /// Whether the command has not been seen running its program yet.
    pub fn awaits_command(&self) -> bool {
        self.command.as_ref().is_some_and(|command| !command.tracked && command.status.is_none())
    }

    /// Whether anything followed still runs.
    pub fn any_running(&self) -> bool {
        self.tracked.iter().any(|process| process.replaced.is_none() && !process.has_ended())
    }

    /// Whether all that are followed have had their last snapshots.
    pub fn all_leave(&self) -> bool {
        self.tracked.iter().all(|process| process.snapshot_at_exit || process.replaced.is_some())
    }

    /// Those that are being followed.
    pub fn tracked(&self) -> &[Tracked] {
        &self.tracked
    }

    /// The pids that are being followed.
    pub fn pids(&self) -> Vec<u32> {
        self.tracked.iter().map(|process| process.pid).collect()
    }

    /// Takes in the processes that have joined since the last call.
    pub fn adopt_joined(&mut self, session: Session, clock: &mut TickMapper) -> Vec<Record> {
        let mut records = Vec::new();
        let mut found: Vec<(u32, u32, &ProcessSlot)> = (0..session.layout().process_slots)
            .filter_map(|index| session.slot(index).map(|slot| (index, slot)))
            .filter(|(_, slot)| slot.state.load(Ordering::Acquire) >= slot_state::RUNNING)
            .map(|(index, slot)| (slot.serial.load(Ordering::Relaxed), index, slot))
            .filter(|(serial, ..)| !self.drained.contains_key(serial))
            .collect();
        if found.is_empty() {
            return records;
        }
        // After the look at the slots, so that their start ticks lie before it.
        clock.read_clocks();
        // A parent joins before its child does, and a program before the one that takes its place.
        found.sort_unstable_by_key(|&(serial, ..)| serial);
        for (serial, index, slot) in found {
            self.adopt(serial, index, slot, clock, &mut records);
        }
        records
    }

    fn adopt(&mut self, serial: u32, index: u32, slot: &ProcessSlot, clock: &TickMapper, records: &mut Vec<Record>) {
        let pid = pid_here(slot, || self.family());
        if self.was_woken(pid, serial, index, slot, clock, records) {
            return;
        }
        let forked_from = slot.forked_from.load(Ordering::Relaxed);
        let mut start = clock.time_of(slot.start_tick.load(Ordering::Relaxed));
        let replaced = self.running(pid).map(|process| process.id);
        let (origin, parent) = match (self.joined_ids.get(&forked_from), replaced) {
            (Some(&parent), _) if forked_from != 0 => (ProcessOrigin::Fork, Some(parent)),
            (_, Some(replaced)) => (ProcessOrigin::Exec, Some(replaced)),
            _ if self.is_command(pid) => (ProcessOrigin::Command, None),
            _ => (ProcessOrigin::Exec, self.parent_by_pid(pid)),
        };
        if origin == ProcessOrigin::Fork {
            // What its parent did right before, in a time that is rounded up, is before it; the fork itself takes far longer.
            start.0 = start.0.saturating_add(TimeRounding::UNIT_MAX.0);
        }
        self.replace(replaced, start);
        let malloc = Address(if self.with_objects { slot.malloc.load(Ordering::Relaxed) } else { 0 });
        // A forked process runs its parent's program, whatever it has become until it is looked at.
        let copied = self.tracked.iter().find(|process| Some(process.id) == parent && origin == ProcessOrigin::Fork);
        let copied_exe = copied.map(|process| process.exe.clone()).unwrap_or_default();
        let id = self.track(pid, Some((index, serial)), origin, parent, start, malloc, records);
        if let Some(process) = self.tracked.last_mut() {
            // The first range is the session itself.
            process.session_at = Some(Address(slot.tracer_ranges[0][0].load(Ordering::Relaxed)));
            let mappings = read_mappings(pid).unwrap_or_default();
            if process.is_own_image(&mappings) {
                self.unseen.note_joined(&process.exe, malloc, &mappings);
                records.extend(process.new_modules(&mut self.modules, &mappings));
            } else if !mappings.is_empty() {
                // What /proc says of the pid is about the program that has taken its place, or is about to.
                process.overtaken = true;
                correct_names(records, process, copied_exe);
            }
        }
        self.note_joined(id, serial, slot, records);
    }

    fn note_joined(&mut self, id: ProcessId, serial: u32, slot: &ProcessSlot, records: &mut Vec<Record>) {
        for range in &slot.tracer_ranges {
            let [start, end] = [0, 1].map(|bound| Address(range[bound].load(Ordering::Relaxed)));
            if end > start {
                records.push(Record::TracerMemory(TracerMemory { process: id, start, end }));
            }
        }
        self.joined += 1;
        self.joined_ids.insert(serial, id);
        self.drained.insert(serial, DrainedProcess { id, stacks: StackTree::default(), malformed: 0 });
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one record, each from elsewhere")]
    fn track(
        &mut self,
        pid: u32,
        joined: Option<(u32, u32)>,
        origin: ProcessOrigin,
        parent: Option<ProcessId>,
        start: TraceNanos,
        malloc: Address,
        records: &mut Vec<Record>,
    ) -> ProcessId {
        let id = self.next_id();
        let mut exe = exe_of(pid).map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        if let Some(command) = self.command.as_mut().filter(|command| command.pid == pid) {
            command.tracked = true;
            if exe.is_empty() {
                exe.clone_from(&command.exe);
            }
        }
        if exe.is_empty() {
            exe = name_of_hidden(pid);
        }
        let args = if self.with_args { args_of(pid).ok().filter(|args| !args.is_empty()) } else { None };
        records.push(Record::Process(Process { id, pid, parent, origin, start, exe: exe.clone(), args, malloc }));
        self.tracked.push(Tracked::new(id, pid, joined, exe, self.held));
        id
    }

    /// Looks for programs without the tracer among the command's descendants, for programs that were replaced by such,
    /// and for threads that ended without a word. `is_forked` is what the kernel has told of a pid.
    pub fn search(
        &mut self,
        drain: &Drain,
        session: Session,
        blocks_ready: u32,
        is_forked: &dyn Fn(u32) -> Option<bool>,
    ) -> Vec<Record> {
        let mut records = Vec::new();
        self.search_descendants(is_forked, &mut records);
        for process in self.tracked.iter().filter(|process| process.replaced.is_none()) {
            if let Some((index, serial)) = process.joined {
                if session.slot(index).is_none_or(|slot| slot.pid.load(Ordering::Relaxed) != process.pid) {
                    // It numbers its threads in a pid namespace of its own.
                    continue;
                }
                // Only a plain "there is no such thread" counts: a block taken from a living thread would be written
                // to by two.
                let is_living = |tid: u32| {
                    !std::fs::exists(format!("/proc/{}/task", process.pid)).unwrap_or(true)
                        || std::fs::exists(format!("/proc/{}/task/{tid}", process.pid)).unwrap_or(true)
                };
                drain.threads_ended(session, blocks_ready, serial, is_living);
            }
        }
        records
    }

    fn search_descendants(&mut self, is_forked: &dyn Fn(u32) -> Option<bool>, records: &mut Vec<Record>) {
        let present = Instant::now();
        for pid in self.family() {
            let (exe_now, hidden) = match exe_of(pid) {
                Ok(path) => (path.to_string_lossy().into_owned(), false),
                Err(KernelError::Denied { .. }) => (name_of_hidden(pid), true),
                Err(_) => continue,
            };
            if exe_now == own_exe() {
                // The recorder's own child before its exec.
                continue;
            }
            if hidden {
                self.unseen.note(&exe_now, true);
            }
            let known = self.running(pid);
            let replaced = known.filter(|process| {
                // Of a program that has closed itself to others, too, only a name can be seen.
                let other =
                    !hidden && !exe_now.ends_with(" (deleted)") && !process.exe.is_empty() && process.exe != exe_now;
                process.overtaken || other
            });
            let replaced_id = replaced.map(|process| process.id);
            if known.is_some() && replaced_id.is_none() {
                self.first_seen.remove(&pid);
                continue;
            }
            if known.is_none() && parent_of(pid).is_ok_and(|parent| share_address_space(pid, parent) == Some(true)) {
                // Between vfork and exec: its pages are its parent's, and would count twice.
                continue;
            }
            let since = *self.first_seen.entry(pid).or_insert(present);
            // Where nothing joins it is the kernel that tells how a process began, a little later.
            let is_forked = if self.joins { Some(false) } else { is_forked(pid) };
            let may_be_told = !hidden && if self.joins { may_join(&exe_now) } else { is_forked.is_none() };
            if present.duration_since(since) < JOINS_WITHIN && may_be_told {
                continue;
            }
            self.first_seen.remove(&pid);
            let start = now();
            self.replace(replaced_id, start);
            let (origin, parent) = match replaced_id {
                Some(id) => (ProcessOrigin::Exec, Some(id)),
                None if self.is_command(pid) => (ProcessOrigin::Command, None),
                None if is_forked == Some(true) => (ProcessOrigin::Fork, self.parent_by_pid(pid)),
                None => (ProcessOrigin::Found, self.parent_by_pid(pid)),
            };
            // A program that took the place of one that was started idle is idle, too.
            let tracer = self.wake_held(pid);
            if tracer.is_none() {
                self.note_unseen(&exe_now, hidden);
            }
            let malloc = tracer.map_or(Address(0), |tracer| self.malloc_of(&tracer));
            self.track(pid, None, origin, parent, start, malloc, records);
            if let Some(process) = self.tracked.last_mut() {
                process.hidden = hidden;
                process.woken = tracer.map(|tracer| (tracer, start));
                let mappings = read_mappings(pid).unwrap_or_default();
                records.extend(process.new_modules(&mut self.modules, &mappings));
            }
        }
    }

    /// Another program took the place of this process: it ends as soon as its last events are taken.
    fn replace(&mut self, id: Option<ProcessId>, time: TraceNanos) {
        if let Some(process) = self.tracked.iter_mut().find(|process| Some(process.id) == id) {
            process.replaced = Some(time);
        }
    }

    fn running(&self, pid: u32) -> Option<&Tracked> {
        self.tracked.iter().find(|process| process.pid == pid && process.replaced.is_none())
    }

    /// The snapshots that are due.
    pub fn due_snapshots(&mut self, interval: Duration) -> Vec<SnapshotAndModules> {
        let mut snapshots = Vec::new();
        for process in self.tracked.iter_mut().filter(|process| process.replaced.is_none()) {
            if let Some(reason) = process.due(interval) {
                snapshots.extend(take(process, &mut self.modules, reason));
                self.tree.note(reason);
            }
        }
        self.snapshots += snapshots.len() as u32;
        snapshots
    }

    /// The processes that have ended; those that were replaced and have no more to say, too.
    pub fn ended(&self) -> Vec<ProcessId> {
        let waited_for = |process: &&Tracked| {
            let command = self.command.as_ref().filter(|command| command.pid == process.pid);
            command.is_none_or(|command| command.status.is_some())
        };
        let over = |process: &&Tracked| process.replaced.is_some() || process.has_ended() && waited_for(process);
        self.tracked.iter().filter(over).map(|process| process.id).collect()
    }

    /// Closes a process that has ended. Gives the serial it had in the session and its last records.
    pub fn end(&mut self, id: ProcessId, session: Session) -> (Option<u32>, Vec<Record>) {
        let Some(place) = self.tracked.iter().position(|process| process.id == id) else { return (None, Vec::new()) };
        let process = self.tracked.remove(place);
        let command = self.command.as_ref().filter(|command| command.pid == process.pid);
        let status = command.and_then(|command| command.status).unwrap_or(EndStatus::Unknown);
        let records = self.last_records(&process, status, session);
        if let Some((index, serial)) = process.joined {
            self.drained.remove(&serial);
            if let Some(slot) = session.slot(index) {
                slot.state.store(slot_state::EMPTY, Ordering::Release);
            }
        }
        self.snapshot_errors.extend(process.snapshot_error);
        (process.joined.map(|(_, serial)| serial), records)
    }

    /// Closes all that are left, as still running; a command that was never seen is at least named.
    pub fn end_all(&mut self, session: Session) -> Vec<Record> {
        let mut records = Vec::new();
        for process in std::mem::take(&mut self.tracked) {
            records.extend(self.last_records(&process, EndStatus::Running, session));
            self.snapshot_errors.extend(process.snapshot_error);
        }
        if let Some(command) = self.command.take().filter(|command| !command.tracked) {
            let id = self.next_id();
            records.push(Record::Process(Process {
                id,
                pid: command.pid,
                parent: None,
                origin: ProcessOrigin::Command,
                start: command.start,
                exe: command.exe.clone(),
                args: None,
                malloc: Address(0),
            }));
            let status = command.status.unwrap_or(EndStatus::Unknown);
            records.push(Record::ProcessEnd(ProcessEnd { id, time: now(), status, snapshot_at_exit: false }));
            self.note_unseen(&command.exe, false);
        }
        records
    }

    fn last_records(&self, process: &Tracked, status: EndStatus, session: Session) -> Vec<Record> {
        let (time, status) = match process.replaced {
            Some(time) => (time, EndStatus::Replaced),
            None => (now(), status),
        };
        let mut records: Vec<Record> = gap_of_unwoken(process, time).into_iter().collect();
        if let Some((index, serial)) = process.joined
            && let Some(slot) = session.slot(index)
        {
            let malformed = self.drained.get(&serial).map_or(0, |drained| drained.malformed);
            let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
            let losses =
                loss_reasons(count(&slot.lost_full), count(&slot.lost_reentered), count(&slot.stacks_lost), malformed);
            let process = Some(process.id);
            records.extend(losses.map(|(reason, events)| Record::Loss(Loss { process, reason, events, time })));
        }
        let snapshot_at_exit = process.snapshot_at_exit;
        records.push(Record::ProcessEnd(ProcessEnd { id: process.id, time, status, snapshot_at_exit }));
        records
    }

    /// The number of a process that the trace does not have yet.
    pub fn next_id(&mut self) -> ProcessId {
        self.ids_given += 1;
        ProcessId(self.ids_given - 1)
    }

    /// The files of programs and libraries, if they are kept.
    pub fn take_kept_files(&mut self) -> Vec<KeptFile> {
        self.modules.take_kept()
    }

    fn is_command(&self, pid: u32) -> bool {
        self.command.as_ref().is_some_and(|command| command.pid == pid && !command.tracked)
    }

    fn parent_by_pid(&self, pid: u32) -> Option<ProcessId> {
        let parent = parent_of(pid).ok()?;
        self.running(parent).map(|process| process.id)
    }
}

fn take(process: &mut Tracked, finder: &mut ModuleFinder, reason: SnapshotReason) -> Option<SnapshotAndModules> {
    let (snapshot, _) = process.snapshot(reason, false)?;
    let modules = process.new_modules(finder, &snapshot.mappings);
    Some((snapshot, modules))
}

/// Whether the library can be loaded into this program. When in doubt it is waited for.
fn may_join(exe: &str) -> bool {
    Executable::inspect(exe.as_ref()).map_or(true, |it| it.kind != ElfKind::Static && !it.gains_rights)
}

fn correct_names(records: &mut [Record], tracked: &mut Tracked, exe: String) {
    tracked.exe = exe;
    let of_tracked = |record: &&mut Record| matches!(record, Record::Process(process) if process.id == tracked.id);
    if let Some(Record::Process(process)) = records.iter_mut().find(of_tracked) {
        process.exe.clone_from(&tracked.exe);
        process.args = None;
    }
}

fn own_exe() -> String {
    std::env::current_exe().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
}
