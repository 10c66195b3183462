//! The hooks of builds with the feature `enabled`; `off.rs` is the empty twin.

mod process;
mod thread_state;

mod event_buffer;

mod block_wait;
mod marks;

mod recursion_guard;

mod sampling;

pub mod passing;

mod owned_buffer;

mod object_events;

mod call_stack;
mod kept_stacks;
mod stack_bounds;
mod stack_table;

mod buckets;
mod object_ids;
mod object_table;
mod page_frames;
mod page_set;
mod page_sets;
mod shard_lock;

mod attach;
mod fork_hooks;
mod idle;
mod last_snapshot;
mod limits;
mod sandbox;
mod write_handover;

mod control;
mod settings;
mod switch_lock;

mod flush_lock;
mod flusher;
mod own_session;
mod scratch;

mod announcements;
mod catch_up;
mod drain;
mod go_buffers;
mod tick_line;

mod build_id;
mod figures;
mod maps;
mod modules;
mod proc_text;
mod residency;
mod self_snapshot;
mod snapshot;

mod path_buffer;
mod trace_file;

mod access_chunks;
mod locked;
mod mapped_array;
mod tasks;
mod tracer_threads;
mod watched_ranges;
mod watches;
mod writes;

use core::sync::atomic::Ordering;

use crate::access_error::AccessError;
use crate::hooks::{Caller, Function};
use crate::objects::{BucketId, FrameError, Object, ObjectId, PageFrame, Statistics};
use crate::page_trace_buf::PageEventKind;
use crate::page_writes::{PageInfo, WriteStatistics};
use crate::sys;

use event_buffer::{EventBuffer, Identity};
use object_table::{Entry, ObjectTable};
use process::{PROCESS, active};
use recursion_guard::RecursionGuard;
use switch_lock::SwitchLock;

pub use control::{FinishWhenDropped, finish, flush, off, on, reset, state};
pub use object_events::PendingFree;
pub use owned_buffer::PageTraceBuf;
pub use sampling::passes_over_free;
pub use settings::Builder;
pub use watches::{Watch, Watching};
pub use writes::WriteTracking;

/// The live objects of this process.
static OBJECTS: ObjectTable = ObjectTable::new();

/// The buffer of callers without a thread, used under [`process::Process::shared_buffer`].
static SHARED_BUFFER: SharedBuffer = SharedBuffer(EventBuffer::new());

struct SharedBuffer(EventBuffer);

// SAFETY: appended to only under the lock that its documentation names; what is read without it is atomic.
unsafe impl Sync for SharedBuffer {}

/// Tries for the shared buffer's lock before an event is given up.
const SHARED_TRIES: u32 = 1_000;

#[inline(always)]
pub fn caller() -> Caller {
    let (return_address, stack_pointer, frame_pointer);
    // SAFETY: reads registers only.
    unsafe {
        core::arch::asm!(
            "lea {}, [rip]",
            // As if this were a call: below its return address, that is.
            "lea {}, [rsp - 8]",
            "mov {}, rbp",
            out(reg) return_address,
            out(reg) stack_pointer,
            out(reg) frame_pointer,
            options(nomem, nostack, preserves_flags),
        );
    }
    Caller { return_address, stack_pointer, frame_pointer }
}

pub fn attach(malloc: usize) {
    attach::attach(malloc);
}

pub fn real_malloc_is_at(address: usize) {
    attach::real_malloc_is_at(address);
}

#[inline]
pub fn is_recording() -> bool {
    let now = PROCESS.active();
    now & active::RECORDING != 0 || now == 0 && look_at_first()
}

/// Whether objects are of interest: events are recorded, or ids go on.
#[inline]
fn is_on() -> bool {
    let now = PROCESS.active();
    now & active::BITS != 0 || now == 0 && look_at_first()
}

/// What the first hook of all does, in a process where nobody has looked yet whether to record.
#[cold]
#[inline(never)]
fn look_at_first() -> bool {
    // Named here so that the linker keeps it wherever there is a hook.
    core::hint::black_box(&START);
    attach::become_recording()
}

#[inline]
pub fn now() -> u64 {
    if is_recording() { PROCESS.tick() } else { 0 }
}

#[inline(always)]
pub fn passes_over(size: usize) -> bool {
    PROCESS.is_recording() && sampling::passes_over(size)
}

#[inline]
pub fn object_alloc(address: usize, size: usize, usable: usize, function: Function, caller: Caller) {
    if address != 0 && is_on() && sampling::is_due(size) {
        object_events::alloc(address, size, usable, function, object_events::Site::Stack(caller));
    }
}

