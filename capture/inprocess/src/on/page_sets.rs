//! The page runs that buffers have traced: one set for each buffer that is in use, kept when the buffer goes, so that
//! statistics stay whole and the number of sets is that of the buffers there were at once.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use super::page_set::PageSet;
use crate::sys;

/// A set and its place in the list of all. Never unmapped.
#[repr(C, align(64))]
pub struct Node {
    /// The runs.
    pub set: PageSet,
    next: AtomicPtr<Node>,
    taken: AtomicU32,
}

static FIRST: AtomicPtr<Node> = AtomicPtr::new(ptr::null_mut());
/// Events that found no memory for a set.
static MISSED: AtomicU64 = AtomicU64::new(0);

/// Nodes that are mapped at a time.
const NODES: usize = 64;

/// A set for a buffer: one that another buffer has left, or a new one. `None`, and counted, without memory.
#[cold]
pub fn take() -> Option<&'static Node> {
    let free = |node: &&Node| node.taken.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok();
    all().find(free).or_else(|| {
        map_more();
        all().find(free)
    })
}

/// Counts a run that is in no set.
pub fn count_missed() {
    MISSED.fetch_add(1, Ordering::Relaxed);
}

/// Runs that are in no set.
pub fn missed() -> u64 {
    MISSED.load(Ordering::Relaxed)
}

/// Leaves a set to another buffer, with what is in it.
pub fn leave(node: &Node) {
    node.taken.store(0, Ordering::Release);
}

/// All sets.
pub fn all() -> impl Iterator<Item = &'static Node> {
    let mut next = FIRST.load(Ordering::Acquire);
    core::iter::from_fn(move || {
        // SAFETY: null, or a node in memory that is never unmapped; what is shared of it is atomic.
        let node = unsafe { next.as_ref() }?;
        next = node.next.load(Ordering::Acquire);
        Some(node)
    })
}

/// In a forked child: those who were reading are not there.
pub fn forget_readers_in_child() {
    for node in all() {
        // SAFETY: called where the child has one thread, which reads no set now.
        unsafe { node.set.forget_readers_in_child() };
    }
}

/// Empties all sets. No hook may be at work.
pub fn release_all() {
    for node in all() {
        node.set.release();
    }
    MISSED.store(0, Ordering::Relaxed);
}

fn map_more() {
    let bytes = NODES * size_of::<Node>();
    // SAFETY: anywhere.
    let Some(memory) = (unsafe { sys::map_zeroed(ptr::null(), bytes) }) else { return };
    let nodes = memory.cast_mut().cast::<Node>();
    for index in 0..NODES {
        let node = nodes.wrapping_add(index);
        let fresh = Node { set: PageSet::new(), next: AtomicPtr::new(ptr::null_mut()), taken: AtomicU32::new(0) };
        // SAFETY: within the new mapping, aligned as mappings are, and nobody knows of it yet.
        unsafe { node.write(fresh) };
        let mut first = FIRST.load(Ordering::Relaxed);
        loop {
            // SAFETY: written above.
            unsafe { (*node).next.store(first, Ordering::Relaxed) };
            match FIRST.compare_exchange(first, node, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => break,
                Err(other) => first = other,
            }
        }
    }
}
