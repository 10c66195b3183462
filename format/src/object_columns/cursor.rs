//! Reads the payload of a chunk of object events, many events at a time.

use core::hint::select_unpredictable;

use super::address_code::{CODES, LITERAL, takes_low};
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
    /// Allocs there are, and how many have been read.
    allocs: usize,
    next_alloc: usize,
    memory: ObjectMemory,
}

/// What the reading of a chunk needs to remember; the next chunk is read with the same memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct ObjectMemory {
    /// The addresses of the chunk's events so far, and from the place of its number of events on those behind the objects of
    /// allocs. What an earlier chunk left here is not read.
    known: Vec<u64>,
    /// Numbers of the present batch: literal addresses, sizes, extras, stacks; and one more of each, for those who look ahead.
    taken: [Vec<u64>; 4],
}

impl ObjectPositions {
    /// Finds the columns of a payload with `count` events, the first time being that of the chunk's header, and overwrites
    /// `columns` with them. `memory` is that of an earlier chunk, or none.
    ///
    /// # Errors
    /// [`FormatError::Payload`] where the lengths do not fit the payload or the count.
    pub(crate) fn open(
        payload: &[u8],
        count: u32,
        first: TraceNanos,
        columns: &mut Vec<u8>,
        decompressor: &mut Decompressor,
        mut memory: ObjectMemory,
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
            || count_of(kind_bytes, is_alloc) != allocs
            || count_of(code_bytes, |code| code == LITERAL) != literals
            || count_of(code_bytes, takes_low) != lows
            || events > ObjectColumns::EVENTS_MAX
        {
            return Err(FormatError::Payload("columns of objects that do not hold the events that they should"));
        }
        // One more: where no alloc is, none is written as well.
        let known = events + allocs + 1;
        if memory.known.len() < known {
            memory.known.resize(known, 0);
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
            allocs,
            next_alloc: 0,
            memory,
        })
    }

    /// The memory, for the next chunk. Nothing can be read afterwards.
    pub(crate) fn take_memory(&mut self) -> ObjectMemory {
        self.next = self.events;
        std::mem::take(&mut self.memory)
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
        batch.times.resize(events, TraceNanos(0));
        let mut read = 0;
        for place in &mut batch.times {
            let Some(units) = input.number() else { break };
            self.last_time = self.last_time.wrapping_add(units << self.time_shift);
            *place = TraceNanos(self.last_time);
            read += 1;
        }
        self.times = self.times_end - input.rest().len();
        read
    }

    /// Everything but kinds and times. How many could be read.
    ///
    /// What an event is cannot be foreseen, so that all that it could be is read, and what it is chosen without a branch.
    fn fill_addresses(&mut self, columns: &[u8], batch: &mut EventBatch, events: usize) -> usize {
        let kinds = &columns[self.kinds + self.next..][..events];
        let codes = &columns[self.codes + self.next..][..events];
        let allocs = count_of(kinds, is_alloc);
        let literals = count_of(codes, |code| code == LITERAL);
        let [literal, size, extra, stack] = &mut self.memory.taken;
        self.literals.take(columns, literals, literal);
        self.sizes.take(columns, allocs, size);
        self.extras.take(columns, allocs, extra);
        self.stacks.take(columns, allocs, stack);
        for numbers in [&mut *literal, &mut *size, &mut *extra, &mut *stack] {
            numbers.push(0);
        }
        batch.addresses.resize(events, Address(0));
        batch.sizes.resize(events, 0);
        batch.usable.resize(events, 0);
        batch.stacks.resize(events, StackId::UNKNOWN);
        let (addresses, sizes) = (&mut batch.addresses[..events], &mut batch.sizes[..events]);
        let (usables, stacks) = (&mut batch.usable[..events], &mut batch.stacks[..events]);
        let known = &mut self.memory.known[..self.events + self.allocs + 1];
        let (events_before, first_end) = (self.next, self.events);
        let (first_alloc, mut next_alloc, mut next_literal, mut lows) =
            (self.next_alloc, self.next_alloc, 0, self.lows);
        let (literal, size, extra, stack) = (&literal[..], &size[..], &extra[..], &stack[..]);
        let (address_base, address_shift, rule) = (self.address_base, self.address_shift, self.rule);
        let mut read = 0;
        for ((index, &code), &kind) in codes.iter().enumerate().zip(kinds) {
            let code = CODES[usize::from(code)];
            // Any byte where the code takes none.
            let low = columns.get(lows).copied().unwrap_or(0) & code.low;
            lows += usize::from(code.low & 1);
            let distance = usize::from(code.distance) + usize::from(low);
            let here = events_before + index;
            let (start, count) = select_unpredictable(code.is_behind, (first_end, next_alloc), (0, here));
            if distance > count {
                break;
            }
            // Of a literal any address.
            let before = known[start + count - distance];
            let literal_address = address_base.wrapping_add(literal[next_literal]) << address_shift;
            next_literal += usize::from(code.is_literal);
            let address = select_unpredictable(code.is_literal, literal_address, before);
            known[here] = address;
            let of_alloc = next_alloc - first_alloc;
            let (size, extra, stack) = (size[of_alloc], extra[of_alloc], stack[of_alloc]);
            let usable = rule.usable(size).wrapping_add(extra);
            let is_alloc = is_alloc(kind);
            if is_alloc & ((stack > u64::from(u32::MAX)) | (usable < size)) {
                break;
            }
            addresses[index] = Address(address);
            sizes[index] = select_unpredictable(is_alloc, size, 0);
            usables[index] = select_unpredictable(is_alloc, usable, 0);
            stacks[index] = StackId(select_unpredictable(is_alloc, stack, 0) as u32);
            known[first_end + next_alloc] = address.wrapping_add(usable).wrapping_add(rule.gap());
            next_alloc += usize::from(is_alloc);
            read += 1;
        }
        (self.next_alloc, self.lows) = (next_alloc, lows);
        read
    }
}

/// How many of them are so. Byte by byte it takes eight times as long.
fn count_of(bytes: &[u8], is_so: impl Fn(u8) -> bool) -> usize {
    let count = |part: &[u8]| part.iter().map(|&byte| u8::from(is_so(byte))).sum::<u8>();
    bytes.chunks(usize::from(u8::MAX)).map(|part| usize::from(count(part))).sum()
}
