//! The tracer that goes into the program: hooks, event buffers and the way to the recorder.
//!
//! Three states, the first decided when compiling:
//!
//! ```text
//! compiled out (no feature `enabled`)   every function here is empty
//! idle         no recorder              one relaxed load and a branch an event
//! recording    attached to a session    events go to the thread's block of the shared session
//!
//!   start ──attach──▶ recording ──recorder gone or session closed──▶ idle (for good)
//!     └─────no session───────────────────────────────────────────────▲
//!   fork: the child starts anew, attached to the same session as a process of its own
//! ```
//!
//! What every hook keeps to: it never allocates from, locks against or re-enters the traced allocator; it leaves
//! `errno` alone; a full buffer is waited for (bounded by the recorder's life) or counted as lost; an event that a
//! hook has finished is in memory that outlives the program.
//!
//! ```
//! // Events are accepted at any time, also before any recorder is there, and cost next to nothing then.
//! let caller = pagetrace::Caller::UNKNOWN;
//! pagetrace::object_alloc(0x1000, 24, 24, pagetrace::Function::Plain, caller);
//! pagetrace::object_free(0x1000, pagetrace::Function::Plain);
//! ```

#[cfg(feature = "enabled")]
mod on;
#[cfg(feature = "enabled")]
use on as state;
#[cfg(not(feature = "enabled"))]
mod off;
#[cfg(not(feature = "enabled"))]
use off as state;

#[cfg(feature = "enabled")]
mod event_buffer;
#[cfg(feature = "enabled")]
mod frames;
#[cfg(feature = "enabled")]
mod process;
#[cfg(feature = "enabled")]
mod recursion_guard;
#[cfg(feature = "enabled")]
mod stack_table;
#[cfg(feature = "enabled")]
mod sys;
#[cfg(feature = "enabled")]
mod thread_state;

/// Where a hook was called from, so that its call stack can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The address that the hooked call returns to, 0 for unknown.
    pub return_address: usize,
    /// The stack pointer at the hook's first instruction.
    pub stack_pointer: usize,
    /// The frame pointer register at the hook's first instruction, whatever it holds.
    pub frame_pointer: usize,
}

impl Caller {
    /// No stack is taken.
    pub const UNKNOWN: Caller = Caller { return_address: 0, stack_pointer: 0, frame_pointer: 0 };
}

/// The allocator's function that made an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Function {
    /// `malloc` and `free`.
    Plain = 0,
    /// `calloc`.
    Calloc = 1,
    /// `realloc`: a free and an allocation.
    Realloc = 2,
    /// `memalign` and its family.
    Aligned = 3,
}

/// Attaches the process to the session that the environment names, if it has not been tried before. `malloc` is the
/// address of the allocator's real `malloc`, 0 where unknown; it tells a reader which allocator this is.
///
/// Called by itself on the first event; calling it early finds the environment as the program was started with.
pub fn attach(malloc: usize) {
    state::attach(malloc);
}

/// Whether events are recorded at this moment.
#[inline]
#[must_use]
pub fn is_recording() -> bool {
    state::is_recording()
}

/// The time for an event that happens now and is recorded later; in ticks of the session's clock, 0 when idle.
#[inline]
#[must_use]
pub fn now() -> Ticks {
    Ticks(state::now())
}

/// A moment in ticks of the session's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticks(pub u64);

/// Records that `address` holds an object of `size` bytes of which `usable` may be used. To be called after the
/// allocator has returned it.
#[inline]
pub fn object_alloc(address: usize, size: usize, usable: usize, function: Function, caller: Caller) {
    state::object_alloc(address, size, usable, function, caller);
}

/// Records that the object at `address` dies. To be called before the allocator gets it back.
#[inline]
pub fn object_free(address: usize, function: Function) {
    state::object_free(address, function);
}

/// As [`object_free`], at an earlier moment of [`now`]: `realloc` frees before it knows whether it succeeds.
#[inline]
pub fn object_free_at(time: Ticks, address: usize, function: Function) {
    state::object_free_at(time.0, address, function);
}

/// Tells the bounds of this thread's stack: lowest address and one past the highest. Without them only the immediate
/// caller of a hook is recorded, since following frame pointers off a stack can fault.
///
/// # Safety
/// From any stack pointer between the bounds up to `high` all memory is readable for as long as the thread lives.
pub unsafe fn thread_started(low: usize, high: usize) {
    // SAFETY: the caller's promise is the same.
    unsafe { state::thread_started(low, high) }
}

/// Gives this thread's buffer to the recorder. Later events of the thread start a new one.
pub fn thread_ended() {
    state::thread_ended();
}

/// To be called in the parent before `fork` (pthread_atfork(3), *prepare*): the moment at which the child's memory
/// parts from the parent's.
pub fn fork_begins() {
    state::fork_begins();
}

/// To be called in the parent after `fork` (pthread_atfork(3), *parent*): a child made later without these calls, as by
/// clone(2), is not to take that fork's moment for its own.
pub fn fork_in_parent() {
    state::fork_in_parent();
}

/// To be called in the child after `fork`: it becomes a process of its own in the session.
pub fn fork_in_child() {
    state::fork_in_child();
}

/// Holds the calling thread, which is about to end the process, until the recorder has taken the last snapshot. Does
/// nothing without a recorder, and gives up when the recorder does not answer.
pub fn hold_for_last_snapshot() {
    state::hold_for_last_snapshot();
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "enabled")]
    #[test]
    fn without_a_session_hooks_are_idle() {
        crate::attach(0);
        crate::object_alloc(0x1000, 1, 1, crate::Function::Plain, crate::Caller::UNKNOWN);
        crate::object_free(0x1000, crate::Function::Plain);
        crate::hold_for_last_snapshot();
        assert!(!crate::is_recording());
        assert_eq!(crate::now(), crate::Ticks(0));
    }

    #[cfg(not(feature = "enabled"))]
    #[test]
    fn compiled_out_nothing_ever_records() {
        crate::attach(1);
        assert!(!crate::is_recording());
        assert_eq!(crate::now(), crate::Ticks(0));
    }
}
