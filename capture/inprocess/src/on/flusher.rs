//! The thread that writes what hooks have published, at an interval and when buffers are full. It belongs to the
//! process that started the recording and serves the children that this has forked, as long as it lives; after that each
//! of them writes when its buffers are full, now and then between, and at its end.

use core::ffi::c_void;
use core::sync::atomic::{AtomicU64, Ordering};

use pagetrace_format::session::{Session, SessionHeader, block_state, when_full};

use super::flush_lock::{self, FlushLock};
use super::process::{INHERITED, PROCESS, lifecycle};
use super::{announcements, catch_up, drain, own_session, scratch, self_snapshot, tracer_threads, watches};
use crate::error::Error;
use crate::sys;

/// Bytes of the thread's stack. It calls nothing deep.
const STACK_BYTES: usize = 128 << 10;

/// Ends of the interval, in nanoseconds.
pub static INTERVAL_NS: AtomicU64 = AtomicU64::new(1_000_000_000);

/// Starts the thread.
///
/// # Errors
/// [`Error::Thread`].
pub fn start() -> Result<(), Error> {
    let run_number = PROCESS.flusher_run.fetch_add(1, Ordering::AcqRel).wrapping_add(1);
    PROCESS.flusher.store(1, Ordering::Release);
    if let Some(session) = PROCESS.session() {
        session.header().recorder_pid.store(0, Ordering::Relaxed);
        session.header().flusher_pid.store(sys::getpid(), Ordering::Release);
    }
    sys::start_thread(STACK_BYTES, run, run_number as usize).map_err(|error| {
        forget();
        Error::Thread(error)
    })
}

/// Has the thread end. It may still be on its way out when this returns, but touches nothing of the recording.
pub fn stop() {
    PROCESS.flusher_run.fetch_add(1, Ordering::AcqRel);
    forget();
    PROCESS.ring_doorbell();
}

/// Whether there is a thread, in whatever process, that will write soon.
pub fn somebody_flushes(header: &SessionHeader) -> bool {
    let pid = header.flusher_pid.load(Ordering::Acquire);
    let own = pid == sys::getpid() && PROCESS.flusher.load(Ordering::Acquire) != 0;
    let tid = header.recorder_pid.load(Ordering::Relaxed);
    own || pid != 0 && pid != sys::getpid() && sys::process_runs(pid) && (tid == 0 || sys::thread_runs(pid, tid))
}

/// Writes what there is, in the calling thread. Returns how many blocks became free.
pub fn flush_inline(session: Session) -> u32 {
    sys::with_signals_blocked(|| {
        // SAFETY of what follows is the lock's: see `pass`.
        let Some(lock) = FlushLock::take(session.header()) else { return 0 };
        if is_over(session) {
            return 0;
        }
        pass(session, &lock)
    })
}

/// One round: everything that is published goes to the file. Returns how many blocks became free.
pub fn pass(session: Session, _lock: &FlushLock) -> u32 {
    // SAFETY: the lock is held, and nobody else below uses the scratch memory but by this reference.
    let Some(mut scratch) = (unsafe { scratch::get() }) else { return 0 };
    let scratch = &mut scratch;
    announcements::all(session, scratch);
    catch_up::announce(session, scratch);
    let drained = drain::drain(session, scratch, drain::of_whom(session));
    watches::write_accesses(scratch.chunk);
    announcements::modules(false, scratch);
    if INHERITED.lifecycle.load(Ordering::Relaxed) == lifecycle::RECORDING {
        self_snapshot::take_if_due(scratch);
    }
    let header = session.header();
    if drained.freed == 0
        && header.waiting.0.load(Ordering::Relaxed) > 0
        && all_held(session)
        && !own_session::grow(session)
    {
        // Every block there can be is held by a thread that may never write again: waiting would not end.
        header.when_full.store(when_full::LOSE, Ordering::Relaxed);
    }
    header.heartbeat.0.fetch_add(1, Ordering::Relaxed);
    drained.freed
}

/// Whether every block there may be is held by a thread, which may be idle.
fn all_held(session: Session) -> bool {
    let taken = session.header().blocks_taken.0.load(Ordering::Relaxed);
    let state = |index| session.block(index).map(|block| block.state.load(Ordering::Relaxed));
    (0..taken).all(|index| state(index) == Some(block_state::OWNED))
}

/// Whether the recording was finished while the lock was waited for.
fn is_over(session: Session) -> bool {
    let lifecycle = INHERITED.lifecycle.load(Ordering::Acquire);
    matches!(lifecycle, lifecycle::UNINITIALIZED | lifecycle::FINISHED)
        || PROCESS.session().is_none_or(|now| now.base() != session.base())
}

fn forget() {
    PROCESS.flusher.store(0, Ordering::Release);
    if let Some(session) = PROCESS.session() {
        let pid = sys::getpid();
        let _ = session.header().flusher_pid.compare_exchange(pid, 0, Ordering::AcqRel, Ordering::Relaxed);
    }
}

extern "C" fn run(argument: *mut c_void) -> *mut c_void {
    let _own = tracer_threads::enter();
    let Some(session) = PROCESS.session() else { return core::ptr::null_mut() };
    let header = session.header();
    let run = argument.addr() as u32;
    // Its thread is known by this, so that a process that became another by exec is not taken for one that flushes.
    header.recorder_pid.store(sys::gettid(), Ordering::Relaxed);
    let goes_on = || PROCESS.flusher.load(Ordering::Acquire) != 0 && PROCESS.flusher_run.load(Ordering::Acquire) == run;
    let mut seen = header.doorbell.0.load(Ordering::Acquire);
    while goes_on() {
        let interval_ms = INTERVAL_NS.load(Ordering::Relaxed) / 1_000_000;
        sys::futex_wait(&header.doorbell.0, seen, u32::try_from(interval_ms).unwrap_or(u32::MAX).max(1));
        seen = header.doorbell.0.load(Ordering::Acquire);
        flush_lock::let_others_first();
        if goes_on()
            && let Some(lock) = FlushLock::take(header)
            && goes_on()
        {
            pass(session, &lock);
        }
    }
    core::ptr::null_mut()
}
