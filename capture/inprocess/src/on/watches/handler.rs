//! The thread that those wait for who come for a watched page. It waits for no lock, since any holder may be one of them.

use core::ffi::c_void;
use core::sync::atomic::Ordering;

use pagetrace_format::access::{AccessSource, Modification, WatchedAccess};
use pagetrace_format::{Address, StackId, TraceNanos};

use super::super::writes::FaultRings;
use super::super::{access_chunks, tasks, tracer_threads};
use super::watched_range::{EARLY_PARTS, WatchedRange};
use super::{COMMAND, SLOTS, Slot, command, slot};
use crate::page_writes::{MonotonicNanos, Thread};
use crate::sys::page_faults::Fault;
use crate::sys::userfaultfd::{Event, Message, Userfaultfd};
use crate::sys::{self, PAGE_BYTES};
use crate::watch::{Access, AccessKind, Decision};

use super::super::watched_ranges::WATCHES_MAX;
use super::access_queue;

/// The thread looks for commands at least so often.
const NAP_NS_MAX: u64 = 5_000_000;
const MESSAGES: usize = 16;
/// Faults that are kept until their message comes.
const FAULTS: usize = 64;
/// Pages that wait to be armed early.
const EARLY: usize = 64;
/// Moves of memory that wait for the kernel to be done with them: as many as threads that move watched memory at once.
const MOVES: usize = 64;
/// Between two tries of what the kernel refuses while it changes mappings.
const RETRY_NS: u64 = 20_000;

/// What the thread works with. It is in static memory and the thread's own from its start to its end.
pub struct Handler {
    pub userfaultfd: Option<Userfaultfd>,
    pub rings: FaultRings,
    ranges: [WatchedRange; WATCHES_MAX],
    next_arming: [u64; WATCHES_MAX],
    faults: [Fault; FAULTS],
    faults_seen: usize,
    /// Addresses, each with its time; 0 for a free place.
    early: [(usize, u64); EARLY],
    /// Memory that the program has moved and whose pages have to follow: from, to, bytes.
    moves: [Option<(usize, usize, usize)>; MOVES],
    paused: bool,
}

impl Handler {
    pub const fn new() -> Handler {
        Handler {
            userfaultfd: None,
            rings: FaultRings::new(),
            ranges: [const { WatchedRange::new() }; WATCHES_MAX],
            next_arming: [0; WATCHES_MAX],
            faults: [Fault { instruction: 0, tid: 0, time: 0, address: 0 }; FAULTS],
            faults_seen: 0,
            early: [(0, 0); EARLY],
            moves: [None; MOVES],
            paused: false,
        }
    }

    /// In a forked child, which finds all pages in their places: what it has of its parent's is closed.
    pub fn close_in_child(&mut self) {
        self.userfaultfd = None;
        self.rings.close_in_child();
        self.ranges = [const { WatchedRange::new() }; WATCHES_MAX];
        self.paused = false;
    }

    fn run(&mut self) {
        let Some(userfaultfd) = self.userfaultfd.take() else { return };
        let mut polled = [libc::pollfd { fd: userfaultfd.descriptor(), events: libc::POLLIN, revents: 0 }];
        loop {
            let goes_on = self.obey(&userfaultfd);
            if !goes_on {
                break;
            }
            let now = sys::monotonic_ns();
            let next = self.arm_what_is_due(&userfaultfd, now);
            sys::wait_for_any(&mut polled, next.saturating_sub(now).clamp(1, NAP_NS_MAX));
            self.answer(&userfaultfd);
        }
        self.rings.close();
    }

    /// Does what other threads have asked for. False when there is nothing left to do at all.
    fn obey(&mut self, userfaultfd: &Userfaultfd) -> bool {
        match COMMAND.load(Ordering::Acquire) {
            command::PAUSE => {
                (0..WATCHES_MAX).for_each(|index| self.restore(userfaultfd, index));
                self.paused = true;
                COMMAND.store(command::PAUSED, Ordering::Release);
            }
            command::PAUSED => {}
            command::END => {
                for (index, slot) in SLOTS.iter().enumerate() {
                    if slot.state.load(Ordering::Acquire) == slot::ACTIVE {
                        self.end(userfaultfd, index, slot);
                    }
                }
                return false;
            }
            _ => self.paused = false,
        }
        for (index, slot) in SLOTS.iter().enumerate() {
            match slot.state.load(Ordering::Acquire) {
                slot::WANTED => self.begin(userfaultfd, index, slot),
                slot::ENDING => self.end(userfaultfd, index, slot),
                _ => {}
            }
        }
        true
    }

