//! Who owns the pages of a mapping. Each answer rests on evidence: a name, a file, an object that was there.

use std::path::Path;

use hashbrown::HashSet;
use pagetrace_format::snapshot::{Mapping, Permissions};
use pagetrace_format::{Address, PageShift};

use crate::intervals::Intervals;
use crate::results::AllocatorKind;

/// The owner of the pages of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The allocator: the brk heap, and anonymous mappings that held a traced object. All anonymous ones without a name
    /// where its objects are not seen.
    Allocator,
    ThreadStack,
    OtherAnonymous,
    FileText,
    FileData,
    FileMapped,
    SharedMemory,
    Tracer,
    /// Pages that the kernel maps and leaves out of RSS.
    OutsideRss,
}

/// The owner of each mapping. `held` are the pages that ever held an object; `is_unseen` says that the program has an
/// allocator of which none is seen, so that any memory may be its.
pub(crate) fn owners(mappings: &[Mapping], held: &Intervals, is_unseen: bool, shift: PageShift) -> Vec<Owner> {
    let programs: HashSet<&str> = mappings
        .iter()
        .filter(|mapping| is_file(mapping) && mapping.permissions.has(Permissions::EXECUTE))
        .map(|mapping| &mapping.path[..])
        .collect();
    let mut owners: Vec<Owner> = Vec::with_capacity(mappings.len());
    for (index, mapping) in mappings.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| (&mappings[before], owners[before]));
        owners.push(match owner(mapping, before, &programs, held, shift) {
            Owner::OtherAnonymous if is_unseen && mapping.path.is_empty() => Owner::Allocator,
            owner => owner,
        });
    }
    owners
}

fn owner(
    mapping: &Mapping,
    before: Option<(&Mapping, Owner)>,
    programs: &HashSet<&str>,
    held: &Intervals,
    shift: PageShift,
) -> Owner {
    if is_of_tracer(mapping) {
        return Owner::Tracer;
    }
    if is_shared_memory(mapping) {
        return Owner::SharedMemory;
    }
    if is_file(mapping) {
        return match programs.contains(&mapping.path[..]) {
            true if mapping.permissions.has(Permissions::EXECUTE) => Owner::FileText,
            true => Owner::FileData,
            false => Owner::FileMapped,
        };
    }
    match &mapping.path[..] {
        "[heap]" => return Owner::Allocator,
        "[vdso]" => return Owner::FileText,
        name if name.starts_with("[stack") => return Owner::ThreadStack,
        name if name.starts_with("[vvar") || name == "[vsyscall]" => return Owner::OutsideRss,
        _ => {}
    }
    if held.intersects(pages_of(mapping, shift)) {
        return Owner::Allocator;
    }
    // The loader maps what is left of bss without a file, right behind the data that comes from the file.
    match before {
        Some((data, Owner::FileData)) if data.end == mapping.start && is_file(data) => Owner::FileData,
        _ => Owner::OtherAnonymous,
    }
}

/// Whether the mapping is one that an allocator can place objects in.
pub(crate) fn can_hold_objects(mapping: &Mapping) -> bool {
    mapping.path == "[heap]" || is_anonymous(mapping)
}

/// Whether the pages are private memory without a file.
pub(crate) fn is_anonymous(mapping: &Mapping) -> bool {
    !is_shared_memory(mapping) && (mapping.path.is_empty() || mapping.path.starts_with("[anon"))
}

/// Whose `malloc` lies in the file with this path, in a process of the program `exe`.
pub(crate) fn allocator_of(path: &str, exe: &str) -> AllocatorKind {
    if path == exe {
        return AllocatorKind::InProgram;
    }
    let name = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = name.trim_end_matches(" (deleted)");
    match name {
        "libc.so.6" => AllocatorKind::Glibc,
        _ if name.starts_with("libc-2.") => AllocatorKind::Glibc,
        _ if name.starts_with("libjemalloc") => AllocatorKind::Jemalloc,
        _ if name.starts_with("libmimalloc") => AllocatorKind::Mimalloc,
        _ if name.starts_with("libtcmalloc") => AllocatorKind::Tcmalloc,
        _ => AllocatorKind::Other,
    }
}

/// The mapping that holds an address.
pub(crate) fn mapping_of(mappings: &[Mapping], address: Address) -> Option<&Mapping> {
    let after = mappings.partition_point(|mapping| mapping.start <= address);
    mappings[..after].last().filter(|mapping| address < mapping.end)
}

/// The pages of a mapping.
pub(crate) fn pages_of(mapping: &Mapping, shift: PageShift) -> std::ops::Range<u64> {
    mapping.start.0 >> shift.get()..mapping.end.0.div_ceil(shift.bytes())
}

fn is_file(mapping: &Mapping) -> bool {
    mapping.path.starts_with('/')
}

/// Whether the pages are those of shared memory: of no file that stays.
pub(crate) fn is_shared_memory(mapping: &Mapping) -> bool {
    let path = &mapping.path[..];
    let memory = ["/dev/shm/", "/dev/zero", "/SYSV", "/memfd:", "/[aio]"].iter().any(|start| path.starts_with(start));
    memory || path.starts_with("[anon_shmem") || mapping.permissions.has(Permissions::SHARED) && !is_file(mapping)
}

/// The preload library and the session that it shares with the recorder.
pub(crate) fn is_of_tracer(mapping: &Mapping) -> bool {
    let name = mapping.path.rsplit('/').next().unwrap_or_default();
    name.starts_with("libpagetrace_preload")
        || name.starts_with("memfd:pagetrace")
        || name.starts_with("pagetrace-session")
}
