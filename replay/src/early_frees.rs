//! Frees that came before the allocs of their objects: streams are merged by times that are rounded, an alloc's up and a
//! free's down, so that an object that goes to another thread at once may die there before it was born here.

use std::collections::VecDeque;

use pagetrace_format::{StreamId, TraceNanos};

use crate::merged_event::MergedEvent;

/// A time is rounded by less than 1,024 ns, and two are compared.
const EARLY_NS_MAX: u64 = 2048;
/// More frees of unknown objects in that time are what a trace has that was not there from the start.
const WAITING_MAX: usize = 64;

/// The last frees of objects that nobody knew: seldom any.
#[derive(Clone, Debug, Default)]
pub(crate) struct EarlyFrees {
    waiting: VecDeque<EarlyFree>,
}

#[derive(Clone, Copy, Debug)]
struct EarlyFree {
    address: u64,
    time: TraceNanos,
    /// The slot of its stream.
    stream: u32,
    /// The stream, where a checkpoint has told it: it may have no slot, as one that has not gone on yet.
    told: Option<StreamId>,
}

impl EarlyFrees {
    /// All that wait: address, time and stream, `streams` being those of the slots.
    pub(crate) fn waiting(&self, streams: &[StreamId]) -> impl Iterator<Item = (u64, TraceNanos, StreamId)> {
        self.waiting.iter().map(|free| {
            let stream = free.told.or_else(|| streams.get(free.stream as usize).copied());
            (free.address, free.time, stream.unwrap_or(StreamId(u32::MAX)))
        })
    }

    /// One that waits since before a checkpoint; of a stream without a slot no alloc can be.
    pub(crate) fn restore(&mut self, address: u64, time: TraceNanos, stream: StreamId, slot: Option<u32>) {
        if self.waiting.len() < WAITING_MAX {
            let (told, stream) = (Some(stream), slot.unwrap_or(u32::MAX));
            self.waiting.push_back(EarlyFree { address, time, stream, told });
        }
    }

    /// A free of an object that is not known.
    #[cold]
    pub(crate) fn add(&mut self, free: &MergedEvent) {
        self.forget_old(free.time);
        if self.waiting.len() == WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(EarlyFree { address: free.address.0, time: free.time, stream: free.stream, told: None });
    }

    /// Whether a free was that of the object that now comes to life.
    #[inline]
    pub(crate) fn take(&mut self, alloc: &MergedEvent) -> bool {
        !self.waiting.is_empty() && self.find(alloc)
    }

    /// A stream's own events are in order: what it freed before is not what it gets now. So are another's: the first free of
    /// those that wait is that of the first alloc that comes.
    #[cold]
    fn find(&mut self, alloc: &MergedEvent) -> bool {
        self.forget_old(alloc.time);
        let is_here = |free: &EarlyFree| free.address == alloc.address.0;
        let of_another = self.waiting.iter().position(|free| is_here(free) && free.stream != alloc.stream);
        // Its own is of what was there before, and of nothing that comes.
        let found = of_another.or_else(|| self.waiting.iter().position(is_here));
        found.and_then(|index| self.waiting.remove(index)).is_some_and(|free| free.stream != alloc.stream)
    }

    fn forget_old(&mut self, now: TraceNanos) {
        let is_old = |free: &EarlyFree| now.0.saturating_sub(free.time.0) > EARLY_NS_MAX;
        while self.waiting.front().is_some_and(is_old) {
            self.waiting.pop_front();
        }
    }
}
