//! Finds what a loaded file's unwind tables say of one address: `.eh_frame_hdr`, an index sorted by address, leads to
//! the function's entry in `.eh_frame` (Linux Standard Base, Core, 10.6).
//!
//! Its own and not gimli's: that keeps rules of all registers, some kilobytes on a stack that is the program's and may
//! be a small one for signals, and three registers are what is needed here. The tests compare the two.

use super::cfi::{self, Origin};
use super::reader::Reader;
use super::rule::{Kind, Rule};

/// The encodings that all linkers use for the index: 4 bytes relative to its start, and a count of 4 bytes.
const INDEX_ENCODING: u8 = 0x3b;
const COUNT_ENCODING: u8 = 0x03;
const INDEX_ENTRY_BYTES: usize = 8;

/// The rule at `address`. `segment` are the bytes that hold the tables, of which the index is at `header`.
pub fn rule_at(segment: Reader<'_>, header: usize, address: usize) -> Rule {
    match entry_of(segment, header, address) {
        Some(entry) => rule_of(segment, entry, address).unwrap_or(Rule::plain(Kind::Beyond)),
        None => Rule::plain(Kind::NoTable),
    }
}

/// A function's entry (FDE).
struct Entry<'a> {
    origin: Origin<'a>,
    begin: usize,
    instructions: Reader<'a>,
}

fn rule_of(_segment: Reader<'_>, entry: Entry<'_>, address: usize) -> Option<Rule> {
    if entry.origin.is_signal {
        return Some(Rule::plain(Kind::Signal));
    }
    cfi::row_at(&entry.origin, entry.instructions, entry.begin, address)?.rule()
}

fn entry_of<'a>(segment: Reader<'a>, header: usize, address: usize) -> Option<Entry<'a>> {
    let mut index = segment.at_address(header)?;
    let (version, frames, count, table) = (index.u8()?, index.u8()?, index.u8()?, index.u8()?);
    if (version, count, table) != (1, COUNT_ENCODING, INDEX_ENCODING) {
        return None;
    }
    index.pointer(frames)?;
    let count = index.u32()? as usize;
    let first = index.address();
    let at = |number: usize| {
        let mut entry = segment.at_address(first + number * INDEX_ENTRY_BYTES)?;
        let begin = header.wrapping_add(entry.i32()? as usize);
        Some((begin, header.wrapping_add(entry.i32()? as usize)))
    };
    // The last that begins at the address or before.
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if at(middle)?.0 <= address {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let (_, entry) = at(low.checked_sub(1)?)?;
    read_entry(segment, entry, address)
}

fn read_entry<'a>(segment: Reader<'a>, at: usize, address: usize) -> Option<Entry<'a>> {
    let mut entry = record(segment, at)?;
    let here = entry.address();
    let origin = read_origin(segment, here.checked_sub(entry.u32()? as usize)?)?;
    let begin = entry.pointer(origin.pointer_encoding)?;
    let bytes = entry.encoded(origin.pointer_encoding)? as usize;
    if !(begin..begin.checked_add(bytes)?).contains(&address) {
        return None;
    }
    if origin.has_augmentation {
        let length = entry.uleb()? as usize;
        entry.take(length)?;
    }
    Some(Entry { origin, begin, instructions: entry })
}

/// What entries have in common (CIE).
fn read_origin<'a>(segment: Reader<'a>, at: usize) -> Option<Origin<'a>> {
    let mut entry = record(segment, at)?;
    if entry.u32()? != 0 {
        return None;
    }
    let version = entry.u8()?;
    let rest = entry.rest();
    let augmentation = entry.take(rest.iter().position(|&byte| byte == 0)?)?;
    entry.u8()?;
    let (code_align, data_align) = (entry.uleb()?, entry.sleb()?);
    let return_address_register = match version {
        1 => u64::from(entry.u8()?),
        3 => entry.uleb()?,
        _ => return None,
    };
    let mut origin = Origin {
        code_align,
        data_align,
        return_address_register,
        pointer_encoding: 0,
        is_signal: false,
        has_augmentation: !augmentation.is_empty(),
        instructions: entry,
    };
    if let Some((first, letters)) = augmentation.split_first() {
        if *first != b'z' {
            return None;
        }
        let length = entry.uleb()? as usize;
        let mut data = entry.part(length)?;
        origin.instructions = entry;
        for letter in letters {
            match letter {
                b'R' => origin.pointer_encoding = data.u8()?,
                b'L' => {
                    data.u8()?;
                }
                b'P' => {
                    let how = data.u8()?;
                    data.encoded(how)?;
                }
                b'S' => origin.is_signal = true,
                // What follows cannot be told without knowing the letter.
                _ => return None,
            }
        }
    }
    Some(origin)
}

/// The bytes of one entry, behind its length.
fn record<'a>(segment: Reader<'a>, at: usize) -> Option<Reader<'a>> {
    /// 64-bit DWARF follows, which nobody writes into `.eh_frame`.
    const LONG: u32 = 0xffff_ffff;
    let mut reader = segment.at_address(at)?;
    let length = reader.u32()?;
    if length == 0 || length == LONG {
        return None;
    }
    reader.part(length as usize)
}
