//! Reads the payload of a chunk of object events, many events at a time.

use super::address_code::{AddressCode, LITERAL, takes_low};
use super::planes::Planes;
use super::sections::read_sections;
use super::usable_rule::UsableRule;
use super::{LAYOUT, ObjectColumns, is_alloc};
use crate::error::FormatError;
use crate::event::kind_number as number;
use crate::event_batch::EventBatch;
use crate::units::{Address, StackId, TraceNanos};
use crate::varint::Input;
use crate::zstd_contexts::Decompressor;

/// Kind, code, low byte, a time of ten bytes, and planes of at most eight bytes of address, size, extra and stack.
const EVENT_BYTES_MAX: usize = 3 + 10 + 4 * 8;

/// Where the next event of a payload is, in each column. It holds none of the payload's bytes, so that it can live beside
/// them.
#[derive(Clone, Debug)]
pub(crate) struct ObjectPositions {
    events: usize,
    next: usize,
    kinds: usize,
    codes: usize,
    /// Where the next low byte is.
    lows: usize,
    times: usize,
    times_end: usize,
    literals: Planes,
    sizes: Planes,
    extras: Planes,
    stacks: Planes,
    time_shift: u32,
    address_shift: u32,
    address_base: u64,
    rule: UsableRule,
    last_time: u64,
    /// The addresses of the events so far, and those behind the objects of allocs.
    addresses: Vec<u64>,
    ends: Vec<u64>,
    /// Numbers of the present batch: literal addresses, sizes, extras, stacks.
    taken: [Vec<u64>; 4],
}

impl ObjectPositions {
    /// Finds the columns of a payload with `count` events, the first time being that of the chunk's header, and overwrites
    /// `columns` with them.
    ///
    /// # Errors
    /// [`FormatError::Payload`] where the lengths do not fit the payload or the count.
    pub(crate) fn open(
        payload: &[u8],
        count: u32,
        first: TraceNanos,
        columns: &mut Vec<u8>,
        decompressor: &mut Decompressor,
    ) -> Result<ObjectPositions, FormatError> {
        const LENGTHS: FormatError = FormatError::Payload("columns of objects that do not fit their payload");
        let mut input = Input::new(payload);
        let fixed = input.take(8).ok_or(LENGTHS)?;
        let &[layout, time_shift, address_shift, rule, ref widths @ ..] = fixed else { return Err(LENGTHS) };
        let rule = UsableRule::from_number(rule);
        let (LAYOUT, 0..64, 0..64, Some(rule)) = (layout, time_shift, address_shift, rule) else {
            return Err(FormatError::Payload("unknown layout of columns of objects"));
        };
        let address_base = input.number().ok_or(LENGTHS)?;
        let mut length = || input.number().and_then(|number| usize::try_from(number).ok()).ok_or(LENGTHS);
        let (literals, allocs, lows, time_bytes) = (length()?, length()?, length()?, length()?);
        let events = count as usize;

        read_sections(input, events.saturating_mul(EVENT_BYTES_MAX), columns, decompressor)?;
        let columns = &columns[..];
        let mut end = 0_usize;
        let mut place = |bytes: usize| -> Result<usize, FormatError> {
            let start = end;
            end = start.checked_add(bytes).filter(|&end| end <= columns.len()).ok_or(LENGTHS)?;
            Ok(start)
        };
        let (kinds, codes) = (place(events)?, place(events)?);
        let (low_bytes, times) = (place(lows)?, place(time_bytes)?);
        let times_end = times + time_bytes;
        let mut planes = |count: usize, width: u8| -> Result<Planes, FormatError> {
            let planes = Planes::at(0, count, width).ok_or(LENGTHS)?;
            let at = place(planes.bytes())?;
            Planes::at(at, count, width).ok_or(LENGTHS)
        };
        let literal_planes = planes(literals, widths[0])?;
        let (sizes, extras, stacks) =
            (planes(allocs, widths[1])?, planes(allocs, widths[2])?, planes(allocs, widths[3])?);
        let is_object = |&kind: &u8| matches!(kind & 0xf, number::OBJECT_ALLOC | number::OBJECT_FREE);
        let (kind_bytes, code_bytes) = (&columns[kinds..kinds + events], &columns[codes..codes + events]);
        if end != columns.len()
            || !kind_bytes.iter().all(is_object)
            || kind_bytes.iter().filter(|&&kind| is_alloc(kind)).count() != allocs
            || code_bytes.iter().filter(|&&code| code == LITERAL).count() != literals
            || code_bytes.iter().filter(|&&code| takes_low(code)).count() != lows
            || events > ObjectColumns::EVENTS_MAX
        {
            return Err(FormatError::Payload("columns of objects that do not hold the events that they should"));
        }
        Ok(ObjectPositions {
            events,
            next: 0,
            kinds,
            codes,
            lows: low_bytes,
            times,
            times_end,
            literals: literal_planes,
            sizes,
            extras,
            stacks,
            time_shift: time_shift.into(),
            address_shift: address_shift.into(),
            address_base,
            rule,
            last_time: first.0,
            addresses: Vec::with_capacity(events),
            ends: Vec::with_capacity(allocs),
            taken: Default::default(),
        })
    }

