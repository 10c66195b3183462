//! Events of one chunk in memory, a column for each field: how a reader that is in a hurry takes them.

use crate::event::{Event, EventKind, ObjectAlloc, ObjectFree, ObjectFunction, PageRun, kind_number as number};
use crate::units::{Address, ObjectId, PageCount, StackId, TraceNanos};

/// Some events of one stream in their order. Every column has a place for every event, 0 where it has no such field.
#[derive(Clone, Debug, Default)]
pub struct EventBatch {
    /// The number of the kind in bits 0–3 ([`kind_number`](crate::event::kind_number)), of the function in bits 4–7.
    pub(crate) kinds: Vec<u8>,
    pub(crate) times: Vec<TraceNanos>,
    /// Of objects, and the base of page runs.
    pub(crate) addresses: Vec<Address>,
    /// What was asked for, bytes; the pages of page runs.
    pub(crate) sizes: Vec<u64>,
    pub(crate) usable: Vec<u64>,
    pub(crate) stacks: Vec<StackId>,
    /// Empty where the chunk has no ids; 0 for an object without one.
    pub(crate) object_ids: Vec<u64>,
}

/// The columns of an [`EventBatch`], all of the same length.
#[derive(Clone, Copy, Debug)]
pub struct BatchColumns<'a> {
    /// The number of the kind in bits 0–3 ([`kind_number`](crate::event::kind_number)), of the function in bits 4–7.
    pub kinds: &'a [u8],
    /// When it happened.
    pub times: &'a [TraceNanos],
    /// The address of an object, or the base of a page run.
    pub addresses: &'a [Address],
    /// What an object's program asked for, bytes; the pages of a page run.
    pub sizes: &'a [u64],
    /// Usable bytes of an object that came to life.
    pub usable: &'a [u64],
    /// The stack of an object that came to life.
    pub stacks: &'a [StackId],
}

impl EventBatch {
    /// A batch without events.
    #[must_use]
    pub fn new() -> EventBatch {
        EventBatch::default()
    }

    /// How many events there are.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Whether there are none.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Forgets all events and keeps the memory.
    pub fn clear(&mut self) {
        let EventBatch { kinds, times, addresses, sizes, usable, stacks, object_ids } = self;
        kinds.clear();
        times.clear();
        addresses.clear();
        sizes.clear();
        usable.clear();
        stacks.clear();
        object_ids.clear();
    }

    /// Forgets the events from this one on.
    pub(crate) fn truncate(&mut self, events: usize) {
        let EventBatch { kinds, times, addresses, sizes, usable, stacks, object_ids } = self;
        kinds.truncate(events);
        times.truncate(events);
        addresses.truncate(events);
        sizes.truncate(events);
        usable.truncate(events);
        stacks.truncate(events);
        object_ids.truncate(events);
    }

    /// The columns.
    #[must_use]
    #[inline]
    pub fn columns(&self) -> BatchColumns<'_> {
        let events = self.len();
        BatchColumns {
            kinds: &self.kinds,
            times: &self.times[..events],
            addresses: &self.addresses[..events],
            sizes: &self.sizes[..events],
            usable: &self.usable[..events],
            stacks: &self.stacks[..events],
        }
    }

    /// One of the events; of one behind the end, and of an unknown kind, a time sync.
    #[must_use]
    #[inline]
    pub fn event(&self, index: usize) -> Event {
        let Some(&kind) = self.kinds.get(index) else {
            return Event { time: TraceNanos(0), kind: EventKind::TimeSync };
        };
        let (address, size) = (self.addresses[index], self.sizes[index]);
        let function = ObjectFunction::from_number(kind >> 4);
        let run = PageRun { base: address, pages: PageCount(size) };
        let kind = match kind & 0xf {
            number::PAGE_ALLOC => EventKind::PageAlloc(run),
            number::PAGE_FREE => EventKind::PageFree(run),
            number::PAGE_SCAVENGE => EventKind::PageScavenge(run),
            number::OBJECT_ALLOC => {
                let (usable, stack) = (self.usable[index], self.stacks[index]);
                EventKind::ObjectAlloc(ObjectAlloc { address, size, usable, stack, function })
            }
            number::OBJECT_FREE => EventKind::ObjectFree(ObjectFree { address, function }),
            _ => EventKind::TimeSync,
        };
        Event { time: self.times[index], kind }
    }

    /// The id of the object of an event, where the trace gives one.
    #[must_use]
    #[inline]
    pub fn object_id(&self, index: usize) -> Option<ObjectId> {
        self.object_ids.get(index).copied().filter(|&id| id != 0).map(ObjectId)
    }

    /// Makes room for exactly so many events, which [`EventBatch::set`] puts there: cheaper than to append each to six
    /// columns.
    pub(crate) fn resize(&mut self, events: usize) {
        self.kinds.resize(events, 0);
        self.times.resize(events, TraceNanos(0));
        self.addresses.resize(events, Address(0));
        self.sizes.resize(events, 0);
        self.usable.resize(events, 0);
        self.stacks.resize(events, StackId::UNKNOWN);
    }

    /// Appends one event without an id.
    pub(crate) fn push(&mut self, event: &Event) {
        self.resize(self.len() + 1);
        self.set(self.len() - 1, event);
    }

    /// Writes an event over one of the batch.
    #[inline]
    pub(crate) fn set(&mut self, index: usize, event: &Event) {
        let (kind, address, size, usable, stack) = match &event.kind {
            EventKind::TimeSync => (number::TIME_SYNC, Address(0), 0, 0, StackId::UNKNOWN),
            EventKind::PageAlloc(run) => (number::PAGE_ALLOC, run.base, run.pages.0, 0, StackId::UNKNOWN),
            EventKind::PageFree(run) => (number::PAGE_FREE, run.base, run.pages.0, 0, StackId::UNKNOWN),
            EventKind::PageScavenge(run) => (number::PAGE_SCAVENGE, run.base, run.pages.0, 0, StackId::UNKNOWN),
            EventKind::ObjectAlloc(it) => {
                (number::OBJECT_ALLOC | (it.function as u8) << 4, it.address, it.size, it.usable, it.stack)
            }
            EventKind::ObjectFree(it) => {
                (number::OBJECT_FREE | (it.function as u8) << 4, it.address, 0, 0, StackId::UNKNOWN)
            }
        };
        self.kinds[index] = kind;
        self.times[index] = event.time;
        self.addresses[index] = address;
        self.sizes[index] = size;
        self.usable[index] = usable;
        self.stacks[index] = stack;
    }
}
