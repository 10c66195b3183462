//! What the tracer keeps for each thread, in thread-local memory that needs no allocation and no destructor.

use core::cell::Cell;
use core::sync::atomic::{AtomicU32, AtomicU64};

/// One thread's state. All zero at first.
#[repr(C)]
pub struct ThreadState {
    /// 1 while the tracer is at work in this thread.
    pub busy: Cell<u32>,
    /// The block's index plus one, 0 for none.
    pub block: Cell<u32>,
    /// First word of the block.
    pub words: Cell<*const AtomicU64>,
    /// Where finished words are counted.
    pub committed: Cell<*const AtomicU32>,
    /// Words written.
    pub used: Cell<u32>,
    /// Words of a block.
    pub limit: Cell<u32>,
    /// The base of ticks in this block, 0 before the first event.
    pub base_tick: Cell<u64>,
    /// The thread's serial, 0 before its first block.
    pub serial: Cell<u32>,
    /// Its tid.
    pub tid: Cell<u32>,
    /// Blocks taken so far.
    pub blocks_taken: Cell<u32>,
    pad: u32,
    /// Bounds of its stack, zero where unknown.
    pub stack: Cell<(usize, usize)>,
}

impl ThreadState {
    /// Forgets everything of the process that this thread was copied from by fork.
    pub fn reset_after_fork(&self) {
        self.block.set(0);
        self.words.set(core::ptr::null());
        self.committed.set(core::ptr::null());
        self.used.set(0);
        self.limit.set(0);
        self.base_tick.set(0);
        self.serial.set(0);
        self.tid.set(0);
        self.blocks_taken.set(0);
    }
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
    ".size pagetrace_thread_state,128",
    "pagetrace_thread_state:",
    ".zero 128",
    ".popsection",
);

#[cfg(not(target_arch = "x86_64"))]
compile_error!("the tracer's thread-local state is written for x86-64 only; build without the feature `enabled`");

const _: () = assert!(size_of::<ThreadState>() <= 128 && align_of::<ThreadState>() <= 64);