    /// Appends the next events to an empty batch, at most `max`. `columns` are those that were opened.
    ///
    /// # Errors
    /// [`FormatError::Payload`]; the rest of the chunk is lost, and the batch holds the events in front of the damage.
    pub(crate) fn fill(&mut self, columns: &[u8], batch: &mut EventBatch, max: usize) -> Result<(), FormatError> {
        let events = max.min(self.events - self.next);
        let kinds = &columns[self.kinds + self.next..][..events];
        batch.kinds.extend_from_slice(kinds);
        let read = self.fill_times(columns, batch, events).min(self.fill_addresses(columns, batch, events));
        self.next += events;
        if read < events {
            self.next = self.events;
            batch.truncate(read);
            return Err(FormatError::Payload("an object event with a time or an address that cannot be"));
        }
        Ok(())
    }

    /// How many could be read.
    fn fill_times(&mut self, columns: &[u8], batch: &mut EventBatch, events: usize) -> usize {
        let mut input = Input::new(&columns[self.times..self.times_end]);
        batch.times.reserve(events);
        for index in 0..events {
            let Some(units) = input.number() else { return index };
            self.last_time = self.last_time.wrapping_add(units << self.time_shift);
            batch.times.push(TraceNanos(self.last_time));
        }
        self.times = self.times_end - input.rest().len();
        events
    }

    /// Everything but kinds and times. How many could be read.
    fn fill_addresses(&mut self, columns: &[u8], batch: &mut EventBatch, events: usize) -> usize {
        let kinds = &columns[self.kinds + self.next..][..events];
        let codes = &columns[self.codes + self.next..][..events];
        let allocs = kinds.iter().filter(|&&kind| is_alloc(kind)).count();
        let literals = codes.iter().filter(|&&code| code == LITERAL).count();
        let [literal, size, extra, stack] = &mut self.taken;
        self.literals.take(columns, literals, literal);
        self.sizes.take(columns, allocs, size);
        self.extras.take(columns, allocs, extra);
        self.stacks.take(columns, allocs, stack);
        let mut literal = literal.iter();
        let mut of_allocs = size.iter().zip(&*extra).zip(&*stack);
        batch.addresses.resize(events, Address(0));
        batch.sizes.resize(events, 0);
        batch.usable.resize(events, 0);
        batch.stacks.resize(events, StackId::UNKNOWN);
        let (addresses, sizes) = (&mut batch.addresses[..events], &mut batch.sizes[..events]);
        let (usables, stacks) = (&mut batch.usable[..events], &mut batch.stacks[..events]);
        for index in 0..events {
            let code = codes[index];
            // Any byte where the code takes none.
            let low = columns.get(self.lows).copied().unwrap_or(0);
            self.lows += usize::from(takes_low(code));
            let found = match AddressCode::from_bytes(code, low) {
                AddressCode::Literal => {
                    let above = literal.next().copied().unwrap_or(0);
                    Some(self.address_base.wrapping_add(above) << self.address_shift)
                }
                AddressCode::Same(distance) => ago(&self.addresses, distance),
                AddressCode::Behind(distance) => ago(&self.ends, distance),
            };
            let Some(address) = found else { return index };
            self.addresses.push(address);
            addresses[index] = Address(address);
            if is_alloc(kinds[index])
                && let Some(((&size, &extra), &stack)) = of_allocs.next()
            {
                let usable = self.rule.usable(size).wrapping_add(extra);
                let Ok(stack) = u32::try_from(stack) else { return index };
                if usable < size {
                    return index;
                }
                (sizes[index], usables[index], stacks[index]) = (size, usable, StackId(stack));
                self.ends.push(address.wrapping_add(usable).wrapping_add(self.rule.gap()));
            }
        }
        events
    }
}

/// The address of so many places ago.
#[inline(always)]
fn ago(addresses: &[u64], distance: usize) -> Option<u64> {
    addresses.get(addresses.len().checked_sub(distance)?).copied()
}
