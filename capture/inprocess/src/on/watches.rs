//! Watches: what other threads ask of the thread that handles accesses, by words that both look at.

mod access_queue;
mod arming;
mod handler;
mod mechanism;
mod orders;
mod signals;
mod telling;
mod watched_range;

use core::cell::UnsafeCell;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;

use pagetrace_format::snapshot::Permissions;

use super::locked::Locked;
use super::maps::Maps;
use super::watched_ranges::{self, WATCHES_MAX};
use super::{access_chunks, control, writes};
use crate::access_error::AccessError;
use crate::sys::userfaultfd::{Userfaultfd, feature};
use crate::sys::{self, PAGE_BYTES};
use crate::watch::{Access, Decision, WatchStatistics};

use handler::Handler;

pub use access_queue::write as write_accesses;

/// What all watches are to do.
static COMMAND: AtomicU32 = AtomicU32::new(command::RUN);

/// What [`COMMAND`] says.
mod command {
    pub const RUN: u32 = 0;
    /// All pages are to be moved back; then it is [`PAUSED`].
    pub const PAUSE: u32 = 1;
    pub const PAUSED: u32 = 2;
    /// All watches end, and the thread.
    pub const END: u32 = 3;
}

static SLOTS: [Slot; WATCHES_MAX] = [const { Slot::new() }; WATCHES_MAX];

/// One watch.
struct Slot {
    state: AtomicU32,
    /// Counts its watches: a handle of an earlier one does nothing.
    generation: AtomicU32,
    start: AtomicUsize,
    end: AtomicUsize,
    period_ns: AtomicU64,
    callback: AtomicUsize,
    error: AtomicI32,
    reads: AtomicU64,
    writes: AtomicU64,
    foreign: AtomicU64,
    lost: AtomicU64,
    periods: AtomicU64,
}

/// What [`Slot::state`] says. The handler answers WANTED by ACTIVE or FAILED, and ENDING by ENDED.
mod slot {
    pub const FREE: u32 = 0;
    pub const CLAIMED: u32 = 1;
    pub const WANTED: u32 = 2;
    pub const ACTIVE: u32 = 3;
    pub const FAILED: u32 = 4;
    pub const ENDING: u32 = 5;
    pub const ENDED: u32 = 6;
}

/// The handler's thread. One thread starts and ends watches at a time; the handler never waits for it.
static SWITCH: Locked<Switch> = Locked::new(Switch { thread: None, stack: 0, kernel_faults: false, signals: false });

struct Switch {
    thread: Option<libc::pthread_t>,
    stack: usize,
    /// Whether faults of system calls are handled, too.
    kernel_faults: bool,
    /// Whether it goes by signals.
    signals: bool,
}

struct HandlerCell(UnsafeCell<Handler>);

// SAFETY: used by the thread that starts the handler's thread before it does, by that thread, and after it was joined or in
// a forked child, which does not have it, by others again.
unsafe impl Sync for HandlerCell {}

static HANDLER: HandlerCell = HandlerCell(UnsafeCell::new(Handler::new()));

const STACK_BYTES: usize = 256 << 10;

impl Slot {
    const fn new() -> Slot {
        Slot {
            state: AtomicU32::new(slot::FREE),
            generation: AtomicU32::new(0),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            period_ns: AtomicU64::new(0),
            callback: AtomicUsize::new(0),
            error: AtomicI32::new(0),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            foreign: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            periods: AtomicU64::new(0),
        }
    }

    fn range(&self) -> (usize, usize) {
        (self.start.load(Ordering::Relaxed), self.end.load(Ordering::Relaxed))
    }

    fn callback(&self) -> Option<fn(&Access) -> Decision> {
        let callback = self.callback.load(Ordering::Relaxed);
        // SAFETY: 0, or stored by `claim` from such a function.
        (callback != 0).then(|| unsafe { core::mem::transmute::<usize, fn(&Access) -> Decision>(callback) })
    }

