//! What happens around fork(2) in a program that writes its trace itself.

use core::sync::atomic::{AtomicBool, Ordering};

use super::process::{INHERITED, PROCESS, lifecycle};
use super::thread_state::{self, busy};
use super::{OBJECTS, attach, page_sets, watches, writes};

/// Whether the fork that is going on holds the live table. Forks are one after the other, by the table's locks.
static LOCKED: AtomicBool = AtomicBool::new(false);

/// In the parent, before: the live table stands still, so that the child finds it whole.
pub extern "C" fn prepare() {
    // First: who ends an epoch waits for the right to write, whose holder may wait for the live table.
    writes::fork_begins();
    watches::fork_begins();
    if is_on() {
        // Handlers of others, which run while the table is locked, may allocate, and signals may come.
        thread_state::current().busy.set(thread_state::current().busy.get() | busy::AROUND_FORK);
        OBJECTS.lock_all();
        LOCKED.store(true, Ordering::Relaxed);
    }
    // After the locks: an object that was freed between this moment and theirs would be alive in the child's trace, while
    // the child's allocator hands its place out again.
    attach::fork_begins();
}

/// In the parent, after.
pub extern "C" fn parent() {
    attach::fork_in_parent();
    watches::fork_in_parent();
    writes::fork_in_parent();
    if LOCKED.swap(false, Ordering::Relaxed) {
        // SAFETY: `prepare` has locked them all, in this thread: another one that forks waits there for the locks.
        unsafe { OBJECTS.unlock_all() };
    }
    leave();
}

/// In the child.
pub extern "C" fn child() {
    let locked = LOCKED.swap(false, Ordering::Relaxed);
    // SAFETY: the child has one thread, and the flag is that of the thread that forked: a fork that is going on keeps
    // others waiting.
    unsafe { OBJECTS.unlock_all_in_child(locked) };
    page_sets::forget_readers_in_child();
    leave();
    attach::fork_in_child();
    watches::fork_in_child();
    writes::fork_in_child();
}

fn leave() {
    let state = &thread_state::current().busy;
    state.set(state.get() & !busy::AROUND_FORK);
}

fn is_on() -> bool {
    PROCESS.writes_itself() && INHERITED.lifecycle.load(Ordering::Acquire) != lifecycle::UNINITIALIZED
}
