//! The thread that those wait for who come for a watched page that was moved away. It waits for no lock, since any holder may be
//! one of them.

use core::ffi::c_void;

use pagetrace_format::access::AccessSource;

use super::super::tracer_threads;
use super::super::writes::FaultRings;
use super::arming::{Arming, NAP_NS_MAX};
use super::mechanism::Mechanism;
use super::orders::{Worker, obey};
use super::telling::{self, Coming};
use crate::sys::page_faults::Fault;
use crate::sys::userfaultfd::{Event, Message, Userfaultfd};
use crate::sys::{self, PAGE_BYTES, Processors};

const MESSAGES: usize = 16;
/// Faults that are kept until their message comes.
const FAULTS: usize = 64;
/// Moves of memory that wait for the kernel to be done with them: as many as threads that move watched memory at once.
const MOVES: usize = 64;
/// Of more processors one is idle.
const PROCESSORS_FEW: usize = 16;
/// Between two tries of what the kernel refuses while it changes mappings.
const RETRY_NS: u64 = 20_000;
/// Putting pages back is tried for so long: a program must not hang for its tracer.
const RESTORE_NS_MAX: u64 = 10_000_000_000;

/// What the thread works with. It is in static memory and the thread's own from its start to its end.
pub struct Handler {
    pub userfaultfd: Option<Userfaultfd>,
    pub rings: FaultRings,
    arming: Arming,
    faults: [Fault; FAULTS],
    faults_seen: usize,
    /// Memory that the program has moved and whose pages have to follow: from, to, bytes.
    moves: [Option<(usize, usize, usize)>; MOVES],
}

/// The thread at its work.
struct AtWork<'a> {
    handler: &'a mut Handler,
    by: &'a Mechanism,
    userfaultfd: &'a Userfaultfd,
}

impl Handler {
    pub const fn new() -> Handler {
        Handler {
            userfaultfd: None,
            rings: FaultRings::new(),
            arming: Arming::new(),
            faults: [Fault { instruction: 0, tid: 0, time: 0, address: 0 }; FAULTS],
            faults_seen: 0,
            moves: [None; MOVES],
        }
    }

    /// In a forked child, which finds all pages in their places: what it has of its parent's is closed.
    pub fn close_in_child(&mut self) {
        self.userfaultfd = None;
        self.rings.close_in_child();
        self.arming = Arming::new();
        self.moves = [None; MOVES];
    }

    fn run(&mut self) {
        let Some(userfaultfd) = self.userfaultfd.take() else { return };
        let by = Mechanism::Moves(userfaultfd);
        if let Mechanism::Moves(userfaultfd) = &by {
            AtWork { handler: self, by: &by, userfaultfd }.run();
        }
        self.rings.close();
    }
}

impl Worker for AtWork<'_> {
    fn arming(&mut self) -> (&mut Arming, &Mechanism) {
        (&mut self.handler.arming, self.by)
    }

    fn restore(&mut self, index: usize) {
        let until = sys::monotonic_ns() + RESTORE_NS_MAX;
        while !self.handler.arming.ranges[index].restore(self.by) && sys::monotonic_ns() < until {
            self.answer();
            sys::sleep_ns(RETRY_NS);
        }
    }
}

