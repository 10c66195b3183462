//! The files that a process has mapped for execution, with their build ids.

use std::collections::HashMap;

use pagetrace_format::snapshot::{Mapping, Permissions};
use pagetrace_format::{Address, ProcessId, records};

use crate::build_id::build_id_of_mapping;

/// A file mapped for execution.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Module {
    /// First address of the mapping.
    pub start: Address,
    /// One past its last.
    pub end: Address,
    /// Offset in the file of `start`, in bytes.
    pub file_offset: u64,
    /// Path of the file as the process sees it.
    pub path: String,
    /// The GNU build id, empty where the file has none or cannot be reached any more.
    pub build_id: Vec<u8>,
}

impl Module {
    /// The record of a trace for this module of this process.
    #[must_use]
    pub fn into_record(self, process: ProcessId) -> records::Module {
        let Module { start, end, file_offset, path, build_id } = self;
        records::Module { process, start, end, file_offset, path, build_id }
    }
}

/// What the kernel calls the library that it puts into all processes itself, in /proc/PID/maps. It is no file.
pub const VDSO: &str = "[vdso]";

/// Finds modules and reads the build id of each file once.
#[derive(Debug, Default)]
pub struct ModuleFinder {
    /// By device and inode.
    build_ids: HashMap<(u64, u64), Vec<u8>>,
}

impl ModuleFinder {
    /// One that knows no file yet.
    #[must_use]
    pub fn new() -> ModuleFinder {
        ModuleFinder::default()
    }

    /// The modules among the mappings of a process, in order of address.
    pub fn modules_of(&mut self, pid: u32, mappings: &[Mapping]) -> Vec<Module> {
        let executable =
            |it: &&Mapping| it.permissions.has(Permissions::EXECUTE) && (it.path.starts_with('/') || it.path == VDSO);
        let modules = mappings.iter().filter(executable).map(|mapping| Module {
            start: mapping.start,
            end: mapping.end,
            file_offset: mapping.file_offset,
            path: mapping.path.clone(),
            build_id: self.build_id(pid, mapping),
        });
        modules.collect()
    }

    fn build_id(&mut self, pid: u32, mapping: &Mapping) -> Vec<u8> {
        if mapping.inode == 0 {
            return Vec::new();
        }
        let key = (mapping.device, mapping.inode);
        if let Some(known) = self.build_ids.get(&key) {
            return known.clone();
        }
        // Only an id is kept: what could not be reached by this process may be by the next.
        match build_id_of_mapping(pid, mapping) {
            Some(id) => self.build_ids.entry(key).or_insert(id).clone(),
            None => Vec::new(),
        }
    }
}
