//! A process that has given up system calls (seccomp(2)): what the tracer may still do there is to look at memory. A call
//! that the program does not make itself can be the end of it.

use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// A filter of the program's own decides.
const FILTER: u64 = 1;
/// SECCOMP_MODE_STRICT: read, write, _exit and sigreturn; the kernel takes the time stamp counter away, too.
const STRICT: u64 = 1 << 32;

/// How many of either were entered, by any thread: 0 while all is allowed that was allowed at the start. A forked child has
/// the filters of its parent; exec begins anew.
static ENTERED: AtomicU64 = AtomicU64::new(0);
/// 1 where the C library keeps a thread's tid at [`TID_OFFSET`].
static TID_KNOWN: AtomicU32 = AtomicU32::new(0);
/// Of the thread that entered where that is not so, as in a child that was not made by the C library's fork: its tid, what is
/// in the place of the tid, and its thread pointer.
static ENTERING_TID: AtomicU32 = AtomicU32::new(0);
static ENTERING_SHOWN: AtomicU32 = AtomicU32::new(0);
static ENTERING_THREAD: AtomicUsize = AtomicUsize::new(0);
/// Milliseconds that were waited while there was no clock.
static WAITED_MS: AtomicU64 = AtomicU64::new(0);

/// Where glibc on x86-64 has the tid in a thread's control block. It is looked whether that is so.
const TID_OFFSET: usize = 0x2d0;
/// Looks at a word that take about a millisecond: a pause takes some 40 to 140 cycles.
const LOOKS_A_MS: u32 = 20_000;

/// From here on no system calls. Returns what [`leave`] needs should the program's own attempt fail.
pub fn enter(strict: bool) -> u64 {
    if !is_entered() {
        // While it is allowed to ask.
        let (tid, shown) = (super::gettid(), tid_in_memory());
        TID_KNOWN.store((tid == shown).into(), Ordering::Relaxed);
        ENTERING_TID.store(tid, Ordering::Relaxed);
        ENTERING_SHOWN.store(shown, Ordering::Relaxed);
        ENTERING_THREAD.store(super::thread_pointer(), Ordering::Relaxed);
    }
    let entered = if strict { STRICT } else { FILTER };
    ENTERED.fetch_add(entered, Ordering::SeqCst);
    entered
}

/// The program is not in the sandbox that [`enter`] has returned: in none, or in those of others.
pub fn leave(entered: u64) {
    ENTERED.fetch_sub(entered, Ordering::SeqCst);
}

/// Whether no system call may be made.
#[inline]
pub fn is_entered() -> bool {
    ENTERED.load(Ordering::Relaxed) != 0
}

/// Whether there is no clock.
#[inline]
pub fn is_strict() -> bool {
    ENTERED.load(Ordering::Relaxed) >= STRICT
}

/// The tid without asking the kernel, `None` where that is not possible.
pub fn tid() -> Option<u32> {
    if !is_entered() {
        return None;
    }
    let shown = tid_in_memory();
    if TID_KNOWN.load(Ordering::Relaxed) != 0 {
        return Some(shown);
    }
    let has_entered = super::thread_pointer() == ENTERING_THREAD.load(Ordering::Relaxed)
        && shown == ENTERING_SHOWN.load(Ordering::Relaxed);
    has_entered.then(|| ENTERING_TID.load(Ordering::Relaxed))
}

/// Looks at a word until it is another one or the time is over.
pub fn look_at(word: &AtomicU32, expected: u32, timeout_ms: u32) {
    for _ in 0..timeout_ms.saturating_mul(LOOKS_A_MS) {
        if word.load(Ordering::Acquire) != expected {
            break;
        }
        core::hint::spin_loop();
    }
    WAITED_MS.fetch_add(timeout_ms.into(), Ordering::Relaxed);
}

/// A clock that goes on with [`look_at`] alone.
pub fn waited_ms() -> u64 {
    WAITED_MS.load(Ordering::Relaxed)
}

fn tid_in_memory() -> u32 {
    let control_block = super::thread_pointer();
    let tid = core::ptr::with_exposed_provenance::<u32>(control_block.wrapping_add(TID_OFFSET));
    // SAFETY: glibc's control block is more than twice as long (`struct pthread`), and its memory stays as long as the thread.
    unsafe { tid.read_volatile() }
}
