//! Looks at all processes one right after the other, so that what they share can be told from what each has for itself.
//!
//! Snapshots that each process has in its own time cannot be added up: a page that a parent has alone before a fork is shared
//! after it. A look goes on over several rounds where there are many processes, since programs may wait for the recorder.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pagetrace_format::records::{Record, TreeLook};
use pagetrace_format::session::{Session, slot_state};
use pagetrace_format::snapshot::SnapshotReason;
use pagetrace_format::{ProcessId, TraceNanos};

use super::{Processes, SnapshotAndModules, Tracked, now, sys};
use crate::frames::{FrameCount, PageEntries};

/// A round gives a look so much time.
const ROUND_MAX: Duration = Duration::from_millis(10);
/// A process that waits for its last snapshot waits so long at most for a look at the others.
const EXIT_WAIT_MAX: Duration = Duration::from_millis(50);
/// Looks take at most this part of the recorder's time, and of each process's, one in so many: where all together have more than ever seen so far,
/// where something else has changed, and otherwise.
const SHARE_GROWING: u32 = 4;
const SHARE_CHANGING: u32 = 20;
const SHARE: u32 = 40;
/// They have more if it is this much: a part of the largest sum of RSS so far, and a floor.
const GROWTH_SHIFT: u32 = 5;
const GROWTH_FLOOR_BYTES: u64 = 1 << 20;
/// A look that is due is put off for so long, and while a process grows for so long at most.
const PUT_OFF_MIN: Duration = Duration::from_millis(50);
const PUT_OFF_MAX: Duration = Duration::from_millis(250);
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// When there are looks.
#[derive(Debug)]
pub(super) struct TreeLooks {
    going: Option<Going>,
    /// Whom the last one saw, and when it was over.
    seen: Vec<ProcessId>,
    last: Instant,
    cost: Duration,
    /// Whether a process has grown since.
    has_grown: bool,
    /// The largest sum of RSS that one found.
    largest_sum: u64,
    /// Since when one is due and put off.
    put_off: Option<Instant>,
}

/// A look that goes on.
#[derive(Debug)]
struct Going {
    start: TraceNanos,
    /// Those that it has not come to, the next one last.
    waiting: Vec<ProcessId>,
    members: Vec<ProcessId>,
    frames: FrameCount,
    /// Whether the pages of all of them could be seen.
    sees_all: bool,
    /// The recorder's time on a processor, and the longest that a process was looked at.
    busy: Duration,
    longest: Duration,
}

impl TreeLooks {
    /// None yet.
    pub(super) fn new() -> TreeLooks {
        TreeLooks {
            going: None,
            seen: Vec::new(),
            last: Instant::now(),
            cost: Duration::ZERO,
            has_grown: false,
            largest_sum: 0,
            put_off: None,
        }
    }

    /// A process was looked at by itself.
    pub(super) fn note(&mut self, reason: SnapshotReason) {
        self.has_grown |= reason == SnapshotReason::Growth;
    }

    /// Whether another look is due; `sum` is the RSS of those that live, as last seen of each.
    fn is_due(&self, living: &[ProcessId], sum: u64, interval: Duration) -> bool {
        let since = self.last.elapsed();
        let share = match () {
            () if sum > self.largest_sum + (self.largest_sum >> GROWTH_SHIFT) + GROWTH_FLOOR_BYTES => SHARE_GROWING,
            () if self.has_grown || living != self.seen => SHARE_CHANGING,
            () if since >= interval => SHARE,
            () => return false,
        };
        self.seen.is_empty() || since >= PAUSE_MIN.max(self.cost * share)
    }

    fn over(&mut self, cost: Duration, seen: &[ProcessId], sum: u64) {
        (self.last, self.cost, self.has_grown) = (Instant::now(), cost, false);
        self.put_off = None;
        self.largest_sum = self.largest_sum.max(sum);
        self.seen = seen.to_vec();
        self.seen.sort_unstable();
    }
}

/// What a part of a look found: snapshots, and at its end what is to be said of all of them.
#[derive(Debug, Default)]
pub struct TreeLooked {
    /// Snapshots.
    pub snapshots: Vec<SnapshotAndModules>,
    /// What they have in common.
    pub records: Vec<Record>,
}

impl Processes {
    /// Begins a look at all processes if one is due, or goes on with it.
    pub fn look_at_tree(&mut self, interval: Duration) -> TreeLooked {
        let mut looked = TreeLooked::default();
        if self.tree.going.is_none() {
            let living = self.living();
            if living.len() < 2 || !self.tree.is_due(&living, self.sum_of(&living), interval) {
                return looked;
            }
            // While one grows its own snapshots come first: the largest may last for a moment only.
            let put_off = self.tree.put_off.get_or_insert_with(Instant::now).elapsed();
            if put_off < PUT_OFF_MIN || put_off < PUT_OFF_MAX && self.tracked.iter().any(Tracked::is_growing) {
                return looked;
            }
            self.tree.going = Some(Going::begin(living));
        }
        self.go_on_looking(interval, Instant::now() + ROUND_MAX, &[], &mut looked);
        looked
    }

    /// Whether a look is not over yet.
    pub fn is_looking(&self) -> bool {
        self.tree.going.is_some()
    }

