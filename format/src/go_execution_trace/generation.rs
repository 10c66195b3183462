//! A generation: the batches of its events, and its tables, which come behind them in the file.

use super::batch::{self, Batch, Part};
use super::clock::ClockReading;
use super::event::GoType;
use super::event_type::{ALLOC_FREE_EXPERIMENT, CPU_SAMPLES, FREQUENCY, STACKS, STRINGS, SYNC};
use super::header::GoTraceVersion;
use super::heap_layout::HeapLayout;
use super::tables::{Tables, read_types};
use crate::decode::Defect;

/// Kinds of batches of the alloc/free experiment.
const TYPES: u8 = 0;
const LAYOUT: u8 = 1;

/// What was found of a generation before any of its events is read.
#[derive(Debug, Default)]
pub struct Generation<'a> {
    /// In the order of the file.
    pub batches: Vec<EventBatch<'a>>,
    pub tables: Tables<'a>,
    pub types: Vec<(u64, GoType<'a>)>,
    pub clock: ClockReading,
    pub layout: Option<HeapLayout>,
    pub defects: Vec<Defect>,
    /// Where in the file the next generation begins.
    pub end: usize,
}

/// The events that one M wrote in one piece.
#[derive(Clone, Copy, Debug)]
pub struct EventBatch<'a> {
    pub m: u64,
    /// Clock units.
    pub time: u64,
    pub payload: &'a [u8],
}

impl<'a> Generation<'a> {
    /// Reads the batches from `offset` on, up to the end of their generation. `None` at the end of the file.
    pub fn read(bytes: &'a [u8], offset: usize, version: GoTraceVersion) -> Option<Generation<'a>> {
        if offset >= bytes.len() {
            return None;
        }
        let mut generation = Generation { end: offset, ..Generation::default() };
        let mut number = None;
        while generation.end < bytes.len() {
            let at = generation.end;
            match batch::read(bytes, at) {
                Ok((Part::EndOfGeneration, end)) => {
                    generation.end = end;
                    if !version.marks_ends() {
                        generation.step_over(at, 1, "the end of a generation in a format that does not have it");
                    }
                    return Some(generation);
                }
                Ok((Part::Batch(batch), end)) => {
                    if *number.get_or_insert(batch.generation) != batch.generation {
                        if version.marks_ends() {
                            generation.step_over(at, 0, "a generation that begins before the last one has ended");
                        } else if Some(batch.generation) != number.and_then(|number| number.checked_add(1)) {
                            generation.step_over(at, 0, "generations out of order");
                        }
                        return Some(generation);
                    }
                    generation.end = end;
                    generation.take(bytes, batch);
                }
                Err(what) => {
                    generation.step_over(at, bytes.len() - at, what);
                    generation.end = bytes.len();
                }
            }
        }
        let is_whole = !version.marks_ends() && generation.clock.clock.is_some() && generation.tables.has_strings();
        if !is_whole && generation.defects.is_empty() {
            generation.step_over(
                bytes.len(),
                0,
                "the last generation has no end: the program was killed, or the file cut",
            );
        }
        Some(generation)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    fn take(&mut self, bytes: &'a [u8], batch: Batch) {
        let payload = &bytes[batch.payload.clone()];
        let Some((&kind, behind)) = payload.split_first() else { return };
        let taken = match (batch.experiment, kind) {
            (None, STRINGS) => self.tables.add_strings(behind),
            (None, STACKS) => self.tables.add_stacks(behind),
            (None, CPU_SAMPLES) => Ok(()),
            (None, FREQUENCY | SYNC) => self.clock.read(payload, batch.time),
            (Some(ALLOC_FREE_EXPERIMENT), TYPES) => read_types(behind, |id, it| self.types.push((id, it))),
            (Some(ALLOC_FREE_EXPERIMENT), LAYOUT) => HeapLayout::read(behind).map(|layout| self.layout = Some(layout)),
            // Of experiments that are not known here nothing is lost.
            (Some(_), _) => Ok(()),
            (None, _) => {
                self.batches.push(EventBatch { m: batch.m, time: batch.time, payload });
                Ok(())
            }
        };
        if let Err(what) = taken {
            self.step_over(batch.payload.start, payload.len(), what);
        }
    }

    fn step_over(&mut self, offset: usize, bytes: usize, what: &'static str) {
        self.defects.push(Defect { offset, bytes, what });
    }
}
