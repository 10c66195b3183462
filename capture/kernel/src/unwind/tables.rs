//! The unwind tables of one file.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;

use gimli::{
    BaseAddresses, CieOrFde, EhFrame, EhFrameHdr, EhFrameOffset, EndianSlice, FrameDescriptionEntry, LittleEndian,
    UnwindSection, UnwindTableRow,
};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::{ReadRef, elf};

use super::evaluate::Evaluator;
use super::rule::Rule;

type Bytes<'a> = EndianSlice<'a, LittleEndian>;
type Fde<'a> = FrameDescriptionEntry<Bytes<'a>>;
type Header = elf::FileHeader64<object::LittleEndian>;
const LITTLE: object::LittleEndian = object::LittleEndian;

/// Tables that are larger are not read: the largest known, of browsers, have 30 MiB.
const TABLE_BYTES_MAX: u64 = 128 << 20;
/// Rules that are kept of one file.
const RULES_MAX: usize = 1 << 18;

/// The unwind tables of a file, and what has been worked out of them.
pub struct Tables {
    segments: Vec<Segment>,
    frames: Vec<u8>,
    frames_svma: u64,
    index: Index,
    /// The file itself, to look at instructions.
    code: Option<File>,
    rules: RefCell<HashMap<u64, Rule>>,
    calls: RefCell<HashMap<u64, Option<i64>>>,
}

/// A part of the file that is mapped for execution. An address that the file states is an *svma*; in a process it lies elsewhere.
#[derive(Debug)]
struct Segment {
    offset: u64,
    bytes: u64,
    svma: u64,
}

/// From code addresses to entries.
enum Index {
    /// The linker's own (`.eh_frame_hdr`), and its address.
    Header(Vec<u8>, u64),
    /// First addresses and offsets in the table, in order of the addresses.
    Made(Vec<(u64, usize)>),
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables").field("segments", &self.segments).finish_non_exhaustive()
    }
}

impl Tables {
    /// Reads the tables of an ELF file. One without tables gives empty ones; `None` for what is no such file.
    pub fn read<'data, R: ReadRef<'data>>(data: R, code: Option<File>) -> Option<Tables> {
        let header = Header::parse(data).ok()?;
        // Only those with code: linkers let segments share a page of the file, which is then mapped for each of them.
        let code_of = |it: &&elf::ProgramHeader64<object::LittleEndian>| {
            it.p_type(LITTLE) == elf::PT_LOAD && it.p_flags(LITTLE) & elf::PF_X != 0
        };
        let segments = header.program_headers(LITTLE, data).ok()?.iter().filter(code_of).map(|it| Segment {
            offset: it.p_offset(LITTLE),
            bytes: it.p_filesz(LITTLE),
            svma: it.p_vaddr(LITTLE),
        });
        let mut tables = Tables {
            segments: segments.collect(),
            frames: Vec::new(),
            frames_svma: 0,
            index: Index::Made(Vec::new()),
            code,
            rules: RefCell::default(),
            calls: RefCell::default(),
        };
        if let Some((frames, svma)) = section(header, data, b".eh_frame") {
            (tables.frames, tables.frames_svma) = (frames, svma);
            tables.index = match section(header, data, b".eh_frame_hdr") {
                Some((bytes, svma)) if has_table(&bytes, tables.bases(svma)) => Index::Header(bytes, svma),
                _ => Index::Made(tables.entries()),
            };
        }
        Some(tables)
    }

    /// The address that the file states for code at an offset in it.
    pub fn svma_of(&self, offset: u64) -> Option<u64> {
        // Mappings begin at pages, segments within them.
        const PAGE: u64 = 4096;
        let within = |it: &&Segment| offset >= it.offset / PAGE * PAGE && offset < it.offset.saturating_add(it.bytes);
        let segment = self.segments.iter().find(within)?;
        Some(segment.svma.wrapping_add(offset).wrapping_sub(segment.offset))
    }

    /// The rule at a code address.
    pub fn rule(&self, svma: u64, evaluator: &mut Evaluator) -> Rule {
        if let Some(&rule) = self.rules.borrow().get(&svma) {
            return rule;
        }
        let found = self.with_row(svma, evaluator, |_, row, fde| Rule::of(row, fde.is_signal_trampoline()));
        let rule = found.unwrap_or(Rule::NoTable);
        let mut rules = self.rules.borrow_mut();
        if rules.len() >= RULES_MAX {
            rules.clear();
        }
        rules.insert(svma, rule);
        rule
    }

    /// Looks at the row of a code address; `None` where there is none.
    pub fn with_row<T>(
        &self,
        svma: u64,
        evaluator: &mut Evaluator,
        look: impl FnOnce(&EhFrame<Bytes<'_>>, &UnwindTableRow<usize>, &Fde<'_>) -> T,
    ) -> Option<T> {
        let section = EhFrame::new(&self.frames, LittleEndian);
        let bases = self.bases(if let Index::Header(_, svma) = &self.index { *svma } else { 0 });
        let fde = section.fde_from_offset(&bases, self.entry(svma, &bases)?, EhFrame::cie_from_offset).ok()?;
        let row = fde.unwind_info_for_address(&section, &bases, &mut evaluator.context, svma).ok()?;
        Some(look(&section, row, &fde))
    }

