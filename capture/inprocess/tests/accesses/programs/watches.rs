//! Watched ranges.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pagetrace::{Access, AccessError, AccessKind, Builder, Decision, Thread, Watch, Watching, WriteTracking};
use pagetrace_format::access;

use crate::memory::{BY_HAND, PAGE, Pages, end_epoch};
use crate::{sys, trace};

/// What callbacks were shown, in memory that no watch is about.
static SEEN: Mutex<Vec<Access>> = Mutex::new(Vec::new());

fn note(access: &Access) -> Decision {
    SEEN.lock().expect("nobody panics with it").push(*access);
    Decision::Proceed
}

fn seen() -> Vec<Access> {
    std::mem::take(&mut SEEN.lock().expect("nobody panics with it"))
}

/// Armed once, as far as a test lasts.
const ONCE: Duration = Duration::from_secs(1000);

#[track_caller]
fn watch(pages: &Pages, period: Duration) -> Watching {
    let range = pages.base..pages.base + pages.count * PAGE;
    Watch::range(range).rearm_every(period).system_calls_may_fail().on_access(note).start().expect("it can be watched")
}

pub fn reads_and_writes(file: &Path) {
    let guard = Builder::new(file).init().expect("a recording");
    let pages = Pages::written(30);
    // The last ten were never touched.
    sys::discard(pages.at(20), 10 * PAGE);
    let watching = watch(&pages, ONCE);
    pagetrace::task_begins(Some(77));
    assert_eq!(sys::read(pages.at(3) + 24), 3);
    pages.write(4);
    assert_eq!(sys::read(pages.at(5) + 24), 5);
    pages.write(5);
    assert_eq!(sys::read(pages.at(25)), 0);
    pages.write(26);
    let other = thread::spawn(move || {
        sys::read(pages.at(6));
        Thread::current()
    });
    let other = other.join().expect("it reads");
    let me = Thread::current();
    let expected = [
        (3, AccessKind::Read, me),
        (4, AccessKind::Write, me),
        (5, AccessKind::Read, me),
        (5, AccessKind::Write, me),
        (25, AccessKind::Read, me),
        (26, AccessKind::Write, me),
        (6, AccessKind::Read, other),
    ];
    let found = seen();
    let short = |access: &Access| ((access.address - pages.base) / PAGE, access.kind, access.thread);
    let mut firsts: Vec<_> = found.iter().map(short).collect();
    firsts.dedup();
    assert_eq!(firsts, expected);
    for access in &found {
        let function = if access.kind == AccessKind::Read { sys::read as *const () } else { sys::write as *const () };
        let distance = access.instruction.expect("it is known").wrapping_sub(function as usize);
        assert!(distance < 64, "the instruction is in the function that does it: {access:?}");
        assert_eq!(access.task, (access.thread == me).then_some(77));
        assert_eq!(access.modified_by, None);
    }
    drop(watching);
    for page in 0..30 {
        assert_eq!(sys::read(pages.at(page) + 24), if page < 20 || page == 26 { page as u8 } else { 0 }, "{page}");
    }
    drop(guard);
    let told = trace::accesses(file).into_iter().filter(|access| matches!(access, access::Access::Watched(_))).count();
    assert_eq!(told, found.len());
}

/// As root all system calls work; an ordinary user is refused, and told why, unless that is accepted.
pub fn system_calls(_file: &Path) {
    let pages = Pages::written(4);
    let refused = Watch::range(pages.base..pages.at(3)).start();
    if sys::is_root() {
        assert!(refused.is_ok(), "{refused:?}");
        drop(refused);
        let _watching = watch(&pages, ONCE);
        assert_eq!(sys::kernel_reads(pages.at(1) + 24), Ok(()));
        assert_eq!(sys::kernel_writes(pages.at(2), PAGE), Ok(()));
        let kinds: Vec<_> = seen().iter().map(|access| (access.kind, access.thread)).collect();
        assert_eq!(kinds, [(AccessKind::Read, Thread::current()), (AccessKind::Write, Thread::current())]);
        return;
    }
    assert!(matches!(refused, Err(AccessError::SystemCallsWouldFail)), "{refused:?}");
    let said = refused.expect_err("as seen").to_string();
    assert!(said.contains("EFAULT") && said.contains("system_calls_may_fail"), "{said}");
    let watching = watch(&pages, ONCE);
    assert_eq!(sys::kernel_reads(pages.at(1)), Err(libc::EFAULT));
    drop(watching);
    assert_eq!(sys::kernel_reads(pages.at(1)), Ok(()));
}

