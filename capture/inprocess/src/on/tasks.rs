//! What threads are at, by what their runtime says: the last changes of each thread with their times, so that who learns
//! later of a moment can ask what ran then.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use super::thread_state;
use crate::sys;

/// Changes of a thread that are kept.
const KEPT: usize = 128;
/// Threads that can say so at a time.
const THREADS: usize = 16 << 10;

/// One thread's changes. All zero for a thread that has said nothing.
#[repr(C)]
pub struct TaskLog {
    tid: AtomicU32,
    /// How many changes there were.
    changes: AtomicU32,
    /// Time with bit 63 set where there is a task, and the task.
    kept: [[AtomicU64; 2]; KEPT],
}

const HAS_TASK: u64 = 1 << 63;

/// All logs, mapped at the first change.
static LOGS: AtomicPtr<TaskLog> = AtomicPtr::new(ptr::null_mut());

/// How many logs were ever in use.
static USED: AtomicU32 = AtomicU32::new(0);

/// See [`crate::task_begins`].
pub fn begins(task: Option<u64>) {
    let thread = &thread_state::current().tasks;
    let log = match thread.get() {
        log if log.is_null() => sys::keeping_errno(claim),
        // SAFETY: not null, so one of the logs, which are never unmapped.
        log => Some(unsafe { &*log }),
    };
    let Some(log) = log else { return };
    thread.set(log);
    let index = log.changes.load(Ordering::Relaxed);
    let [time, what] = &log.kept[index as usize % KEPT];
    time.store(0, Ordering::Release);
    what.store(task.unwrap_or(0), Ordering::Release);
    time.store(sys::monotonic_ns() | if task.is_some() { HAS_TASK } else { 0 }, Ordering::Release);
    log.changes.store(index.wrapping_add(1), Ordering::Release);
}

/// What a thread was at at a time; `None` also where that is not kept any more. Looks at all threads that have said so.
pub fn at(tid: u32, moment: u64) -> Option<u64> {
    let logs = LOGS.load(Ordering::Acquire);
    if logs.is_null() {
        return None;
    }
    let used = (USED.load(Ordering::Acquire) as usize).min(THREADS);
    // SAFETY: as many are mapped, for good.
    let mut all = (0..used).map(|index| unsafe { &*logs.add(index) });
    let log = all.find(|log| log.tid.load(Ordering::Relaxed) == tid)?;
    let changes = log.changes.load(Ordering::Acquire);
    for back in 1..=changes.min(KEPT as u32 - 1) {
        let [time, task] = &log.kept[changes.wrapping_sub(back) as usize % KEPT];
        let begun = time.load(Ordering::Acquire);
        let what = task.load(Ordering::Acquire);
        if begun & !HAS_TASK <= moment {
            // Written over meanwhile: then it is too old.
            let is_kept = log.changes.load(Ordering::Acquire).wrapping_sub(changes) + back < KEPT as u32;
            return (is_kept && begun & HAS_TASK != 0).then_some(what);
        }
    }
    None
}

/// The thread ends: its log is another's to have.
pub fn thread_ended() {
    let thread = &thread_state::current().tasks;
    // SAFETY: null or one of the logs, which are never unmapped.
    if let Some(log) = unsafe { thread.replace(ptr::null()).as_ref() } {
        log.changes.store(0, Ordering::Release);
        log.tid.store(0, Ordering::Release);
    }
}

fn claim() -> Option<&'static TaskLog> {
    if LOGS.load(Ordering::Acquire).is_null() {
        // SAFETY: anywhere.
        let memory = unsafe { sys::map_zeroed(ptr::null(), THREADS * size_of::<TaskLog>()) }?;
        let memory: *mut TaskLog = memory.cast_mut().cast();
        if LOGS.compare_exchange(ptr::null_mut(), memory, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            // SAFETY: nobody has seen it.
            unsafe { sys::unmap(memory.cast_const().cast(), THREADS * size_of::<TaskLog>()) };
        }
    }
    let (logs, tid) = (LOGS.load(Ordering::Acquire), sys::gettid());
    // A thread that had this number may have ended unseen.
    for index in 0..(USED.load(Ordering::Acquire) as usize).min(THREADS) {
        // SAFETY: as many are mapped, for good.
        let log = unsafe { &*logs.add(index) };
        if log.tid.load(Ordering::Relaxed) == tid {
            log.changes.store(0, Ordering::Release);
            return Some(log);
        }
    }
    for index in 0..THREADS {
        // SAFETY: as many are mapped, for good.
        let log = unsafe { &*logs.add(index) };
        if log.tid.compare_exchange(0, tid, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            USED.fetch_max(index as u32 + 1, Ordering::Release);
            sys::watch_this_thread();
            return Some(log);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_the_task_that_ran_then() {
        std::thread::spawn(|| {
            let tid = sys::gettid();
            let before = sys::monotonic_ns();
            assert_eq!(at(tid, before), None);
            let mut times = Vec::new();
            for task in [Some(7), None, Some(u64::MAX)] {
                begins(task);
                times.push((sys::monotonic_ns(), task));
            }
            for &(time, task) in &times {
                assert_eq!(at(tid, time), task);
            }
            assert_eq!(at(tid, before), None);
            (0..KEPT as u64).for_each(|task| begins(Some(task)));
            assert_eq!(at(tid, times[0].0), None, "it is not kept any more");
            assert_eq!(at(tid, sys::monotonic_ns()), Some(KEPT as u64 - 1));
            thread_ended();
            assert_eq!(at(tid, sys::monotonic_ns()), None);
        })
        .join()
        .expect("it runs");
    }
}