    /// The last snapshots of processes that wait for them, with a look at all others before; then they are let go.
    pub fn parked_snapshots(&mut self, session: Session, interval: Duration) -> TreeLooked {
        let mut looked = TreeLooked::default();
        let slot_of = |joined: Option<(u32, u32)>| joined.and_then(|(index, _)| session.slot(index));
        let parked: Vec<ProcessId> = self
            .tracked
            .iter()
            .filter(|process| process.replaced.is_none())
            .filter(|process| {
                slot_of(process.joined).is_some_and(|slot| slot.state.load(Ordering::Acquire) == slot_state::PARKED)
            })
            .map(|process| process.id)
            .collect();
        if parked.is_empty() {
            return looked;
        }
        if self.tree.going.is_none() {
            // One that ends is a change, whatever else there is.
            self.tree.has_grown = true;
            let living = self.living();
            let is_due = living.len() > 1 && self.tree.is_due(&living, self.sum_of(&living), interval);
            self.tree.going = is_due.then(|| Going::begin(living));
        }
        if self.tree.going.is_some() {
            self.go_on_looking(interval, Instant::now() + EXIT_WAIT_MAX, &parked, &mut looked);
            // What these share with those that it has not come to is about to change.
            self.tree.going = None;
        }
        for id in parked {
            let was_seen = looked.snapshots.iter().any(|(snapshot, _)| snapshot.process == id);
            if !was_seen && let Some((snapshot, _)) = self.look_at(id, SnapshotReason::Exit, false) {
                looked.snapshots.push(snapshot);
            }
            let joined = self.tracked.iter().find(|process| process.id == id).and_then(|process| process.joined);
            if let Some(slot) = slot_of(joined) {
                slot.state.store(slot_state::RELEASED, Ordering::Release);
                sys::futex_wake_all(&slot.state);
            }
        }
        looked
    }

    fn look_at(
        &mut self,
        id: ProcessId,
        reason: SnapshotReason,
        with_frames: bool,
    ) -> Option<(SnapshotAndModules, Option<PageEntries>)> {
        let process = self.tracked.iter_mut().find(|process| process.id == id)?;
        let (snapshot, entries) = process.snapshot(reason, with_frames)?;
        let modules = process.new_modules(&mut self.modules, &snapshot.mappings);
        self.snapshots += 1;
        Some(((snapshot, modules), entries))
    }

    /// Those that run and whose memory may be seen, in order.
    fn living(&self) -> Vec<ProcessId> {
        let living = self.tracked.iter().filter(|it| it.replaced.is_none() && !it.hidden && !it.has_ended());
        let mut living: Vec<ProcessId> = living.map(|process| process.id).collect();
        living.sort_unstable();
        living
    }

    /// The RSS of these, as last seen of each.
    fn sum_of(&self, processes: &[ProcessId]) -> u64 {
        let of_these = self.tracked.iter().filter(|process| processes.contains(&process.id));
        of_these.map(Tracked::last_rss).fold(0, u64::saturating_add)
    }

    /// Looks at those that wait until `deadline`. `parked` are those that wait for their last snapshot.
    fn go_on_looking(&mut self, interval: Duration, deadline: Instant, parked: &[ProcessId], looked: &mut TreeLooked) {
        let busy_before = busy_time();
        let Some(mut going) = self.tree.going.take() else { return };
        while let Some(id) = going.waiting.pop() {
            let process = self.tracked.iter_mut().find(|process| process.id == id && process.replaced.is_none());
            let Some(process) = process else { continue };
            let reason = match parked.contains(&id) {
                true => SnapshotReason::Exit,
                false => process.due(interval).unwrap_or(SnapshotReason::Interval),
            };
            let started = Instant::now();
            if let Some((snapshot, entries)) = self.look_at(id, reason, true) {
                going.longest = going.longest.max(started.elapsed());
                looked.snapshots.push(snapshot);
                going.members.push(id);
                going.sees_all &= entries.is_some();
                entries.iter().for_each(|entries| going.frames.add(entries));
            }
            if !going.waiting.is_empty() && Instant::now() >= deadline {
                going.busy += busy_time().saturating_sub(busy_before);
                self.tree.going = Some(going);
                return;
            }
        }
        going.busy += busy_time().saturating_sub(busy_before);
        // On a busy machine a look lasts, of which each process stood still for a part.
        self.tree.over(going.busy.max(going.longest), &going.members, self.sum_of(&going.members));
        looked.records.extend(going.into_record());
    }
}

/// How long this thread has been running.
fn busy_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

impl Going {
    fn begin(mut living: Vec<ProcessId>) -> Going {
        living.reverse();
        Going {
            start: now(),
            waiting: living,
            members: Vec::new(),
            frames: FrameCount::default(),
            sees_all: true,
            busy: Duration::ZERO,
            longest: Duration::ZERO,
        }
    }

    /// `None` where fewer than two were still there.
    fn into_record(self) -> Option<Record> {
        let page_bytes = rustix::param::page_size() as u64;
        let frames = self.frames.frames().filter(|_| self.sees_all);
        let of_several = frames.map(|(_, of_several)| of_several * page_bytes);
        (self.members.len() > 1).then(|| {
            Record::TreeLook(TreeLook {
                start: self.start,
                end: now(),
                anonymous_once: self.sees_all.then(|| self.frames.anonymous_once() * page_bytes),
                frames: frames.map(|(distinct, _)| distinct * page_bytes),
                frames_of_several: of_several,
                members: self.members,
            })
        })
    }
}