    /// The direct call that ends right before an address: how far its target is from that address. `None` where there
    /// is no such call.
    pub fn call_target_from(&self, svma: u64) -> Option<i64> {
        const CALL: u8 = 0xe8;
        if let Some(&known) = self.calls.borrow().get(&svma) {
            return known;
        }
        let read = || {
            let [code, distance @ ..] = self.code(svma.wrapping_sub(5))?;
            (code == CALL).then(|| i64::from(i32::from_le_bytes(distance)))
        };
        let found = read();
        self.calls.borrow_mut().insert(svma, found);
        found
    }

    /// Whether the instruction at an address jumps to where a word of memory says, as those of a procedure linkage table
    /// do. Whoever stands there has its return address on top of the stack.
    pub fn is_linkage_jump(&self, svma: u64) -> bool {
        // jmp *disp32(%rip), alone or with the prefix `bnd`; endbr64 in front of either.
        self.code(svma).is_some_and(|it| {
            matches!(it, [0xff, 0x25, ..] | [0xf2, 0xff, 0x25, ..] | [0xf3, 0x0f, 0x1e, 0xfa, 0xff | 0xf2])
        })
    }

    fn code(&self, svma: u64) -> Option<[u8; 5]> {
        let segment = self.segments.iter().find(|it| svma.wrapping_sub(it.svma) < it.bytes)?;
        let mut bytes = [0; 5];
        self.code.as_ref()?.read_exact_at(&mut bytes, svma - segment.svma + segment.offset).ok()?;
        Some(bytes)
    }

    fn bases(&self, header_svma: u64) -> BaseAddresses {
        BaseAddresses::default().set_eh_frame(self.frames_svma).set_eh_frame_hdr(header_svma)
    }

    fn entry(&self, svma: u64, bases: &BaseAddresses) -> Option<EhFrameOffset> {
        match &self.index {
            Index::Header(bytes, _) => {
                let header = EhFrameHdr::new(bytes, LittleEndian).parse(bases, 8).ok()?;
                let address = header.table()?.lookup(svma, bases).ok()?.direct().ok()?;
                Some(EhFrameOffset(usize::try_from(address.checked_sub(self.frames_svma)?).ok()?))
            }
            Index::Made(entries) => {
                let behind = entries.partition_point(|&(start, _)| start <= svma);
                Some(EhFrameOffset(entries.get(behind.checked_sub(1)?)?.1))
            }
        }
    }

    /// All entries by their first addresses, for files without the linker's index.
    fn entries(&self) -> Vec<(u64, usize)> {
        let section = EhFrame::new(&self.frames, LittleEndian);
        let bases = self.bases(0);
        let mut found = Vec::new();
        let mut entries = section.entries(&bases);
        while let Ok(Some(entry)) = entries.next() {
            if let CieOrFde::Fde(fde) = entry
                && let Ok(fde) = fde.parse(EhFrame::cie_from_offset)
            {
                found.push((fde.initial_address(), fde.offset()));
            }
        }
        found.sort_unstable();
        found
    }
}

fn has_table(header: &[u8], bases: BaseAddresses) -> bool {
    EhFrameHdr::new(header, LittleEndian).parse(&bases, 8).is_ok_and(|header| header.table().is_some())
}

/// The bytes and the address of a section.
fn section<'data, R: ReadRef<'data>>(header: &Header, data: R, name: &[u8]) -> Option<(Vec<u8>, u64)> {
    let sections = header.sections(LITTLE, data).ok()?;
    let (_, section) = sections.section_by_name(LITTLE, name)?;
    if section.sh_size(LITTLE) > TABLE_BYTES_MAX {
        return None;
    }
    let bytes = section.data(LITTLE, data).ok()?;
    (!bytes.is_empty()).then(|| (bytes.to_vec(), section.sh_addr(LITTLE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file of program headers: type, flags, offset, address, bytes.
    fn elf_file(segments: &[(u32, u32, u64, u64, u64)]) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        bytes.extend([3, 0, 62, 0, 1, 0, 0, 0]);
        bytes.extend([0_u64, 64, 0].iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend([0_u16, 0, 64, 56, segments.len() as u16, 64, 0, 0].iter().flat_map(|word| word.to_le_bytes()));
        for &(kind, flags, offset, address, size) in segments {
            bytes.extend([kind, flags].iter().flat_map(|word| word.to_le_bytes()));
            bytes.extend([offset, address, address, size, size, 0x1000].iter().flat_map(|word| word.to_le_bytes()));
        }
        bytes
    }

    #[test]
    fn segments_that_share_a_page_of_the_file() {
        let (read, execute) = (elf::PF_R, elf::PF_R | elf::PF_X);
        // As lld lays them out: code follows at once in the file, and a page later in memory.
        let bytes =
            elf_file(&[(elf::PT_LOAD, read, 0, 0, 0x107b4), (elf::PT_LOAD, execute, 0x107b4, 0x117b4, 0x56dbc)]);
        let tables = Tables::read(&bytes[..], None).expect("an ELF file");
        assert_eq!(tables.svma_of(0x10000), Some(0x11000));
        assert_eq!(tables.svma_of(0x11ba1), Some(0x12ba1));
        assert_eq!((tables.svma_of(0), tables.svma_of(0x67570)), (None, None));
        assert_eq!(tables.rule(0x12ba1, &mut Evaluator::default()), Rule::NoTable);
    }

    #[test]
    fn what_is_no_elf_file_has_no_tables() {
        for bytes in [&b""[..], b"\x7fELF", &elf_file(&[(1, 5, 0, 0, 64)])[..100]] {
            assert!(Tables::read(bytes, None).is_none(), "{bytes:?}");
        }
    }
}
