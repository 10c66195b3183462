//! The recorder: drains the session, looks at the processes, writes the trace.
//!
//! It runs in rounds on one thread. A round sees which processes have joined or ended, takes the events, and takes
//! the snapshots that are due. Nothing in it waits for a program, and programs wait for it only when the pool of
//! blocks is used up or for their last snapshot.

mod abandoned;
mod attached;
mod bounds;
mod command_starter;
mod drain;
mod guardian;
mod idle_tracer;
mod image;
mod images;
mod kernel_sources;
mod kernel_streams;
mod machine;
mod notified_calls;
mod pid_namespaces;
mod processes;
mod program_arguments;
mod session_file;
mod stack_tree;
mod stream_events;
mod sys;
mod tee;
mod tick_mapper;
mod trace_file;
mod tracked;
mod turns;
mod unseen;
mod write_epochs;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pagetrace_format::records::{End, EndStatus, Record, Sampling, Source};
use pagetrace_format::session::when_full;
use pagetrace_format::{FileHeader, FormatError, Origin, PageShift, TraceNanos, VERSION, VERSION_SAMPLED};

use crate::modules::KeptFile;
use crate::perf::PerfOptions;
pub use abandoned::{LIBRARY_NAME, NAME_PREFIX, mark_as_living, remove_abandoned};
pub use attached::{AttachError, Attached};
pub use bounds::{Bounds, CutError, CutOrder, Shortened, Shortener};
pub use command_starter::CommandStarter;
use drain::Drain;
use guardian::{Guardian, end_for_hooks};
use kernel_streams::KernelStreams;
use processes::{Processes, TreeLooked};
use session_file::SessionFile;
pub use session_file::memory_directories;
use stream_events::StreamEvents;
use tick_mapper::TickMapper;
pub(crate) use tick_mapper::now;
use trace_file::{TraceFile, Written};
use turns::Turns;
pub use unseen::UnseenProgram;
use write_epochs::WriteEpochs;

/// What a recording is to be like.
#[derive(Clone, Debug)]
pub struct RecorderOptions {
    /// Snapshots are at most so far apart.
    pub interval: Duration,
    /// Whether hooks count events as lost, rather than wait, when all buffers are full.
    pub lose_when_full: bool,
    /// The most memory that buffers take, in bytes.
    pub buffer_bytes: usize,
    /// Whether the arguments of programs go into the trace.
    pub args: bool,
    /// Whether objects are wanted.
    pub objects: bool,
    /// Objects are sampled, one in so many bytes; all are recorded for 1.
    pub sample_bytes: u64,
    /// Whether programs are to join, for their objects or to have their writes tracked. Where not, they are found from outside
    /// and nothing more.
    pub joins: bool,
    /// What the kernel is to tell of pages, `None` for nothing.
    pub kernel_events: Option<PerfOptions>,
    /// Whether programs are to wait at each system call about pages until it is taken down ([`crate::seccomp`]).
    pub notified_calls: bool,
    /// How long epochs of tracked writes are, `None` to track none.
    pub write_epochs: Option<Duration>,
    /// Whether the files of programs and libraries are to be held open, for their symbols.
    pub keep_files: bool,
}

impl RecorderOptions {
    /// Whether not all objects are wanted.
    fn samples(&self) -> bool {
        self.objects && self.sample_bytes > 1
    }
}

/// How a recording went.
#[derive(Debug)]
pub struct Finished {
    /// What ended the writing early.
    pub write_error: Option<FormatError>,
    /// Bytes written.
    pub bytes: u64,
    /// Events written.
    pub events: u64,
    /// What the user is to know beside.
    pub notices: Vec<String>,
    /// Programs that could not be followed inside.
    pub unseen: Vec<UnseenProgram>,
    /// The files of programs and libraries, if they were to be kept.
    pub files: Vec<KeptFile>,
}

/// A recording that is going on.
#[derive(Debug)]
pub struct Recorder<W: Write> {
    session: SessionFile,
    _guardian: Option<Guardian>,
    clock: TickMapper,
    drain: Drain,
    processes: Processes,
    kernel: KernelStreams,
    writes: WriteEpochs,
    trace: TraceFile<W>,
    options: RecorderOptions,
    doorbell_seen: u32,
    /// Whether there was nothing in the blocks in the last round.
    drained_nothing: bool,
    /// What was published before has been taken.
    drained_at: TraceNanos,
    started: Instant,
    next_search: Instant,
    next_look: Instant,
    /// Until then the last program may end, which was let go.
    ends_until: Instant,
    turns: Turns,
}

