//! The tables of a generation: strings, stacks, types. An entry is looked at when something refers to it.

use std::collections::HashMap;

use super::event::{GoFrame, GoType};
use super::event_type::{STACK, STRING};
use crate::units::Address;
use crate::varint::Input;

/// More frames than any stack has.
const FRAMES_MAX: u64 = 128;
/// Bytes of the longest string of a table.
const STRING_BYTES_MAX: u64 = 1 << 10;
/// What stands for a string that is missing or is no UTF-8.
const UNKNOWN_NAME: &str = "?";

/// The strings and stacks of a generation.
#[derive(Debug, Default)]
pub struct Tables<'a> {
    strings: HashMap<u64, &'a [u8]>,
    /// The frames as they are in the file.
    stacks: HashMap<u64, &'a [u8]>,
}

impl<'a> Tables<'a> {
    /// Adds the strings of a payload, behind its type.
    pub fn add_strings(&mut self, payload: &'a [u8]) -> Result<(), &'static str> {
        let mut input = Input::new(payload);
        while let Some(kind) = input.byte() {
            const CUT: &str = "a table of strings that is cut";
            if kind != STRING {
                return Err("a table of strings with something else in it");
            }
            let (id, length) = (input.number().ok_or(CUT)?, input.number().ok_or(CUT)?);
            if length > STRING_BYTES_MAX {
                return Err("a string of more than 1 KiB");
            }
            let string = input.take(length as usize).ok_or(CUT)?;
            self.strings.insert(id, string);
        }
        Ok(())
    }

    /// Adds the stacks of a payload, behind its type.
    pub fn add_stacks(&mut self, payload: &'a [u8]) -> Result<(), &'static str> {
        let mut input = Input::new(payload);
        while let Some(kind) = input.byte() {
            const CUT: &str = "a table of stacks that is cut";
            if kind != STACK {
                return Err("a table of stacks with something else in it");
            }
            let (id, frames) = (input.number().ok_or(CUT)?, input.number().ok_or(CUT)?);
            if frames > FRAMES_MAX {
                return Err("a stack of more than 128 frames");
            }
            let start = input.rest();
            for _ in 0..4 * frames {
                input.number().ok_or(CUT)?;
            }
            self.stacks.insert(id, &start[..start.len() - input.rest().len()]);
        }
        Ok(())
    }

    /// The frames of a stack, innermost first. `None` for a stack that is not in the table; a name that is not there is
    /// a question mark.
    pub fn stack(&self, id: u64) -> Option<Vec<GoFrame<'a>>> {
        let mut input = Input::new(self.stacks.get(&id)?);
        let mut frames = Vec::new();
        while let (Some(_pc), Some(function), Some(file), Some(line)) =
            (input.number(), input.number(), input.number(), input.number())
        {
            frames.push(GoFrame { function: self.string(function), file: self.string(file), line });
        }
        Some(frames)
    }

    fn string(&self, id: u64) -> &'a str {
        self.strings.get(&id).map_or(UNKNOWN_NAME, |bytes| text(bytes))
    }

    /// Whether the names are there, which are written last.
    pub fn has_strings(&self) -> bool {
        !self.strings.is_empty()
    }
}

/// The types of a payload of the alloc/free experiment, behind its kind, with their ids.
pub fn read_types<'a>(payload: &'a [u8], mut found: impl FnMut(u64, GoType<'a>)) -> Result<(), &'static str> {
    let mut input = Input::new(payload);
    while !input.rest().is_empty() {
        let mut number = || input.number().ok_or("a table of types that is cut");
        let (id, address, bytes, pointer_bytes) = (number()?, number()?, number()?, number()?);
        let name = text(input.bytes().ok_or("a table of types that is cut")?);
        found(id, GoType { name, address: Address(address), bytes, pointer_bytes });
    }
    Ok(())
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or(UNKNOWN_NAME)
}
