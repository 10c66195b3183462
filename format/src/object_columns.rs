//! A chunk of object events in columns, laid out for what allocators do: addresses come back soon, sizes and stacks
//! repeat, and the times of events matter to about the distance between them.
//!
//! ```text
//! layout u8 (1) · time shift u8 · address shift u8 · usable rule u8 · widths of addresses, sizes, extras and stacks: 4 × u8
//! address base, literals, allocs, lows, bytes of the column of times: 5 × varint · the columns, in sections, in this order:
//!   kind     one byte an event, as in `columns`
//!   code     one byte an event: where its address is to be found ([`address_code`])
//!   low      one byte an event with a code that takes one: the low byte of its distance
//!   time     varint, units of 2^shift ns since the event before; the first since the chunk's first time
//!   address  planes, of each event with code 0: what is above the base, shifted right
//!   size     planes, of each alloc
//!   extra    planes, of each alloc: usable bytes beyond what the rule makes of the size
//!   stack    planes, of each alloc
//! ```
//! *Planes* of a width `w` are the lowest bytes of all numbers, then their second bytes, up to the `w`-th: what little the
//! upper bytes say then costs little.

mod address_code;
mod cursor;
mod encode;
mod planes;
mod sections;
mod usable_rule;

pub(crate) use cursor::{ObjectMemory, ObjectPositions};
pub use encode::TimeRounding;

use crate::columns::EventColumns;
use crate::encode::PackedReader;
use crate::event::{Event, EventKind, ObjectAlloc, ObjectFree, ObjectFunction, kind_number as number};
use crate::units::{Address, StackId, TraceNanos};

/// The first byte of a payload.
const LAYOUT: u8 = 1;

/// Collects the object events of one chunk; their times do not go back.
#[derive(Clone, Debug, Default)]
pub struct ObjectColumns {
    kinds: Vec<u8>,
    times: Vec<u64>,
    last_time: u64,
    addresses: Vec<u64>,
    /// Of allocs alone, as the two below.
    sizes: Vec<u64>,
    usable: Vec<u64>,
    stacks: Vec<u64>,
}

impl ObjectColumns {
    /// A chunk holds no more events: a code reaches so far back, and a reader keeps as many addresses.
    pub const EVENTS_MAX: usize = 1 << 15;

    /// Empty columns.
    #[must_use]
    pub fn new() -> ObjectColumns {
        ObjectColumns::default()
    }

    /// Appends an object that came to life. A time before that of the event before counts as that.
    #[inline]
    pub fn push_alloc(&mut self, time: TraceNanos, alloc: &ObjectAlloc) {
        self.push(time, number::OBJECT_ALLOC | (alloc.function as u8) << 4, alloc.address);
        self.sizes.push(alloc.size);
        self.usable.push(alloc.usable);
        self.stacks.push(u64::from(alloc.stack.0));
    }

    /// Appends an object that died. A time before that of the event before counts as that.
    #[inline]
    pub fn push_free(&mut self, time: TraceNanos, free: &ObjectFree) {
        self.push(time, number::OBJECT_FREE | (free.function as u8) << 4, free.address);
    }

    /// Appends the objects that `words` begin with, as [`PackedReader::next`] gives them, until something else comes or it
    /// holds `events_max`. `time_of` maps ticks to times.
    #[inline]
    pub fn take_packed(
        &mut self,
        reader: &PackedReader,
        words: &mut &[u64],
        events_max: usize,
        time_of: impl Fn(u64) -> TraceNanos,
    ) {
        let Some(base) = reader.base() else { return };
        for _ in self.len()..events_max {
            let Some(&first) = words.first() else { break };
            let function = ObjectFunction::from_number((first >> 8) as u8);
            let time = time_of(base.wrapping_add(first >> 32));
            match (first as u8, *words) {
                (number::OBJECT_FREE, &[_, address, ref rest @ ..]) => {
                    self.push_free(time, &ObjectFree { address: Address(address), function });
                    *words = rest;
                }
                (number::OBJECT_ALLOC, &[_, address, size, last, ref rest @ ..]) => {
                    let Some(usable) = size.checked_add(last >> 32) else { break };
                    let (address, stack) = (Address(address), StackId(last as u32));
                    self.push_alloc(time, &ObjectAlloc { address, size, usable, stack, function });
                    *words = rest;
                }
                _ => break,
            }
        }
    }

    /// The same events, laid out as any events are.
    #[must_use]
    pub fn to_events(&self) -> EventColumns {
        let mut columns = EventColumns::new();
        let mut allocs = 0;
        for ((&kind, &time), &address) in self.kinds.iter().zip(&self.times).zip(&self.addresses) {
            let (address, function) = (Address(address), ObjectFunction::from_number(kind >> 4));
            let kind = if kind & 0xf == number::OBJECT_ALLOC {
                let (size, usable) = (self.sizes[allocs], self.usable[allocs]);
                let stack = StackId(self.stacks[allocs] as u32);
                allocs += 1;
                EventKind::ObjectAlloc(ObjectAlloc { address, size, usable, stack, function })
            } else {
                EventKind::ObjectFree(ObjectFree { address, function })
            };
            columns.push(Event { time: TraceNanos(time), kind });
        }
        columns
    }

    #[inline]
    fn push(&mut self, time: TraceNanos, kind: u8, address: Address) {
        self.kinds.push(kind);
        self.times.push(time.0.max(self.last_time));
        self.last_time = time.0.max(self.last_time);
        self.addresses.push(address.0);
    }

    /// How many events so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Forgets all events and keeps the memory.
    pub fn clear(&mut self) {
        let ObjectColumns { kinds, times, last_time: _, addresses, sizes, usable, stacks } = self;
        kinds.clear();
        for column in [times, addresses, sizes, usable, stacks] {
            column.clear();
        }
    }

    /// The events, in the order they were appended.
    pub fn events(&self) -> impl Iterator<Item = Event> {
        let mut allocs = self.sizes.iter().zip(&self.usable).zip(&self.stacks);
        let events = self.kinds.iter().zip(&self.times).zip(&self.addresses);
        events.map(move |((&kind, &time), &address)| {
            let (address, function) = (Address(address), ObjectFunction::from_number(kind >> 4));
            let alloc = if is_alloc(kind) { allocs.next() } else { None };
            let kind = match alloc {
                Some(((&size, &usable), &stack)) => EventKind::ObjectAlloc(ObjectAlloc {
                    address,
                    size,
                    usable,
                    stack: StackId(stack as u32),
                    function,
                }),
                None => EventKind::ObjectFree(ObjectFree { address, function }),
            };
            Event { time: TraceNanos(time), kind }
        })
    }
}

#[inline(always)]
fn is_alloc(kind: u8) -> bool {
    kind & 0xf == number::OBJECT_ALLOC
}