/// New programs without the tracer are looked for so often, and RSS is read so often.
const SEARCH_EVERY: Duration = Duration::from_millis(50);
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// A program ends within this time after its last snapshot, unless it is a large one.
const ENDS_WITHIN: Duration = Duration::from_millis(5);

/// What has happened is in the trace within this time: a hook publishes an event at once after its time was taken, unless its
/// thread is made to wait just then, and the kernel's rings are looked at each round.
const LATE_WITHIN_NS: u64 = 250_000_000;
/// Events of an image whose process is not known yet wait; what waits for longer may come too late to be counted exactly.
const WAITS_WITHIN_NS: u64 = 1_000_000_000;

impl<W: Write> Recorder<W> {
    /// Makes a session and writes the trace's header to `out`.
    ///
    /// # Errors
    /// No memory or directory for the session, or a failing write.
    pub fn new(out: W, options: RecorderOptions) -> Result<Recorder<W>, FormatError> {
        sys::keep_freed_memory();
        let clock_kind = TickMapper::best_clock();
        let full = if options.lose_when_full { when_full::LOSE } else { when_full::WAIT };
        let session = SessionFile::create(options.buffer_bytes, clock_kind, full)?;
        session.session().header().hooks_idle.store((!options.objects).into(), Ordering::Relaxed);
        session.session().header().track_writes.store(options.write_epochs.is_some().into(), Ordering::Relaxed);
        session.session().header().sample_bytes.store(options.sample_bytes, Ordering::Relaxed);
        // Where there is room for no process more, programs that wait or are held are on their own if this one is killed.
        let guardian = Guardian::start(session.session()).ok();
        let header = FileHeader {
            version: if options.samples() { VERSION_SAMPLED } else { VERSION },
            page_shift: PageShift::KIB_4,
            origin: Origin::Recorded,
            start: now(),
            start_unix_ns: unix_ns(),
        };
        let trace = TraceFile::new(out, &header)?;
        let clock = TickMapper::new(clock_kind);
        // A program may be in a sandbox without a clock before the first round.
        session.session().header().present.0.store(clock.present_tick(), Ordering::Relaxed);
        let started = Instant::now();
        Ok(Recorder {
            session,
            clock,
            drain: Drain::new(),
            processes: Processes::new(&options, guardian.as_ref().map(Guardian::held)),
            _guardian: guardian,
            kernel: KernelStreams::idle(),
            writes: WriteEpochs::new(options.write_epochs),
            trace,
            options,
            doorbell_seen: 0,
            drained_nothing: false,
            drained_at: header.start,
            started,
            next_search: started,
            next_look: started,
            ends_until: started,
            turns: Turns::new(),
        })
    }

    /// The session's file: the value of [`pagetrace_format::session::SESSION_VARIABLE`] for programs that are to join.
    pub fn session_path(&self) -> &Path {
        self.session.path()
    }

    /// A directory of this recording's own that goes when the recording ends.
    pub fn directory(&self) -> PathBuf {
        self.session.directory().to_owned()
    }

    /// Has the command started, with what the kernel tells of it and its descendants; the starter was prepared with
    /// [`RecorderOptions::kernel_events`].
    ///
    /// # Errors
    /// Those of starting it.
    pub fn spawn(&mut self, starter: CommandStarter, command: Command) -> std::io::Result<Child> {
        let (child, kernel) = KernelStreams::spawn(starter, command, &self.options)?;
        self.kernel = kernel;
        self.trace.records(&[Record::Machine(machine::this_machine())]);
        if self.options.samples() {
            self.trace.records(&[Record::Sampling(Sampling { mean_bytes: self.options.sample_bytes })]);
        }
        Ok(child)
    }

    /// The command was started under this pid; `exe` is what is known of its path.
    pub fn command_started(&mut self, pid: u32, exe: String) {
        self.processes.command_started(pid, exe);
    }

    /// The command ended, and was waited for.
    pub fn command_ended(&mut self, status: EndStatus) {
        self.processes.command_ended(status);
    }

    /// What ended the writing, if anything did.
    pub fn write_error(&self) -> Option<&FormatError> {
        self.trace.error()
    }

    /// Keeps the trace within bounds from now on: what is old is cut off by `shortener`.
    pub fn bound(&mut self, bounds: Bounds, shortener: Box<dyn Shortener<W>>)
    where
        W: Send + 'static,
    {
        self.trace.bound(bounds, shortener, now());
    }

    /// What the user is to know, each once.
    pub fn take_notices(&mut self) -> Vec<String> {
        self.trace.take_notices()
    }

