//! What must be known of a file before it is asked for symbols.

use std::fs::File;
use std::path::Path;

use object::elf::{FileHeader64, PF_X, PT_LOAD, SHT_NOBITS};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::{LittleEndian, ReadCache, ReadRef};

const LITTLE: LittleEndian = LittleEndian;
type Header = FileHeader64<LittleEndian>;

/// Facts of an ELF file: a program, a library, or a file of debug information of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ElfFacts {
    /// The GNU build id, empty where it has none.
    pub build_id: Vec<u8>,
    /// Whether the code itself is in it. Files of debug information state addresses only, and offsets in them are
    /// not those of the program.
    pub has_code: bool,
    /// Whether it has debug information (DWARF) of its own.
    pub has_lines: bool,
    /// Whether it has the function table of Go's runtime.
    pub has_go_table: bool,
    code: Vec<CodeSegment>,
}

/// A part of the file that is mapped for execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CodeSegment {
    /// Where it is in the file.
    offset: u64,
    /// Its address, as the file states it.
    address: u64,
    /// Its size in memory.
    bytes: u64,
}

impl ElfFacts {
    /// Reads them; `None` for what is no ELF file of 64 bits.
    pub fn read(path: &Path) -> Option<ElfFacts> {
        // Opening could wait for ever where a fifo is: look before.
        if !std::fs::metadata(path).ok()?.is_file() {
            return None;
        }
        ElfFacts::of(&ReadCache::new(File::open(path).ok()?))
    }

    fn of<'data>(data: impl ReadRef<'data>) -> Option<ElfFacts> {
        let header = Header::parse(data).ok()?;
        let code = header.program_headers(LITTLE, data).ok()?.iter();
        let code = code.filter(|it| it.p_type(LITTLE) == PT_LOAD && it.p_flags(LITTLE) & PF_X != 0);
        let mut facts = ElfFacts {
            has_code: true,
            code: code
                .map(|it| CodeSegment {
                    offset: it.p_offset(LITTLE),
                    address: it.p_vaddr(LITTLE),
                    bytes: it.p_memsz(LITTLE),
                })
                .collect(),
            ..ElfFacts::default()
        };
        let sections = header.sections(LITTLE, data).ok()?;
        for section in sections.iter() {
            let Ok(name) = sections.section_name(LITTLE, section) else { continue };
            let has_bytes = section.sh_type(LITTLE) != SHT_NOBITS && section.sh_size(LITTLE) > 0;
            match name {
                b".text" => facts.has_code = has_bytes,
                b".debug_info" | b".zdebug_info" => facts.has_lines |= has_bytes,
                b".gopclntab" | b".data.rel.ro.gopclntab" => facts.has_go_table |= has_bytes,
                b".note.gnu.build-id" if facts.build_id.is_empty() => {
                    facts.build_id = build_id(section, data).unwrap_or_default();
                }
                _ => {}
            }
        }
        Some(facts)
    }

    /// The stated address of the code at an offset in the file.
    pub fn address_of(&self, offset: u64) -> Option<u64> {
        let segment =
            self.code.iter().find(|it| offset.checked_sub(it.offset).is_some_and(|within| within < it.bytes))?;
        segment.address.checked_add(offset - segment.offset)
    }

    /// The stated address of the code that lies `distance` bytes behind the start of a mapping of `mapped` bytes: that
    /// mapping is the code segment, or the one of several that fills as many pages.
    pub fn stated_address(&self, distance: u64, mapped: u64) -> Option<u64> {
        const PAGE: u64 = 4096;
        let pages = |&CodeSegment { address: start, bytes, .. }: &CodeSegment| {
            let first = start / PAGE * PAGE;
            (first, start.saturating_add(bytes).next_multiple_of(PAGE) - first)
        };
        let mut segments = self.code.iter().map(pages);
        let (first, _) = match self.code.len() {
            1 => segments.next(),
            _ => segments.find(|&(_, bytes)| bytes == mapped),
        }?;
        first.checked_add(distance)
    }
}

fn build_id<'data>(section: &<Header as FileHeader>::SectionHeader, data: impl ReadRef<'data>) -> Option<Vec<u8>> {
    let mut notes = section.notes(LITTLE, data).ok()??;
    while let Ok(Some(note)) = notes.next() {
        if note.name() == b"GNU" && note.n_type(LITTLE) == object::elf::NT_GNU_BUILD_ID {
            return Some(note.desc().to_vec());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_of_these_tests() {
        let facts = ElfFacts::read(Path::new("/proc/self/exe")).expect("an ELF file");
        assert!(facts.has_code && facts.has_lines && !facts.has_go_table, "{facts:?}");
        assert_eq!(ElfFacts::read(Path::new("/proc")), None);
        assert_eq!(ElfFacts::read(Path::new("/proc/self/maps")), None);
        assert_eq!(ElfFacts::read(Path::new("/nonexistent")), None);
    }

    #[test]
    fn addresses_in_the_only_code_segment_or_in_that_of_the_same_size() {
        let segment = |&(address, bytes): &(u64, u64)| CodeSegment { offset: 0x40, address, bytes };
        let of = |code: &[(u64, u64)]| ElfFacts { code: code.iter().map(segment).collect(), ..ElfFacts::default() };
        assert_eq!(of(&[(0x1040, 0x100)]).stated_address(0x50, 0x2000), Some(0x1050));
        assert_eq!(of(&[(0x1000, 0x100), (0x5000, 0x1100)]).stated_address(0x50, 0x2000), Some(0x5050));
        assert_eq!(of(&[(0x1000, 0x100), (0x5000, 0x1100)]).stated_address(0x50, 0x9000), None);
        assert_eq!(of(&[]).stated_address(0x50, 0x1000), None);
    }
}
