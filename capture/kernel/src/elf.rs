//! What kind of program an executable file is: decides whether a library can be preloaded into it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use object::elf;
use object::endian::LittleEndian;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};
use object::{ReadCache, ReadRef};

use crate::error::KernelError;

/// An executable file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executable {
    /// What the kernel would do with it.
    pub kind: ElfKind,
    /// It would run with more rights than its caller (set-user-id, set-group-id or file capabilities), so the dynamic
    /// linker would ignore LD_PRELOAD and the kernel would hide its pages.
    pub gains_rights: bool,
}

/// What the kernel would do with an executable file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ElfKind {
    /// Started by a dynamic linker.
    Dynamic {
        /// Path of the dynamic linker.
        interpreter: String,
    },
    /// Without a dynamic linker: nothing can be preloaded into it.
    Static,
    /// A script.
    Script {
        /// The program that runs it and that program's argument, if any.
        interpreter: String,
    },
    /// ELF for another processor or word size.
    OtherArchitecture {
        /// `e_machine` of its header (elf(5)).
        machine: u16,
        /// Whether it is a 64-bit file.
        is_64_bit: bool,
    },
    /// Nothing that this knows. The kernel may still (binfmt_misc), and shells run text without `#!`.
    Unknown,
}

impl ElfKind {
    /// Whether it is started by the dynamic linker of glibc (`ld-linux-x86-64.so.2` and its like).
    #[must_use]
    pub fn is_dynamic_glibc(&self) -> bool {
        matches!(self, ElfKind::Dynamic { interpreter } if is_glibc_linker(interpreter))
    }
}

/// Before glibc 2.34 `ld-linux-x86-64.so.2` was a link to `ld-2.33.so` and its like.
fn is_glibc_linker(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| name.starts_with("ld-linux") || name.starts_with("ld-2."))
}

/// Functions by which an allocator is known that is linked into a program.
const LINKED_ALLOCATORS: &[(&str, &str)] = &[
    ("_rjem_malloc", "jemalloc"),
    ("je_malloc", "jemalloc"),
    ("mi_malloc", "mimalloc"),
    ("tc_malloc", "tcmalloc"),
    ("sn_rust_alloc", "snmalloc"),
];

/// No larger tables of symbols are searched: it takes time at the end of a recording.
const SYMBOL_BYTES_MAX: u64 = 64 << 20;

/// The allocator that is linked into this program under names of its own, where its symbols tell.
pub(crate) fn linked_allocator(path: &Path) -> Option<&'static str> {
    allocator_among_symbols(&ReadCache::new(File::open(path).ok()?)).ok().flatten()
}

fn allocator_among_symbols<'data>(file: impl ReadRef<'data>) -> object::Result<Option<&'static str>> {
    let header = elf::FileHeader64::<LittleEndian>::parse(file)?;
    let sections = header.sections(LittleEndian, file)?;
    let bytes = |section: &elf::SectionHeader64<LittleEndian>| section.sh_size(LittleEndian);
    if sections.iter().filter(|it| it.sh_type(LittleEndian) == elf::SHT_SYMTAB).any(|it| bytes(it) > SYMBOL_BYTES_MAX) {
        return Ok(None);
    }
    let symbols = sections.symbols(LittleEndian, file, elf::SHT_SYMTAB)?;
    for symbol in symbols.iter().filter(|symbol| symbol.is_definition(LittleEndian)) {
        let name = symbol.name(LittleEndian, symbols.strings()).unwrap_or_default();
        if let Some((_, allocator)) = LINKED_ALLOCATORS.iter().find(|(function, _)| function.as_bytes() == name) {
            return Ok(Some(allocator));
        }
    }
    Ok(None)
}

const OUR_MACHINE: u16 = if cfg!(target_arch = "aarch64") { elf::EM_AARCH64 } else { elf::EM_X86_64 };

impl Executable {
    /// Looks at an executable file.
    ///
    /// # Errors
    /// [`KernelError::Read`] where it cannot be read or is no file. A file may be executable and not readable.
    pub fn inspect(path: &Path) -> Result<Executable, KernelError> {
        let failed = |source: io::Error| KernelError::Read { path: path.to_owned(), source };
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(io::Error::other("not a file")));
        }
        let mut file = File::open(path).map_err(failed)?;
        let mut start = Vec::new();
        file.by_ref().take(256).read_to_end(&mut start).map_err(failed)?;
        let kind = match kind_of(&start, &ReadCache::new(file)) {
            // Nothing starts the linker, but it starts the program that it is given, with what is to be preloaded.
            ElfKind::Static if is_glibc_linker(&path.to_string_lossy()) => {
                ElfKind::Dynamic { interpreter: path.to_string_lossy().into_owned() }
            }
            kind => kind,
        };
        Ok(Executable { kind, gains_rights: gains_rights(path, &metadata) })
    }
}

