//! Births that came after the next object's at the same address: an alloc's time is rounded up, and the frees behind it in
//! its stream wait for it. So an object that dies at once may come here, whole, when its address is another's already.

use std::collections::VecDeque;

use pagetrace_format::TraceNanos;

use crate::merged_event::MergedEvent;
use crate::objects::Object;

/// A time is rounded by less than 1,024 ns, and two are compared.
const LATE_NS_MAX: u64 = 2048;
/// More replaced objects in that time are those of a trace that has lost frees.
const WAITING_MAX: usize = 64;

/// The objects that were replaced last: seldom any.
#[derive(Clone, Debug, Default)]
pub(crate) struct LateBirths {
    waiting: VecDeque<Replaced>,
}

/// An object that was live when an alloc came at its address.
#[derive(Clone, Copy, Debug)]
struct Replaced {
    address: u64,
    object: Object,
    /// Of the alloc.
    time: TraceNanos,
    stream: u32,
}

impl LateBirths {
    /// Whether there is none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// This object was live when an alloc came at its address.
    #[cold]
    pub(crate) fn add(&mut self, alloc: &MergedEvent, object: Object) {
        self.forget_old(alloc.time);
        if self.waiting.len() == WAITING_MAX {
            self.waiting.pop_front();
        }
        let (address, time, stream) = (alloc.address.0, alloc.time, alloc.stream);
        self.waiting.push_back(Replaced { address, object, time, stream });
    }

    /// The object that lives on, where the one that is freed now had come too late and by the same stream.
    #[cold]
    pub(crate) fn take(&mut self, free: &MergedEvent) -> Option<Object> {
        self.forget_old(free.time);
        let place = self.waiting.iter().rposition(|it| it.address == free.address.0)?;
        self.waiting.remove(place).filter(|it| it.stream == free.stream).map(|it| it.object)
    }

    fn forget_old(&mut self, now: TraceNanos) {
        let is_old = |it: &Replaced| now.0.saturating_sub(it.time.0) > LATE_NS_MAX;
        while self.waiting.front().is_some_and(is_old) {
            self.waiting.pop_front();
        }
    }
}
