//! Program images as the kernel's events tell them apart: an address space from its fork or exec to its end.

use std::time::{Duration, Instant};

use hashbrown::HashMap;
use pagetrace_format::records::{Process, ProcessOrigin, Record};
use pagetrace_format::{KernelColumns, ProcessId};

use super::image::{Begin, Image};
use super::kernel_streams::Output;
use super::program_arguments::ProgramArguments;

/// An image that has ended may still be looked at by the recorder for so long.
const SEEN_WITHIN: Duration = Duration::from_millis(100);
/// A forked process whose parent has the tracer joins within this time of its begin.
const JOINED_WITHIN: Duration = Duration::from_millis(20);
/// The two clocks by which a process's start and its image's are taken agree so well.
const CLOCKS_AGREE_NS: u64 = 50_000;

/// All images that have something to say.
#[derive(Debug, Default)]
pub struct Images {
    images: HashMap<u32, Image>,
    /// The present image of each pid.
    current: HashMap<u32, u32>,
    /// The command's pid: it has a number in the end, however soon it was gone.
    command: Option<u32>,
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

/// A process that has a number.
#[derive(Clone, Copy, Debug)]
struct Known {
    id: ProcessId,
    pid: u32,
    origin: ProcessOrigin,
    start: u64,
    joined: bool,
}

impl Images {
    /// The command runs under this pid.
    pub fn command_started(&mut self, pid: u32) {
        self.command = Some(pid);
    }

    /// The processes that have begun and not ended, as far as the kernel has told.
    pub fn living(&self) -> impl Iterator<Item = u32> {
        let lives = |number: &u32| self.images.get(number).is_some_and(|image| !image.has_ended());
        self.current.iter().filter(move |(_, number)| lives(number)).map(|(&pid, _)| pid)
    }

    /// Whether the process runs the program of the one that forked it, `None` where the kernel has not told of it.
    pub fn is_forked(&self, pid: u32) -> Option<bool> {
        let image = self.current.get(&pid).and_then(|number| self.images.get(number))?;
        Some(image.begin == Begin::Fork)
    }

    /// A process has a number now.
    pub fn process_known(&mut self, process: &Process) {
        let Process { id, pid, origin, start, malloc, .. } = *process;
        self.known.push(Known { id, pid, origin, start: start.0, joined: malloc.0 != 0 });
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

    /// A process ran already when its events began, with so many threads.
    pub fn attached(&mut self, pid: u32, time: u64, threads: u32) {
        let mut image = Image::new(pid, Begin::Unseen, time, pid);
        image.threads = threads;
        let number = self.add(image);
        self.current.insert(pid, number);
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
            image.arguments = ProgramArguments::of(image.pid);
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
        (image.id, image.joined) = (Some(process.id), process.joined);
        self.ids.insert(number, process.id);
        true
    }

    fn adopt_unseen(&mut self, next_id: &mut dyn FnMut() -> ProcessId, records: &mut Vec<Record>) {
        let (over, command) = (self.over, self.command);
        let unseen = |image: &Image| {
            let within = if image.begin == Begin::Fork { JOINED_WITHIN } else { SEEN_WITHIN };
            let nobody_looks =
                Some(image.pid) != command && image.ended.is_some_and(|(_, seen)| seen.elapsed() >= within);
            image.id.is_none() && (over || nobody_looks)
        };
        let mut unseen: Vec<u32> =
            self.images.iter().filter(|(_, image)| unseen(image)).map(|(&number, _)| number).collect();
        // A parent before its children.
        unseen.sort_unstable();
        for number in unseen {
            let Some(mut image) = self.images.remove(&number) else { continue };
            let parent = image.parent.and_then(|parent| self.images.get_mut(&parent));
            // The tracer in a parent would be in its copy too: this one shared the parent's memory, as after vfork(2). Not
            // one that changed mappings: a process that only borrows its memory leaves it as it is.
            let shared_memory = (image.replaced || parent.as_ref().is_some_and(|parent| parent.joined))
                && !image.has_changed_mappings();
            let origin = match image.begin {
                Begin::Exec => ProcessOrigin::Exec,
                Begin::Fork if image.touched && !shared_memory => ProcessOrigin::Fork,
                Begin::Fork | Begin::Unseen => {
                    match parent {
                        Some(parent) => parent.take_back(image.events),
                        None => self.dropped += image.events.len() as u64,
                    }
                    continue;
                }
            };
            let id = next_id();
            let parent = image.parent.and_then(|parent| self.ids.get(&parent).copied());
            image.id = Some(id);
            self.ids.insert(number, id);
            records.extend(image.as_process(id, origin, parent));
            self.images.insert(number, image);
        }
    }

    /// Takes the events of those images that have a number and for which `due` holds.
    pub fn take_chunks(&mut self, due: impl Fn(&Image) -> bool, count: usize, output: &mut Output) {
        let (ids, over) = (&self.ids, self.over);
        self.images.retain(|_, image| {
            // A process that shares its memory, after vfork(2), may still turn out to do so.
            let settled = image.arguments_until.is_none() && !image.has_ended_within(2 * JOINED_WITHIN);
            let Some(id) = image.id.filter(|_| due(image) && (over || settled)) else { return true };
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
            image.written_until = image.events.last().map_or(image.written_until, |last| last.time);
            output.chunks.extend(image.take_events(count).into_iter().map(|events| (id, KernelColumns::of(events))));
            image.since = Instant::now();
            image.ended.is_none()
        });
    }

    /// The time of the earliest event that has not left.
    pub fn waiting_from(&self) -> Option<u64> {
        let told = |image: &&Image| {
            // Of one whose begin was not seen there is nothing but its events.
            image.events.is_empty() && (image.begin_told || image.begin == Begin::Unseen)
        };
        let waiting = self.images.values().filter(|image| !told(image));
        waiting
            .map(|image| match image.events.first() {
                Some(event) if image.begin_told => event.time.0,
                _ => image.begin_time,
            })
            .min()
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