/// No access is another thread's.
pub fn one_thread_alone(_file: &Path) {
    let pages = Pages::written(20);
    let watching = watch(&pages, Duration::from_millis(2));
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(500) {
        (0..20).for_each(|page| pages.write(page));
        (0..20).for_each(|page| assert_eq!(sys::read(pages.at(page) + 24), page as u8));
    }
    let statistics = watching.statistics();
    assert!(statistics.periods > 20 && statistics.writes > 100, "{statistics:?}");
    assert_eq!(statistics.foreign, 0, "{statistics:?}");
}

/// Two threads write to a page in turns: each side is seen in each two periods in which both do.
pub fn ping_pong(_file: &Path) {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    const PERIOD: Duration = Duration::from_millis(10);
    const WINDOW_NS: u64 = 2 * PERIOD.as_nanos() as u64;
    let pages = Pages::written(1);
    let watching = watch(&pages, PERIOD);
    let start = Instant::now();
    // How often it writes in each window: the processors may be others' too, and a side that does not run writes nothing.
    let side = |own: usize| {
        let mut writes = [0_u32; 80];
        while let Some(count) = writes.get_mut((start.elapsed().as_nanos() as u64 / WINDOW_NS) as usize) {
            if TURN.load(Ordering::Acquire) % 2 == own {
                pages.write(0);
                TURN.fetch_add(1, Ordering::Release);
                *count += 1;
            } else {
                thread::yield_now();
            }
        }
        (Thread::current(), writes)
    };
    let sides = thread::scope(|scope| {
        let other = scope.spawn(|| side(1));
        [side(0), other.join().expect("it writes")]
    });
    let periods = watching.statistics().periods;
    let found = seen();
    // The first write of all was seen when it was made.
    let first = found.iter().map(|access| access.time.0).min().expect("the first write");
    let shared: Vec<u64> = (0..80_u64).filter(|&it| sides.iter().all(|(_, writes)| writes[it as usize] >= 2)).collect();
    assert!(shared.len() > 20, "both wrote in {} windows only", shared.len());
    for (thread, _) in sides {
        let foreign = |access: &&Access| access.thread == thread && access.modified_by.is_some();
        let is_in = |window: u64| move |access: &Access| (access.time.0 - first) / WINDOW_NS == window;
        let with = shared.iter().filter(|&&window| found.iter().filter(foreign).any(is_in(window))).count();
        // Nor does the tracer run in each of them where other programs want the processors too; `access_cost` measures how many there
        // are on a quiet machine.
        assert!(with * 2 >= shared.len(), "{thread:?}: {with} of {}, {periods} periods", shared.len());
        assert!(found.iter().filter(foreign).all(|access| access.modified_by != Some(thread)));
    }
    assert!(watching.statistics().foreign >= 2);
}

/// A child finds its memory whole and is not watched; its parent goes on being.
pub fn forks(_file: &Path) {
    let pages = Pages::written(40);
    let watching = watch(&pages, Duration::from_millis(3));
    pages.write(1);
    for _ in 0..20 {
        let status = sys::forked(|| {
            for page in 0..40 {
                assert_eq!(sys::read(pages.at(page) + 24), page as u8, "{page}");
                pages.write(page);
            }
            assert_eq!(sys::kernel_reads(pages.at(3)), Ok(()));
            // A watch of its own.
            let own = watch(&pages, ONCE);
            pages.write(9);
            assert!(own.statistics().writes > 0);
        });
        assert_eq!(status, 0);
        (0..40).for_each(|page| assert_eq!(sys::read(pages.at(page) + 24), page as u8, "{page}"));
    }
    seen();
    let before = watching.statistics().writes;
    let start = Instant::now();
    while watching.statistics().writes == before {
        assert!(start.elapsed() < Duration::from_secs(20), "it goes on: {:?}", watching.statistics());
        (0..40).for_each(|page| pages.write(page));
        thread::sleep(Duration::from_millis(1));
    }
}

/// What the program gives back is gone, what it moves or unmaps goes with it.
pub fn memory_given_back(_file: &Path) {
    let pages = Pages::written(40);
    let watching = watch(&pages, ONCE);
    sys::discard(pages.at(5), 5 * PAGE);
    (0..40).for_each(|page| {
        let expected = if (5..10).contains(&page) { 0 } else { page as u8 };
        assert_eq!(sys::read(pages.at(page) + 24), expected, "{page}");
    });
    drop(watching);
    let watching = watch(&pages, ONCE);
    let moved = sys::move_memory(pages.at(20), 10 * PAGE, 10 * PAGE);
    (0..10).for_each(|page| assert_eq!(sys::read(moved + page * PAGE + 24), 20 + page as u8, "{page}"));
    sys::unmap(pages.at(30), 10 * PAGE);
    assert_eq!(sys::read(pages.at(19) + 24), 19);
    drop(watching);
    assert_eq!(sys::read(pages.at(18) + 24), 18);
    assert_eq!(sys::read(moved + 24), 20);
}

