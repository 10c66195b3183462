//! Which objects are recorded where not all are: one sample in so many bytes.
//!
//! Samples lie on the line of all bytes that a thread allocates, at distances that are exponentially distributed with the
//! mean `N`. An object with a sample in it is recorded. So one of `s` bytes is recorded with the probability
//! 1 − exp(−s/N), whatever came before it: the distribution has no memory, so neither the first distance of a thread nor
//! the one behind a sample has to be told apart, and what else of the recorded object's bytes a sample would have hit is
//! of no interest. Nothing is weighted here; readers know the size, and with it the probability.
//!
//! ```text
//! malloc(s):  bytes to the next sample > s ? take s off them : slow path      free(p): filter[page of p] == 0 ? : slow path
//! ```
//! Where all objects are recorded no thread has a distance (it is 0) and the filter holds everything: both paths are slow
//! then, by the same comparison.

mod gaps;
mod sampled_objects;

use core::sync::atomic::{AtomicU64, Ordering};

use super::process::PROCESS;
use super::thread_state::{self, ThreadState};
use gaps::Random;
pub use sampled_objects::SampledObjects;

/// The live objects that are recorded. Forked children have a copy, as of their memory.
pub static SAMPLED: SampledObjects = SampledObjects::new();

/// Mean bytes from one sample to the next, 0 where all objects are recorded.
static MEAN_BYTES: AtomicU64 = AtomicU64::new(0);
/// Random numbers of threads that were begun.
static SEEDS: AtomicU64 = AtomicU64::new(0);

/// Whether not all objects are recorded.
#[inline(always)]
pub fn is_on() -> bool {
    MEAN_BYTES.load(Ordering::Relaxed) != 0
}

/// Mean bytes from one sample to the next, `None` where all objects are recorded.
pub fn mean_bytes() -> Option<u64> {
    Some(MEAN_BYTES.load(Ordering::Relaxed)).filter(|&bytes| bytes != 0)
}

/// From here on objects are sampled, one in `mean_bytes`; all are recorded for 0 and 1. `None` without memory.
pub fn begin(mean_bytes: u64) -> Option<()> {
    if mean_bytes <= 1 {
        MEAN_BYTES.store(0, Ordering::Relaxed);
        SAMPLED.hold_all();
        return Some(());
    }
    SAMPLED.open()?;
    MEAN_BYTES.store(mean_bytes, Ordering::Relaxed);
    Some(())
}

/// A forked child has numbers of its own.
pub fn begin_in_child() {
    let thread = thread_state::current();
    thread.gap.set(0);
    thread.random.set(0);
}

/// Whether an object of so many bytes is certainly none of the recorded ones. Takes its bytes off the thread's distance then.
#[inline(always)]
pub fn passes_over(size: usize) -> bool {
    let gap = &thread_state::current().gap;
    let left = gap.get();
    // Of a handler that runs between these lines the bytes are not counted, which is no matter: every object still has its
    // probability.
    match left > size as u64 {
        true => gap.set(left - size as u64),
        false => return false,
    }
    true
}

/// Whether an object at this address is certainly none of the recorded ones.
#[inline(always)]
pub fn passes_over_free(address: usize) -> bool {
    SAMPLED.lacks_page_of(address)
}

/// An object dies while nothing is recorded.
pub fn forget(address: usize) {
    if is_on() {
        SAMPLED.remove(address);
    }
}

/// Whether an object is one to be recorded. Takes its bytes off the thread's distance.
#[inline]
pub fn is_due(size: usize) -> bool {
    match MEAN_BYTES.load(Ordering::Relaxed) {
        0 => true,
        mean_bytes => is_sampled(size, mean_bytes),
    }
}

#[inline(never)]
fn is_sampled(size: usize, mean_bytes: u64) -> bool {
    let thread = thread_state::current();
    if thread.gap_mean.replace(mean_bytes) != mean_bytes || thread.gap.get() == 0 {
        thread.gap.set(next_gap(thread, mean_bytes));
    }
    let sampled = !passes_over(size);
    if sampled {
        thread.gap.set(next_gap(thread, mean_bytes));
    }
    sampled
}

fn next_gap(thread: &ThreadState, mean_bytes: u64) -> u64 {
    let mut random = match thread.random.get() {
        0 => Random::seeded(seed(thread)),
        state => Random(state),
    };
    let gap = random.gap(mean_bytes);
    thread.random.set(random.0);
    gap
}

/// Differs between threads, processes and runs.
fn seed(thread: &ThreadState) -> [u64; 4] {
    // The kernel has put 16 random bytes into each program's memory, where nobody is asked for them (getauxval(3)).
    // SAFETY: no arguments to go wrong.
    let random = unsafe { libc::getauxval(libc::AT_RANDOM) } as usize;
    let of_program = match random {
        0 => 0,
        // SAFETY: the kernel's 16 bytes, which stay for the life of the program.
        address => unsafe { core::ptr::with_exposed_provenance::<u64>(address).read_unaligned() },
    };
    let of_thread = core::ptr::from_ref(thread).addr() as u64;
    let number = SEEDS.fetch_add(1, Ordering::Relaxed) | u64::from(PROCESS.serial()) << 32;
    [of_program, of_thread, number, PROCESS.tick()]
}
