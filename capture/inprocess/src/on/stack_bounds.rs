//! Where the calling thread's stack lies, found out without the C library: its functions for that allocate.

use super::thread_state;
use crate::sys;

/// How far down a stack pointer is taken to be on the main thread's stack. The kernel leaves a gap of at least 128 MiB
/// between it and the mappings below, where other stacks may lie (`mmap_base` in arch/x86/mm/mmap.c).
const MAIN_REACH: usize = 64 << 20;

/// Lowest address and one past the highest; zeros where unknown. Looks once for each thread.
pub fn known() -> (usize, usize) {
    let thread = thread_state::current();
    if thread.stack.get() == (0, 0) {
        let here = core::ptr::from_ref(&thread).addr();
        thread.stack.set(find(here));
    }
    thread.stack.get()
}

/// The mapping that holds a local variable: all of it is readable as long as the thread runs on it.
fn find(local: usize) -> (usize, usize) {
    if sys::sandbox::is_entered() {
        return (0, 0);
    }
    let Some((low, high)) = sys::pagemap::mapping_of(local) else { return (0, 0) };
    // A coroutine's stack, or one for signals, may go while the thread lives on.
    let own = if sys::gettid() == sys::getpid() { sys::main_stack_mark() } else { sys::thread_pointer() };
    if !(low..high).contains(&own) {
        return (0, 0);
    }
    // The C library puts the thread's control block at the top of a stack that it has made.
    let control_block = sys::thread_pointer();
    let high = if (local..high).contains(&control_block) { control_block } else { high };
    let low = if sys::gettid() == sys::getpid() { high.saturating_sub(MAIN_REACH).min(low) } else { low };
    (low, high)
}
