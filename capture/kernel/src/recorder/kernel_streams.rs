//! What the kernel says of pages, as one stream a process: takes the records of perf events, finds out which program
//! image each is about, and makes chunks of them.
//!
//! The sideband tells of forks, execs and ends with their exact times, so images are told apart by it. Which number a
//! process has in the trace is known only once it has joined or was found, so the events of an image wait for that. An
//! image that ended before anyone saw it gets a number here.

mod attached;

use std::io;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use pagetrace_format::kernel_event::{FaultAccess, KernelEvent, KernelEventKind, MappedRange, PageFault, SystemCall};
use pagetrace_format::records::{Loss, LossReason, MappedFile, Process, Record, Source};
use pagetrace_format::snapshot::{Mapping, Permissions};
use pagetrace_format::{Address, FileId, KernelColumns, ProcessId, StackId, TraceNanos};

use crate::perf::{Accesses, Body, Found, MappedRecord, PerfEvents, PerfRecord, StackSample, Timeline, Told, ToldKind};
use crate::writes::WriteFaults;

use crate::unwind::{StackUnwinder, UnwoundStack, UserRegisters};

use super::RecorderOptions;
use super::command_starter::{CommandStarter, Opened};
use super::image::Image;
use super::images::Images;
use super::kernel_sources::sources;
use super::notified_calls::{self, NotifiedCalls};
use super::tick_mapper::now;

/// Events of a chunk: they wait in memory that is still in the processor's caches when they are encoded, and was there before.
const CHUNK_EVENTS: usize = 4096;
/// Events wait no longer than this for their chunk to fill.
const CHUNK_AGE: Duration = Duration::from_secs(1);
/// The kernel is asked so often what it lost.
const LOSSES_EVERY: Duration = Duration::from_secs(1);

/// The kernel's events of a recording.
#[derive(Debug)]
pub struct KernelStreams {
    perf: Option<PerfEvents>,
    found: Result<Found, String>,
    /// Where these were asked for in place of perf's.
    calls: Option<NotifiedCalls>,
    /// Whether it is worth a word that they could be asked for.
    offers_calls: bool,
    timeline: Timeline,
    /// Empty between two rounds, its memory kept.
    told: Vec<Told>,
    unwinder: StackUnwinder,
    accesses: Accesses,
    /// When the rings were looked at last.
    looked: u64,
    /// What is older has left the timeline.
    told_until: u64,
    images: Images,
    /// Of the processes whose writes are tracked.
    write_faults: HashMap<u32, WriteFaults>,
    files: HashMap<(u64, u64, String), FileId>,
    lost: u64,
    malformed: u64,
    /// Whether nothing was told in the last round.
    is_quiet: bool,
    next_losses: Instant,
    /// Threads that ran already and could not be given events, and why the first could not.
    uncovered: Vec<(u32, String)>,
    has_attached: bool,
}

/// What is to be written.
#[derive(Debug, Default)]
pub struct Output {
    /// Records, before the events.
    pub records: Vec<Record>,
    /// Chunks of events.
    pub chunks: Vec<(ProcessId, KernelColumns)>,
}

impl KernelStreams {
    /// Has the command started, with what the kernel tells of it and of nothing else.
    ///
    /// # Errors
    /// Those of starting the command.
    pub fn spawn(
        starter: CommandStarter,
        mut command: Command,
        options: &RecorderOptions,
    ) -> io::Result<(Child, KernelStreams)> {
        let calls = options.notified_calls.then(|| NotifiedCalls::prepare(&mut command));
        let (child, opened) = starter.start(command)?;
        let mut streams = KernelStreams::new(opened);
        streams.images.command_started(child.id());
        streams.offers_calls = options.kernel_events.as_ref().is_some_and(|perf| perf.calls);
        streams.calls = calls;
        if let Some(calls) = &mut streams.calls {
            calls.started();
        }
        Ok((child, streams))
    }

