//! The events of a packed chunk's payload, one after the other.

use super::{CLOCK_BYTES, PackedItem, PackedReader, TickClock};
use crate::error::FormatError;
use crate::event::Event;
use crate::units::{ObjectId, TraceNanos};

/// Where the next event of a packed chunk's payload is.
#[derive(Clone, Debug, Default)]
pub(crate) struct PackedEvents {
    clock: Option<TickClock>,
    words: Vec<u64>,
    at: usize,
    reader: PackedReader,
    /// Events that the chunk's header gives and that have not been read.
    left: u32,
}

impl PackedEvents {
    pub(crate) fn open(payload: &[u8], count: u32) -> Option<PackedEvents> {
        let (fields, words) = payload.split_at_checked(CLOCK_BYTES)?;
        let long = |offset: usize| u64::from_le_bytes(fields[offset..offset + 8].try_into().unwrap_or_default());
        let clock = TickClock {
            base_tick: long(0),
            base: TraceNanos(long(8)),
            mult: long(16) as u32,
            shift: (long(16) >> 32) as u32,
        };
        let words = words.chunks(8).map(|word| word.try_into().map(u64::from_le_bytes)).collect::<Result<Vec<_>, _>>();
        Some(PackedEvents {
            clock: Some(clock),
            words: words.ok()?,
            at: 0,
            reader: PackedReader::default(),
            left: count,
        })
    }

    pub(crate) fn object_id(&self) -> Option<ObjectId> {
        self.reader.object_id()
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Event>, FormatError> {
        let clock = self.clock.ok_or(FormatError::Payload("packed events without a clock"))?;
        loop {
            let mut rest = &self.words[self.at..];
            let item = self.reader.next(&mut rest);
            self.at = self.words.len() - rest.len();
            match item {
                Ok(Some(PackedItem::Event(tick, kind))) if self.left > 0 => {
                    self.left -= 1;
                    return Ok(Some(Event { time: clock.time_of(tick), kind }));
                }
                Ok(Some(PackedItem::Stack(..))) => {}
                Ok(None) if self.left == 0 => return Ok(None),
                Err(_) => return Err(self.give_up("packed words that are no event")),
                Ok(_) => return Err(self.give_up("another number of packed events than its header gives")),
            }
        }
    }

    /// What is behind damage is not read, nor complained of again.
    #[cold]
    fn give_up(&mut self, what: &'static str) -> FormatError {
        self.at = self.words.len();
        self.left = 0;
        FormatError::Payload(what)
    }
}
