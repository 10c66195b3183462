//! Program images as the kernel's events tell them apart: an address space from its fork or exec to its end.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pagetrace_format::kernel_event::{KernelEvent, KernelEventKind};
use pagetrace_format::records::{EndStatus, Process, ProcessEnd, ProcessOrigin, Record, StackEnd};
use pagetrace_format::{Address, KernelColumns, ProcessId, StackId, TraceNanos};

use crate::perf::MappedRecord;
use crate::proc_maps::read_mappings;
use crate::process_tree::stack_start;
use crate::unwind::UnwoundStack;

use super::kernel_streams::Output;
use super::stack_tree::StackTree;

/// An image that has ended may still be looked at by the recorder for so long.
const SEEN_WITHIN: Duration = Duration::from_millis(100);
/// The arguments of a program are set up within this time of its exec.
const ARGUMENTS_WITHIN: Duration = Duration::from_millis(50);
/// The two clocks by which a process's start and its image's are taken agree so well.
const CLOCKS_AGREE_NS: u64 = 50_000;
/// Events of one image that wait for its number; beyond, they are dropped.
const WAITING_MAX: usize = 4 << 20;
/// Stacks that the recorder takes are numbered from here, so that they are never mixed up with those of hooks.
const FIRST_STACK: u32 = 1 << 30;

/// All images that have something to say.
#[derive(Debug, Default)]
pub struct Images {
    images: HashMap<u32, Image>,
    /// The present image of each pid.
    current: HashMap<u32, u32>,
    given: u32,
    /// Numbers of all images that have one, those that are gone included.
    ids: HashMap<u32, ProcessId>,
    /// Processes whose image is not known yet.
    known: Vec<Known>,
    /// Images whose exec was seen before its turn, by pid and time.
    early: HashMap<(u32, u64), u32>,
    dropped: u64,
    over: bool,
}

/// One image.
#[derive(Debug)]
pub struct Image {
    pid: u32,
    begin: Begin,
    begin_time: u64,
    begin_tid: u32,
    begin_told: bool,
    id: Option<ProcessId>,
    parent: Option<u32>,
    threads: u32,
    ended: Option<(u64, Instant)>,
    replaced: bool,
    name: String,
    arguments: Option<(Address, Address)>,
    arguments_until: Option<Instant>,
    events: Vec<KernelEvent>,
    since: Instant,
    stack_ids: HashMap<Vec<u64>, StackId>,
    new_stacks: Vec<(StackId, Vec<u64>, StackEnd)>,
    tree: StackTree,
    touched: bool,
    overflowed: u64,
}

/// A process that has a number.
#[derive(Clone, Copy, Debug)]
struct Known {
    id: ProcessId,
    pid: u32,
    origin: ProcessOrigin,
    start: u64,
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

impl Images {
    /// A process has a number now.
    pub fn process_known(&mut self, process: &Process) {
        let Process { id, pid, origin, start, .. } = *process;
        self.known.push(Known { id, pid, origin, start: start.0 });
    }

    /// An exec was seen, before its turn: what can be read of the program now may be gone when that comes.
    pub fn executed(&mut self, pid: u32, time: u64) {
        let image = Image::new(pid, Begin::Exec, time, pid);
        let number = self.add(image);
        // It becomes the present one in `begin_exec`.
        self.early.insert((pid, time), number);
    }

    /// A program took the place of the one before.
    pub fn begin_exec(&mut self, pid: u32, time: u64, tid: u32, name: String) {
        let number =
            self.early.remove(&(pid, time)).unwrap_or_else(|| self.add(Image::new(pid, Begin::Exec, time, tid)));
        let before = self.current.insert(pid, number);
        if let Some(before) = before.and_then(|before| self.images.get_mut(&before)) {
            before.replaced = true;
            before.end(time);
        }
        if let Some(image) = self.images.get_mut(&number) {
            (image.parent, image.name, image.begin_tid) = (before, name, tid);
        }
    }

