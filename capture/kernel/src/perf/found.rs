//! What is wanted of perf events, and what the kernel allowed of it.

use std::io;

/// What is wanted.
#[derive(Clone, Debug)]
pub struct PerfOptions {
    /// Bytes of each processor's ring; less where the user may not lock so much.
    pub ring_bytes: usize,
    /// One of so many faults has its stack taken.
    pub stack_period: u64,
    /// Bytes that are copied of a stack, a multiple of eight below 64 KiB.
    pub stack_bytes: u32,
    /// Whether system calls are wanted.
    pub calls: bool,
    /// Whether programs in the kernel may tell of them.
    pub programs: bool,
    /// As if the kernel had refused everything.
    pub deny: bool,
}

impl Default for PerfOptions {
    fn default() -> PerfOptions {
        let (ring_bytes, stack_period, stack_bytes) = (RING_BYTES, STACK_PERIOD, STACK_BYTES);
        PerfOptions { ring_bytes, stack_period, stack_bytes, calls: true, programs: true, deny: false }
    }
}

impl PerfOptions {
    /// With rings of this size. In a small one whole stacks leave little room, so that they are taken less often.
    pub(super) fn with_rings_of(&self, ring_bytes: usize) -> PerfOptions {
        let times_smaller = (RING_BYTES / ring_bytes.max(1)).clamp(1, 64) as u64;
        PerfOptions { ring_bytes, stack_period: self.stack_period.saturating_mul(times_smaller), ..self.clone() }
    }
}

const RING_BYTES: usize = 4 << 20;
/// A prime: programs touch pages in steps of powers of two.
const STACK_PERIOD: u64 = 97;
/// Half of the stacks of sqlite3 that runs a file by `.read` are some bytes longer than 16 KiB. With 32 KiB, or stacks more
/// often, a program that does nothing but touch pages fills the rings.
const STACK_BYTES: u32 = 24 << 10;

/// What tells of system calls. It makes all calls of a program longer, those that are not watched too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallsBy {
    /// Programs in the kernel.
    Programs,
    /// The tracepoints that all calls pass, for root; why not programs.
    AllTracepoint(String),
    /// A tracepoint for each call.
    EachTracepoint,
}

/// What the kernel allowed.
#[derive(Clone, Debug)]
pub struct Found {
    /// Faults that the kernel has for a program.
    pub kernel_mode: bool,
    /// Whether these tell reads from writes.
    pub kernel_accesses: bool,
    /// System calls: the names of those that are not watched, or why none is.
    pub calls: Result<Vec<&'static str>, String>,
    /// What tells of them.
    pub calls_by: CallsBy,
    /// Stacks at faults, or why there are none.
    pub stacks: Result<(), String>,
    /// Bytes of each processor's ring.
    pub ring_bytes: Vec<usize>,
}

impl Default for Found {
    fn default() -> Found {
        Found {
            kernel_mode: false,
            kernel_accesses: false,
            calls: Ok(Vec::new()),
            calls_by: CallsBy::EachTracepoint,
            stacks: Ok(()),
            ring_bytes: Vec::new(),
        }
    }
}

/// Why perf_event_open(2) or what belongs to it failed, with the setting that decides it.
pub fn refusal(error: &io::Error) -> String {
    let paranoid = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    match paranoid.trim() {
        "" => format!("perf_event_open: {error}"),
        level => format!("perf_event_open: {error}; kernel.perf_event_paranoid is {level}"),
    }
}
