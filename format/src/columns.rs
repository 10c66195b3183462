//! A chunk of events as columns, one for each field, which compress far better than whole events.
//!
//! ```text
//! flags u8 (bit 0: times go backwards somewhere, so they are zigzag) · address shift u8 · columns u8 (7)
//! length of each column, varint · the columns, in this order:
//!   kind     one byte an event: kind number in bits 0–3, function in bits 4–7
//!   time     varint, nanoseconds since the event before; the first since the chunk's first time
//!   address  zigzag difference from the event before that has one, shifted right by the address shift
//!   size     varint bytes, of each object that came to life
//!   extra    varint, usable bytes beyond the size
//!   stack    varint id of the stack
//!   pages    varint, of each page event
//! ```

use crate::error::FormatError;
use crate::event::{Event, EventKind, ObjectAlloc, ObjectFree, ObjectFunction, PageRun, kind_number as number};
use crate::units::{Address, PageCount, StackId, TraceNanos};
use crate::varint::{Input, put, unzigzag, zigzag};

const COLUMNS: usize = 7;
const FLAG_TIMES_GO_BACK: u8 = 1;

/// Collects the events of one chunk.
#[derive(Debug, Default)]
pub struct EventColumns {
    events: Vec<Event>,
}

impl EventColumns {
    /// Empty columns.
    #[must_use]
    pub fn new() -> EventColumns {
        EventColumns::default()
    }

    /// Appends one event.
    pub fn push(&mut self, event: Event) {
        self.events.push(event);
    }

    /// The events so far, in the order they were appended.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// How many events so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Forgets all events and keeps the memory.
    pub fn clear(&mut self) {
        self.events.clear();
    }

    /// Earliest and latest time, `None` when empty.
    #[must_use]
    pub fn times(&self) -> Option<(TraceNanos, TraceNanos)> {
        let times = self.events.iter().map(|event| event.time);
        Some((times.clone().min()?, times.max()?))
    }

    /// The payload of a chunk whose header gives [`EventColumns::times`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let first = self.times().map_or(0, |(first, _)| first.0);
        let times_go_back = !self.events.is_sorted_by_key(|event| event.time);
        let all_addresses = self.events.iter().filter_map(|event| address_of(&event.kind)).fold(0, |all, a| all | a.0);
        let shift = (all_addresses.trailing_zeros() % 64).min(30);
        let mut columns: [Vec<u8>; COLUMNS] = Default::default();
        let [kinds, times, addresses, sizes, extras, stacks, pages] = &mut columns;
        let (mut last_time, mut last_address) = (first, 0_u64);
        for event in &self.events {
            let delta = event.time.0.wrapping_sub(last_time);
            put(times, if times_go_back { zigzag(delta as i64) } else { delta });
            last_time = event.time.0;
            if let Some(address) = address_of(&event.kind) {
                let shifted = address.0 >> shift;
                put(addresses, zigzag(shifted.wrapping_sub(last_address) as i64));
                last_address = shifted;
            }
            kinds.push(kind_byte(&event.kind));
            match event.kind {
                EventKind::TimeSync | EventKind::ObjectFree(_) => {}
                EventKind::PageAlloc(run) | EventKind::PageFree(run) | EventKind::PageScavenge(run) => {
                    put(pages, run.pages.0);
                }
                EventKind::ObjectAlloc(object) => {
                    put(sizes, object.size);
                    put(extras, object.usable.saturating_sub(object.size));
                    put(stacks, u64::from(object.stack.0));
                }
            }
        }
        let mut payload = vec![u8::from(times_go_back) * FLAG_TIMES_GO_BACK, shift as u8, COLUMNS as u8];
        for column in &columns {
            put(&mut payload, column.len() as u64);
        }
        for column in &columns {
            payload.extend_from_slice(column);
        }
        payload
    }
}

fn address_of(kind: &EventKind) -> Option<Address> {
    match kind {
        EventKind::TimeSync => None,
        EventKind::PageAlloc(run) | EventKind::PageFree(run) | EventKind::PageScavenge(run) => Some(run.base),
        EventKind::ObjectAlloc(object) => Some(object.address),
        EventKind::ObjectFree(object) => Some(object.address),
    }
}

fn kind_byte(kind: &EventKind) -> u8 {
    match kind {
        EventKind::TimeSync => number::TIME_SYNC,
        EventKind::PageAlloc(_) => number::PAGE_ALLOC,
        EventKind::PageFree(_) => number::PAGE_FREE,
        EventKind::PageScavenge(_) => number::PAGE_SCAVENGE,
        EventKind::ObjectAlloc(object) => number::OBJECT_ALLOC | (object.function as u8) << 4,
        EventKind::ObjectFree(object) => number::OBJECT_FREE | (object.function as u8) << 4,
    }
}

