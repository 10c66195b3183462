//! The events of one M in one generation, one after the other; of the next one the time is known.

use super::event_type::{ARGUMENTS, NOT_TIMED};
use super::generation::EventBatch;
use crate::decode::Defect;
use crate::varint::Input;

/// Most arguments that an event has behind its time.
pub const ARGUMENTS_MAX: usize = 4;

/// Where an M's events are read.
#[derive(Debug)]
pub struct MCursor<'a> {
    /// The M's place in the scheduling.
    pub slot: u32,
    /// In the order of the file, those that were read left out.
    batches: std::vec::IntoIter<EventBatch<'a>>,
    rest: Input<'a>,
    /// The next event: its type, and its time in clock units.
    pub kind: u8,
    pub time: u64,
}

impl<'a> MCursor<'a> {
    pub fn new(slot: u32, batches: Vec<EventBatch<'a>>) -> MCursor<'a> {
        MCursor { slot, batches: batches.into_iter(), rest: Input::new(&[]), kind: 0, time: 0 }
    }

    /// Goes to the next event; false after the last. What is damaged of a batch is stepped over and reported.
    #[inline]
    pub fn advance(&mut self, file: &[u8], defects: &mut Vec<Defect>) -> bool {
        loop {
            let Some(kind) = self.rest.byte() else {
                let Some(batch) = self.batches.next() else { return false };
                self.rest = Input::new(batch.payload);
                self.time = batch.time;
                continue;
            };
            let time = self.rest.number().and_then(|delta| self.time.checked_add(delta));
            match time {
                Some(time) if ARGUMENTS[kind as usize] != NOT_TIMED => {
                    (self.kind, self.time) = (kind, time);
                    return true;
                }
                Some(_) => self.give_up("a type of event that is not known in a batch", file, defects),
                None => self.give_up("an event that is cut, or a time beyond 64 bits", file, defects),
            }
        }
    }

    /// The arguments of the event that [`MCursor::advance`] went to, once. Where they are cut the batch is given up.
    #[inline]
    pub fn arguments(&mut self, file: &[u8], defects: &mut Vec<Defect>) -> Option<[u64; ARGUMENTS_MAX]> {
        let mut arguments = [0; ARGUMENTS_MAX];
        for argument in &mut arguments[..ARGUMENTS[self.kind as usize] as usize] {
            match self.rest.number() {
                Some(number) => *argument = number,
                None => {
                    self.give_up("an event that is cut, or a number beyond 64 bits", file, defects);
                    return None;
                }
            }
        }
        Some(arguments)
    }

    /// Where in the file the next byte is.
    #[inline]
    pub fn offset(&self, file: &[u8]) -> usize {
        self.rest.rest().as_ptr().addr().saturating_sub(file.as_ptr().addr())
    }

    /// Steps over what is left of the batch.
    #[cold]
    fn give_up(&mut self, what: &'static str, file: &[u8], defects: &mut Vec<Defect>) {
        defects.push(Defect { offset: self.offset(file), bytes: self.rest.rest().len(), what });
        self.rest = Input::new(&[]);
    }
}
