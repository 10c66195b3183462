//! What the dynamic linker has loaded (dl_iterate_phdr(3), `_dl_find_object` of glibc's <dlfcn.h>).

use core::ffi::{CStr, c_int, c_void};
use core::mem::{MaybeUninit, transmute};
use core::ptr;
use core::slice;
use core::sync::atomic::{AtomicUsize, Ordering};

/// A program or library that is loaded.
#[derive(Clone, Copy, Debug)]
pub struct LoadedObject<'a> {
    /// The name that the linker knows it by: empty for the program itself.
    pub name: &'a [u8],
    base: usize,
    headers: &'a [libc::Elf64_Phdr],
}

impl LoadedObject<'_> {
    /// Whether this address lies in one of its segments.
    pub fn holds(&self, address: usize) -> bool {
        self.headers.iter().filter(|header| header.p_type == libc::PT_LOAD).any(|header| {
            let start = self.base.wrapping_add(header.p_vaddr as usize);
            address.wrapping_sub(start) < header.p_memsz as usize
        })
    }
}

/// Shows each loaded object until `visit` returns false. The linker's lock over its list is held meanwhile; see
/// [`crate::on::modules`] for what that means.
pub fn each_object(visit: &mut dyn FnMut(&LoadedObject<'_>) -> bool) {
    let mut visit = visit;
    // SAFETY: `shown` has the type that is asked for, and its data is this local, which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(shown), (&raw mut visit).cast()) };
}

/// What the linker calls for each object.
///
/// # Safety
/// `data` is that of [`each_object`], and `info` describes an object as dl_iterate_phdr(3) says.
// SAFETY: only `each_object` gives it away, to the linker, with data of its own.
unsafe extern "C" fn shown(info: *mut libc::dl_phdr_info, _: usize, data: *mut c_void) -> c_int {
    // SAFETY: the data that `each_object` gave, which nobody else uses during the call.
    let visit = unsafe { &mut *data.cast::<&mut dyn FnMut(&LoadedObject<'_>) -> bool>() };
    // SAFETY: the linker gives a description of at least the fields up to `dlpi_phnum`.
    let name = unsafe { (*info).dlpi_name };
    let name = if name.is_null() {
        &[][..]
    } else {
        // SAFETY: a C string that lives as long as the object is loaded, which the lock sees to during the call.
        unsafe { CStr::from_ptr(name) }.to_bytes()
    };
    // SAFETY: as above.
    let (base, headers, count) = unsafe { ((*info).dlpi_addr, (*info).dlpi_phdr, (*info).dlpi_phnum) };
    let headers = if headers.is_null() {
        &[][..]
    } else {
        // SAFETY: so many headers, which stay as long as the name.
        unsafe { slice::from_raw_parts(headers, count.into()) }
    };
    c_int::from(!visit(&LoadedObject { name, base: base as usize, headers }))
}

/// `struct dl_find_object` of glibc's <bits/dl_find_object.h> on x86-64.
#[repr(C)]
struct FoundObject {
    flags: u64,
    map_start: usize,
    map_end: usize,
    link_map: usize,
    eh_frame: usize,
    reserved: [u64; 7],
}

// SAFETY: to be called with any address and memory for one description, as <dlfcn.h> declares it.
type FindObject = unsafe extern "C" fn(*mut c_void, *mut FoundObject) -> c_int;

/// The address of `_dl_find_object`, 0 where there is none (glibc before 2.35, other C libraries).
static FIND_OBJECT: AtomicUsize = AtomicUsize::new(0);
/// Addresses in the program's code and in the dynamic linker, 0 where there is none.
static IN_PROGRAM: AtomicUsize = AtomicUsize::new(0);
static IN_LINKER: AtomicUsize = AtomicUsize::new(0);
/// Where the program's headers are, and how many. A static program is known to `_dl_find_object` without its first page.
static PROGRAM_HEADERS: AtomicUsize = AtomicUsize::new(0);
static PROGRAM_HEADER_COUNT: AtomicUsize = AtomicUsize::new(0);

/// Finds out how to ask for loaded files. Not for hooks: dlsym(3) takes a lock of the linker's.
pub fn find_out() {
    // SAFETY: reads numbers of the auxiliary vector (getauxval(3)).
    let number = |kind| unsafe { libc::getauxval(kind) } as usize;
    IN_PROGRAM.store(number(libc::AT_ENTRY), Ordering::Relaxed);
    IN_LINKER.store(number(libc::AT_BASE), Ordering::Relaxed);
    PROGRAM_HEADERS.store(number(libc::AT_PHDR), Ordering::Relaxed);
    PROGRAM_HEADER_COUNT.store(number(libc::AT_PHNUM), Ordering::Relaxed);
    FIND_OBJECT.store(find_object_address(), Ordering::Release);
}

#[cfg(not(target_feature = "crt-static"))]
fn find_object_address() -> usize {
    // SAFETY: a valid C string (dlsym(3)). Not a reference by name: programs are to run with older C libraries.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_dl_find_object".as_ptr()) as usize }
}

#[cfg(target_feature = "crt-static")]
fn find_object_address() -> usize {
    let address;
    // SAFETY: reads a word of the global offset table, which is zero where no library defines the symbol.
    unsafe {
        core::arch::asm!(
            ".weak _dl_find_object",
            "mov {}, qword ptr [rip + _dl_find_object@GOTPCREL]",
            out(reg) address,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    address
}

/// Which of the loaded files it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The program: never unloaded.
    Program,
    /// The dynamic linker: never unloaded.
    Linker,
    /// Any other.
    Library,
}

/// A file whose code is loaded.
#[derive(Clone, Copy, Debug)]
pub struct LoadedFile {
    start: usize,
    end: usize,
    link_map: usize,
    /// Address of its index of unwind tables (`.eh_frame_hdr`), 0 where it has none.
    pub index: usize,
    /// Which it is.
    pub place: Place,
}

/// The file whose code is at this address. Waits for nobody, and may be called in a signal handler.
pub fn file_at(address: usize) -> Option<LoadedFile> {
    let find = FIND_OBJECT.load(Ordering::Acquire);
    if find == 0 {
        return None;
    }
    // SAFETY: the address of the function of that name, which has this type.
    let find = unsafe { transmute::<usize, FindObject>(find) };
    let mut found = MaybeUninit::<FoundObject>::zeroed();
    // SAFETY: any address may be asked for, and the result is written to the local, which is as large as declared.
    if unsafe { find(ptr::with_exposed_provenance_mut(address), found.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: zeroed, and written by the call.
    let FoundObject { map_start, map_end, link_map, eh_frame, .. } = unsafe { found.assume_init() };
    let holds = |address: usize| (map_start..map_end).contains(&address);
    let place = if holds(IN_PROGRAM.load(Ordering::Relaxed)) {
        Place::Program
    } else if holds(IN_LINKER.load(Ordering::Relaxed)) {
        Place::Linker
    } else {
        Place::Library
    };
    Some(LoadedFile { start: map_start, end: map_end, link_map, index: eh_frame, place })
}

impl LoadedFile {
    /// A number that another file at the same addresses is not likely to have.
    pub fn number(&self) -> u64 {
        let words = [self.start, self.end, self.index, self.link_map];
        words
            .iter()
            .fold(0, |hash: u64, &word| (hash ^ word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
    }

    /// The bytes of its segment that holds the unwind tables, and their address. `None` where it has no tables, or where
    /// they are writable.
    ///
    /// # Safety
    /// The file stays loaded as long as the bytes are used.
    pub unsafe fn tables<'a>(&self) -> Option<(&'a [u8], usize)> {
        const PT_LOAD: u32 = 1;
        const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
        const READABLE: u32 = 4;
        const WRITABLE: u32 = 2;
        if self.index == 0 {
            return None;
        }
        let (first, count) = self.headers()?;
        let first = ptr::with_exposed_provenance::<ProgramHeader>(first);
        // SAFETY: so many headers are there, as the kernel or the file's own header say; unaligned reads need no
        // alignment.
        let headers = || (0..count).map(|index| unsafe { first.add(index).read_unaligned() });
        let index = headers().find(|header| header.kind == PT_GNU_EH_FRAME)?.address as usize;
        let base = self.index.wrapping_sub(index);
        let holds = |header: &ProgramHeader| {
            header.kind == PT_LOAD && (index as u64).wrapping_sub(header.address) < header.file_bytes
        };
        let segment = headers().find(holds)?;
        let start = base.wrapping_add(segment.address as usize);
        let bytes = segment.file_bytes as usize;
        if segment.flags & (READABLE | WRITABLE) != READABLE {
            return None;
        }
        // SAFETY: the file is loaded, and so are all of its segments; this one for reading and not for writing.
        Some((unsafe { slice::from_raw_parts(ptr::with_exposed_provenance(start), bytes) }, start))
    }

    /// Address and number of its program headers.
    fn headers(&self) -> Option<(usize, usize)> {
        /// Where a file's headers are loaded for certain.
        const FIRST_PAGE: usize = 4096;
        if self.place == Place::Program {
            return Some((PROGRAM_HEADERS.load(Ordering::Relaxed), PROGRAM_HEADER_COUNT.load(Ordering::Relaxed)));
        }
        if self.end - self.start < FIRST_PAGE {
            return None;
        }
        let header = ptr::with_exposed_provenance::<Elf64Header>(self.start);
        // SAFETY: the first page of a loaded file is readable and begins with its header wherever the file's first segment
        // is loaded; the magic number says whether it is.
        let header = unsafe { header.read_unaligned() };
        let (offset, count) = (header.program_headers_offset as usize, usize::from(header.program_headers));
        let is_elf = header.magic == *b"\x7fELF"
            && usize::from(header.program_header_bytes) == size_of::<ProgramHeader>()
            && offset.checked_add(count * size_of::<ProgramHeader>())? <= FIRST_PAGE;
        is_elf.then_some((self.start + offset, count))
    }
}

/// The fields of `Elf64_Ehdr` (elf(5)) up to the number of program headers.
#[repr(C)]
struct Elf64Header {
    magic: [u8; 4],
    identification: [u8; 12],
    kind_and_machine: [u16; 2],
    version: u32,
    entry: u64,
    program_headers_offset: u64,
    section_headers_offset: u64,
    flags: u32,
    header_bytes: u16,
    program_header_bytes: u16,
    program_headers: u16,
}

/// `Elf64_Phdr` (elf(5)).
#[repr(C)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    physical: u64,
    file_bytes: u64,
    memory_bytes: u64,
    align: u64,
}
