//! The GNU build id of a file that is mapped, read from memory through /proc/self/mem: a file that is unmapped or cut
//! meanwhile makes reading fail, it cannot make it fault.

use core::mem::offset_of;

use pagetrace_format::snapshot::MappingRef;

use super::modules::VDSO;
use crate::sys::files::ReadFile;

/// Longer build ids are left out. Linkers make 16 or 20 bytes.
pub const BUILD_ID_BYTES_MAX: usize = 64;

const BUILD_ID_NOTE: u32 = 3;
const NOTE_HEADER_BYTES: usize = 12;

/// Bytes of notes that are read of one segment. Build ids stand in front of larger ones, or in a segment of their own.
const NOTES_BYTES_MAX: usize = 1024;

/// Headers of segments that are looked at: linkers make about a dozen.
const SEGMENTS_MAX: usize = 64;

/// The mapping of a file's beginning that was seen last, which holds its headers and notes.
#[derive(Clone, Copy, Debug, Default)]
pub struct FirstPart {
    start: u64,
    bytes: u64,
    file: (u64, u64),
}

impl FirstPart {
    /// Looks at the next mapping in order of address.
    pub fn see(&mut self, mapping: &MappingRef<'_>) {
        if mapping.file_offset == 0 && (mapping.inode != 0 || mapping.path == VDSO) {
            let bytes = mapping.end.0 - mapping.start.0;
            *self = FirstPart { start: mapping.start.0, bytes, file: (mapping.device, mapping.inode) };
        }
    }

    /// Whether it is the beginning of the file that this is a mapping of.
    pub fn is_of(&self, mapping: &MappingRef<'_>) -> bool {
        self.bytes > 0 && self.file == (mapping.device, mapping.inode)
    }

    /// Reads what stands in the file at `offset` to the whole of `place`.
    fn read(&self, memory: &ReadFile, offset: u64, place: &mut [u8]) -> Option<()> {
        let end = offset.checked_add(place.len() as u64)?;
        let read = if end <= self.bytes { memory.read_at(place, self.start + offset)? } else { 0 };
        (read == place.len()).then_some(())
    }
}

/// A build id.
#[derive(Debug)]
pub struct BuildId {
    memory: [u8; BUILD_ID_BYTES_MAX],
    length: usize,
}

impl BuildId {
    /// None at all.
    pub const NONE: BuildId = BuildId { memory: [0; BUILD_ID_BYTES_MAX], length: 0 };

    /// From the headers and notes (elf(5)) of a file whose beginning is mapped.
    pub fn read(memory: &ReadFile, file: &FirstPart) -> Option<BuildId> {
        let mut header = [0; size_of::<libc::Elf64_Ehdr>()];
        file.read(memory, 0, &mut header)?;
        if !header.starts_with(b"\x7fELF") || header[libc::EI_CLASS] != libc::ELFCLASS64 {
            return None;
        }
        let segments_at = u64_at(&header, offset_of!(libc::Elf64_Ehdr, e_phoff))?;
        let segment_bytes = u64::from(u16_at(&header, offset_of!(libc::Elf64_Ehdr, e_phentsize))?);
        let segments = u16_at(&header, offset_of!(libc::Elf64_Ehdr, e_phnum))?;
        for index in 0..u64::from(segments).min(SEGMENTS_MAX as u64) {
            let mut segment = [0; size_of::<libc::Elf64_Phdr>()];
            file.read(memory, segments_at.checked_add(index * segment_bytes)?, &mut segment)?;
            if u32_at(&segment, offset_of!(libc::Elf64_Phdr, p_type))? != libc::PT_NOTE {
                continue;
            }
            let offset = u64_at(&segment, offset_of!(libc::Elf64_Phdr, p_offset))?;
            let bytes = u64_at(&segment, offset_of!(libc::Elf64_Phdr, p_filesz))?;
            let alignment = u64_at(&segment, offset_of!(libc::Elf64_Phdr, p_align))?;
            let mut notes = [0; NOTES_BYTES_MAX];
            let notes = &mut notes[..bytes.min(NOTES_BYTES_MAX as u64) as usize];
            if file.read(memory, offset, notes).is_some()
                && let Some(id) = build_id_in(notes, alignment)
            {
                return BuildId::copied(id);
            }
        }
        None
    }

    fn copied(found: &[u8]) -> Option<BuildId> {
        let mut id = BuildId::NONE;
        id.memory.get_mut(..found.len())?.copy_from_slice(found);
        id.length = found.len();
        Some(id)
    }

    /// Its bytes, none for [`BuildId::NONE`].
    pub fn bytes(&self) -> &[u8] {
        &self.memory[..self.length]
    }
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

/// The build id among notes (elf(5), Elf64_Nhdr): lengths of name and contents, type, and both padded to the
/// alignment.
fn build_id_in(notes: &[u8], alignment: u64) -> Option<&[u8]> {
    let alignment = if alignment == 8 { 8 } else { 4 };
    let mut rest = notes;
    loop {
        let (name_bytes, contents_bytes) = (u32_at(rest, 0)? as usize, u32_at(rest, 4)? as usize);
        let contents_at = (NOTE_HEADER_BYTES + name_bytes).next_multiple_of(alignment);
        let contents = rest.get(contents_at..)?.get(..contents_bytes)?;
        let name = rest.get(NOTE_HEADER_BYTES..)?.get(..name_bytes)?;
        if u32_at(rest, 8)? == BUILD_ID_NOTE && name == b"GNU\0" {
            return Some(contents);
        }
        rest = rest.get((contents_at + contents_bytes).next_multiple_of(alignment)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &[u8], contents: &[u8], kind: u32, alignment: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [name.len() as u32, contents.len() as u32, kind] {
            bytes.extend(number.to_ne_bytes());
        }
        for part in [name, contents] {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(alignment), 0);
        }
        bytes
    }

    #[test]
    fn notes() {
        let check = |notes: &[Vec<u8>], alignment, expected: Option<&[u8]>| {
            assert_eq!(build_id_in(&notes.concat(), alignment), expected, "{notes:?}");
        };
        let id = || note(b"GNU\0", &[7; 20], 3, 4);
        check(&[id()], 4, Some(&[7; 20]));
        check(&[note(b"GNU\0", &[1; 5], 1, 4), note(b"XYZAB\0", &[1], 3, 4), id()], 0, Some(&[7; 20]));
        check(&[note(b"GNU\0", &[1; 16], 5, 8), note(b"GNU\0", &[2; 9], 3, 8)], 8, Some(&[2; 9]));
        check(&[note(b"GNU\0", &[7; 20], 1, 4)], 4, None);
        // Cut anywhere, or with lengths that cannot be.
        for length in 0..id().len() {
            check(&[id()[..length].to_vec()], 4, None);
        }
        check(&[vec![0xff; 64]], 4, None);
        check(&[vec![0xff; 64]], 8, None);
    }
}
