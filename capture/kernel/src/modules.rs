//! The files that a process has mapped for execution, with their build ids.

use std::collections::HashMap;
use std::fs::File;

use pagetrace_format::snapshot::{Mapping, Permissions};
use pagetrace_format::{Address, ProcessId, records};

use crate::build_id::{build_id_in, open_mapped};

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

/// A file that was mapped for execution, held open: it may be in a mount namespace that goes with its processes.
#[derive(Debug)]
pub struct KeptFile {
    /// Its path as the process saw it.
    pub path: String,
    /// Its build id, empty where it has none.
    pub build_id: Vec<u8>,
    /// The file.
    pub file: File,
}

/// More files are not held open.
const KEPT_MAX: usize = 512;

/// Finds modules and reads the build id of each file once.
#[derive(Debug, Default)]
pub struct ModuleFinder {
    /// By device and inode.
    build_ids: HashMap<(u64, u64), Vec<u8>>,
    /// Where files are to be held open.
    kept: Option<Vec<KeptFile>>,
}

impl ModuleFinder {
    /// One that knows no file yet.
    #[must_use]
    pub fn new() -> ModuleFinder {
        ModuleFinder::default()
    }

    /// Holds the files open that it finds, if so told.
    #[must_use]
    pub fn keeping_files(self, keep: bool) -> ModuleFinder {
        ModuleFinder { kept: keep.then(Vec::new), ..self }
    }

    /// The files that it holds open.
    pub fn take_kept(&mut self) -> Vec<KeptFile> {
        self.kept.as_mut().map(std::mem::take).unwrap_or_default()
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
        let Ok(file) = open_mapped(pid, mapping) else {
            // What could not be reached by this process may be by the next.
            return Vec::new();
        };
        let kept = self.kept.as_mut().filter(|kept| kept.len() < KEPT_MAX).and_then(|_| file.try_clone().ok());
        let id = build_id_in(file).unwrap_or_default();
        if let (Some(all), Some(file)) = (&mut self.kept, kept) {
            all.push(KeptFile { path: mapping.path.clone(), build_id: id.clone(), file });
        }
        self.build_ids.entry(key).or_insert(id).clone()
    }
}