    fn begin(&mut self, userfaultfd: &Userfaultfd, index: usize, slot: &Slot) {
        let (start, end) = slot.range();
        match self.ranges[index].begin(userfaultfd, start, end) {
            Ok(()) => {
                self.next_arming[index] = 0;
                // Armed before whoever waits for this goes on.
                self.arm_what_is_due(userfaultfd, sys::monotonic_ns());
                slot.state.store(slot::ACTIVE, Ordering::Release);
            }
            Err(errno) => {
                slot.error.store(errno, Ordering::Relaxed);
                slot.state.store(slot::FAILED, Ordering::Release);
            }
        }
    }

    fn end(&mut self, userfaultfd: &Userfaultfd, index: usize, slot: &Slot) {
        self.restore(userfaultfd, index);
        self.ranges[index].end(userfaultfd);
        slot.state.store(slot::ENDED, Ordering::Release);
    }

    /// Moves all pages of a range back.
    fn restore(&mut self, userfaultfd: &Userfaultfd, index: usize) {
        while !self.ranges[index].restore(userfaultfd) {
            self.answer(userfaultfd);
            sys::sleep_ns(RETRY_NS);
        }
    }

    /// Arms what is due; when the next is.
    fn arm_what_is_due(&mut self, userfaultfd: &Userfaultfd, now: u64) -> u64 {
        let mut next = now + NAP_NS_MAX;
        if self.paused {
            return next;
        }
        for (index, slot) in SLOTS.iter().enumerate() {
            if !matches!(slot.state.load(Ordering::Acquire), slot::ACTIVE | slot::WANTED) {
                continue;
            }
            if now >= self.next_arming[index] {
                self.ranges[index].arm(userfaultfd);
                slot.periods.fetch_add(1, Ordering::Relaxed);
                self.next_arming[index] = now + slot.period_ns.load(Ordering::Relaxed);
            }
            next = next.min(self.next_arming[index]);
        }
        for place in 0..EARLY {
            let (address, time) = self.early[place];
            if address == 0 {
                continue;
            }
            if now < time {
                next = next.min(time);
                continue;
            }
            self.early[place] = (0, 0);
            if let Some(range) = self.ranges.iter_mut().find(|range| range.holds(address)) {
                range.arm_early(userfaultfd, address);
            }
        }
        next
    }

    fn answer(&mut self, userfaultfd: &Userfaultfd) {
        let mut messages = [Message::default(); MESSAGES];
        loop {
            let count = userfaultfd.read(&mut messages);
            for message in &messages[..count] {
                match message.event() {
                    Event::Fault { address, write, tid, .. } => self.fault(userfaultfd, address, write, tid),
                    Event::Removed { start, end } => self.removed(userfaultfd, start, end),
                    Event::Remapped { from, to, bytes } => {
                        if let Some(place) = self.moves.iter_mut().find(|place| place.is_none()) {
                            *place = Some((from, to, bytes));
                        }
                    }
                    Event::Other => {}
                }
            }
            let waits = self.follow_moves(userfaultfd);
            if count < MESSAGES && !waits {
                return;
            }
            if count == 0 {
                sys::sleep_ns(RETRY_NS);
            }
        }
    }

    fn removed(&mut self, userfaultfd: &Userfaultfd, start: usize, end: usize) {
        // The old place of memory that was moved is told to be removed, too; its pages are on their way.
        let moved = self.moves.iter().flatten().any(|&(from, _, bytes)| from < end && start < from + bytes);
        if !moved {
            self.ranges.iter_mut().for_each(|range| range.removed(userfaultfd, start, end));
        }
    }

