//! The process's place in the session: attaching, forking, becoming idle, the last snapshot.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use pagetrace_format::session::{
    PROCESS_TABLE_OFFSET, ProcessSlot, SESSION_MAGIC, SESSION_VARIABLE, Session, SessionHeader, SessionLayout, clock,
    slot_state,
};

use crate::stack_table;
use crate::sys;
use crate::thread_state;

/// What a hook needs, on a page of its own that a forked child finds zeroed: so a child knows that it is one whichever
/// way it was forked.
pub static PROCESS: Process = Process::new();

/// What a forked child inherits.
static INHERITED: Inherited = Inherited::new();

/// How long an exiting process waits for its last snapshot while the recorder's heart beats, and without.
const LAST_SNAPSHOT_MS: u64 = 20_000;
const RECORDER_DEAD_MS: u64 = 2_000;
/// It looks at the heart so often.
const STEP_MS: u32 = 50;

mod state {
    /// Not attached: at the start, and in a child after fork.
    pub const NEW: u32 = 0;
    /// Someone is attaching.
    pub const ATTACHING: u32 = 1;
    /// No session, or it is over.
    pub const IDLE: u32 = 2;
    /// Events go to the session.
    pub const RECORDING: u32 = 3;
}

/// See [`PROCESS`].
#[repr(C, align(4096))]
pub struct Process {
    state: AtomicU32,
    clock: AtomicU32,
    serial: AtomicU32,
    slot: AtomicU32,
    stacks: AtomicU32,
    stack_table: AtomicPtr<AtomicU64>,
}

struct Inherited {
    base: AtomicPtr<u8>,
    process_slots: AtomicU32,
    block_count: AtomicU32,
    block_bytes: AtomicU32,
    serial: AtomicU32,
    fork_tick: AtomicU64,
    stack_table: AtomicPtr<AtomicU64>,
    malloc: AtomicUsize,
}

impl Process {
    const fn new() -> Process {
        Process {
            state: AtomicU32::new(state::NEW),
            clock: AtomicU32::new(0),
            serial: AtomicU32::new(0),
            slot: AtomicU32::new(0),
            stacks: AtomicU32::new(0),
            stack_table: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Whether events are wanted.
    #[inline]
    pub fn is_recording(&self) -> bool {
        self.state.load(Ordering::Relaxed) == state::RECORDING
    }

    /// The present in ticks of the session's clock.
    #[inline]
    pub fn tick(&self) -> u64 {
        if self.clock.load(Ordering::Relaxed) == clock::TSC { sys::time_stamp_counter() } else { sys::monotonic_ns() }
    }

    /// This process's serial.
    pub fn serial(&self) -> u32 {
        self.serial.load(Ordering::Relaxed)
    }

    /// The session, once attached.
    pub fn session(&self) -> Option<Session> {
        INHERITED.session()
    }

    /// This process's slot, once attached.
    pub fn slot(&self) -> Option<&'static ProcessSlot> {
        self.session()?.slot(self.slot.load(Ordering::Relaxed).checked_sub(1)?)
    }

    /// The table of stacks.
    #[inline]
    pub fn stack_table(&self) -> Option<&'static [AtomicU64; stack_table::SLOTS]> {
        let table = self.stack_table.load(Ordering::Acquire).cast::<[AtomicU64; stack_table::SLOTS]>();
        // SAFETY: null, or a mapping of this size that is never unmapped.
        unsafe { table.as_ref() }
    }

    /// How many numbers for stacks were given.
    pub fn stacks_given(&self) -> u32 {
        self.stacks.load(Ordering::Relaxed)
    }

    /// The number for a new stack, from 1.
    pub fn next_stack(&self) -> u32 {
        self.stacks.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Stops recording for good.
    pub fn become_idle(&self) {
        self.state.store(state::IDLE, Ordering::Relaxed);
    }

    /// Makes a forked child see that it is one where the kernel has not wiped the page.
    fn forget(&self) {
        self.stack_table.store(ptr::null_mut(), Ordering::Relaxed);
        self.slot.store(0, Ordering::Relaxed);
        self.serial.store(0, Ordering::Relaxed);
        self.state.store(state::NEW, Ordering::Relaxed);
    }

    /// Tells the recorder to look now.
    pub fn ring_doorbell(&self) {
        if let Some(session) = self.session() {
            let doorbell = &session.header().doorbell.0;
            doorbell.fetch_add(1, Ordering::Release);
            sys::futex_wake_all(doorbell);
        }
    }
}

impl Inherited {
    const fn new() -> Inherited {
        Inherited {
            base: AtomicPtr::new(ptr::null_mut()),
            process_slots: AtomicU32::new(0),
            block_count: AtomicU32::new(0),
            block_bytes: AtomicU32::new(0),
            serial: AtomicU32::new(0),
            fork_tick: AtomicU64::new(0),
            stack_table: AtomicPtr::new(ptr::null_mut()),
            malloc: AtomicUsize::new(0),
        }
    }

