//! A process that the recorder follows.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use pagetrace_format::records::Record;
use pagetrace_format::snapshot::{Mapping, Permissions, SnapshotReason};
use pagetrace_format::{Address, ProcessId, Snapshot, TraceNanos};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::idle_tracer::IdleTracer;
use crate::error::KernelError;
use crate::figures::StatmReader;
use crate::frames::PageEntries;
use crate::modules::ModuleFinder;
use crate::process_tree::state_of;
use crate::snapshot::SnapshotTaker;

/// A snapshot is due when RSS is this much above the largest one so far: a part of it and a floor.
const GROWTH_SHIFT: u32 = 5;
const GROWTH_FLOOR_BYTES: u64 = 256 << 10;
/// It is due as well when RSS has risen by that floor and then not for so long: what has grown little stays so perhaps to the
/// end, and the state that the memory was needed for is the one where it stops growing.
const STALLED: Duration = Duration::from_millis(100);
/// A process is stopped for at most this part of its time, one in so many: while it grows, when the next snapshot may
/// be the one of its peak, and otherwise.
const STOPPED_SHARE_GROWING: u32 = 5;
const STOPPED_SHARE: u32 = 40;
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The same while it grows. Each such snapshot is 1/32 larger than the one before, so that there are few.
const PAUSE_MIN_GROWING: Duration = Duration::from_millis(3);

/// A process that the recorder follows.
#[derive(Debug)]
pub struct Tracked {
    /// Its number in the trace.
    pub id: ProcessId,
    /// Its pid.
    pub pid: u32,
    /// Its slot's index and serial, `None` for a process without the tracer in it.
    pub joined: Option<(u32, u32)>,
    /// Path of its executable.
    pub exe: String,
    /// Its pid runs another program already, which is not known yet.
    pub overtaken: bool,
    /// Where the session is mapped in it.
    pub session_at: Option<Address>,
    /// The tracer in it that was woken, and the time up to which its objects are not known.
    pub woken: Option<(IdleTracer, TraceNanos)>,
    /// When another program took its place.
    pub replaced: Option<TraceNanos>,
    /// Whether the last snapshot was the one at its exit.
    pub snapshot_at_exit: bool,
    /// Snapshots taken.
    pub snapshots: u32,
    /// Why the last try gave no snapshot.
    pub snapshot_error: Option<String>,
    /// Whether the kernel shows nothing of its memory but how much there is.
    pub hidden: bool,
    pidfd: Option<OwnedFd>,
    statm: Option<StatmReader>,
    taker: Option<SnapshotTaker>,
    largest_rss: u64,
    /// At the last snapshot.
    last_rss: u64,
    /// The RSS that has been seen last with a rise to it, and when.
    risen: (u64, Instant),
    last: Instant,
    earliest_growth: Instant,
    earliest_interval: Instant,
    modules: HashSet<(u64, u64, u64)>,
}

impl Tracked {
    /// Follows a process. One that has already ended is told so by [`Tracked::has_ended`]. While it is held for a
    /// snapshot its pid is in `held`.
    pub fn new(
        id: ProcessId,
        pid: u32,
        joined: Option<(u32, u32)>,
        exe: String,
        held: Option<&'static AtomicU32>,
    ) -> Tracked {
        let now = Instant::now();
        let pidfd = Pid::from_raw(pid as i32).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        Tracked {
            id,
            pid,
            joined,
            exe,
            overtaken: false,
            session_at: None,
            woken: None,
            replaced: None,
            snapshot_at_exit: false,
            snapshots: 0,
            snapshot_error: None,
            hidden: false,
            pidfd,
            statm: StatmReader::open(pid).ok(),
            taker: SnapshotTaker::open(pid).ok().map(|taker| taker.noting_held(held)),
            largest_rss: 0,
            last_rss: 0,
            risen: (0, now),
            last: now,
            earliest_growth: now,
            earliest_interval: now,
            modules: HashSet::new(),
        }
    }