    /// A process was forked.
    pub fn begin_fork(&mut self, pid: u32, time: u64, tid: u32, parent: u32) {
        let mut image = Image::new(pid, Begin::Fork, time, tid);
        image.parent = self.current.get(&parent).copied();
        if let Some(parent) = image.parent.and_then(|parent| self.images.get(&parent)) {
            image.name.clone_from(&parent.name);
        }
        let number = self.add(image);
        let before = self.current.insert(pid, number);
        // Its end was not seen.
        if let Some(before) = before.and_then(|before| self.images.get_mut(&before)) {
            before.end(time);
        }
    }

    /// The present image of a process.
    pub fn current(&mut self, pid: u32, time: u64) -> &mut Image {
        let number = match self.current.get(&pid) {
            Some(&number) if self.images.contains_key(&number) => number,
            _ => {
                let number = self.add(Image::new(pid, Begin::Unseen, time, 0));
                self.current.insert(pid, number);
                number
            }
        };
        self.images.entry(number).or_insert_with(|| Image::new(pid, Begin::Unseen, time, 0))
    }

    /// A thread of a process started.
    pub fn thread_started(&mut self, pid: u32, time: u64) {
        self.current(pid, time).threads += 1;
    }

    /// A thread of a process ended, and with the last one the process: whether this was it.
    pub fn thread_ended(&mut self, pid: u32, time: u64) -> bool {
        let Some(image) = self.current.get(&pid).and_then(|number| self.images.get_mut(number)) else { return true };
        image.threads = image.threads.saturating_sub(1);
        if image.threads == 0 {
            image.end(time);
            self.current.remove(&pid);
            return true;
        }
        false
    }

    /// The recording ends: no image gets a number later.
    pub fn end_all(&mut self) {
        self.over = true;
    }

    /// Reads where the kernel put the arguments of programs that were executed just now.
    pub fn read_arguments(&mut self) {
        let now = Instant::now();
        for image in self.images.values_mut().filter(|image| image.arguments_until.is_some()) {
            image.arguments = arguments_of(image.pid);
            if image.arguments.is_some() || image.ended.is_some() || image.arguments_until.is_some_and(|it| now > it) {
                image.arguments_until = None;
            }
        }
    }

    /// Finds out which image each process is, once all images that began before it are known: that is up to
    /// `complete`. Images that ended and that nobody will look at any more become processes of their own.
    pub fn resolve(&mut self, complete: u64, next_id: &mut dyn FnMut() -> ProcessId, records: &mut Vec<Record>) {
        let mut known = std::mem::take(&mut self.known);
        known.retain(|process| {
            let is_told = self.over || process.start.saturating_add(CLOCKS_AGREE_NS) < complete;
            !is_told || !self.match_process(process)
        });
        if !self.over {
            // Of a process that ended with no event there is no image.
            self.known = known;
        }
        self.adopt_unseen(next_id, records);
    }

    fn match_process(&mut self, process: &Known) -> bool {
        let begun_by = process.start.saturating_add(CLOCKS_AGREE_NS);
        let of_pid = self.images.iter_mut().filter(|(_, image)| image.pid == process.pid && image.id.is_none());
        let fitting = of_pid.filter(|(_, image)| match (process.origin, image.begin) {
            (_, Begin::Unseen) => true,
            // The clock is read before the fork, or by the child.
            (ProcessOrigin::Fork, begin) => begin == Begin::Fork,
            (ProcessOrigin::Found, _) => image.begin_time <= begun_by,
            (_, begin) => begin == Begin::Exec && image.begin_time <= begun_by,
        });
        let distance = |image: &Image| (image.begin == Begin::Unseen, image.begin_time.abs_diff(process.start));
        let Some((&number, image)) = fitting.min_by_key(|(_, image)| distance(image)) else { return false };
        image.id = Some(process.id);
        self.ids.insert(number, process.id);
        true
    }

