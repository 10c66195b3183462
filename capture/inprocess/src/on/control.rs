//! Starting, switching and ending a recording that the program runs itself. One thread of a process at a time.

use core::sync::atomic::{AtomicU32, Ordering};
use std::sync::Once;

use pagetrace_format::header::{FileHeader, Origin, VERSION, VERSION_SAMPLED};
use pagetrace_format::session::{Session, when_full, writer};
use pagetrace_format::units::{PageShift, TraceNanos};

use super::flush_lock::FlushLock;
use super::process::{INHERITED, PROCESS, active, lifecycle};
use super::scratch::{self, Scratch};
use super::settings::Builder;
use super::switch_lock::SwitchLock;
use super::thread_state::{self, busy};
use super::{
    OBJECTS, SHARED_BUFFER, announcements, attach, call_stack, catch_up, drain, flusher, fork_hooks, go_buffers, idle,
    marks, modules, own_session, page_sets, sampling, self_snapshot, tick_line, trace_file, watches, writes,
};
use crate::error::Error;
use crate::recording::{Off, State, TraceFormat, WhenFull};
use crate::sys;

/// A hook that has not left its buffer after so long stands still: its thread was stopped.
const HOOK_MS_MAX: u64 = 1_000;

/// See [`crate::Builder::init`].
pub fn init(builder: Builder) -> Result<(), Error> {
    let page_shift = builder.page_shift()?;
    let _lock = lock(&PROCESS.control)?;
    if lifecycle() != lifecycle::UNINITIALIZED {
        return Err(Error::AlreadyInitialized);
    }
    let recorded = PROCESS.is_recording();
    if recorded {
        // A recorder has the events already.
        return Err(Error::AlreadyInitialized);
    }
    idle::set_hidden(true);
    sys::reserve_addresses();
    let session = own_session::create(builder.buffer_bytes).map_err(Error::Memory)?;
    if !scratch::make() {
        return Err(Error::Memory(std::io::Error::last_os_error()));
    }
    let header = session.header();
    trace_file::create(&builder.path, &header.file)?;
    // Before recording begins: it was allocated before, and the trace would have a free without its allocation.
    drop(builder.path);
    header.writer.store(writer::PROGRAMS, Ordering::Relaxed);
    let full = if builder.when_full == WhenFull::Lose { when_full::LOSE } else { when_full::WAIT };
    header.when_full.store(full, Ordering::Relaxed);
    let sample_bytes = if builder.format == TraceFormat::Native { builder.sample_bytes } else { 1 };
    header.sample_bytes.store(sample_bytes, Ordering::Relaxed);
    header.recording.store(1, Ordering::Relaxed);
    tick_line::begin(header, tick_line::best_clock());
    INHERITED.table.store(builder.live_table && builder.format == TraceFormat::Native, Ordering::Relaxed);
    INHERITED.snapshots.store(builder.snapshots, Ordering::Relaxed);
    INHERITED.args.store(builder.args, Ordering::Relaxed);
    INHERITED.go_format.store(builder.format == TraceFormat::Go, Ordering::Relaxed);
    INHERITED.page_shift.store(page_shift, Ordering::Relaxed);
    flusher::INTERVAL_NS.store(builder.flush_interval.as_nanos().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
    if attach::join(session, 0).is_none() {
        trace_file::close();
        return Err(Error::Memory(std::io::Error::last_os_error()));
    }
    at_first_init();
    at_first_start();
    PROCESS.modules_seen.forget();
    PROCESS.last_snapshot.iter().for_each(|figure| figure.store(0, Ordering::Relaxed));
    with_scratch(session, |scratch| {
        modules::for_each_range(scratch.text, &mut call_stack::learn_code_between);
        begin_trace(page_shift, scratch, builder.snapshots);
    })?;
    if let Err(error) = flusher::start() {
        trace_file::close();
        return Err(error);
    }
    PROCESS.earliest_tick.store(PROCESS.tick(), Ordering::Relaxed);
    OBJECTS.set_keeping(false);
    if builder.start_off {
        PROCESS.off_since.store(PROCESS.tick(), Ordering::Relaxed);
        set_lifecycle(lifecycle::DROPPED);
        PROCESS.activate(active::IDLE);
    } else {
        set_lifecycle(lifecycle::RECORDING);
        PROCESS.activate(active::RECORDING);
    }
    if let Some(what) = builder.writes {
        writes::start_with_recording(what.0, builder.start_off);
    }
    Ok(())
}

/// What a guard of a recording does.
#[derive(Debug)]
pub struct FinishWhenDropped(bool);

impl FinishWhenDropped {
    pub fn new(finishes: bool) -> FinishWhenDropped {
        FinishWhenDropped(finishes)
    }
}

impl Drop for FinishWhenDropped {
    fn drop(&mut self) {
        if self.0 {
            // A failed write has been reported on standard error.
            let _ = finish();
        }
    }
}

/// See [`crate::on`].
pub fn on() -> Result<(), Error> {
    let _lock = lock(&PROCESS.control)?;
    let kept = match lifecycle() {
        lifecycle::RECORDING if PROCESS.is_recording() => return Ok(()),
        // A hook has waited in vain for half a minute, and recording ended there.
        lifecycle::RECORDING => false,
        lifecycle::KEEPING => true,
        lifecycle::DROPPED => false,
        _ => return Err(Error::NotInitialized),
    };
    let session = PROCESS.session().ok_or(Error::NotInitialized)?;
    written()?;
    // With the right to write: who drains while recording is off closes the blocks that it has emptied, and one that is
    // closed late would be taken by a hook.
    with_scratch(session, |_scratch| {
        own_session::open(session).map_err(Error::Memory)?;
        set_lifecycle(lifecycle::RECORDING);
        Ok(())
    })??;
    let resumed = PROCESS.tick();
    // So far apart that they are not the same nanosecond.
    PROCESS.earliest_tick.store(resumed + TICKS_APART, Ordering::Relaxed);
    PROCESS.activate(active::RECORDING);
    // After the buffers: a hook whose event is due finds one. Before the flusher may catch up: what it has passed by
    // must not be kept any more.
    OBJECTS.resume();
    PROCESS.resumed_since.store(PROCESS.off_since.load(Ordering::Relaxed), Ordering::Relaxed);
    PROCESS.resumed_kept.store(kept.into(), Ordering::Relaxed);
    PROCESS.resumed_at.store(resumed, Ordering::Release);
    writes::resume();
    watches::rest(false);
    if flusher::somebody_flushes(session.header()) && PROCESS.flusher.load(Ordering::Relaxed) != 0 {
        PROCESS.ring_doorbell();
        return Ok(());
    }
    // What was kept is in this process's memory: no other can write it.
    with_scratch(session, |scratch| catch_up::announce(session, scratch))
}

/// See [`TICKS_APART`]'s use.
const TICKS_APART: u64 = 8;

/// See [`crate::off`].
pub fn off(mode: Off) -> Result<(), Error> {
    let _lock = lock(&PROCESS.control)?;
    let session = PROCESS.session().ok_or(Error::NotInitialized)?;
    match (lifecycle(), mode) {
        (lifecycle::RECORDING, _) | (lifecycle::KEEPING, Off::Drop) => {}
        (lifecycle::KEEPING | lifecycle::DROPPED, _) => return Ok(()),
        _ => return Err(Error::NotInitialized),
    }
    let keeps = mode == Off::Keep && PROCESS.has_table();
    writes::pause();
    watches::rest(true);
    // What an earlier gap has left is written first: its objects are then as the trace knows them.
    with_scratch(session, |scratch| catch_up::announce(session, scratch))?;
    OBJECTS.set_keeping(keeps);
    if lifecycle() == lifecycle::RECORDING {
        PROCESS.off_since.store(PROCESS.tick(), Ordering::Relaxed);
    }
    own_session::set_closing(true);
    PROCESS.activate(if keeps { active::KEEPING } else { active::IDLE });
    let quiet = marks::wait_until_quiet(HOOK_MS_MAX);
    let closed = with_scratch(session, |scratch| {
        // Blocks are open to this process until here, and closed behind.
        write_rest(session, scratch, quiet);
        set_lifecycle(if keeps { lifecycle::KEEPING } else { lifecycle::DROPPED });
        if !quiet {
            return Err(Error::Busy);
        }
        if !keeps {
            OBJECTS.release();
            super::stack_table::release();
            call_stack::release();
        }
        own_session::close(session).map_err(Error::Memory)?;
        scratch::release();
        Ok(())
    });
    own_session::set_closing(false);
    closed??;
    written()
}

/// See [`crate::flush`].
pub fn flush() -> Result<(), Error> {
    match lifecycle() {
        lifecycle::UNINITIALIZED | lifecycle::FINISHED => Err(Error::NotInitialized),
        _ => {
            let session = PROCESS.session().ok_or(Error::NotInitialized)?;
            flusher::flush_inline(session);
            written()
        }
    }
}

/// See [`crate::finish`].
pub fn finish() -> Result<(), Error> {
    // Who finishes a second time waits until the first is done: the program may be about to end.
    let _lock = lock(&PROCESS.control)?;
    finish_locked()
}

/// See [`crate::reset`].
pub fn reset() -> Result<(), Error> {
    let _lock = lock(&PROCESS.control)?;
    if lifecycle() == lifecycle::UNINITIALIZED {
        return Err(Error::NotInitialized);
    }
    let finished = finish_locked();
    OBJECTS.release();
    page_sets::release_all();
    PROCESS.unknown_frees.store(0, Ordering::Relaxed);
    set_lifecycle(lifecycle::UNINITIALIZED);
    finished
}

/// See [`crate::state`].
pub fn state() -> State {
    match lifecycle() {
        lifecycle::RECORDING => State::Recording,
        lifecycle::KEEPING => State::Keeping,
        lifecycle::DROPPED => State::Dropped,
        lifecycle::FINISHED => State::Finished,
        _ if PROCESS.is_recording() => State::Recording,
        _ => State::Uninitialized,
    }
}

fn finish_locked() -> Result<(), Error> {
    if matches!(lifecycle(), lifecycle::UNINITIALIZED | lifecycle::FINISHED) {
        return Ok(());
    }
    let session = PROCESS.session().ok_or(Error::NotInitialized)?;
    writes::stop();
    watches::end_all();
    let was = lifecycle();
    OBJECTS.set_keeping(true);
    set_lifecycle(lifecycle::FINISHED);
    PROCESS.activate(active::IDLE);
    let quiet = marks::wait_until_quiet(HOOK_MS_MAX);
    flusher::stop();
    let result = with_scratch(session, |scratch| {
        if was == lifecycle::RECORDING {
            catch_up::announce(session, scratch);
        }
        write_rest(session, scratch, quiet);
        self_snapshot::take_last(scratch);
        if announcements::process_ended(session, scratch) {
            announcements::end(scratch);
        }
        session.header().file.ended.store(1, Ordering::Relaxed);
        trace_file::check_that_it_is_there();
        trace_file::close();
        if quiet {
            // Under the lock: a forked relative may be about to write.
            super::stack_table::release();
            call_stack::release();
            // Best effort: the trace is whole, and the memory goes with the process.
            let _ = own_session::close(session);
            scratch::release();
        }
    });
    idle::set_hidden(false);
    result.and_then(|()| written())
}

/// Drains this process's blocks to the last word.
fn write_rest(session: Session, scratch: &mut Scratch, quiet: bool) {
    if quiet {
        drain::fill_blocks_of(session, PROCESS.serial());
    }
    announcements::all(session, scratch);
    watches::write_accesses(scratch.chunk);
    drain::drain(session, scratch, drain::of_whom(session));
    // Losses are counted before the hook leaves: these are all.
    announcements::all(session, scratch);
    announcements::modules(true, scratch);
}

fn begin_trace(page_shift: u32, scratch: &mut Scratch, snapshots: bool) {
    if go_buffers::wanted() {
        return;
    }
    let header = FileHeader {
        version: if sampling::is_on() { VERSION_SAMPLED } else { VERSION },
        page_shift: PageShift::new(page_shift as u8).unwrap_or(PageShift::KIB_4),
        origin: Origin::Recorded,
        start: TraceNanos(sys::monotonic_ns()),
        start_unix_ns: sys::unix_ns(),
    };
    trace_file::append(&header.encode());
    announcements::sources(scratch, snapshots);
}

/// Runs `work` with the right to write.
fn with_scratch<T>(session: Session, work: impl FnOnce(&mut Scratch) -> T) -> Result<T, Error> {
    sys::with_signals_blocked(|| {
        let _lock = FlushLock::take(session.header()).ok_or(Error::Busy)?;
        // SAFETY: the lock is held until after the work, and there is no other such reference in this function.
        let mut scratch = unsafe { scratch::get() }.ok_or(Error::NotInitialized)?;
        Ok(work(&mut scratch))
    })
}

fn written() -> Result<(), Error> {
    trace_file::failure().map_or(Ok(()), Err)
}

/// The right to switch. The thread is not traced meanwhile: a signal handler that allocates would wait for the live
/// table, which this may have locked.
fn lock(word: &'static AtomicU32) -> Result<(SwitchLock, Untraced), Error> {
    let lock = SwitchLock::take(word).ok_or(Error::Busy)?;
    let state = &thread_state::current().busy;
    state.set(state.get() | busy::WHILE_SWITCHING);
    Ok((lock, Untraced))
}

struct Untraced;

impl Drop for Untraced {
    fn drop(&mut self) {
        let state = &thread_state::current().busy;
        state.set(state.get() & !busy::WHILE_SWITCHING);
    }
}

fn lifecycle() -> u32 {
    INHERITED.lifecycle.load(Ordering::Acquire)
}

fn set_lifecycle(to: u32) {
    INHERITED.lifecycle.store(to, Ordering::Release);
}

/// What is registered with the C library once and stays: for a recording, or for accesses alone.
pub fn at_first_start() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        sys::at_fork(fork_hooks::prepare, fork_hooks::parent, fork_hooks::child);
        sys::watch_thread_ends(at_thread_end);
    });
}

/// The same for recordings.
fn at_first_init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        sys::register_barrier();
        sys::at_exit(at_exit);
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            before(info);
            // A failed write has been reported. Where panics unwind, this one may be caught, or may not get so far.
            let _ = if cfg!(panic = "abort") { finish() } else { flush() };
        }));
    });
}

extern "C" fn at_exit() {
    // A failed write has been reported.
    let _ = finish();
}

extern "C" fn at_thread_end(_: *mut core::ffi::c_void) {
    let thread = thread_state::current();
    thread.watched.set(0);
    super::thread_ended();
}

/// Hands over the block of the shared buffer.
pub fn release_shared_buffer() {
    if let Some(_lock) = SwitchLock::try_take(&PROCESS.shared_buffer) {
        SHARED_BUFFER.0.release();
    }
}
