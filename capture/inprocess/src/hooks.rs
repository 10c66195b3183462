//! The hooks for objects, threads and forks.

use crate::objects::BucketId;
use crate::twin;

/// Where a hook was called from, so that its call stack can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The address that the hooked call returns to, 0 for unknown.
    pub return_address: usize,
    /// The stack pointer at the hook's first instruction, where the return address is.
    pub stack_pointer: usize,
    /// The frame pointer register at the hook's first instruction, whatever it holds.
    pub frame_pointer: usize,
}

impl Caller {
    /// No stack is taken.
    pub const UNKNOWN: Caller = Caller { return_address: 0, stack_pointer: 0, frame_pointer: 0 };

    /// The function that calls this one, and the stack above it.
    #[inline(always)]
    #[must_use]
    pub fn here() -> Caller {
        twin::caller()
    }
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

/// Attaches the process to the recorder's session that the environment names, if it has not been tried before.
/// `malloc` is the address of the allocator's real `malloc`, 0 where unknown; it tells a reader which allocator it is.
///
/// For the preload library; a program that links the tracer needs [`init`](crate::init) at most.
#[inline]
pub fn attach(malloc: usize) {
    twin::attach(malloc);
}

/// Says where the allocator's real `malloc` is, as [`attach`] does, before the process has joined a session.
#[inline]
pub fn real_malloc_is_at(address: usize) {
    twin::real_malloc_is_at(address);
}

/// Whether events are recorded at this moment.
#[inline]
#[must_use]
pub fn is_recording() -> bool {
    twin::is_recording()
}

/// Whether an allocation of `size` bytes is one that is left out where objects are sampled. Its bytes are counted then, so ask
/// once for each, before or after it is made; `false` leaves the decision to [`object_alloc`], which needs no such question: this
/// is for callers that save work by it.
#[inline(always)]
#[must_use]
pub fn passes_over(size: usize) -> bool {
    twin::passes_over(size)
}

/// Whether the object at `address` is certainly one that was left out where objects are sampled: its free needs no hook.
#[inline(always)]
#[must_use]
pub fn passes_over_free(address: usize) -> bool {
    twin::passes_over_free(address)
}

/// The time for an event that happens now and is recorded later; in ticks of the session's clock, 0 when idle.
#[inline]
#[must_use]
pub fn now() -> Ticks {
    Ticks(twin::now())
}

/// A moment in ticks of the session's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticks(pub u64);

/// Records that `address` holds an object of `size` bytes of which `usable` may be used. To be called after the
/// allocator has returned it. Its bucket is the call stack of `caller`.
///
/// ```
/// pagetrace::object_alloc(0x1000, 20, 24, pagetrace::Function::Plain, pagetrace::Caller::here());
/// pagetrace::object_free(0x1000, pagetrace::Function::Plain);
/// ```
#[inline]
pub fn object_alloc(address: usize, size: usize, usable: usize, function: Function, caller: Caller) {
    twin::object_alloc(address, size, usable, function, caller);
}

/// As [`object_alloc`], in a bucket of the caller's own ([`bucket`](crate::bucket)) instead of a call stack's.
#[inline]
pub fn object_alloc_in(bucket: BucketId, address: usize, size: usize, usable: usize, function: Function) {
    twin::object_alloc_in(bucket, address, size, usable, function);
}

/// Records that the object at `address` dies. To be called before the allocator gets it back. An address at which no
/// object is known is counted ([`Statistics::unknown_frees`](crate::Statistics::unknown_frees)), whatever it is.
#[inline]
pub fn object_free(address: usize, function: Function) {
    twin::object_free(address, function);
}

/// As [`object_free`], at an earlier moment of [`now`]: `realloc` frees before it knows whether it succeeds.
#[inline]
pub fn object_free_at(time: Ticks, address: usize, function: Function) {
    twin::object_free_at(time.0, address, function);
}

/// Tells the bounds of this thread's stack: lowest address and one past the highest. Without it the tracer finds them
/// out at the thread's first event, with a system call.
///
/// # Safety
/// From any stack pointer between the bounds up to `high` all memory is readable for as long as the thread lives.
#[inline]
pub unsafe fn thread_started(low: usize, high: usize) {
    // SAFETY: the caller's promise is the same.
    unsafe { twin::thread_started(low, high) }
}

/// Tells that code is gone, as after dlclose(3): other code may come to its place, whose stacks are followed in another
/// way. Without it that is noticed by itself in most cases, and a stack may be wrong until then.
#[inline]
pub fn code_unloaded() {
    twin::code_unloaded();
}

/// Hands over this thread's buffer. Later events of the thread start a new one. Happens by itself when a thread of
/// the C library ends.
#[inline]
pub fn thread_ended() {
    twin::thread_ended();
}

/// To be called in the parent before `fork` (pthread_atfork(3), *prepare*): the moment at which the child's memory
/// parts from the parent's. [`init`](crate::init) sees to this and the two below.
#[inline]
pub fn fork_begins() {
    twin::fork_begins();
}

/// To be called in the parent after `fork` (pthread_atfork(3), *parent*): a child made later without these calls, as by
/// clone(2), is not to take that fork's moment for its own.
#[inline]
pub fn fork_in_parent() {
    twin::fork_in_parent();
}

/// To be called in the child after `fork`: it becomes a process of its own in the session.
#[inline]
pub fn fork_in_child() {
    twin::fork_in_child();
}

/// Holds the calling thread, which is about to end the process, until the recorder has taken the last snapshot. Does
/// nothing without a recorder, and gives up when the recorder does not answer.
#[inline]
pub fn hold_for_last_snapshot() {
    twin::hold_for_last_snapshot();
}

/// To be called before the program handles page faults itself (userfaultfd(2)): a recorder that watches its memory for writes
/// lets go of it. Does nothing without one.
#[inline]
pub fn fault_handling_begins() {
    twin::fault_handling_begins();
}

/// How many bytes of the tracer's own count towards RLIMIT_AS (setrlimit(2)), or towards RLIMIT_DATA.
#[inline]
#[must_use]
pub fn own_bytes(address_space: bool) -> u64 {
    twin::own_bytes(address_space)
}

/// Notes that the soft and the hard limit of memory, in bytes, were `set` where the program `asked` for others.
#[inline]
pub fn limits_noted(set: [u64; 2], asked: [u64; 2]) {
    twin::limits_noted(set, asked);
}

/// What the program has asked for where its limits of memory were `set` so.
#[inline]
#[must_use]
pub fn limits_asked(set: [u64; 2]) -> Option<[u64; 2]> {
    twin::limits_asked(set)
}

/// The pid of the process that this memory belongs to, which a child of vfork(2) shares; `None` where nothing was ever recorded.
#[inline]
#[must_use]
pub fn own_pid() -> Option<u32> {
    twin::own_pid()
}

/// To be called before the program gives up system calls (seccomp(2)), all but four of them where `strict`: from here on hooks
/// look at memory and make no call. What a recorder has to tell is waited for without sleeping. Does nothing without one.
///
/// Returns what [`sandbox_failed`] needs.
#[inline]
pub fn sandbox_begins(strict: bool) -> SandboxEntered {
    SandboxEntered(twin::sandbox_begins(strict))
}

/// The program could not give up what [`sandbox_begins`] was told of.
#[inline]
pub fn sandbox_failed(entered: SandboxEntered) {
    twin::sandbox_failed(entered.0);
}

/// What [`sandbox_begins`] took for given up.
#[derive(Clone, Copy, Debug)]
#[must_use = "for the case that it fails"]
pub struct SandboxEntered(u64);

/// Takes the object at `address` out of the live table before the allocator moves it: `realloc` does not know yet
/// whether it succeeds, and another thread may have the address before it returns.
///
/// ```
/// let before = pagetrace::object_free_begins(0x1000);
/// // … the allocator reallocates …
/// before.happened(pagetrace::Function::Realloc);
/// ```
#[inline]
pub fn object_free_begins(address: usize) -> PendingFree {
    PendingFree(twin::object_free_begins(address))
}

/// A free that may yet fail. Dropping it leaves the object untraced.
#[derive(Debug)]
#[must_use = "say whether it happened or failed"]
pub struct PendingFree(twin::PendingFree);

impl PendingFree {
    /// Records that the object died, at the moment of [`object_free_begins`].
    #[inline]
    pub fn happened(self, function: Function) {
        self.0.happened(function);
    }

    /// Puts the object back: it lives on.
    #[inline]
    pub fn failed(self) {
        self.0.failed();
    }
}