    fn adopt_unseen(&mut self, next_id: &mut dyn FnMut() -> ProcessId, records: &mut Vec<Record>) {
        let over = self.over;
        let unseen = |image: &Image| {
            let ended_before = image.ended.is_some_and(|(_, seen)| seen.elapsed() >= SEEN_WITHIN);
            image.id.is_none() && (over || ended_before)
        };
        let mut unseen: Vec<u32> =
            self.images.iter().filter(|(_, image)| unseen(image)).map(|(&number, _)| number).collect();
        // A parent before its children.
        unseen.sort_unstable();
        for number in unseen {
            let parent = self.images.get(&number).and_then(|image| self.ids.get(&image.parent?).copied());
            let Some(image) = self.images.get_mut(&number) else { continue };
            // Between vfork and exec a process has its parent's memory; what it did there is of no image.
            let origin = match image.begin {
                Begin::Exec => Some(ProcessOrigin::Exec),
                Begin::Fork if image.touched && !image.replaced => Some(ProcessOrigin::Fork),
                Begin::Fork | Begin::Unseen => None,
            };
            let Some(origin) = origin else {
                self.dropped += image.events.len() as u64;
                self.images.remove(&number);
                continue;
            };
            let id = next_id();
            image.id = Some(id);
            self.ids.insert(number, id);
            records.extend(image.as_process(id, origin, parent));
        }
    }

    /// Takes the events of those images that have a number and for which `due` holds.
    pub fn take_chunks(&mut self, due: impl Fn(&Image) -> bool, count: usize, output: &mut Output) {
        let (ids, over) = (&self.ids, self.over);
        self.images.retain(|_, image| {
            let Some(id) = image.id.filter(|_| due(image) && (over || image.arguments_until.is_none())) else {
                return true;
            };
            let parent = image.parent.and_then(|parent| ids.get(&parent).copied());
            if image.begin == Begin::Fork
                && !image.begin_told
                && parent.is_none()
                && !over
                && image.waiting_for_parent()
            {
                return true;
            }
            image.tell_begin(parent);
            self.dropped += std::mem::take(&mut image.overflowed);
            for (stack, frames, end) in image.new_stacks.drain(..) {
                image.tree.add(id, stack, &frames, end, &mut output.records);
            }
            for events in image.events.chunks(count) {
                let mut columns = KernelColumns::new();
                events.iter().for_each(|&event| columns.push(event));
                output.chunks.push((id, columns));
            }
            image.events.clear();
            image.since = Instant::now();
            image.ended.is_none()
        });
    }

    /// Events of images that were gone before anyone could tell whose they are.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn add(&mut self, image: Image) -> u32 {
        self.given += 1;
        self.images.insert(self.given, image);
        self.given
    }
}

impl Image {
    fn new(pid: u32, begin: Begin, time: u64, tid: u32) -> Image {
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

    fn end(&mut self, time: u64) {
        self.ended.get_or_insert((time, Instant::now()));
    }

    fn waiting_for_parent(&self) -> bool {
        self.age() < 2 * SEEN_WITHIN
    }

    /// The first event of an image says how it began.
    fn tell_begin(&mut self, parent: Option<ProcessId>) {
        if std::mem::replace(&mut self.begin_told, true) {
            return;
        }
        let kind = match (self.begin, parent) {
            (Begin::Exec, _) => KernelEventKind::Exec { arguments: self.arguments },
            (Begin::Fork, Some(parent)) => KernelEventKind::Fork { parent },
            _ => return,
        };
        self.events.insert(0, KernelEvent { time: TraceNanos(self.begin_time), tid: self.begin_tid, kind });
    }

    /// The records of a process that the recorder never saw.
    fn as_process(&self, id: ProcessId, origin: ProcessOrigin, parent: Option<ProcessId>) -> Vec<Record> {
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

/// What the kernel filled in the stack of a program that begins: from the number of its arguments, which is where the
/// stack pointer starts, to the stack's end (fs/binfmt_elf.c, `create_elf_tables`).
fn arguments_of(pid: u32) -> Option<(Address, Address)> {
    let start = stack_start(pid).ok().filter(|&start| start != 0)?;
    let mappings = read_mappings(pid).ok()?;
    let stack = mappings.iter().find(|it| it.start.0 <= start && start < it.end.0)?;
    let page = rustix::param::page_size() as u64;
    Some((Address(start & !(page - 1)), stack.end))
}