    /// Does everything that is due. Returns the pids of the processes that are being followed.
    pub fn round(&mut self) -> Vec<u32> {
        self.turns.take();
        let session = self.session.session();
        let header = session.header();
        header.heartbeat.0.fetch_add(1, Ordering::Relaxed);
        header.present.0.store(self.clock.present_tick(), Ordering::Relaxed);
        self.doorbell_seen = header.doorbell.0.load(Ordering::Acquire);
        if self.trace.error().is_some() {
            // Nothing more can be written, so nobody is looked at any more.
            end_for_hooks(session);
            self.kernel.close();
            return self.processes.pids();
        }

        let mut records = self.processes.adopt_joined(session, &mut self.clock);
        let present = Instant::now();
        if present >= self.next_search || self.processes.awaits_command() {
            self.next_search = present + SEARCH_EVERY;
            let kernel = &self.kernel;
            let is_forked = |pid| kernel.is_forked(pid);
            records.extend(self.processes.search(&self.drain, session, self.session.blocks_ready(), &is_forked));
        }
        self.write_records(&records);
        self.writes.hand_over(self.processes.tracked(), self.session.session(), &mut self.kernel);
        self.writes.inject(self.processes.tracked(), &mut self.kernel);
        // Before those that wait for their last snapshot are let go.
        let accesses = self.writes.round(self.session.session(), &mut self.kernel);
        self.trace.accesses(accesses);
        // Who ended before the events are taken has published all it ever will.
        let ended = self.processes.ended();
        // Hooks wait then, as for a slow disk.
        if !self.trace.is_crowded() || !ended.is_empty() || self.awaits_events_to_cut() {
            self.take_events();
        }
        let looked = self.processes.parked_snapshots(session, self.options.interval);
        if !looked.snapshots.is_empty() && self.processes.all_leave() {
            self.ends_until = Instant::now() + ENDS_WITHIN;
        }
        self.write_look(looked);
        if present >= self.next_look {
            self.next_look = present + LOOK_EVERY;
            let looked = self.processes.look_at_tree(self.options.interval);
            self.write_look(looked);
            let due = match self.processes.is_looking() {
                true => Vec::new(),
                false => self.processes.due_snapshots(self.options.interval),
            };
            due.into_iter().for_each(|snapshot| self.trace.snapshot(snapshot));
        }
        for id in ended {
            let (serial, records) = self.processes.end(id, session);
            if let Some(serial) = serial {
                self.drain.flush(Some(serial), &mut |stream, events| self.trace.events(stream, events));
                self.drain.process_ended(session, self.session.blocks_ready(), serial);
            }
            self.trace.records(&records);
        }
        let output = self.kernel.round(&mut || self.processes.next_id());
        self.processes.note_told(&output.records);
        self.trace.kernel_events(output);
        self.keep_within_bounds();
        self.followed()
    }

    /// Those that have joined or were found, and those that the kernel alone knows of yet: a daemon that has just been forked.
    fn followed(&self) -> Vec<u32> {
        let mut pids = self.processes.pids();
        let exists = |pid: &u32| std::fs::exists(format!("/proc/{pid}")).unwrap_or(false);
        let unseen: Vec<u32> = self.kernel.living().filter(|pid| !pids.contains(pid)).filter(exists).collect();
        pids.extend(unseen);
        pids
    }

