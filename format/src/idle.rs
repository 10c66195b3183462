//! The control block of an idle process: how a recorder that comes later finds the tracer in it, and wakes it.
//!
//! It lies on a page of its own, a private mapping of a memory file with the name [`IDLE_NAME`], which /proc/PID/maps shows. A
//! forked child has a copy. The recorder writes to the process's memory (/proc/PID/mem) while the process stands still:
//! the session's path, a new number of a request, and zeros into the words that say whether anyone has looked whether to
//! record. The next hook finds that nobody has, looks, and joins. Until then a hook does nothing but look at one word.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

/// The environment variable that makes a tracer without a recorder idle rather than absent; its value is of no interest.
pub const IDLE_VARIABLE: &str = "PAGETRACE_IDLE";
/// The name of the memory file.
pub const IDLE_NAME: &str = "pagetrace-idle";
/// Identifies a control block ("PGTIDLE" and the layout's version).
pub const IDLE_MAGIC: u64 = u64::from_le_bytes(*b"PGTIDLE1");
/// The longest path of a session, its closing zero included.
pub const IDLE_PATH_BYTES: usize = 1024;

/// See the module's head.
#[repr(C)]
#[derive(Debug)]
pub struct IdleControl {
    /// [`IDLE_MAGIC`], stored last.
    pub magic: AtomicU64,
    /// Address of the u32 that hooks look at: 0 where nobody has looked whether to record; else its two lowest bits are 0
    /// where they are idle.
    pub active_at: AtomicU64,
    /// Address of the u32 that is 1 while a thread looks, and after that.
    pub looking_at: AtomicU64,
    /// Address of the real malloc, 0 where that is not known.
    pub malloc: AtomicU64,
    /// Pid of the recorder that has woken it last, 0 once that has let go.
    pub recorder_pid: AtomicU32,
    /// The last request of a recorder to join its session. 0 before the first.
    pub request: AtomicU32,
    /// When that recorder started, in clock ticks since boot.
    pub recorder_start: AtomicU64,
    /// The last request that was followed, or was refused.
    pub served: AtomicU32,
    /// See [`refusal`].
    pub refused: AtomicU32,
    /// The session's path, closed by a zero.
    pub path: [AtomicU8; IDLE_PATH_BYTES],
}

/// Why the last request was not followed.
pub mod refusal {
    /// It was, or nobody has looked yet.
    pub const NONE: u32 = 0;
    /// A hook of an earlier recording does not come to its end: its thread stands still.
    pub const BUSY: u32 = 1;
    /// The session could not be opened, or has no room.
    pub const NO_SESSION: u32 = 2;
    /// The process has given up system calls.
    pub const SANDBOX: u32 = 3;
}

const _: () = assert!(size_of::<IdleControl>() <= 4096);
