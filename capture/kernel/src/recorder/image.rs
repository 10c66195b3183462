//! One program image: its events until their chunk is due, its stacks, and what is known of it.

use std::time::{Duration, Instant};

use hashbrown::HashMap;
use pagetrace_format::kernel_event::{KernelEvent, KernelEventKind, PageCall};
use pagetrace_format::records::{EndStatus, Process, ProcessEnd, ProcessOrigin, Record, StackEnd};
use pagetrace_format::{Address, ProcessId, StackId, TraceNanos};

use crate::perf::MappedRecord;
use crate::unwind::UnwoundStack;

use super::program_arguments::ProgramArguments;
use super::stack_tree::StackTree;

/// The arguments of a program are set up within this time of its exec.
const ARGUMENTS_WITHIN: Duration = Duration::from_millis(50);
/// Events of one image that wait for its number; beyond, they are dropped.
const WAITING_MAX: usize = 4 << 20;
/// A parent that is not known by then never is.
const PARENT_WITHIN: Duration = Duration::from_millis(200);
/// Stacks that the recorder takes are numbered from here, so that they are never mixed up with those of hooks.
const FIRST_STACK: u32 = 1 << 30;

/// One image.
#[derive(Debug)]
pub struct Image {
    pub(super) pid: u32,
    pub(super) begin: Begin,
    pub(super) begin_time: u64,
    pub(super) begin_tid: u32,
    pub(super) begin_told: bool,
    pub(super) id: Option<ProcessId>,
    pub(super) parent: Option<u32>,
    pub(super) threads: u32,
    pub(super) ended: Option<(u64, Instant)>,
    pub(super) replaced: bool,
    pub(super) name: String,
    pub(super) arguments: Option<ProgramArguments>,
    pub(super) arguments_until: Option<Instant>,
    pub(super) events: Vec<KernelEvent>,
    pub(super) since: Instant,
    stack_ids: HashMap<Vec<u64>, StackId>,
    pub(super) new_stacks: Vec<(StackId, Vec<u64>, StackEnd)>,
    pub(super) tree: StackTree,
    pub(super) touched: bool,
    pub(super) overflowed: u64,
    /// Whether the tracer is in it.
    pub(super) joined: bool,
    /// The time of the last event that has left.
    pub(super) written_until: TraceNanos,
}

/// How an image began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// By exec.
    Exec,
    /// As a copy of its parent.
    Fork,
    /// That was not seen.
    Unseen,
}

impl Image {
    pub(super) fn new(pid: u32, begin: Begin, time: u64, tid: u32) -> Image {
        let now = Instant::now();
        Image {
            pid,
            begin,
            begin_time: time,
            begin_tid: tid,
            begin_told: false,
            id: None,
            parent: None,
            threads: 1,
            ended: None,
            replaced: false,
            name: String::new(),
            arguments: None,
            arguments_until: (begin == Begin::Exec).then(|| now + ARGUMENTS_WITHIN),
            events: Vec::new(),
            since: now,
            stack_ids: HashMap::new(),
            new_stacks: Vec::new(),
            tree: StackTree::numbered_from(FIRST_STACK),
            touched: false,
            overflowed: 0,
            joined: false,
            written_until: TraceNanos(0),
        }
    }

    /// Appends an event.
    pub fn push(&mut self, event: KernelEvent) {
        self.touched |= matches!(event.kind, KernelEventKind::Fault(_));
        if self.events.is_empty() {
            self.since = Instant::now();
        }
        if self.events.len() < WAITING_MAX {
            self.events.push(event);
        } else {
            self.overflowed += 1;
        }
    }

    /// Takes the events that wait, in parts of `count` at most.
    pub(super) fn take_events(&mut self, count: usize) -> Vec<Vec<KernelEvent>> {
        if self.events.is_empty() {
            return Vec::new();
        }
        if self.events.len() > count {
            let parts = self.events.chunks(count).map(<[KernelEvent]>::to_vec).collect();
            self.events.clear();
            return parts;
        }
        // As much may come again, of which growing would make copies.
        let room = if self.events.len() < count { 0 } else { count };
        vec![std::mem::replace(&mut self.events, Vec::with_capacity(room))]
    }

    /// Whether it made, moved or gave back memory itself.
    pub(super) fn has_changed_mappings(&self) -> bool {
        self.events.iter().any(|event| match event.kind {
            KernelEventKind::Call(call) => call.call != PageCall::Filled,
            _ => false,
        })
    }