    /// Before the command is started.
    pub fn idle() -> KernelStreams {
        KernelStreams::new(Err("nothing was started".into()))
    }

    fn new(opened: Opened) -> KernelStreams {
        let (perf, found) = match opened {
            Ok((perf, found)) => (Some(perf), Ok(found)),
            Err(why) => (None, Err(why)),
        };
        KernelStreams {
            perf,
            found,
            calls: None,
            offers_calls: false,
            timeline: Timeline::default(),
            told: Vec::new(),
            unwinder: StackUnwinder::new(),
            accesses: Accesses::new(),
            looked: now().0,
            told_until: 0,
            images: Images::default(),
            write_faults: HashMap::new(),
            files: HashMap::new(),
            lost: 0,
            malformed: 0,
            is_quiet: true,
            next_losses: Instant::now() + LOSSES_EVERY,
            uncovered: Vec::new(),
            has_attached: false,
        }
    }

    /// A process has a number now.
    pub fn process_known(&mut self, process: &Process) {
        if self.tells() {
            self.images.process_known(process);
        }
    }

    /// The processes that live, as far as the kernel has told: it knows of one before that has joined.
    pub fn living(&self) -> impl Iterator<Item = u32> {
        self.images.living()
    }

    /// Whether the process runs the program of the one that forked it, `None` where that is not known yet.
    pub fn is_forked(&self, pid: u32) -> Option<bool> {
        if self.tells() { self.images.is_forked(pid) } else { Some(false) }
    }

    /// From now on what concerns the writes of this process is kept.
    pub fn watch_writes(&mut self, pid: u32) {
        self.write_faults.entry(pid).or_default();
    }

    /// No more.
    pub fn leave_writes(&mut self, pid: u32) {
        self.write_faults.remove(&pid);
    }

    /// What was kept.
    pub fn write_faults(&mut self, pid: u32) -> Option<&mut WriteFaults> {
        self.write_faults.get_mut(&pid)
    }

    /// Takes what the kernel has told since the last time.
    pub fn round(&mut self, next_id: &mut dyn FnMut() -> ProcessId) -> Output {
        let mut output = Output::default();
        if !self.tells() {
            return output;
        }
        let complete = std::mem::replace(&mut self.looked, now().0);
        self.take_records();
        let told_until = self.release(complete, &mut output);
        self.images.read_arguments();
        self.told_until = told_until;
        self.images.resolve(told_until, next_id, &mut output.records);
        self.take_chunks(false, &mut output);
        if Instant::now() >= self.next_losses {
            self.next_losses = Instant::now() + LOSSES_EVERY;
            output.records.extend(self.new_losses());
        }
        output
    }

    /// Whether it told nothing in the last round.
    pub fn is_quiet(&self) -> bool {
        self.is_quiet
    }

    /// Takes what waits for its chunk to fill.
    pub fn flush(&mut self) -> Output {
        let mut output = Output::default();
        self.take_chunks(true, &mut output);
        output
    }

    /// Nothing older is still to come from the kernel.
    pub fn told_until(&self) -> u64 {
        if self.tells() { self.told_until } else { u64::MAX }
    }

    /// The time of the earliest event that waits for its process to be known.
    pub fn waiting_from(&self) -> Option<u64> {
        self.images.waiting_from()
    }

    /// Takes the rest, once all that were to be recorded have ended or the recording does.
    pub fn finish(&mut self, next_id: &mut dyn FnMut() -> ProcessId) -> Output {
        let mut output = Output::default();
        if !self.tells() {
            return output;
        }
        self.take_records();
        self.release(u64::MAX, &mut output);
        self.images.end_all();
        self.images.resolve(u64::MAX, next_id, &mut output.records);
        self.take_chunks(true, &mut output);
        output.records.extend(self.new_losses());
        output
    }

    /// Closes the events; that takes its time elsewhere. Calls go on being let through by the supervisor.
    pub fn close(&mut self) {
        self.calls = None;
        if let Some(perf) = self.perf.take() {
            perf.close_elsewhere();
        }
    }

