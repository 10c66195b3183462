//! The columns of a payload that are read side by side, one item after the other.

use crate::error::FormatError;
use crate::varint::{Input, unzigzag};

/// How far each column has been read.
#[derive(Debug)]
pub(crate) struct ColumnInputs<const COLUMNS: usize> {
    payload: Vec<u8>,
    at: [usize; COLUMNS],
    end: [usize; COLUMNS],
}

impl<const COLUMNS: usize> ColumnInputs<COLUMNS> {
    /// Finds the columns behind the first `head_bytes`: their lengths, then the columns, which fill the payload. The first
    /// column has one byte for each of `count` items.
    pub(crate) fn open(payload: Vec<u8>, head_bytes: usize, count: u32) -> Result<ColumnInputs<COLUMNS>, FormatError> {
        let short = || FormatError::Payload("the columns end early");
        let mut input = Input::new(payload.get(head_bytes..).ok_or_else(short)?);
        let mut lengths = [0_usize; COLUMNS];
        for length in &mut lengths {
            *length = input.number().and_then(|n| usize::try_from(n).ok()).ok_or_else(short)?;
        }
        let (mut at, mut end) = ([0; COLUMNS], [0; COLUMNS]);
        let mut offset = payload.len() - input.rest().len();
        for column in 0..COLUMNS {
            at[column] = offset;
            offset = offset.checked_add(lengths[column]).filter(|&end| end <= payload.len()).ok_or_else(short)?;
            end[column] = offset;
        }
        if lengths[0] != count as usize || offset != payload.len() {
            return Err(FormatError::Payload("the columns do not hold the number of events that the header gives"));
        }
        Ok(ColumnInputs { payload, at, end })
    }

    /// The next byte of the first column.
    pub(crate) fn kind(&mut self) -> Option<u8> {
        let kind = *self.payload.get(self.at[0])?;
        self.at[0] += 1;
        Some(kind)
    }

    /// The next number of a column.
    pub(crate) fn number(&mut self, column: usize) -> Option<u64> {
        let mut input = Input::new(self.payload.get(self.at[column]..self.end[column])?);
        let number = input.number()?;
        self.at[column] = self.end[column] - input.rest().len();
        Some(number)
    }

    /// The same, of at most 32 bits.
    pub(crate) fn small(&mut self, column: usize) -> Option<u32> {
        u32::try_from(self.number(column)?).ok()
    }

    /// The next number of a column of differences.
    pub(crate) fn difference(&mut self, column: usize, last: u64) -> Option<u64> {
        Some(last.wrapping_add(unzigzag(self.number(column)?) as u64))
    }
}