/// The program takes rights to its pages away while they are watched: they keep their contents.
pub fn rights(_file: &Path) {
    let pages = Pages::written(40);
    sys::discard(pages.at(35), 5 * PAGE);
    let watching = watch(&pages, Duration::from_millis(2));
    for round in 0..20 {
        sys::set_writable(pages.at(10), 30 * PAGE, round % 2 == 1);
        (0..40).for_each(|page| {
            assert_eq!(sys::read(pages.at(page) + 24), if page < 35 { page as u8 } else { 0 }, "{page}, round {round}");
        });
        thread::sleep(Duration::from_millis(4));
    }
    (0..35).for_each(|page| pages.write(page));
    drop(watching);
    (0..40).for_each(|page| assert_eq!(sys::read(pages.at(page) + 24), if page < 35 { page as u8 } else { 0 }));
}

pub fn refuses(_file: &Path) {
    let pages = Pages::written(4);
    let start = |range| Watch::range(range).system_calls_may_fail().start();
    assert!(matches!(start(pages.base..pages.base), Err(AccessError::Range)));
    let shared = sys::map_shared(PAGE);
    assert!(matches!(start(shared..shared + 1), Err(AccessError::NotPrivateMemory)));
    assert!(matches!(start(0x1000..0x2000), Err(AccessError::NotPrivateMemory)));
    let first = start(pages.base..pages.at(2)).expect("it can be watched");
    assert!(matches!(start(pages.at(1)..pages.at(3)), Err(AccessError::NotPrivateMemory)));
    let all: Vec<_> = (0..15).map(|_| start(pages_of_one())).collect();
    assert!(all.iter().all(Result::is_ok));
    assert!(matches!(start(pages_of_one()), Err(AccessError::TooManyWatches)));
    drop(first);
    let again = start(pages_of_one()).expect("there is room again");
    assert_eq!(again.statistics().reads, 0);
}

fn pages_of_one() -> std::ops::Range<usize> {
    let page = Pages::written(1);
    page.base..page.base + PAGE
}

/// Ranges can be watched while all other memory is tracked, and are tracked again after it.
pub fn beside_tracking(_file: &Path) {
    let pages = Pages::written(30);
    WriteTracking::all_writable().epoch(BY_HAND).start().expect("writes can be tracked here");
    let middle = Pages { base: pages.at(10), count: 10 };
    let watching = watch(&middle, ONCE);
    (0..30).for_each(|page| pages.write(page));
    end_epoch();
    for page in 0..30 {
        assert_eq!(pages.info(page).modified, !(10..20).contains(&page), "{page}");
    }
    assert_eq!(watching.statistics().writes, 10);
    drop(watching);
    end_epoch();
    pages.write(15);
    end_epoch();
    assert_eq!(pages.info(15).first_writer_of_last_epoch, Some(Thread::current()));
}

pub fn ends_with_finish(file: &Path) {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    fn count(_access: &Access) -> Decision {
        CALLS.fetch_add(1, Ordering::Relaxed);
        Decision::Proceed
    }
    let pages = Pages::written(30);
    let guard = Builder::new(file).init().expect("a recording");
    let range = pages.base..pages.at(29);
    let watching =
        Watch::range(range).rearm_every(ONCE).system_calls_may_fail().on_access(count).start().expect("it can");
    pages.write(3);
    assert_eq!(CALLS.load(Ordering::Relaxed), 1);
    pagetrace::off(pagetrace::Off::Keep).expect("it records");
    pages.write(4);
    assert_eq!((CALLS.load(Ordering::Relaxed), sys::kernel_reads(pages.at(5))), (1, Ok(())));
    pagetrace::on().expect("it was off");
    drop(guard);
    pages.write(5);
    assert_eq!((CALLS.load(Ordering::Relaxed), sys::kernel_reads(pages.at(6))), (1, Ok(())));
    assert_eq!(watching.statistics().writes, 0);
    (0..30).for_each(|page| assert_eq!(sys::read(pages.at(page) + 24), page as u8));
}