    /// What was at work and what it missed.
    pub fn sources(&self) -> Vec<Source> {
        let mut sources = sources(&self.found, self.timeline.missed(), self.images.dropped());
        if let Some(source) = sources.iter_mut().find(|source| source.name == "page_system_calls") {
            match &self.calls {
                Some(calls) => *source = calls.source(),
                None if !source.active && self.offers_calls => source.missed.push_str(&notified_calls::offer()),
                None => {}
            }
        }
        if self.has_attached { self.with_what_was_before(sources) } else { sources }
    }

    /// Whether there is anything that tells.
    fn tells(&self) -> bool {
        self.perf.is_some() || self.calls.as_ref().is_some_and(NotifiedCalls::tells)
    }

    fn take_records(&mut self) {
        let (timeline, images, accesses) = (&mut self.timeline, &mut self.images, &mut self.accesses);
        self.is_quiet = true;
        if let Some(calls) = &mut self.calls {
            let with_sideband = self.perf.is_some();
            calls.take(with_sideband, |record| {
                self.is_quiet = false;
                take_record(record, timeline, images, accesses);
            });
            if !with_sideband {
                calls.ended(images.living()).into_iter().for_each(|record| timeline.push(record));
            }
        }
        if let Some(perf) = &mut self.perf {
            self.malformed += perf.take(|record| {
                self.is_quiet = false;
                take_record(record, timeline, images, accesses);
            });
        }
    }

    fn release(&mut self, complete: u64, output: &mut Output) -> u64 {
        let mut told_all = std::mem::take(&mut self.told);
        let told_until = self.timeline.release(complete, |told| told_all.push(told));
        for told in told_all.drain(..) {
            self.tell(told, &mut output.records);
        }
        self.told = told_all;
        told_until
    }

    fn tell(&mut self, told: Told, records: &mut Vec<Record>) {
        let Told { time, pid, tid, kind } = told;
        let kind = match kind {
            ToldKind::Exec { name } => {
                self.unwinder.executed(pid);
                self.accesses.executed(pid);
                if let Some(told) = self.write_faults.get_mut(&pid) {
                    told.executed();
                }
                return self.images.begin_exec(pid, time, tid, name);
            }
            ToldKind::Forked { parent } => {
                self.unwinder.forked(parent, pid);
                self.accesses.forked(parent, pid);
                return self.images.begin_fork(pid, time, tid, parent);
            }
            ToldKind::ThreadStarted => return self.images.thread_started(pid, time),
            ToldKind::ThreadEnded => {
                if self.images.thread_ended(pid, time) {
                    self.unwinder.process_ended(pid);
                    self.accesses.ended(pid);
                }
                return;
            }
            ToldKind::Fault { address, instruction, in_kernel, access, stack } => {
                let frames = stack.and_then(|sample| unwound(&mut self.unwinder, pid, &sample));
                let stack = frames.map_or(StackId::UNKNOWN, |frames| self.images.current(pid, time).stack(frames));
                let access = match access {
                    FaultAccess::Unknown if !in_kernel => self.accesses.of_fault(pid, instruction, address),
                    known => known,
                };
                let (address, instruction) = (Address(address), Address(instruction));
                if let Some(told) = self.write_faults.get_mut(&pid).filter(|_| !in_kernel) {
                    told.fault(TraceNanos(time), tid, address, instruction, stack, access);
                }
                KernelEventKind::Fault(PageFault { address, instruction, stack, access, in_kernel })
            }
            ToldKind::Call { call, arguments, result, mapped } => {
                if let Some(mapped) = &mapped {
                    self.tell_mapped(pid, mapped);
                }
                if let Some(told) = self.write_faults.get_mut(&pid) {
                    told.call(TraceNanos(time), call, &arguments, result);
                }
                let file = mapped.map_or(FileId::NONE, |mapped| self.file_of_call(*mapped, records));
                let stack = StackId::UNKNOWN;
                KernelEventKind::Call(SystemCall { call, arguments, result, file, stack })
            }
            ToldKind::Mapped(mapped) => {
                self.tell_mapped(pid, &mapped);
                self.images.current(pid, time).name_by(&mapped);
                let file = self.file(&mapped, records);
                let MappedRecord { start, bytes, file_offset, protection, flags, .. } = *mapped;
                let start = Address(start);
                KernelEventKind::Mapped(MappedRange { start, bytes, file_offset, protection, flags, file })
            }
        };
        self.images.current(pid, time).push(KernelEvent { time: TraceNanos(time), tid, kind });
    }