    /// Whether the process has ended (pidfd_open(2): its descriptor becomes readable).
    pub fn has_ended(&self) -> bool {
        let Some(pidfd) = &self.pidfd else {
            // None is also for want of a descriptor or of the call; a process taken for ended while it runs would
            // share its blocks with others.
            return match state_of(self.pid) {
                Ok(state) => matches!(state, 'Z' | 'X'),
                Err(error) => matches!(error, KernelError::Gone { .. }),
            };
        };
        let mut polled = [PollFd::new(pidfd, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }

    /// Why a snapshot should be taken now, if one should.
    pub fn due(&mut self, interval: Duration) -> Option<SnapshotReason> {
        let now = Instant::now();
        if now < self.earliest_growth {
            return None;
        }
        let rss = self.statm.as_ref()?.rss().ok()?;
        if rss > self.largest_rss + (self.largest_rss >> GROWTH_SHIFT) + GROWTH_FLOOR_BYTES {
            return Some(SnapshotReason::Growth);
        }
        if rss > self.risen.0 {
            self.risen = (rss, now);
        }
        if now < self.earliest_interval {
            return None;
        }
        if rss > self.largest_rss + GROWTH_FLOOR_BYTES && now.duration_since(self.risen.1) >= STALLED {
            return Some(SnapshotReason::Growth);
        }
        (now.duration_since(self.last) >= interval).then_some(SnapshotReason::Interval)
    }

    /// Takes a snapshot, the process stopped if that can be done; `with_frames` with what the kernel says of each resident page.
    pub fn snapshot(&mut self, reason: SnapshotReason, with_frames: bool) -> Option<(Snapshot, Option<PageEntries>)> {
        let started = Instant::now();
        let taker = self.taker.as_mut()?;
        let id = self.id;
        let mut take = |stop| match with_frames {
            true => taker.take_with_frames(id, reason, stop),
            false => taker.take(id, reason, stop).map(|taken| (taken, None)),
        };
        let taken = if self.hidden {
            taker.take_figures(id, reason).map(|taken| (taken, None))
        } else {
            take(true).or_else(|refused| {
                self.snapshot_error = Some(refused.to_string());
                take(false)
            })
        };
        let ended = Instant::now();
        self.last = ended;
        let cost = ended - started;
        if !with_frames {
            // Looks at the tree have bounds of their own, and must not hide how a process grows in between.
            self.earliest_growth = ended + PAUSE_MIN_GROWING.max(cost * STOPPED_SHARE_GROWING);
            self.earliest_interval = ended + PAUSE_MIN.max(cost * STOPPED_SHARE);
        }
        match taken {
            // An exec came first: this is the next program, which has not joined yet.
            Ok((taken, _)) if !self.is_own_image(&taken.snapshot.mappings) => {
                self.overtaken = true;
                None
            }
            Ok((taken, entries)) => {
                let rss = taken.snapshot.kernel.rss.unwrap_or(0);
                self.largest_rss = self.largest_rss.max(rss);
                self.last_rss = rss;
                self.snapshots += 1;
                self.snapshot_at_exit = reason == SnapshotReason::Exit;
                Some((taken.snapshot, entries))
            }
            Err(error) => {
                self.snapshot_error = Some(error.to_string());
                None
            }
        }
    }

    /// Whether it has more than at its last snapshot.
    pub fn is_growing(&self) -> bool {
        let rss = self.statm.as_ref().and_then(|statm| statm.rss().ok());
        rss.is_some_and(|rss| rss > self.last_rss + GROWTH_FLOOR_BYTES)
    }

    /// Its RSS at its last snapshot, 0 before the first.
    pub fn last_rss(&self) -> u64 {
        self.last_rss
    }

    /// Whether these are the mappings of the program that joined: the session is mapped where it was.
    pub fn is_own_image(&self, mappings: &[Mapping]) -> bool {
        let shared = |it: &Mapping| it.permissions.has(Permissions::SHARED);
        self.session_at.is_none_or(|at| mappings.iter().any(|it| it.start <= at && at < it.end && shared(it)))
    }

    /// The modules among these mappings that have not been seen before.
    pub fn new_modules(&mut self, finder: &mut ModuleFinder, mappings: &[Mapping]) -> Vec<Record> {
        let mut modules = finder.modules_of(self.pid, mappings);
        modules.retain(|module| self.modules.insert((module.start.0, module.end.0, module.file_offset)));
        modules.into_iter().map(|module| Record::Module(module.into_record(self.id))).collect()
    }
}