    /// Whether some have to wait.
    fn follow_moves(&mut self, userfaultfd: &Userfaultfd) -> bool {
        let mut waits = false;
        for place in 0..MOVES {
            let Some((from, to, bytes)) = self.moves[place] else { continue };
            let mut done = true;
            for range in self.ranges.iter_mut().filter(|range| range.overlaps(from, from + bytes)) {
                done &= range.remapped(userfaultfd, from, to, bytes);
            }
            if done {
                self.moves[place] = None;
            }
            waits |= !done;
        }
        waits
    }

    fn fault(&mut self, userfaultfd: &Userfaultfd, address: usize, write: bool, tid: u32) {
        let time = sys::monotonic_ns();
        let found = self.ranges.iter().position(|range| range.holds(address));
        let Some(index) = found else {
            let page = address / PAGE_BYTES * PAGE_BYTES;
            let _ = userfaultfd.wake(page, page + PAGE_BYTES);
            return;
        };
        let seen = self.ranges[index].seen(address, tid, write, time);
        if seen.is_news && !tracer_threads::is_one(tid) {
            self.tell(index, address, write, tid, time, &seen);
        }
        self.ranges[index].resolve(userfaultfd, address, write);
        if seen.early
            && let Some(place) = self.early.iter_mut().find(|place| place.0 == 0)
        {
            let period = SLOTS[index].period_ns.load(Ordering::Relaxed);
            *place = (address, sys::monotonic_ns() + period / EARLY_PARTS);
        }
    }

    /// Counts an access, puts it into the trace, and asks the callback.
    fn tell(
        &mut self,
        index: usize,
        address: usize,
        write: bool,
        tid: u32,
        time: u64,
        seen: &super::watched_range::Seen,
    ) {
        let slot = &SLOTS[index];
        let (instruction, task) = (self.instruction(address, tid), tasks::at(tid, time));
        if write { &slot.writes } else { &slot.reads }.fetch_add(1, Ordering::Relaxed);
        slot.foreign.fetch_add(seen.modified.is_some().into(), Ordering::Relaxed);
        let put = !access_chunks::are_wanted()
            || access_queue::put(&WatchedAccess {
                time: TraceNanos(time),
                tid,
                address: Address(address as u64),
                instruction: Address(instruction.unwrap_or(0)),
                stack: StackId(0),
                task,
                write,
                source: if seen.protected { AccessSource::WriteProtection } else { AccessSource::MissingPages },
                foreign: seen.modified.map(|(tid, time)| Modification { tid, time: TraceNanos(time) }),
            });
        slot.lost.fetch_add((!put).into(), Ordering::Relaxed);
        let Some(callback) = slot.callback() else { return };
        let decision = callback(&Access {
            time: MonotonicNanos(time),
            thread: Thread(tid),
            address,
            kind: if write { AccessKind::Write } else { AccessKind::Read },
            instruction: instruction.map(|instruction| instruction as usize),
            task,
            modified_by: seen.modified.map(|(tid, _)| Thread(tid)),
            modified_at: seen.modified.map(|(_, time)| MonotonicNanos(time)),
        });
        match decision {
            Decision::Proceed => {}
            Decision::Stop => sys::stop_process(),
            Decision::Abort => {
                sys::abort(b"pagetrace: aborted before an access to watched memory, as its callback decided\n")
            }
        }
    }

    /// The instruction of the fault that a message is about: its record was in the ring before.
    fn instruction(&mut self, address: usize, tid: u32) -> Option<u64> {
        let (faults, seen) = (&mut self.faults, &mut self.faults_seen);
        let ranges = &self.ranges;
        self.rings.take(&mut |fault| {
            if ranges.iter().any(|range| range.holds(fault.address as usize)) {
                faults[*seen % FAULTS] = *fault;
                *seen += 1;
            }
        });
        let is_it = |fault: &&mut Fault| fault.tid == tid && fault.address == address as u64;
        let fault = faults.iter_mut().filter(is_it).max_by_key(|fault| fault.time)?;
        let instruction = fault.instruction;
        fault.tid = 0;
        Some(instruction)
    }
}

/// The thread's routine; its argument is the handler.
pub extern "C" fn run(_: *mut c_void) -> *mut c_void {
    let _own = tracer_threads::enter();
    super::with_handler_of_this_thread(Handler::run);
    core::ptr::null_mut()
}
