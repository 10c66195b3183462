//! Watching where userfaultfd(2) is forbidden.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pagetrace::{Access, AccessError, AccessKind, Builder, Decision, Thread, Watch, WriteTracking};
use pagetrace_format::access;

use crate::memory::{PAGE, Pages};
use crate::{sys, trace};

const ONCE: Duration = Duration::from_secs(1000);

/// What the callback was shown: address, whether it wrote, instruction, thread.
static SEEN: [[AtomicUsize; 4]; 64] = [const { [const { AtomicUsize::new(0) }; 4] }; 64];
static COUNT: AtomicUsize = AtomicUsize::new(0);

fn note(access: &Access) -> Decision {
    let place = &SEEN[COUNT.fetch_add(1, Ordering::Relaxed) % 64];
    let is_write = usize::from(access.kind == AccessKind::Write);
    let values = [access.address, is_write, access.instruction.unwrap_or(0), access.thread.0 as usize];
    place.iter().zip(values).for_each(|(place, value)| place.store(value, Ordering::Relaxed));
    Decision::Proceed
}

/// Without consent it is refused; with it reads and writes are seen, by which instruction and by whom.
pub fn watches(file: &Path) {
    sys::forbid_userfaultfd();
    let guard = Builder::new(file).init().expect("a recording");
    let pages = Pages::written(20);
    let range = pages.base..pages.at(19);
    assert!(matches!(WriteTracking::all_writable().start(), Err(AccessError::Unavailable { .. })));
    let refused = Watch::range(range.clone()).system_calls_may_fail().start();
    assert!(matches!(refused, Err(AccessError::Unavailable { .. })), "{refused:?}");
    let watching = Watch::range(range).rearm_every(ONCE).by_signals().on_access(note).start().expect("it can be");
    assert_eq!(sys::read(pages.at(3) + 24), 3);
    pages.write(4);
    assert_eq!(sys::read(pages.at(5) + 24), 5);
    pages.write(5);
    assert_eq!(sys::kernel_reads(pages.at(7)), Err(libc::EFAULT));
    let me = Thread::current().0 as usize;
    let expected = [(3, 0), (4, 1), (5, 0), (5, 1)];
    assert_eq!(COUNT.load(Ordering::Relaxed), expected.len());
    for (place, (page, write)) in SEEN.iter().zip(expected) {
        let [address, is_write, instruction, thread] = place.each_ref().map(|value| value.load(Ordering::Relaxed));
        assert_eq!((address, is_write, thread), (pages.at(page) + 24, write, me));
        let function = if write == 0 { sys::read as *const () } else { sys::write as *const () };
        assert!(instruction.wrapping_sub(function as usize) < 64);
    }
    assert_eq!((watching.statistics().reads, watching.statistics().writes), (2, 2));
    let status = sys::forked(|| (0..20).for_each(|page| assert_eq!(sys::read(pages.at(page) + 24), page as u8)));
    assert_eq!(status, 0);
    drop(watching);
    assert_eq!(sys::kernel_reads(pages.at(7)), Ok(()));
    (0..20).for_each(|page| assert_eq!(sys::read(pages.at(page) + 24), page as u8));
    drop(guard);
    let told = trace::accesses(file).into_iter().filter(|access| matches!(access, access::Access::Watched(_))).count();
    assert!(told >= 4, "{told}");
}

/// Two threads are found on a page; other faults are the program's handler's.
pub fn other_handlers(_file: &Path) {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    static PAGE_OF_THE_PROGRAM: AtomicUsize = AtomicUsize::new(0);
    fn handler() {
        CALLS.fetch_add(1, Ordering::Relaxed);
        sys::set_writable(PAGE_OF_THE_PROGRAM.load(Ordering::Relaxed), PAGE, true);
    }
    sys::forbid_userfaultfd();
    sys::handle_faults(handler);
    let own = Pages::written(1);
    PAGE_OF_THE_PROGRAM.store(own.base, Ordering::Relaxed);
    let pages = Pages::written(8);
    let range = pages.base..pages.base + 8 * PAGE;
    let watching = Watch::range(range).rearm_every(Duration::from_millis(2)).by_signals().start().expect("it can be");
    let end = Instant::now() + Duration::from_millis(600);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while Instant::now() < end {
                    (0..8).for_each(|page| pages.write(page));
                    thread::yield_now();
                }
            });
        }
    });
    let seen = watching.statistics();
    assert!(seen.foreign > 2 && seen.periods > 10, "{seen:?}");
    sys::set_writable(own.base, PAGE, false);
    own.write(0);
    assert_eq!(CALLS.load(Ordering::Relaxed), 1);
    drop(watching);
    sys::set_writable(own.base, PAGE, false);
    own.write(0);
    assert_eq!(CALLS.load(Ordering::Relaxed), 2, "the program's handler goes on");
}

/// A fault that is nobody's ends the program as it would have.
pub fn real_faults(_file: &Path) {
    sys::forbid_userfaultfd();
    let pages = Pages::written(2);
    let watching = Watch::range(pages.base..pages.at(1)).by_signals().start().expect("it can be");
    pages.write(0);
    let read_only = Pages::written(1);
    sys::set_writable(read_only.base, PAGE, false);
    read_only.write(0);
    println!("not to be printed: {:?}", watching.statistics());
}
