//! The payload of a chunk of object events.

use super::address_code::AddressCode;
use super::planes;
use super::sections::put_sections;
use super::usable_rule::UsableRule;
use super::{LAYOUT, ObjectColumns, is_alloc};
use crate::units::TraceNanos;
use crate::varint::put;
use crate::zstd_contexts::Compressor;

/// How exact times are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeRounding {
    /// As they are.
    #[default]
    Exact,
    /// To about the mean distance between the chunk's events, a power of two of at most [`TimeRounding::UNIT_MAX`]: an alloc's
    /// up and a free's down, none below the event before. So an object mostly dies before another one is born at its address, in
    /// whatever thread; what a reader has to expect all the same is in TRACE_FORMAT.md.
    ToDistance,
}

impl TimeRounding {
    /// Rounded times are off by less than this.
    pub const UNIT_MAX: TraceNanos = TraceNanos(1 << SHIFT_MAX);
}

const SHIFT_MAX: u32 = 10;
/// Slots of a table of addresses; a power of two.
const SLOTS: usize = ObjectColumns::EVENTS_MAX;

/// A payload, and the times that its header gives.
#[derive(Clone, Debug)]
pub(crate) struct EncodedObjects {
    /// The payload, to be stored as it is.
    pub payload: Vec<u8>,
    /// The first time.
    pub first: TraceNanos,
    /// The last time.
    pub last: TraceNanos,
}

impl ObjectColumns {
    /// The payload. `None` without events.
    ///
    /// # Panics
    /// With more than [`ObjectColumns::EVENTS_MAX`] events.
    pub(crate) fn encode(&self, rounding: TimeRounding, compressor: &mut Compressor) -> Option<EncodedObjects> {
        assert!(self.len() <= ObjectColumns::EVENTS_MAX, "a chunk of {} object events", self.len());
        let (&first, &last) = (self.times.first()?, self.times.last()?);
        let time_shift = match rounding {
            TimeRounding::Exact => exact_shift(first, &self.times),
            TimeRounding::ToDistance => {
                (last.wrapping_sub(first) / self.len() as u64).checked_ilog2().unwrap_or(0).min(SHIFT_MAX)
            }
        };
        let (times, units) = self.time_column(first, time_shift);

        let rule = UsableRule::best(&self.sizes, &self.usable);
        let extras = self.sizes.iter().zip(&self.usable).map(|(&size, usable)| usable.wrapping_sub(rule.usable(size)));
        let extras: Vec<u64> = extras.collect();
        let AddressColumns { codes, lows, mut literals } = self.address_columns(rule);
        let shift = literals.iter().fold(0, |all, address| all | address).trailing_zeros() % 64;
        let base = literals.iter().min().map_or(0, |lowest| lowest >> shift);
        literals.iter_mut().for_each(|address| *address = (*address >> shift) - base);

        let widths = [&literals, &self.sizes, &extras, &self.stacks].map(|column| planes::width(column));
        let mut payload = Vec::with_capacity(64 + 8 * self.len());
        payload.extend([LAYOUT, time_shift as u8, shift as u8, rule as u8]);
        payload.extend(widths);
        put(&mut payload, base);
        for number in [literals.len(), self.sizes.len(), lows.len(), times.len()] {
            put(&mut payload, number as u64);
        }
        let mut columns = Vec::with_capacity(12 * self.len());
        let mut ends = Vec::new();
        for column in [&self.kinds, &codes, &lows, &times] {
            columns.extend_from_slice(column);
            ends.push(columns.len());
        }
        for (column, width) in [&literals, &self.sizes, &extras, &self.stacks].into_iter().zip(widths) {
            planes::put(&mut columns, column, width, &mut ends);
        }
        put_sections(&mut payload, &columns, &ends, compressor);
        let last = first.wrapping_add(units << time_shift);
        Some(EncodedObjects { payload, first: TraceNanos(first), last: TraceNanos(last) })
    }

    /// The column, and how many units the last event is from the first.
    fn time_column(&self, first: u64, shift: u32) -> (Vec<u8>, u64) {
        let mut column = Vec::with_capacity(2 * self.len());
        let up = (1_u64 << shift) - 1;
        let mut before = 0;
        for (&kind, &time) in self.kinds.iter().zip(&self.times) {
            let since = time.wrapping_sub(first);
            let since = if is_alloc(kind) { since.saturating_add(up) } else { since };
            let units = (since >> shift).max(before);
            put(&mut column, units - before);
            before = units;
        }
        (column, before)
    }

    /// Where each address is to be found.
    fn address_columns(&self, rule: UsableRule) -> AddressColumns {
        let mut codes = vec![0; self.len()];
        let (mut lows, mut lows_taken) = (vec![0; self.len()], 0);
        let (mut literals, mut literals_taken) = (vec![0; self.len()], 0);
        let (mut end_of, mut allocs) = (vec![0; self.usable.len()], 0);
        // The number of the event that met an address last, and of the alloc whose object ends in front of it; from 1.
        let mut slots = vec![[0_u16; 2]; SLOTS];
        let events = self.kinds.iter().zip(&self.addresses).zip(&mut codes);
        for (index, ((&kind, &address), byte)) in events.enumerate() {
            let [met, in_front] = &mut slots[slot_of(address)];
            let (before, in_front) = (usize::from(*met), usize::from(*in_front));
            *met = index as u16 + 1;
            let code = if before != 0 && self.addresses[before - 1] == address {
                AddressCode::Same(index + 1 - before)
            } else if in_front != 0 && end_of[in_front - 1] == address {
                AddressCode::Behind(allocs + 1 - in_front)
            } else {
                AddressCode::Literal
            };
            let code = if code.is_in_reach() { code } else { AddressCode::Literal };
            let low;
            (*byte, low) = code.to_bytes();
            if let Some(low) = low {
                lows[lows_taken] = low;
                lows_taken += 1;
            }
            if code == AddressCode::Literal {
                literals[literals_taken] = address;
                literals_taken += 1;
            }
            if is_alloc(kind)
                && let Some(usable) = self.usable.get(allocs)
            {
                let end = address.wrapping_add(*usable).wrapping_add(rule.gap());
                end_of[allocs] = end;
                allocs += 1;
                slots[slot_of(end)][1] = allocs as u16;
            }
        }
        lows.truncate(lows_taken);
        literals.truncate(literals_taken);
        AddressColumns { codes, lows, literals }
    }
}

/// Where addresses are to be found, with those that are to be found nowhere.
struct AddressColumns {
    codes: Vec<u8>,
    lows: Vec<u8>,
    literals: Vec<u64>,
}

/// So many low bits are zero in all times counted from the first.
fn exact_shift(first: u64, times: &[u64]) -> u32 {
    let all = times.iter().fold(0, |all, time| all | time.wrapping_sub(first));
    all.trailing_zeros().min(SHIFT_MAX)
}

/// Addresses of objects are multiples of 8 or 16, mostly.
#[inline(always)]
fn slot_of(address: u64) -> usize {
    ((address >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SLOTS.trailing_zeros())) as usize
}