#[inline]
pub fn object_alloc_in(bucket: BucketId, address: usize, size: usize, usable: usize, function: Function) {
    if address != 0 && is_on() && sampling::is_due(size) {
        object_events::alloc(address, size, usable, function, object_events::Site::Bucket(bucket.0));
    }
}

#[inline]
pub fn object_free(address: usize, function: Function) {
    if address != 0 && !passes_over_free(address) {
        if is_on() {
            object_events::free(PROCESS.tick(), address, function);
        } else {
            sampling::forget(address);
        }
    }
}

#[inline]
pub fn object_free_at(tick: u64, address: usize, function: Function) {
    if address != 0 && !passes_over_free(address) {
        if tick != 0 && is_on() {
            object_events::free(tick, address, function);
        } else {
            sampling::forget(address);
        }
    }
}

#[inline]
pub fn object_free_begins(address: usize) -> PendingFree {
    if address == 0 || passes_over_free(address) {
        return PendingFree::nothing();
    }
    if is_on() { PendingFree::begin(address) } else { PendingFree::unrecorded(address) }
}

/// # Safety
/// As [`crate::thread_started`].
pub unsafe fn thread_started(low: usize, high: usize) {
    thread_state::current().stack.set((low, high));
}

pub fn code_unloaded() {
    call_stack::code_unloaded();
}

pub fn thread_ended() {
    tasks::thread_ended();
    if PROCESS.is_recording()
        && let Some(guard) = RecursionGuard::enter()
    {
        let buffer = &guard.thread().buffer;
        buffer.release();
        buffer.leave_mark();
        owned_buffer::leave_pages(buffer);
        // A tid may come again, a stream does not.
        buffer.forget_process();
    }
    // Whether or not recording is on: it may have been.
    if let Some(guard) = RecursionGuard::enter() {
        call_stack::leave(guard.thread());
    }
}

pub fn fork_begins() {
    attach::fork_begins();
}

pub fn fork_in_parent() {
    attach::fork_in_parent();
}

pub fn fork_in_child() {
    attach::fork_in_child();
}

pub fn hold_for_last_snapshot() {
    last_snapshot::hold_for_last_snapshot();
}

pub fn fault_handling_begins() {
    crate::sys::keeping_errno(write_handover::ask_back);
}

pub fn own_bytes(address_space: bool) -> u64 {
    limits::own_bytes(address_space)
}

pub fn limits_noted(set: [u64; 2], asked: [u64; 2]) {
    limits::note(set, asked);
}

pub fn limits_asked(set: [u64; 2]) -> Option<[u64; 2]> {
    limits::asked(set)
}

pub fn own_pid() -> Option<u32> {
    // A process that has not joined yet does so, if it is to.
    let _ = is_recording();
    PROCESS.slot().map(|slot| slot.pid.load(Ordering::Relaxed))
}

pub fn sandbox_begins(strict: bool) -> u64 {
    // Their threads make system calls that no sandbox expects.
    writes::stop();
    watches::end_all();
    sandbox::begins(strict)
}

pub fn sandbox_failed(entered: u64) {
    sandbox::failed(entered);
}

#[inline]
pub fn page_event(shared: bool, kind: PageEventKind, base: usize, pages: usize) {
    if is_recording() {
        if shared { shared_page_event(kind, base, pages) } else { thread_page_event(kind, base, pages) }
    }
}

/// Apart, so that what is left in a program that does not record is a look at one word.
#[inline(never)]
fn thread_page_event(kind: PageEventKind, base: usize, pages: usize) {
    let tick = PROCESS.tick();
    let Some(guard) = RecursionGuard::enter() else { return };
    owned_buffer::append(&guard.thread().buffer, Identity::of_thread, tick, kind, base, pages);
}

#[cold]
fn shared_page_event(kind: PageEventKind, base: usize, pages: usize) {
    let tick = PROCESS.tick();
    let lock = (0..SHARED_TRIES).find_map(|_| {
        core::hint::spin_loop();
        SwitchLock::try_take(&PROCESS.shared_buffer)
    });
    match lock {
        Some(_lock) => owned_buffer::append(&SHARED_BUFFER.0, Identity::of_buffer, tick, kind, base, pages),
        None => recursion_guard::count_lost(),
    }
}

