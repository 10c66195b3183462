//! Columns as they are stored: each compressed by itself, or as it is where that is no longer. Columns have little in common,
//! and one that looks like noise would only spoil the codes of the others.
//!
//! ```text
//! sections varint · sections × (raw bytes varint · stored bytes varint) · the stored sections
//! ```
//! A section is stored as it is where both lengths are the same, else as one zstd frame.

use crate::error::FormatError;
use crate::header::PAYLOAD_BYTES_MAX;
use crate::varint::{Input, put};
use crate::zstd_contexts::{Compressor, Decompressor};

/// Columns that are shorter share a section.
const SECTION_BYTES_MIN: usize = 1024;
/// What is not compressed by one part in so many is stored as it is, which is read faster.
const WORTH_ONE_IN: usize = 32;
/// More are damage.
const SECTIONS_MAX: u64 = 64;

const DAMAGED: FormatError = FormatError::Payload("sections of columns that do not fit their payload");

/// Appends columns, which lie one behind the other in `columns` and end at `ends`.
pub(super) fn put_sections(out: &mut Vec<u8>, columns: &[u8], ends: &[usize], compressor: &mut Compressor) {
    let mut lengths = Vec::new();
    let mut stored = Vec::with_capacity(columns.len());
    let mut start = 0;
    for (index, &end) in ends.iter().enumerate() {
        let is_last = index + 1 == ends.len();
        if end - start < SECTION_BYTES_MIN && !is_last || start == end {
            continue;
        }
        let section = &columns[start..end];
        let before = stored.len();
        let compressed = compressor.append(section, &mut stored);
        // Of the same length it would be taken for one that is stored as it is.
        if !compressed || stored.len() - before + section.len() / WORTH_ONE_IN >= section.len() {
            stored.truncate(before);
            stored.extend_from_slice(section);
        }
        lengths.push((section.len(), stored.len() - before));
        start = end;
    }
    put(out, lengths.len() as u64);
    for (raw, stored) in lengths {
        put(out, raw as u64);
        put(out, stored as u64);
    }
    out.extend_from_slice(&stored);
}

/// Overwrites `columns` with the columns that `input` holds, to its end; there are at most so many bytes of them.
///
/// # Errors
/// [`FormatError::Payload`] where lengths do not fit, or would be more than a payload may have.
pub(super) fn read_sections(
    mut input: Input<'_>,
    bytes_max: usize,
    columns: &mut Vec<u8>,
    decompressor: &mut Decompressor,
) -> Result<(), FormatError> {
    columns.clear();
    let count = input.number().filter(|&count| count <= SECTIONS_MAX).ok_or(DAMAGED)?;
    let mut lengths = [(0, 0); SECTIONS_MAX as usize];
    for length in &mut lengths[..count as usize] {
        let mut bytes = || input.number().and_then(|bytes| usize::try_from(bytes).ok()).ok_or(DAMAGED);
        *length = (bytes()?, bytes()?);
    }
    for &(raw, stored) in &lengths[..count as usize] {
        let section = input.take(stored).ok_or(DAMAGED)?;
        if raw > bytes_max.min(PAYLOAD_BYTES_MAX) - columns.len() {
            return Err(DAMAGED);
        }
        if raw == stored {
            columns.extend_from_slice(section);
        } else if !decompressor.append(section, raw, columns) {
            return Err(FormatError::Payload("a section that does not decompress to its length"));
        }
    }
    if input.rest().is_empty() { Ok(()) } else { Err(DAMAGED) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_of_any_length_come_back() {
        let (mut compressor, mut decompressor) = (Compressor::default(), Decompressor::default());
        let mut columns = Vec::new();
        for length in 0..200 {
            // One that compresses to its own length is among these.
            for distinct in 1..=8_u8 {
                let section: Vec<u8> = (0..length).map(|index| (index % usize::from(distinct)) as u8).collect();
                let mut payload = Vec::new();
                put_sections(&mut payload, &section, &[section.len()], &mut compressor);
                let input = Input::new(&payload);
                read_sections(input, section.len(), &mut columns, &mut decompressor).expect("what was written");
                assert_eq!(columns, section, "{length} bytes, {distinct} of them distinct");
            }
        }
    }
}