impl AtWork<'_> {
    fn run(&mut self) {
        let mut polled = [libc::pollfd { fd: self.userfaultfd.descriptor(), events: libc::POLLIN, revents: 0 }];
        let (mut turns, mut next) = (Turns::new(), 0);
        while obey(self) {
            let now = sys::monotonic_ns();
            let is_due = now >= next;
            if is_due {
                turns.take_next();
            }
            next = self.handler.arming.arm_what_is_due(self.by, now);
            if is_due {
                turns.give_back();
            }
            sys::wait_for_any(&mut polled, next.saturating_sub(now).clamp(1, NAP_NS_MAX));
            self.answer();
        }
        // Whoever is about to give memory back now is known to the next watch.
        let until = sys::monotonic_ns() + RESTORE_NS_MAX;
        let nowhere = (0, PAGE_BYTES);
        while self.userfaultfd.zero_pages(nowhere.0, nowhere.1) == Err(libc::EAGAIN) && sys::monotonic_ns() < until {
            self.answer();
            sys::sleep_ns(RETRY_NS);
        }
        self.answer();
    }

    /// Takes all messages, and does what they are about.
    fn answer(&mut self) {
        let mut messages = [Message::default(); MESSAGES];
        loop {
            let count = self.userfaultfd.read(&mut messages);
            for message in &messages[..count] {
                match message.event() {
                    Event::Fault { address, write, tid, .. } => self.fault(address, write, tid),
                    Event::Removed { start, end } => self.removed(start, end),
                    Event::Remapped { from, to, bytes } => {
                        if let Some(place) = self.handler.moves.iter_mut().find(|place| place.is_none()) {
                            *place = Some((from, to, bytes));
                        }
                    }
                    Event::Other => {}
                }
            }
            let waits = self.follow_moves();
            if count < MESSAGES && !waits {
                return;
            }
            if count == 0 {
                sys::sleep_ns(RETRY_NS);
            }
        }
    }

    fn fault(&mut self, address: usize, write: bool, tid: u32) {
        let Some(index) = self.handler.arming.find(address) else {
            let page = address / PAGE_BYTES * PAGE_BYTES;
            let _ = self.userfaultfd.wake(page, page + PAGE_BYTES);
            return;
        };
        let time = sys::monotonic_ns();
        let seen = self.handler.arming.ranges[index].seen(address, tid, write, time);
        if seen.is_news && !tracer_threads::is_one(tid) {
            let coming = Coming { address, write, tid, time, instruction: self.instruction(address, tid) };
            let source = if seen.protected { AccessSource::WriteProtection } else { AccessSource::MissingPages };
            telling::note(index, &coming, &seen, source);
            telling::ask(index, &coming, &seen);
        }
        self.handler.arming.resolve(self.by, index, address, write, &seen);
    }

    /// The instruction of the fault that a message is about: its record was in the ring before.
    fn instruction(&mut self, address: usize, tid: u32) -> Option<u64> {
        let Handler { rings, arming, faults, faults_seen, .. } = &mut *self.handler;
        rings.take(&mut |fault| {
            if arming.find(fault.address as usize).is_some() {
                faults[*faults_seen % FAULTS] = *fault;
                *faults_seen += 1;
            }
        });
        let is_it = |fault: &&mut Fault| fault.tid == tid && fault.address == address as u64;
        let fault = faults.iter_mut().filter(is_it).max_by_key(|fault| fault.time)?;
        fault.tid = 0;
        Some(fault.instruction)
    }

    fn removed(&mut self, start: usize, end: usize) {
        self.handler.arming.note_given_back(start, end);
        // The old place of memory that was moved is told to be removed, too; its pages are on their way.
        let moved = self.handler.moves.iter().flatten().any(|&(from, _, bytes)| from < end && start < from + bytes);
        if !moved {
            let ranges = &mut self.handler.arming.ranges;
            ranges.iter_mut().for_each(|range| range.removed(self.userfaultfd, start, end));
        }
    }

    /// Whether some have to wait.
    fn follow_moves(&mut self) -> bool {
        let Handler { moves, arming, .. } = &mut *self.handler;
        let mut waits = false;
        for place in moves {
            let Some((from, to, bytes)) = *place else { continue };
            let mut done = true;
            for range in arming.ranges.iter_mut().filter(|range| range.overlaps(from, from + bytes)) {
                done &= range.remapped(self.userfaultfd, from, to, bytes);
            }
            if done {
                *place = None;
            }
            waits |= !done;
        }
        waits
    }
}

/// On which processor pages are armed: on each one in turn. Whoever is pushed off its processor by that is the first to come for a page
/// afterwards. On a machine without an idle processor it would always be the same thread, and what the others do in between would
/// never be seen.
struct Turns {
    processors: Option<Processors>,
    turn: usize,
}

impl Turns {
    fn new() -> Turns {
        let few = 2..=PROCESSORS_FEW;
        Turns { processors: Processors::of_this_thread().filter(|all| few.contains(&all.count())), turn: 0 }
    }

    fn take_next(&mut self) {
        // A sandbox need not allow the call.
        if let Some(processors) = self.processors.as_ref().filter(|_| !sys::sandbox::is_entered()) {
            self.turn = self.turn.wrapping_add(1);
            processors.run_on_one(self.turn);
        }
    }

    fn give_back(&self) {
        if let Some(processors) = self.processors.as_ref().filter(|_| !sys::sandbox::is_entered()) {
            processors.run_on_any();
        }
    }
}

/// The thread's routine.
pub extern "C" fn run(_: *mut c_void) -> *mut c_void {
    let _own = tracer_threads::enter();
    super::with_handler_of_this_thread(Handler::run);
    core::ptr::null_mut()
}