/// Where the next event of a payload is, in each column. It holds no bytes, so that it can live beside them.
#[derive(Clone, Debug)]
pub struct ColumnPositions {
    at: [usize; COLUMNS],
    end: [usize; COLUMNS],
    times_go_back: bool,
    shift: u32,
    last_time: u64,
    last_address: u64,
    left: u32,
}

impl ColumnPositions {
    /// Finds the columns of a payload with `count` events, the first time being that of the chunk's header.
    ///
    /// # Errors
    /// [`FormatError::Payload`] where the lengths do not fit the payload or the count.
    pub fn open(payload: &[u8], count: u32, first: TraceNanos) -> Result<ColumnPositions, FormatError> {
        let mut input = Input::new(payload);
        let short = || FormatError::Payload("the columns end early");
        let flags = input.byte().ok_or_else(short)?;
        let shift = u32::from(input.byte().ok_or_else(short)?);
        if flags & !FLAG_TIMES_GO_BACK != 0 || shift > 63 || input.byte() != Some(COLUMNS as u8) {
            return Err(FormatError::Payload("unknown layout of columns"));
        }
        let mut lengths = [0_usize; COLUMNS];
        for length in &mut lengths {
            *length = input.number().and_then(|n| usize::try_from(n).ok()).ok_or_else(short)?;
        }
        let mut at = [0; COLUMNS];
        let mut end = [0; COLUMNS];
        let mut offset = payload.len() - input.rest().len();
        for column in 0..COLUMNS {
            at[column] = offset;
            offset = offset.checked_add(lengths[column]).filter(|&end| end <= payload.len()).ok_or_else(short)?;
            end[column] = offset;
        }
        if lengths[0] != count as usize || offset != payload.len() {
            return Err(FormatError::Payload("the columns do not hold the number of events that the header gives"));
        }
        let last_time = first.0;
        Ok(ColumnPositions {
            at,
            end,
            times_go_back: flags & FLAG_TIMES_GO_BACK != 0,
            shift,
            last_time,
            last_address: 0,
            left: count,
        })
    }

    /// The next event, `None` after the last. `payload` must be the one that was opened.
    ///
    /// # Errors
    /// [`FormatError::Payload`] where a column ends early or holds what cannot be; the rest of the chunk is lost.
    #[inline]
    pub fn next(&mut self, payload: &[u8]) -> Result<Option<Event>, FormatError> {
        if self.left == 0 {
            return Ok(None);
        }
        match self.decode(payload) {
            Some(event) => {
                self.left -= 1;
                Ok(Some(event))
            }
            None => {
                self.left = 0;
                Err(FormatError::Payload("an event with a kind or a number that cannot be"))
            }
        }
    }

    /// Events not read yet.
    #[must_use]
    pub fn left(&self) -> u32 {
        self.left
    }

    #[inline]
    fn decode(&mut self, payload: &[u8]) -> Option<Event> {
        let byte = *payload.get(self.at[0])?;
        self.at[0] += 1;
        let delta = self.number(payload, 1)?;
        let delta = if self.times_go_back { unzigzag(delta) as u64 } else { delta };
        self.last_time = self.last_time.wrapping_add(delta);
        let time = TraceNanos(self.last_time);
        let function = ObjectFunction::from_number(byte >> 4);
        let kind = match byte & 0xf {
            number::TIME_SYNC => EventKind::TimeSync,
            number::PAGE_ALLOC => EventKind::PageAlloc(self.run(payload)?),
            number::PAGE_FREE => EventKind::PageFree(self.run(payload)?),
            number::PAGE_SCAVENGE => EventKind::PageScavenge(self.run(payload)?),
            number::OBJECT_ALLOC => {
                let address = self.address(payload)?;
                let size = self.number(payload, 3)?;
                let usable = size.checked_add(self.number(payload, 4)?)?;
                let stack = StackId(u32::try_from(self.number(payload, 5)?).ok()?);
                EventKind::ObjectAlloc(ObjectAlloc { address, size, usable, stack, function })
            }
            number::OBJECT_FREE => EventKind::ObjectFree(ObjectFree { address: self.address(payload)?, function }),
            _ => return None,
        };
        Some(Event { time, kind })
    }

    #[inline]
    fn run(&mut self, payload: &[u8]) -> Option<PageRun> {
        let base = self.address(payload)?;
        Some(PageRun { base, pages: PageCount(self.number(payload, 6)?) })
    }

    #[inline]
    fn address(&mut self, payload: &[u8]) -> Option<Address> {
        let delta = unzigzag(self.number(payload, 2)?) as u64;
        self.last_address = self.last_address.wrapping_add(delta);
        Some(Address(self.last_address << self.shift))
    }

    #[inline]
    fn number(&mut self, payload: &[u8], column: usize) -> Option<u64> {
        let bytes = payload.get(self.at[column]..self.end[column])?;
        let mut input = Input::new(bytes);
        let value = input.number()?;
        self.at[column] += bytes.len() - input.rest().len();
        Some(value)
    }
}
