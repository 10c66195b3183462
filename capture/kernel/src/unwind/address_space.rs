//! Where code lies in one process.

use std::rc::Rc;
use std::time::{Duration, Instant};

use pagetrace_format::snapshot::{Mapping, Permissions};

use super::files::Files;
use super::tables::Tables;
use crate::modules::VDSO;
use crate::proc_maps::read_mappings;

/// What lies at an address.
#[derive(Clone, Debug)]
pub enum Place {
    /// Code of a file, at the address that the file states for it.
    Code {
        /// The file's tables.
        tables: Rc<Tables>,
        /// The stated address.
        svma: u64,
    },
    /// Code of no file that can be read: made by the program, or of a file that is out of reach.
    Generated,
    /// Nothing that could be executed, as far as is known.
    Nowhere,
}

/// The executable mappings of one process.
#[derive(Debug)]
pub struct AddressSpace {
    pid: u32,
    /// In order of address, not overlapping.
    mappings: Vec<CodeMapping>,
    /// When mappings were last looked up, and how long that took.
    looked_up: Option<(Instant, Duration)>,
}

#[derive(Clone, Debug)]
struct CodeMapping {
    mapping: Rc<Mapping>,
    code: Code,
}

#[derive(Clone, Debug)]
enum Code {
    /// Nobody asked yet.
    Unread,
    /// The tables, and what is to be taken from an address to get the stated one.
    Read(Rc<Tables>, u64),
    None,
}

/// Looking up mappings takes at most this share of the time: addresses that are none must not cost more.
const LOOK_UP_SHARE: u32 = 20;

impl AddressSpace {
    /// A process of which nothing is known yet.
    pub fn new(pid: u32) -> AddressSpace {
        AddressSpace { pid, mappings: Vec::new(), looked_up: None }
    }

    /// The same mappings in a process that was forked.
    pub fn forked(&self, child: u32) -> AddressSpace {
        AddressSpace { pid: child, mappings: self.mappings.clone(), looked_up: None }
    }

    /// Adds a mapping, in place of what was there.
    pub fn mapped(&mut self, mapping: &Mapping) {
        if !is_code(mapping) || mapping.start >= mapping.end {
            return;
        }
        let before = self.mappings.partition_point(|it| it.mapping.end <= mapping.start);
        let behind = self.mappings.partition_point(|it| it.mapping.start < mapping.end);
        let mut kept: Vec<CodeMapping> = Vec::with_capacity(3);
        if let Some(first) = self.mappings.get(before).filter(|it| it.mapping.start < mapping.start) {
            kept.push(first.cut(first.mapping.start.0, mapping.start.0));
        }
        kept.push(CodeMapping { mapping: Rc::new(mapping.clone()), code: Code::Unread });
        let last = behind.checked_sub(1).and_then(|last| self.mappings.get(last));
        if let Some(last) = last.filter(|it| it.mapping.start < mapping.end && it.mapping.end > mapping.end) {
            kept.push(last.cut(mapping.end.0, last.mapping.end.0));
        }
        self.mappings.splice(before..behind.max(before), kept);
    }

    /// What lies at an address.
    pub fn place(&mut self, address: u64, files: &mut Files) -> Place {
        let found = match self.find(address) {
            Some(found) => Some(found),
            None => self.look_up().then(|| self.find(address)).flatten(),
        };
        let Some(index) = found else { return Place::Nowhere };
        let CodeMapping { mapping, code } = &mut self.mappings[index];
        if let Code::Unread = code {
            *code = read(self.pid, mapping, files);
        }
        match code {
            Code::Read(tables, bias) => Place::Code { tables: Rc::clone(tables), svma: address.wrapping_sub(*bias) },
            _ => Place::Generated,
        }
    }

    fn find(&self, address: u64) -> Option<usize> {
        let index = self.mappings.partition_point(|it| it.mapping.end.0 <= address);
        self.mappings.get(index).is_some_and(|it| it.mapping.start.0 <= address).then_some(index)
    }

    /// Reads the mappings of the process as they are now, unless that was done a moment ago.
    fn look_up(&mut self) -> bool {
        let begun = Instant::now();
        if self.looked_up.is_some_and(|(last, took)| begun < last + took * LOOK_UP_SHARE) {
            return false;
        }
        let read = read_mappings(self.pid);
        if let Ok(mappings) = &read {
            let known = std::mem::take(&mut self.mappings);
            let code = mappings.iter().filter(|it| is_code(it));
            self.mappings = code
                .map(|mapping| {
                    let same = known.iter().find(|it| *it.mapping == *mapping);
                    same.cloned()
                        .unwrap_or_else(|| CodeMapping { mapping: Rc::new(mapping.clone()), code: Code::Unread })
                })
                .collect();
        }
        self.looked_up = Some((begun, begun.elapsed()));
        read.is_ok()
    }
}

impl CodeMapping {
    /// The part of it between two addresses.
    fn cut(&self, start: u64, end: u64) -> CodeMapping {
        let mut mapping = Mapping::clone(&self.mapping);
        mapping.file_offset += start - mapping.start.0;
        (mapping.start.0, mapping.end.0) = (start, end);
        CodeMapping { mapping: Rc::new(mapping), code: self.code.clone() }
    }
}

fn is_code(mapping: &Mapping) -> bool {
    mapping.permissions.has(Permissions::EXECUTE)
}

fn read(pid: u32, mapping: &Mapping, files: &mut Files) -> Code {
    if mapping.inode == 0 && mapping.path != VDSO {
        return Code::None;
    }
    let Some(tables) = files.tables(pid, mapping) else { return Code::None };
    match tables.svma_of(mapping.file_offset) {
        Some(svma) => Code::Read(tables, mapping.start.0.wrapping_sub(svma)),
        None => Code::None,
    }
}
