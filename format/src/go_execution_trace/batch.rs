//! The headers of batches: where each one's payload is, and whose.

use std::ops::Range;

use super::event_type::{END_OF_GENERATION, EVENT_BATCH, EXPERIMENTAL_BATCH};
use crate::varint::Input;

/// No batch has a larger payload.
const PAYLOAD_BYTES_MAX: u64 = 64 << 10;

/// What is at a place between batches.
pub enum Part {
    /// A batch.
    Batch(Batch),
    /// The mark behind a whole generation.
    EndOfGeneration,
}

/// A batch by its header.
pub struct Batch {
    pub generation: u64,
    pub m: u64,
    /// Clock units.
    pub time: u64,
    /// `None` for the events and the tables of every trace.
    pub experiment: Option<u8>,
    /// Where in the file its payload is.
    pub payload: Range<usize>,
}

/// Reads what is at `offset` of the file, and gives the offset behind it.
///
/// # Errors
/// What is wrong there. No later batch can be found then.
pub fn read(bytes: &[u8], offset: usize) -> Result<(Part, usize), &'static str> {
    let mut input = Input::new(&bytes[offset..]);
    let experiment = match input.byte() {
        Some(EVENT_BATCH) => None,
        Some(EXPERIMENTAL_BATCH) => Some(input.byte().ok_or(CUT)?),
        Some(END_OF_GENERATION) => return Ok((Part::EndOfGeneration, offset + 1)),
        _ => return Err("expected a batch of events, found another type"),
    };
    let mut number = || input.number().ok_or(if input.rest().len() < 10 { CUT } else { "a number beyond 64 bits" });
    let (generation, m, time, length) = (number()?, number()?, number()?, number()?);
    if generation == 0 {
        return Err("a batch of generation 0, which no trace has");
    }
    if length > PAYLOAD_BYTES_MAX {
        return Err("a batch of more than 64 KiB");
    }
    let start = bytes.len() - input.rest().len();
    let payload = start..start + length as usize;
    if payload.end > bytes.len() {
        return Err(CUT);
    }
    let end = payload.end;
    Ok((Part::Batch(Batch { generation, m, time, experiment, payload }), end))
}

const CUT: &str = "a batch that is cut";