fn kind_of<'data>(start: &[u8], file: impl ReadRef<'data>) -> ElfKind {
    if let Some(line) = start.strip_prefix(b"#!") {
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
        return ElfKind::Script { interpreter: String::from_utf8_lossy(line.trim_ascii()).into_owned() };
    }
    let Some(machine) = start.get(18..20).filter(|_| start.starts_with(&elf::ELFMAG)) else {
        return ElfKind::Unknown;
    };
    let is_64_bit = start[4] == elf::ELFCLASS64;
    let machine = if start[5] == elf::ELFDATA2MSB {
        u16::from_be_bytes([machine[0], machine[1]])
    } else {
        u16::from_le_bytes([machine[0], machine[1]])
    };
    if !is_64_bit || machine != OUR_MACHINE {
        return ElfKind::OtherArchitecture { machine, is_64_bit };
    }
    match interpreter(file) {
        Ok(Some(interpreter)) => ElfKind::Dynamic { interpreter },
        Ok(None) => ElfKind::Static,
        Err(_) => ElfKind::Unknown,
    }
}

fn interpreter<'data>(file: impl ReadRef<'data>) -> object::Result<Option<String>> {
    let header = elf::FileHeader64::<LittleEndian>::parse(file)?;
    for segment in header.program_headers(LittleEndian, file)? {
        if let Some(path) = segment.interpreter(LittleEndian, file)? {
            return Ok(Some(String::from_utf8_lossy(path).into_owned()));
        }
    }
    Ok(None)
}

fn gains_rights(path: &Path, metadata: &std::fs::Metadata) -> bool {
    let user = rustix::process::getuid().as_raw();
    let group = rustix::process::getgid().as_raw();
    let mode = metadata.mode();
    let set_user = mode & libc::S_ISUID != 0 && metadata.uid() != user;
    let set_group = mode & libc::S_ISGID != 0 && mode & libc::S_IXGRP != 0 && metadata.gid() != group;
    let mut capabilities = [0_u8; 64];
    let has_capabilities = rustix::fs::getxattr(path, "security.capability", &mut capabilities[..]).is_ok();
    set_user || set_group || has_capabilities && user != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: &ElfKind) {
        assert_eq!(&kind_of(bytes, bytes), expected, "{bytes:?}");
    }

    fn elf_header(class: u8, machine: u16) -> Vec<u8> {
        let mut bytes = b"\x7fELF".to_vec();
        bytes.extend([class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
        bytes.extend(machine.to_le_bytes());
        bytes.resize(64, 0);
        bytes
    }

    #[test]
    fn kinds() {
        check(b"", &ElfKind::Unknown);
        check(b"\x7fELF", &ElfKind::Unknown);
        check(b"echo hello\n", &ElfKind::Unknown);
        check(b"#! /bin/sh -e\nexit", &ElfKind::Script { interpreter: "/bin/sh -e".to_owned() });
        check(&elf_header(1, elf::EM_386), &ElfKind::OtherArchitecture { machine: elf::EM_386, is_64_bit: false });
        check(&elf_header(2, elf::EM_S390), &ElfKind::OtherArchitecture { machine: elf::EM_S390, is_64_bit: true });
        check(&elf_header(2, OUR_MACHINE)[..40], &ElfKind::Unknown);
    }

    #[test]
    fn this_test_is_dynamic_and_a_script_is_none() {
        let own = Executable::inspect(Path::new("/proc/self/exe")).expect("readable");
        let glibc = cfg!(target_env = "gnu");
        assert_eq!((own.kind.is_dynamic_glibc(), own.gains_rights), (glibc, false));
        if let ElfKind::Dynamic { interpreter } = own.kind {
            let linker = Executable::inspect(&std::fs::canonicalize(interpreter).expect("a path")).expect("readable");
            assert_eq!(linker.kind.is_dynamic_glibc(), glibc, "the linker loads what is preloaded");
        }
        let error = Executable::inspect(Path::new("/tmp")).expect_err("a folder");
        assert!(error.to_string().contains("/tmp: not a file"), "{error}");
        Executable::inspect(Path::new("/nonexistent")).expect_err("nothing there");
    }
}