    /// Of anonymous memory a call's arguments tell all there is.
    fn file_of_call(&mut self, mapped: MappedRecord, records: &mut Vec<Record>) -> FileId {
        if mapped.path == "//anon" { FileId::NONE } else { self.file(&mapped, records) }
    }

    fn file(&mut self, mapped: &MappedRecord, records: &mut Vec<Record>) -> FileId {
        let MappedRecord { device, inode, path, .. } = mapped;
        let next = FileId(self.files.len() as u32 + 1);
        *self.files.entry((*device, *inode, path.clone())).or_insert_with(|| {
            let (device, inode, path) = (*device, *inode, path.clone());
            records.push(Record::MappedFile(MappedFile { id: next, device, inode, path }));
            next
        })
    }

    /// What is mapped for execution is what stacks lead through; in private mappings of files none lie.
    fn tell_mapped(&mut self, pid: u32, mapped: &MappedRecord) {
        let &MappedRecord { start, bytes, file_offset, device, inode, protection, ref path, .. } = mapped;
        let is_private = mapped.flags & libc::MAP_SHARED as u32 == 0;
        self.accesses.mapped(pid, start..start.saturating_add(bytes), is_private && inode != 0);
        let Some(permissions) = u8::try_from(protection & 7).ok().map(Permissions) else { return };
        if permissions.has(Permissions::EXECUTE) {
            self.accesses.code_changed(pid);
        }
        if permissions.has(Permissions::EXECUTE) && inode != 0 {
            let (start, end) = (Address(start), Address(start.saturating_add(bytes)));
            let path = path.clone();
            self.unwinder.mapped(pid, &Mapping { start, end, permissions, file_offset, device, inode, path });
        }
    }

    fn take_chunks(&mut self, all: bool, output: &mut Output) {
        let due =
            |image: &Image| all || image.has_ended() || image.waiting() >= CHUNK_EVENTS || image.age() >= CHUNK_AGE;
        self.images.take_chunks(due, CHUNK_EVENTS, output);
    }

    fn new_losses(&mut self) -> Option<Record> {
        let unnoted = self.calls.as_ref().map_or(0, NotifiedCalls::lost);
        let lost = self.perf.as_ref().map_or(0, PerfEvents::lost) + self.malformed + unnoted;
        let events = lost.saturating_sub(self.lost);
        self.lost = self.lost.max(lost);
        let reason = LossReason::KernelBufferFull;
        (events > 0).then(|| Record::Loss(Loss { process: None, reason, events, time: now() }))
    }
}

fn take_record(record: PerfRecord, timeline: &mut Timeline, images: &mut Images, accesses: &mut Accesses) {
    if let Body::Exec { .. } = record.body {
        images.executed(record.pid, record.time);
        accesses.replaced(record.pid);
    }
    timeline.push(record);
}

/// The frames of a stack; `None` of a 32-bit program, whose registers are others.
fn unwound(unwinder: &mut StackUnwinder, pid: u32, sample: &StackSample) -> Option<UnwoundStack> {
    let registers = UserRegisters::from_perf(&sample.registers)?;
    (registers.instruction() != 0).then(|| unwinder.unwind(pid, &registers, &sample.stack))
}