    /// Whether nothing came in the last round, neither from programs nor from the kernel.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.drained_nothing && self.kernel.is_quiet()
    }

    /// Whether the last program has just been let go after its last snapshot: it does not ring any more when it ends.
    #[must_use]
    pub fn awaits_end(&self) -> bool {
        Instant::now() < self.ends_until
    }

    /// Sleeps until a program rings or the time is over.
    pub fn wait(&self, timeout: Duration) {
        let header = self.session.session().header();
        // Also while hooks wait: each rings before it sleeps, and one that was killed meanwhile is counted for good.
        sys::futex_wait(&header.doorbell.0, self.doorbell_seen, timeout);
    }

    /// Ends the recording: takes what is left and writes the end. Programs that still run go on without it.
    pub fn finish(mut self) -> Finished {
        self.round();
        self.trace.take_cut(true);
        if self.options.joins && self.processes.any_running() {
            self.session.leave_directory();
        }
        let session = self.session.session();
        let header = session.header();
        end_for_hooks(session);
        self.processes.let_go_of_tracers();
        self.take_events();
        self.drain.flush(None, &mut |stream, events| self.trace.events(stream, events));
        self.writes.end();
        let records = self.processes.end_all(session);
        self.write_records(&records);
        let output = self.kernel.finish(&mut || self.processes.next_id());
        self.processes.note_told(&output.records);
        self.trace.kernel_events(output);
        let accesses = self.writes.finish(&mut self.kernel);
        self.trace.accesses(accesses);
        if self.trace.wants_room() {
            // Nothing is to come any more.
            self.trace.begin_cut(now());
            self.trace.take_cut(true);
        }
        self.trace.end_cuts();
        let refused = self.session.session().header().processes_refused.0.load(Ordering::Relaxed);
        let mut last: Vec<Record> =
            self.processes.sources(refused).into_iter().map(|source: Source| Record::Source(source)).collect();
        last.push(Record::Source(self.writes.source()));
        last.extend(self.kernel.sources().into_iter().map(Record::Source));
        last.extend(idle_tracers(header.idle_tracers.0.load(Ordering::Relaxed)));
        last.extend(drain::refused_loss(refused));
        last.push(Record::End(End { time: now(), unix_ns: unix_ns() }));
        self.kernel.close();
        if self.processes.has_attached() {
            self.session.give_memory_back();
        }
        let (unseen, files) = (self.processes.unseen(), self.processes.take_kept_files());
        let notices = self.trace.take_notices();
        let Written { write_error, bytes, events } = self.trace.finish(last);
        Finished { write_error, bytes, events, notices, unseen, files }
    }

    /// How long the recording has been going on.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Goes over to the shorter trace when it is ready, and begins the next when it is due. Then all that waits for its chunk
    /// to fill is written: what is known to be complete is what can be cut.
    fn keep_within_bounds(&mut self) {
        self.trace.take_cut(false);
        if self.trace.wants_cut() {
            self.begin_cut();
        }
    }

    /// Whether a cut could go no further than the last one that was tried: no later than what was taken then.
    fn awaits_events_to_cut(&self) -> bool {
        self.trace.wants_cut() && now().0.saturating_sub(self.drained_at.0) >= LATE_WITHIN_NS
    }

    fn begin_cut(&mut self) {
        self.drain.flush(None, &mut |stream, events| self.trace.events(stream, events));
        let output = self.kernel.flush();
        self.trace.kernel_events(output);
        let taken = self.drained_at.0.min(self.kernel.told_until());
        // Epochs that are still to be written have their ends for their times.
        let taken = taken.min(self.writes.waits_from().map_or(u64::MAX, |end| end.0));
        let complete = taken.saturating_sub(LATE_WITHIN_NS);
        let waiting = self.kernel.waiting_from().unwrap_or(u64::MAX).max(now().0.saturating_sub(WAITS_WITHIN_NS));
        self.trace.begin_cut(TraceNanos(complete.min(waiting)));
    }

    fn write_look(&mut self, looked: TreeLooked) {
        looked.snapshots.into_iter().for_each(|snapshot| self.trace.snapshot(snapshot));
        self.trace.records(&looked.records);
    }

    fn write_records(&mut self, records: &[Record]) {
        for record in records {
            if let Record::Process(process) = record {
                self.kernel.process_known(process);
            }
        }
        self.trace.records(records);
    }

    fn take_events(&mut self) {
        self.drained_at = now();
        let session = self.session.session();
        let header = session.header();
        let (ready, processes, trace) = (self.session.blocks_ready(), self.processes.drained(), &mut self.trace);
        let write = &mut |stream, events: &mut StreamEvents| trace.events(stream, events);
        let drained = self.drain.drain(session, ready, &mut self.clock, processes, write);
        self.turns.note_recorded(drained.threads);
        self.drained_nothing = drained.threads == 0;
        let few_free = drained.blocks_freed * 2 > self.session.blocks_ready();
        if (header.waiting.0.load(Ordering::Relaxed) > 0 || few_free) && !self.session.grow(drained.blocks_held) {
            // Every block there can be is held by a thread that may never write again: waiting would not end.
            header.when_full.store(when_full::LOSE, Ordering::Relaxed);
        }
        if header.waiting.0.load(Ordering::Relaxed) > 0 {
            header.blocks_freed.0.fetch_add(1, Ordering::Release);
            sys::futex_wake_all(&header.blocks_freed.0);
        }
        self.trace.records(&drained.records);
    }
}

/// What linked tracers would have seen: page runs, and objects of allocators that do not go through `malloc`.
fn idle_tracers(count: u32) -> Option<Record> {
    let missed = format!(
        "the page events of {count} program(s) that link the tracer, and objects of allocators of their own: set \
         PAGETRACE=FILE in their environment to record those, into FILE"
    );
    (count > 0).then(|| Record::Source(Source { name: "linked tracer".into(), active: false, missed }))
}

fn unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests;
