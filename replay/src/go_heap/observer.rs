//! Whoever wants to know of each change of a heap, beside the heap itself.

use pagetrace_format::go_execution_trace::GoEvent;
use pagetrace_format::{Address, PageRun};

use super::sites::SiteKey;

/// Is told of changes as the heap has understood them: slots, not addresses inside them, and each once.
pub trait HeapObserver {
    /// A span is in use now.
    fn pages_taken(&mut self, event: &GoEvent, run: PageRun);
    /// A span is not in use any more.
    fn pages_given_up(&mut self, event: &GoEvent, run: PageRun);
    /// A slot holds an object now.
    fn object_born(&mut self, event: &GoEvent, slot: Address, bytes: u64, site: SiteKey);
    /// A slot holds none any more.
    fn object_died(&mut self, event: &GoEvent, slot: Address);
}

/// Nobody.
pub struct Unobserved;

impl HeapObserver for Unobserved {
    #[inline]
    fn pages_taken(&mut self, _event: &GoEvent, _run: PageRun) {}
    #[inline]
    fn pages_given_up(&mut self, _event: &GoEvent, _run: PageRun) {}
    #[inline]
    fn object_born(&mut self, _event: &GoEvent, _slot: Address, _bytes: u64, _site: SiteKey) {}
    #[inline]
    fn object_died(&mut self, _event: &GoEvent, _slot: Address) {}
}