    /// Puts events in their places that turned out to be about this image's memory. Those that are older than what has
    /// left come at that time.
    pub(super) fn take_back(&mut self, events: Vec<KernelEvent>) {
        self.events.extend(events.into_iter().map(|event| {
            let event = without_stack(event);
            KernelEvent { time: event.time.max(self.written_until), ..event }
        }));
        self.events.sort_by_key(|event| event.time);
    }

    /// The number of a stack.
    pub fn stack(&mut self, UnwoundStack { frames, end }: UnwoundStack) -> StackId {
        let next = StackId(FIRST_STACK + self.stack_ids.len() as u32);
        if let Some(&known) = self.stack_ids.get(&frames) {
            return known;
        }
        self.stack_ids.insert(frames.clone(), next);
        self.new_stacks.push((next, frames, end));
        next
    }

    /// The first file that is mapped for execution is the program.
    pub fn name_by(&mut self, mapped: &MappedRecord) {
        const EXECUTE: u32 = 4;
        if self.begin == Begin::Exec
            && !self.name.starts_with('/')
            && mapped.protection & EXECUTE != 0
            && mapped.path.starts_with('/')
            && mapped.inode != 0
        {
            self.name.clone_from(&mapped.path);
        }
    }

    /// Events that wait.
    pub fn waiting(&self) -> usize {
        self.events.len()
    }

    /// Since when the first of them waits.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Whether nothing more will come.
    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Whether it ended so lately.
    pub(super) fn has_ended_within(&self, time: Duration) -> bool {
        self.ended.is_some_and(|(_, seen)| seen.elapsed() < time)
    }

    /// Nothing more will come.
    pub(super) fn end(&mut self, time: u64) {
        self.ended.get_or_insert((time, Instant::now()));
    }

    pub(super) fn waiting_for_parent(&self) -> bool {
        self.age() < PARENT_WITHIN
    }

    /// The first event of an image says how it began.
    pub(super) fn tell_begin(&mut self, parent: Option<ProcessId>) {
        if std::mem::replace(&mut self.begin_told, true) {
            return;
        }
        let kind = match (self.begin, parent) {
            (Begin::Exec, _) => {
                let [arguments, table] = [self.arguments.map(|it| it.strings), self.arguments.map(|it| it.table)];
                KernelEventKind::Exec { arguments, table }
            }
            (Begin::Fork, Some(parent)) => KernelEventKind::Fork { parent },
            _ => return,
        };
        self.events.insert(0, KernelEvent { time: TraceNanos(self.begin_time), tid: self.begin_tid, kind });
    }

    /// The records of a process that the recorder never saw.
    pub(super) fn as_process(&self, id: ProcessId, origin: ProcessOrigin, parent: Option<ProcessId>) -> Vec<Record> {
        let exe = self.name.clone();
        let (pid, start) = (self.pid, TraceNanos(self.begin_time));
        let process = Process { id, pid, parent, origin, start, exe, args: None, malloc: Address(0) };
        let end = self.ended.map(|(time, _)| {
            let status = if self.replaced { EndStatus::Replaced } else { EndStatus::Unknown };
            Record::ProcessEnd(ProcessEnd { id, time: TraceNanos(time), status, snapshot_at_exit: false })
        });
        [Some(Record::Process(process)), end].into_iter().flatten().collect()
    }
}

/// Stacks have numbers in their own image only.
fn without_stack(mut event: KernelEvent) -> KernelEvent {
    if let KernelEventKind::Fault(fault) = &mut event.kind {
        fault.stack = StackId::UNKNOWN;
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_leave_in_parts_and_in_their_order() {
        let mut image = Image::new(1, Begin::Unseen, 0, 1);
        for (events, parts) in [(0, vec![]), (3, vec![3]), (4, vec![4]), (5, vec![4, 1]), (12, vec![4, 4, 4])] {
            let kind = KernelEventKind::Exec { arguments: None, table: None };
            (0..events).for_each(|time| image.push(KernelEvent { time: TraceNanos(time), tid: 1, kind }));
            let taken = image.take_events(4);
            assert_eq!(taken.iter().map(Vec::len).collect::<Vec<_>>(), parts, "of {events}");
            let times = taken.concat().iter().map(|event| event.time.0).collect::<Vec<_>>();
            assert_eq!(times, (0..events).collect::<Vec<_>>());
            assert_eq!(image.waiting(), 0);
        }
    }
}
