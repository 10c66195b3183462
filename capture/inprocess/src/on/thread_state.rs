//! What the tracer keeps for each thread, in thread-local memory that needs no allocation and no destructor.

use core::cell::Cell;

use super::call_stack::LastWalk;
use super::event_buffer::EventBuffer;
use super::tasks::TaskLog;

/// One thread's state. All zero at first.
#[repr(C)]
pub struct ThreadState {
    /// While the tracer is at work in this thread: where the stack was when it began. Or [`busy`].
    pub busy: Cell<usize>,
    /// 1 once the C library is to tell of the thread's end.
    pub watched: Cell<u32>,
    /// Where its events go.
    pub buffer: EventBuffer,
    /// Bounds of its stack, zero where unknown.
    pub stack: Cell<(usize, usize)>,
    /// Object ids that are this thread's to give: the next, and the one behind the last.
    pub object_ids: Cell<(u64, u64)>,
    /// Its last call stack, null before the first.
    pub last_walk: Cell<*const LastWalk>,
    /// What it said that it is at, null before it said anything.
    pub tasks: Cell<*const TaskLog>,
    /// Where objects are sampled: the number, from 1, of the byte of those that it is to allocate that the next sample lies
    /// on; 0 for none.
    pub gap: Cell<u64>,
    /// The mean that the distance was drawn with.
    pub gap_mean: Cell<u64>,
    /// The state of its random numbers, 0 before the first.
    pub random: Cell<u64>,
}

/// What [`ThreadState::busy`] is besides, in bits that no address of a stack has; 0 for free.
pub mod busy {
    /// The events of the thread are of no interest.
    pub const NEVER: usize = 1 << 63;
    /// The thread forks.
    pub const AROUND_FORK: usize = 1 << 62;
    /// The thread switches the recording.
    pub const WHILE_SWITCHING: usize = 1 << 61;
    /// All of these.
    pub const BITS: usize = NEVER | AROUND_FORK | WHILE_SWITCHING;
}

/// The calling thread's state.
///
/// In a shared library `thread_local!` calls `__tls_get_addr`, which may allocate when a library was loaded
/// meanwhile: that would re-enter the allocator. The initial-exec model reads the offset from a table instead, which
/// works for whatever is loaded at the start of the program (ELF Handling For Thread-Local Storage, section 4.4.6).
#[cfg(target_arch = "x86_64")]
#[inline]
pub fn current() -> &'static ThreadState {
    let state: *const ThreadState;
    // SAFETY: reads the thread pointer (the first word of the thread control block points to itself) and the offset
    // of the symbol below, of which each thread has a zeroed, aligned copy of the right size for as long as it lives.
    unsafe {
        core::arch::asm!(
            "mov {state}, qword ptr fs:[0]",
            "add {state}, qword ptr [rip + pagetrace_thread_state@GOTTPOFF]",
            state = out(reg) state,
            options(pure, readonly, nostack),
        );
        &*state
    }
}

#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".pushsection .tbss.pagetrace_thread_state,\"awT\",@nobits",
    ".balign 64",
    ".globl pagetrace_thread_state",
    ".hidden pagetrace_thread_state",
    ".type pagetrace_thread_state,@object",
    ".size pagetrace_thread_state,192",
    "pagetrace_thread_state:",
    ".zero 192",
    ".popsection",
);

#[cfg(not(target_arch = "x86_64"))]
compile_error!("the tracer's thread-local state is written for x86-64 only; build without the feature `enabled`");

const _: () = assert!(size_of::<ThreadState>() <= 192 && align_of::<ThreadState>() <= 64);