    #[inline]
    fn session(&self) -> Option<Session> {
        let base = self.base.load(Ordering::Acquire);
        if base.is_null() {
            return None;
        }
        let layout = SessionLayout {
            process_slots: self.process_slots.load(Ordering::Relaxed),
            block_count: self.block_count.load(Ordering::Relaxed),
            block_bytes: self.block_bytes.load(Ordering::Relaxed),
        };
        // SAFETY: `open_session` mapped it, checked that the layout fits, and never unmaps it; fork keeps it mapped.
        Some(unsafe { Session::new(base, layout) })
    }
}

/// Remembers where the real malloc is, and attaches if that has not been done.
pub fn attach(malloc: usize) {
    INHERITED.malloc.store(malloc, Ordering::Relaxed);
    become_recording();
}

/// What a hook does when it finds the process not recording: attaches, once for a process. Whether it records now.
#[cold]
#[inline(never)]
pub fn become_recording() -> bool {
    if PROCESS.state.load(Ordering::Relaxed) != state::NEW || !sys::environment_is_ready() {
        return false;
    }
    let claimed =
        PROCESS.state.compare_exchange(state::NEW, state::ATTACHING, Ordering::Acquire, Ordering::Relaxed).is_ok();
    if !claimed {
        // Another thread is at it: the events until it is done are before the start of the recording.
        return false;
    }
    let joined = sys::keeping_errno(|| match INHERITED.session() {
        Some(session) => join(session, INHERITED.serial.load(Ordering::Relaxed)),
        None => open_session().and_then(|session| join(session, 0)),
    });
    PROCESS.state.store(if joined.is_some() { state::RECORDING } else { state::IDLE }, Ordering::Release);
    if joined.is_some() {
        sys::keeping_errno(|| PROCESS.ring_doorbell());
    }
    joined.is_some()
}

/// Notes the moment of a fork, in the parent.
pub fn fork_begins() {
    if PROCESS.is_recording() {
        INHERITED.fork_tick.store(PROCESS.tick(), Ordering::Relaxed);
    }
}

/// Forgets the moment of a fork, in the parent.
pub fn fork_in_parent() {
    INHERITED.fork_tick.store(0, Ordering::Relaxed);
}

/// Makes the child of a fork a process of its own.
pub fn fork_in_child() {
    // Without a session there is nothing to join, and without the wiped page (kernels before 4.14) the parent's slot
    // and blocks would be taken for our own.
    if INHERITED.session().is_some() {
        PROCESS.forget();
        become_recording();
    }
}

/// See [`crate::hold_for_last_snapshot`].
pub fn hold_for_last_snapshot() {
    let Some(slot) = PROCESS.slot() else { return };
    // In the child of a vfork this memory, and the slot, are still the parent's.
    if !PROCESS.is_recording() || slot.pid.load(Ordering::Relaxed) != sys::getpid() {
        return;
    }
    let Some(session) = PROCESS.session() else { return };
    sys::keeping_errno(|| hold(slot, session.header()));
}

fn hold(slot: &ProcessSlot, header: &SessionHeader) {
    let parked = (slot_state::RUNNING, slot_state::PARKED);
    if slot.state.compare_exchange(parked.0, parked.1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        return;
    }
    PROCESS.ring_doorbell();
    let (mut waited, mut still_for) = (0, 0);
    let mut heartbeat = header.heartbeat.0.load(Ordering::Relaxed);
    let mut looked = sys::monotonic_ms();
    while slot.state.load(Ordering::Acquire) == slot_state::PARKED
        && header.recording.load(Ordering::Relaxed) == 1
        && waited < LAST_SNAPSHOT_MS
        && still_for < RECORDER_DEAD_MS
    {
        sys::futex_wait(&slot.state, slot_state::PARKED, STEP_MS);
        // As in `wait_for_block`: by the clock, a long step counted once.
        let (beat, present) = (header.heartbeat.0.load(Ordering::Relaxed), sys::monotonic_ms());
        let step = (present - looked).min(2 * u64::from(STEP_MS));
        still_for = if beat == heartbeat { still_for + step } else { 0 };
        waited += step;
        (heartbeat, looked) = (beat, present);
    }
}

fn open_session() -> Option<Session> {
    let path = sys::environment(SESSION_VARIABLE)?;
    let (base, bytes) = sys::map_file(path, PROCESS_TABLE_OFFSET)?;
    // SAFETY: the mapping is page aligned and at least as long as the header, whose fields are atomics.
    let header = unsafe { &*base.cast::<SessionHeader>() };
    let layout = SessionLayout {
        process_slots: header.process_slots.load(Ordering::Relaxed),
        block_count: header.block_count.load(Ordering::Relaxed),
        block_bytes: header.block_bytes.load(Ordering::Relaxed),
    };
    let fits = header.magic.load(Ordering::Acquire) == SESSION_MAGIC
        && layout.block_bytes >= 4096
        && layout.block_bytes.is_multiple_of(4096)
        && layout.total_bytes() <= bytes
        && header.recording.load(Ordering::Relaxed) == 1;
    if !fits {
        return None;
    }
    INHERITED.process_slots.store(layout.process_slots, Ordering::Relaxed);
    INHERITED.block_count.store(layout.block_count, Ordering::Relaxed);
    INHERITED.block_bytes.store(layout.block_bytes, Ordering::Relaxed);
    INHERITED.base.store(base.cast_mut(), Ordering::Release);
    sys::wipe_on_fork((&raw const PROCESS).cast(), size_of::<Process>());
    INHERITED.session()
}

/// Takes a slot and says who we are. `forked_from` is the serial of the process that this one is a copy of.
fn join(session: Session, forked_from: u32) -> Option<()> {
    let header = session.header();
    if header.recording.load(Ordering::Relaxed) != 1 {
        return None;
    }
    thread_state::current().reset_after_fork();
    PROCESS.clock.store(header.clock.load(Ordering::Relaxed), Ordering::Relaxed);
    PROCESS.stacks.store(0, Ordering::Relaxed);
    let old = INHERITED.stack_table.load(Ordering::Relaxed);
    // SAFETY: null, or the parent's table, to which nobody in this new process refers.
    let table = unsafe { sys::map_zeroed(old.cast_const().cast(), stack_table::BYTES) }?;
    INHERITED.stack_table.store(table.cast_mut().cast(), Ordering::Relaxed);
    PROCESS.stack_table.store(table.cast_mut().cast(), Ordering::Release);

    let claimed = (0..session.layout().process_slots).find_map(|index| {
        let slot = session.slot(index)?;
        let change =
            slot.state.compare_exchange(slot_state::EMPTY, slot_state::CLAIMED, Ordering::Acquire, Ordering::Relaxed);
        change.is_ok().then_some((index, slot))
    });
    let Some((index, slot)) = claimed else {
        header.processes_refused.0.fetch_add(1, Ordering::Relaxed);
        return None;
    };
    let serial = header.process_serial.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    let fork_tick = INHERITED.fork_tick.swap(0, Ordering::Relaxed);
    let start = if forked_from != 0 && fork_tick != 0 { fork_tick } else { PROCESS.tick() };
    slot.pid.store(sys::getpid(), Ordering::Relaxed);
    slot.serial.store(serial, Ordering::Relaxed);
    slot.forked_from.store(forked_from, Ordering::Relaxed);
    slot.start_tick.store(start, Ordering::Relaxed);
    slot.malloc.store(INHERITED.malloc.load(Ordering::Relaxed) as u64, Ordering::Relaxed);
    for counter in [&slot.lost_full, &slot.lost_reentered, &slot.stacks_lost] {
        counter.store(0, Ordering::Relaxed);
    }
    let base = session.base() as u64;
    let ranges = [
        (base, base + session.layout().total_bytes() as u64),
        (table as u64, table as u64 + stack_table::BYTES as u64),
    ];
    for (range, (start, end)) in slot.tracer_ranges.iter().zip(ranges) {
        range[0].store(start, Ordering::Relaxed);
        range[1].store(end, Ordering::Relaxed);
    }
    INHERITED.serial.store(serial, Ordering::Relaxed);
    PROCESS.serial.store(serial, Ordering::Relaxed);
    PROCESS.slot.store(index + 1, Ordering::Relaxed);
    // From here on the recorder may stop this process to look at it. If it is killed then, nobody else would let us go.
    sys::continue_when_parent_dies(header.recorder_pid.load(Ordering::Relaxed));
    slot.state.store(slot_state::RUNNING, Ordering::Release);
    Some(())
}