    fn set(&self, watch: &Watch, (start, end): (usize, usize)) {
        self.start.store(start, Ordering::Relaxed);
        self.end.store(end, Ordering::Relaxed);
        self.period_ns.store(u64::try_from(watch.period.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.callback.store(watch.callback.map_or(0, |callback| callback as usize), Ordering::Relaxed);
        for count in [&self.reads, &self.writes, &self.foreign, &self.lost, &self.periods] {
            count.store(0, Ordering::Relaxed);
        }
    }
}

/// A range that is watched.
#[derive(Debug)]
pub struct Watching {
    slot: usize,
    generation: u32,
}

/// See [`crate::Watch`].
#[derive(Clone, Debug)]
pub struct Watch {
    range: Range<usize>,
    period: Duration,
    callback: Option<fn(&Access) -> Decision>,
    system_calls_may_fail: bool,
    by_signals: bool,
}

impl Watch {
    pub fn new(range: Range<usize>) -> Watch {
        Watch {
            range,
            period: Duration::from_millis(10),
            callback: None,
            system_calls_may_fail: false,
            by_signals: false,
        }
    }

    pub fn rearm_every(self, period: Duration) -> Watch {
        Watch { period: period.max(Duration::from_millis(1)), ..self }
    }

    pub fn on_access(self, callback: fn(&Access) -> Decision) -> Watch {
        Watch { callback: Some(callback), ..self }
    }

    pub fn system_calls_may_fail(self) -> Watch {
        Watch { system_calls_may_fail: true, ..self }
    }

    pub fn by_signals(self) -> Watch {
        Watch { by_signals: true, system_calls_may_fail: true, ..self }
    }

    pub fn start(self) -> Result<Watching, AccessError> {
        let start = self.range.start / PAGE_BYTES * PAGE_BYTES;
        let end = self.range.end.checked_next_multiple_of(PAGE_BYTES).ok_or(AccessError::Range)?;
        if self.range.start >= self.range.end {
            return Err(AccessError::Range);
        }
        control::at_first_start();
        SWITCH.with(|switch| begin(switch, &self, (start, end))).unwrap_or(Err(AccessError::Busy))
    }
}

impl Watching {
    pub fn statistics(&self) -> WatchStatistics {
        let slot = &SLOTS[self.slot];
        if slot.generation.load(Ordering::Acquire) != self.generation {
            return WatchStatistics::default();
        }
        WatchStatistics {
            reads: slot.reads.load(Ordering::Relaxed),
            writes: slot.writes.load(Ordering::Relaxed),
            foreign: slot.foreign.load(Ordering::Relaxed),
            lost: slot.lost.load(Ordering::Relaxed),
            periods: slot.periods.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        SWITCH.with(|switch| {
            let slot = &SLOTS[self.slot];
            if slot.generation.load(Ordering::Acquire) != self.generation {
                return;
            }
            if switch.thread.is_some() && slot.state.load(Ordering::Acquire) == slot::ACTIVE {
                slot.state.store(slot::ENDING, Ordering::Release);
                wait_while(&slot.state, slot::ENDING);
            }
            free(self.slot);
            if SLOTS.iter().all(|slot| slot.state.load(Ordering::Acquire) == slot::FREE) {
                end_thread(switch);
            }
        });
    }
}

fn begin(switch: &mut Switch, watch: &Watch, range: (usize, usize)) -> Result<Watching, AccessError> {
    let free_slot = SLOTS.iter().position(|slot| slot.state.load(Ordering::Relaxed) == slot::FREE);
    let index = free_slot.ok_or(AccessError::TooManyWatches)?;
    let taken = |slot: &Slot| {
        let (start, end) = slot.range();
        slot.state.load(Ordering::Acquire) != slot::FREE && start < range.1 && range.0 < end
    };
    if !is_private_memory(range) || SLOTS.iter().any(taken) {
        return Err(AccessError::NotPrivateMemory);
    }
    if switch.thread.is_none() {
        start_thread(switch, watch)?;
    } else if switch.signals && !watch.by_signals || !switch.kernel_faults && !watch.system_calls_may_fail {
        return Err(AccessError::SystemCallsWouldFail);
    }
    let slot = &SLOTS[index];
    slot.set(watch, range);
    slot.state.store(slot::CLAIMED, Ordering::Relaxed);
    let generation = slot.generation.fetch_add(1, Ordering::AcqRel).wrapping_add(1);
    // A mapping is registered with one userfaultfd only.
    watched_ranges::set(index, range);
    writes::let_go_of(range);
    slot.state.store(slot::WANTED, Ordering::Release);
    wait_while(&slot.state, slot::WANTED);
    if slot.state.load(Ordering::Acquire) == slot::ACTIVE {
        access_chunks::append_source(SOURCE, true, MISSED);
        return Ok(Watching { slot: index, generation });
    }
    let error = match slot.error.load(Ordering::Relaxed) {
        libc::EBUSY | libc::EINVAL => AccessError::NotPrivateMemory,
        errno => unavailable(errno),
    };
    free(index);
    if SLOTS.iter().all(|slot| slot.state.load(Ordering::Acquire) == slot::FREE) {
        end_thread(switch);
    }
    Err(error)
}

fn start_thread(switch: &mut Switch, watch: &Watch) -> Result<(), AccessError> {
    sys::reserve_addresses();
    if switch.stack == 0 {
        // SAFETY: anywhere.
        let stack = unsafe { sys::map_zeroed(core::ptr::null(), STACK_BYTES) };
        switch.stack = stack.ok_or_else(|| AccessError::Memory(std::io::Error::last_os_error()))? as usize;
    }
    if !access_queue::make() {
        return Err(AccessError::Memory(std::io::Error::last_os_error()));
    }
    let opened = open_userfaultfd(watch.system_calls_may_fail);
    switch.signals = opened.is_err() && watch.by_signals;
    if switch.signals {
        if !signals::install() {
            return Err(unavailable(libc::EPERM));
        }
    } else {
        let (userfaultfd, kernel_faults) = opened?;
        switch.kernel_faults = kernel_faults;
        with_handler_of_this_thread(|handler| {
            handler.userfaultfd = Some(userfaultfd);
            // Without them accesses have no instruction.
            handler.rings.open(RING_BYTES);
        });
    }
    COMMAND.store(command::RUN, Ordering::Release);
    let run = if switch.signals { signals::run } else { handler::run };
    // SAFETY: mapped above, and the thread before was joined or is not in this process.
    match unsafe { sys::start_thread_on((switch.stack as *const u8, STACK_BYTES), run) } {
        Ok(thread) => {
            switch.thread = Some(thread);
            Ok(())
        }
        Err(error) => {
            with_handler_of_this_thread(|handler| {
                handler.userfaultfd = None;
                handler.rings.close();
            });
            Err(AccessError::ThreadNotStarted(error))
        }
    }
}

/// One that handles faults of system calls, too, or where that is accepted those of user mode alone.
fn open_userfaultfd(user_mode_is_enough: bool) -> Result<(Userfaultfd, bool), AccessError> {
    let features = feature::MOVE
        | feature::THREAD_ID
        | feature::EXACT_ADDRESS
        | feature::EVENT_REMAP
        | feature::EVENT_REMOVE
        | feature::EVENT_UNMAP;
    match Userfaultfd::open(features, true) {
        Ok(opened) => Ok((opened, true)),
        Err(libc::EPERM) => match Userfaultfd::open(features, false) {
            Ok(opened) if user_mode_is_enough => Ok((opened, false)),
            Ok(_) => Err(AccessError::SystemCallsWouldFail),
            Err(errno) => Err(unavailable(errno)),
        },
        Err(errno) => Err(unavailable(errno)),
    }
}

/// Bytes of a processor's ring of faults, from which accesses get their instructions.
const RING_BYTES: usize = 64 << 10;

fn end_thread(switch: &mut Switch) {
    if let Some(thread) = switch.thread.take() {
        COMMAND.store(command::END, Ordering::Release);
        sys::join_thread(thread);
    }
}

/// Works with what is the handler's.
fn with_handler_of_this_thread(work: impl FnOnce(&mut Handler)) {
    // SAFETY: the callers are those that the cell's documentation names, one at a time.
    work(unsafe { &mut *HANDLER.0.get() });
}

fn free(index: usize) {
    watched_ranges::set(index, (0, 0));
    SLOTS[index].state.store(slot::FREE, Ordering::Release);
}

fn wait_while(word: &AtomicU32, value: u32) {
    while word.load(Ordering::Acquire) == value {
        sys::sleep_ns(100_000);
    }
}

/// Whether all of a range is mapped, private, anonymous, and may be read and written.
fn is_private_memory((start, end): (usize, usize)) -> bool {
    let mut text = [0; 1024];
    let Some(mut maps) = Maps::open(&mut text) else { return false };
    let mut next = start as u64;
    while let Some(mapping) = maps.next() {
        if mapping.end.0 <= next || mapping.start.0 >= end as u64 {
            continue;
        }
        let permissions = mapping.permissions;
        let private = permissions.has(Permissions::READ | Permissions::WRITE) && !permissions.has(Permissions::SHARED);
        if mapping.start.0 > next || mapping.inode != 0 || !private {
            return false;
        }
        next = mapping.end.0;
    }
    next >= end as u64
}

/// Moves all pages back and leaves them until [`resume`]. Whether there is a handler.
fn pause() -> bool {
    let running = COMMAND.compare_exchange(command::RUN, command::PAUSE, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    let any = running && SLOTS.iter().any(|slot| slot.state.load(Ordering::Acquire) == slot::ACTIVE);
    if any {
        wait_while(&COMMAND, command::PAUSE);
    }
    any
}

fn resume() {
    if RESTING.load(Ordering::Relaxed) {
        return;
    }
    for paused in [command::PAUSE, command::PAUSED] {
        let _ = COMMAND.compare_exchange(paused, command::RUN, Ordering::AcqRel, Ordering::Relaxed);
    }
}

/// Whether recording is off.
static RESTING: AtomicBool = AtomicBool::new(false);

/// Recording goes off, or on again: watches rest meanwhile.
pub fn rest(rests: bool) {
    SWITCH.with(|_| {
        RESTING.store(rests, Ordering::Relaxed);
        if rests {
            pause();
        } else {
            resume();
        }
    });
}

/// Ends all watches.
pub fn end_all() {
    if SLOTS.iter().all(|slot| slot.state.load(Ordering::Acquire) == slot::FREE) {
        return;
    }
    RESTING.store(false, Ordering::Relaxed);
    SWITCH.with(|switch| {
        end_thread(switch);
        for (index, slot) in SLOTS.iter().enumerate() {
            slot.generation.fetch_add(1, Ordering::AcqRel);
            free(index);
        }
    });
}

/// Before a fork: the child finds its memory in its place.
pub fn fork_begins() {
    if SLOTS.iter().any(|slot| slot.state.load(Ordering::Acquire) != slot::FREE) {
        pause();
    }
}

/// After it, in the parent.
pub fn fork_in_parent() {
    resume();
}

/// In the child, which has no watches.
pub fn fork_in_child() {
    SWITCH.let_go();
    if SLOTS.iter().all(|slot| slot.state.load(Ordering::Acquire) == slot::FREE) {
        return;
    }
    COMMAND.store(command::RUN, Ordering::Relaxed);
    SWITCH.with(|switch| switch.thread = None);
    with_handler_of_this_thread(Handler::close_in_child);
    signals::close_in_child();
    access_queue::forget_in_child();
    for (index, slot) in SLOTS.iter().enumerate() {
        slot.generation.fetch_add(1, Ordering::AcqRel);
        free(index);
    }
}

fn unavailable(errno: i32) -> AccessError {
    let what = "userfaultfd that moves pages (UFFD_FEATURE_MOVE)";
    AccessError::Unavailable { what, source: std::io::Error::from_raw_os_error(errno) }
}

const SOURCE: &str = "watched_accesses";
const MISSED: &str =
    "accesses to a page between two armings but for the first of a thread, instructions of system calls";
