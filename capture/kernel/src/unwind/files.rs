//! The files whose code runs in any process, each read once.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::rc::Rc;

use object::ReadCache;
use pagetrace_format::snapshot::Mapping;

use super::tables::Tables;
use crate::build_id::open_mapped;
use crate::modules::VDSO;
use crate::proc_maps::read_mappings;

/// Unwind tables by the device and inode of their file.
#[derive(Debug, Default)]
pub struct Files {
    tables: HashMap<(u64, u64), Rc<Tables>>,
    vdso: Option<Option<Rc<Tables>>>,
}

impl Files {
    /// The tables of the file that a process has mapped; `None` where it cannot be read or is no program or library.
    pub fn tables(&mut self, pid: u32, mapping: &Mapping) -> Option<Rc<Tables>> {
        if mapping.path == VDSO {
            return self.vdso.get_or_insert_with(|| own_vdso().map(Rc::new)).clone();
        }
        let key = (mapping.device, mapping.inode);
        if let Some(known) = self.tables.get(&key) {
            return Some(Rc::clone(known));
        }
        // Another process may reach what this one does not: only what was found is kept.
        let tables = Rc::new(read(open_mapped(pid, mapping).or_else(|_| open_here(mapping)).ok()?)?);
        self.tables.insert(key, Rc::clone(&tables));
        Some(tables)
    }
}

fn read(file: File) -> Option<Tables> {
    let code = file.try_clone().ok();
    let cache = ReadCache::new(file);
    Tables::read(&cache, code)
}

/// The kernel gives all processes of one word size the same.
fn own_vdso() -> Option<Tables> {
    let mappings = read_mappings(std::process::id()).ok()?;
    let vdso = mappings.iter().find(|it| it.path == VDSO)?;
    let mut bytes = vec![0; usize::try_from(vdso.end.0 - vdso.start.0).ok()?];
    File::open("/proc/self/mem").ok()?.read_exact_at(&mut bytes, vdso.start.0).ok()?;
    Tables::read(&bytes[..], None)
}

/// Opens what lies at the mapped path as the recorder sees it: the process may have ended.
fn open_here(mapping: &Mapping) -> io::Result<File> {
    let same = |it: &Metadata| it.is_file() && it.ino() == mapping.inode;
    // Opening could wait for ever where a fifo has taken the place: look before.
    if !mapping.path.starts_with('/') || !std::fs::metadata(&mapping.path).is_ok_and(|it| same(&it)) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let file = File::open(&mapping.path)?;
    if file.metadata().is_ok_and(|it| same(&it)) { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
}