pub fn with_buf<T>(shared: bool, work: impl FnOnce(owned_buffer::View<'_>) -> T) -> Option<T> {
    if shared {
        let _lock = SwitchLock::try_take(&PROCESS.shared_buffer)?;
        return Some(work(owned_buffer::View(&SHARED_BUFFER.0)));
    }
    Some(work(owned_buffer::View(&thread_state::current().buffer)))
}

pub fn flush_buf(shared: bool) {
    if shared {
        control::release_shared_buffer();
    } else if let Some(guard) = RecursionGuard::enter() {
        guard.thread().buffer.release();
    }
    PROCESS.ring_doorbell();
}

pub fn bucket(name: &str) -> u32 {
    buckets::register(name)
}

pub fn object_at(address: usize) -> Option<Object> {
    let _guard = RecursionGuard::enter()?;
    OBJECTS.get(address).map(object)
}

pub fn object_containing(address: usize) -> Option<Object> {
    let _guard = RecursionGuard::enter()?;
    OBJECTS.containing(address).map(object)
}

fn object(entry: Entry) -> Object {
    Object { id: ObjectId(entry.id), bucket: BucketId(entry.bucket), address: entry.address, size: entry.size as usize }
}

#[inline]
pub fn page_bytes() -> usize {
    1 << owned_buffer::page_shift()
}

pub fn frame_of(address: usize) -> Result<PageFrame, FrameError> {
    page_frames::frame_of(address)
}

pub fn statistics() -> Statistics {
    owned_buffer::settle();
    let Some(_guard) = RecursionGuard::enter() else { return Statistics::default() };
    // Without memory to sort in they are all missing.
    let pages = page_set::page_statistics(page_sets::all().map(|node| &node.set)).unwrap_or_default();
    let lost = PROCESS
        .slot()
        .map_or(0, |slot| slot.lost_full.load(Ordering::Relaxed) + slot.lost_reentered.load(Ordering::Relaxed));
    Statistics {
        pages: crate::objects::PageStatistics {
            distinct: pages.distinct.0,
            in_use: pages.in_use.0,
            free: pages.free.0,
            scavenged: pages.scavenged.0,
            missed: pages.missed + page_sets::missed(),
        },
        live_objects: OBJECTS.len() as u64,
        untabled_objects: OBJECTS.losses().inserts,
        unknown_frees: PROCESS.unknown_frees.load(Ordering::Relaxed),
        lost_events: lost,
        bytes_written: PROCESS.session().map_or(0, |session| session.header().file.bytes.load(Ordering::Relaxed)),
    }
}

pub fn current_thread() -> u32 {
    sys::gettid()
}

pub fn stop_tracking_writes() {
    writes::stop();
}

pub fn page_info(address: usize) -> Option<PageInfo> {
    writes::page_info(address)
}

pub fn end_write_epoch() -> Result<(), AccessError> {
    writes::end_epoch()
}

pub fn write_statistics() -> WriteStatistics {
    writes::statistics()
}

#[inline]
pub fn task_begins(task: Option<u64>) {
    tasks::begins(task);
}

/// A part of the preload library's name.
const PRELOAD_LIBRARY: &[u8] = b"libpagetrace_preload";

/// Looks at the environment before the program's own code runs, but for other such functions.
extern "C" fn start() {
    let recorded = crate::sys::environment(pagetrace_format::session::SESSION_VARIABLE).is_some();
    if recorded && modules::is_part_of(PRELOAD_LIBRARY) {
        // This is the recorder's own copy of the tracer, which `attach` starts.
        return;
    }
    let started = Builder::from_env().and_then(|builder| builder.map(Builder::init).transpose());
    if let Err(error) = &started {
        eprintln!("pagetrace: {error}; nothing is recorded");
    }
    if recorded && matches!(started, Ok(None)) {
        // The recorder has the objects from the preload library where that is loaded. In a static program the first
        // event joins.
        if modules::is_loaded(PRELOAD_LIBRARY) {
            PROCESS.become_idle();
            attach::tell_of_idle_tracer();
        }
        return;
    }
    if !modules::is_loaded(PRELOAD_LIBRARY) {
        // There it is the library's own copy that is woken.
        idle::set_up();
    }
    if PROCESS.active() == 0 {
        PROCESS.become_idle();
    }
}

#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

#[cfg(test)]
mod tests {
    #[test]
    fn without_a_session_hooks_are_idle() {
        crate::attach(0);
        crate::object_alloc(0x1000, 1, 1, crate::Function::Plain, crate::Caller::here());
        crate::object_free(0x1000, crate::Function::Plain);
        crate::hold_for_last_snapshot();
        assert!(!crate::is_recording());
        assert_eq!(crate::now(), crate::Ticks(0));
    }
}
