//! Births of objects whose addresses are others' still. An alloc's time is rounded up, and the frees behind it in its stream wait
//! for it: so an object that dies at once may come here, whole, when its address is the next one's already; then that lives on. And
//! the free of the object before may come late for the same reason: then the one that was born lives on.

use std::collections::VecDeque;

use pagetrace_format::{StreamId, TraceNanos};

use crate::merged_event::MergedEvent;
use crate::objects::Object;

/// A time is rounded by less than 1,024 ns, and two are compared.
pub(crate) const LATE_NS_MAX: u64 = 2048;
/// More replaced objects in that time are those of a trace that has lost frees.
pub(crate) const WAITING_MAX: usize = 64;

/// The objects that were replaced last: seldom any.
#[derive(Clone, Debug, Default)]
pub(crate) struct LateBirths {
    waiting: VecDeque<Replaced>,
}

/// Which object lives on at the address of a free.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LivesOn {
    /// The one that was replaced, and whether it was counted as one that died young: the other was born too late, and has died.
    Replaced(Object, bool),
    /// The one that replaced it: the free was that of the one before.
    Replacing,
}

/// An object that was live when an alloc came at its address.
#[derive(Clone, Copy, Debug)]
struct Replaced {
    address: u64,
    object: Object,
    /// What was counted when it was replaced.
    died_young: bool,
    /// Of the alloc.
    time: TraceNanos,
    /// The slot of its stream.
    stream: u32,
    /// The stream, where a checkpoint has told it: it may have no slot, as one that has not gone on yet.
    told: Option<StreamId>,
}

/// One as a checkpoint tells it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LateBirth {
    pub(crate) address: u64,
    pub(crate) object: Object,
    pub(crate) died_young: bool,
    pub(crate) time: TraceNanos,
    pub(crate) stream: StreamId,
}

impl LateBirths {
    /// Whether there is none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// All that wait, `streams` being those of the slots.
    pub(crate) fn waiting(&self, streams: &[StreamId]) -> impl Iterator<Item = LateBirth> {
        self.waiting.iter().map(|&Replaced { address, object, died_young, time, stream, told }| {
            let stream = told.or_else(|| streams.get(stream as usize).copied()).unwrap_or(StreamId(u32::MAX));
            LateBirth { address, object, died_young, time, stream }
        })
    }

    /// One that waits since before a checkpoint; of a stream without a slot no free can be.
    pub(crate) fn restore(&mut self, birth: LateBirth, slot: Option<u32>) {
        let LateBirth { address, object, died_young, time, stream } = birth;
        if self.waiting.len() < WAITING_MAX {
            let (told, stream) = (Some(stream), slot.unwrap_or(u32::MAX));
            self.waiting.push_back(Replaced { address, object, died_young, time, stream, told });
        }
    }

    /// This object was live when an alloc came at its address.
    #[cold]
    pub(crate) fn add(&mut self, alloc: &MergedEvent, object: Object, died_young: bool) {
        self.forget_old(alloc.time);
        if self.waiting.len() == WAITING_MAX {
            self.waiting.pop_front();
        }
        let (address, time, stream) = (alloc.address.0, alloc.time, alloc.stream);
        self.waiting.push_back(Replaced { address, object, died_young, time, stream, told: None });
    }

    /// What lives on at the address of this free, where an object was replaced there a moment ago.
    #[cold]
    pub(crate) fn take(&mut self, free: &MergedEvent) -> Option<LivesOn> {
        self.forget_old(free.time);
        let place = self.waiting.iter().rposition(|it| it.address == free.address.0)?;
        self.waiting.remove(place).map(|it| match it.stream == free.stream {
            true => LivesOn::Replaced(it.object, it.died_young),
            false => LivesOn::Replacing,
        })
    }

    fn forget_old(&mut self, now: TraceNanos) {
        let is_old = |it: &Replaced| now.0.saturating_sub(it.time.0) > LATE_NS_MAX;
        while self.waiting.front().is_some_and(is_old) {
            self.waiting.pop_front();
        }
    }
}
