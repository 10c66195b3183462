//! Watching without userfaultfd(2): pages lose their rights, and the thread that comes for one gets SIGSEGV, whose handler is
//! ours first. It tells of the access in that very thread, gives the rights back, and the instruction runs again.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, Ordering};

use pagetrace_format::access::AccessSource;
use pagetrace_format::snapshot::Permissions;

use super::super::maps::Maps;
use super::super::tracer_threads;
use super::arming::{Arming, NAP_NS_MAX};
use super::mechanism::Mechanism;
use super::orders::{Worker, obey};
use super::telling::{self, Coming};
use crate::sys::{self, segv};

/// What is known of the ranges, under a lock that spins: all signals are held back in whoever has it.
static ARMING: SpinLocked = SpinLocked { word: AtomicU32::new(0), arming: UnsafeCell::new(Arming::new()) };

/// Looks before a fault is taken for the program's own: a watch may begin or end between two of them.
const LOOKS: u32 = 4;

struct SpinLocked {
    word: AtomicU32,
    arming: UnsafeCell<Arming>,
}

// SAFETY: the value is reached under the lock alone.
unsafe impl Sync for SpinLocked {}

impl SpinLocked {
    fn with<T>(&self, work: impl FnOnce(&mut Arming) -> T) -> T {
        while self.word.compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            sys::yield_processor();
        }
        // SAFETY: the lock is held until after the work.
        let result = work(unsafe { &mut *self.arming.get() });
        self.word.store(0, Ordering::Release);
        result
    }
}

/// Puts the handler in front of the program's. False where the kernel refuses.
pub fn install() -> bool {
    segv::install(on_fault)
}

/// In a forked child, whose pages all have their rights.
pub fn close_in_child() {
    ARMING.word.store(0, Ordering::Relaxed);
    ARMING.with(|arming| *arming = Arming::new());
}

/// The thread that arms pages at its work.
struct AtWork<'a>(&'a mut Arming);

impl Worker for AtWork<'_> {
    fn arming(&mut self) -> (&mut Arming, &Mechanism) {
        (self.0, &Mechanism::Signals)
    }

    fn restore(&mut self, index: usize) {
        self.0.ranges[index].restore(&Mechanism::Signals);
    }
}

/// The routine of the thread that arms pages, period after period.
pub extern "C" fn run(_: *mut c_void) -> *mut c_void {
    let _own = tracer_threads::enter();
    loop {
        let now = sys::monotonic_ns();
        let next =
            ARMING.with(|arming| obey(&mut AtWork(arming)).then(|| arming.arm_what_is_due(&Mechanism::Signals, now)));
        let Some(next) = next else { break };
        sys::wait_for_any(&mut [], next.saturating_sub(now).clamp(1, NAP_NS_MAX));
    }
    core::ptr::null_mut()
}

/// Whether the fault was one of a watched page, which has its rights now.
fn on_fault(fault: &segv::Fault) -> bool {
    let (address, write) = (fault.address, fault.write);
    let coming =
        Coming { address, write, tid: sys::gettid(), time: sys::monotonic_ns(), instruction: Some(fault.instruction) };
    let seen = ARMING.with(|arming| {
        let index = arming.find(address)?;
        let seen = arming.ranges[index].seen(address, coming.tid, write, coming.time);
        if seen.is_news {
            telling::note(index, &coming, &seen, AccessSource::NoPermission);
        }
        Some((index, seen))
    });
    // Of a range whose watch has ended since, pages have their rights again, or another watch: the instruction only has to run
    // once more.
    let Some((index, seen)) = seen else {
        return (0..LOOKS)
            .any(|_| is_permitted(address, write) || ARMING.with(|arming| arming.find(address).is_some()));
    };
    // Without the lock: it may take its time, and touch other watched memory.
    if seen.is_news {
        telling::ask(index, &coming, &seen);
    }
    ARMING.with(|arming| {
        if arming.find(address) == Some(index) {
            arming.resolve(&Mechanism::Signals, index, address, write, &seen);
        }
    });
    true
}

/// Whether the mapping at an address permits the access now. Makes system calls that signal handlers may.
fn is_permitted(address: usize, write: bool) -> bool {
    let mut text = [0; 512];
    let Some(mut maps) = Maps::open(&mut text) else { return false };
    let wanted = Permissions::READ | if write { Permissions::WRITE } else { 0 };
    while let Some(mapping) = maps.next() {
        if (mapping.start.0..mapping.end.0).contains(&(address as u64)) {
            return mapping.permissions.has(wanted);
        }
    }
    false
}
