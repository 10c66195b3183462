//! The function table that Go's runtime has in every program, stripped or not: functions, files, lines, inlined calls.
//!
//! As Go 1.20 and later write it (`runtime/symtab.go`, `runtime/symtabinl.go`, `cmd/link/internal/ld/pcln.go`; magic
//! number 0xfffffff1). All of it is read from a file that may be anything: what does not fit gives no name.

use std::fs::File;
use std::path::Path;

use object::{Object, ObjectSection, ReadCache, ReadRef};

use super::function::NamedFunction;

const MAGIC_GO_1_20: u32 = 0xffff_fff1;
/// `abi.PCDATA_InlTreeIndex` and `abi.FUNCDATA_InlTree`.
const INLINE_INDEX: u32 = 2;
const INLINE_TREE: u32 = 3;
/// Fixed part of a function's record, and of an inlined call's.
const FUNCTION_BYTES: usize = 44;
const CALL_BYTES: usize = 16;
/// Places in `runtime.moduledata`, in words: the table itself, the start of code; and where the base of functions' own
/// data is in one version or another (40 up to Go 1.25).
const MODULE_TEXT: u64 = 22;
const MODULE_FUNCTION_DATA: std::ops::Range<u64> = 38..48;
/// Calls are not inlined into each other more deeply: the compiler's budget for a function ends before.
const INLINED_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 4096;

/// The table of one program.
#[derive(Debug)]
pub struct GoTable {
    table: Vec<u8>,
    /// Stated address of the first code.
    text: u64,
    functions: u64,
    names: usize,
    units: usize,
    files: usize,
    values: usize,
    records: usize,
    /// Data of functions, of which inlined calls are a part; empty where they were not found.
    data: Vec<u8>,
}

impl GoTable {
    /// Reads the table of a program; `None` where it has none that is understood.
    pub fn read(path: &Path) -> Option<GoTable> {
        let cache = ReadCache::new(File::open(path).ok()?);
        GoTable::of(&object::File::parse(&cache).ok()?)
    }

    fn of<'data>(file: &object::File<'data, impl ReadRef<'data>>) -> Option<GoTable> {
        let section = [".gopclntab", ".data.rel.ro.gopclntab"].iter().find_map(|name| file.section_by_name(name))?;
        let mut table = GoTable::parse(section.data().ok()?)?;
        let module = ModuleData::find(file, section.address());
        let stated = module.as_ref().and_then(|module| module.word(file, MODULE_TEXT));
        let code = file.section_by_name(".text")?.address();
        // Since Go 1.26 the table does not say it any more.
        table.text = stated.filter(|&text| text >= code).or(Some(table.text)).filter(|&it| it != 0).unwrap_or(code);
        if let Some(module) = module {
            let mut places = MODULE_FUNCTION_DATA.filter_map(|word| module.word(file, word));
            let data = places.find_map(|base| data_at(file, base).filter(|data| table.fits(data)));
            table.data = data.unwrap_or_default();
        }
        Some(table)
    }

    /// The table's own header.
    fn parse(bytes: &[u8]) -> Option<GoTable> {
        let word = |index: usize| u64_at(bytes, 8 + index * 8);
        // Within the table, so that no sum with one of its 32-bit offsets can overflow.
        let place = |index: usize| usize::try_from(word(index)?).ok().filter(|&place| place <= bytes.len());
        let known = u32_at(bytes, 0)? == MAGIC_GO_1_20 && bytes.get(7) == Some(&8);
        known.then_some(())?;
        // Each function has eight bytes in the table.
        let functions = word(0)?.min(bytes.len() as u64 / 8);
        Some(GoTable {
            functions,
            text: word(2)?,
            names: place(3)?,
            units: place(4)?,
            files: place(5)?,
            values: place(6)?,
            records: place(7)?,
            table: bytes.to_vec(),
            data: Vec::new(),
        })
    }

    /// The functions at a stated address, innermost first; empty where there is none.
    pub fn functions(&self, address: u64) -> Vec<NamedFunction> {
        self.function_at(address).and_then(|function| self.chain(&function, address)).unwrap_or_default()
    }

    fn chain(&self, function: &Function, address: u64) -> Option<Vec<NamedFunction>> {
        let mut chain = Vec::new();
        let mut offset = address.checked_sub(self.text)?.checked_sub(function.entry.into())?;
        while let Some(call) = self.inlined_call(function, offset).filter(|_| chain.len() < INLINED_MAX) {
            chain.push(self.named(function, offset, call.name, true)?);
            offset = call.parent.into();
        }
        chain.push(self.named(function, offset, function.name, false)?);
        Some(chain)
    }

    fn named(&self, function: &Function, offset: u64, name: u32, inlined: bool) -> Option<NamedFunction> {
        let name = self.text_at(self.names, name)?;
        let position = || {
            let file = self.value(function.files, offset).and_then(|it| u32::try_from(it).ok())?;
            let unit = usize::try_from(function.unit.checked_add(file)?).ok()?;
            let file = self.text_at(self.files, u32_at(&self.table, self.units + unit * 4)?)?;
            let line = self.value(function.lines, offset).and_then(|it| u32::try_from(it).ok())?;
            Some((file, line))
        };
        let (file, line) = position().unzip();
        Some(NamedFunction { name, file, line, inlined })
    }

    fn function_at(&self, address: u64) -> Option<Function> {
        let offset = u32::try_from(address.checked_sub(self.text)?).ok()?;
        let (mut low, mut high) = (0, self.functions);
        // The entry behind the last one is the end of all code.
        if offset >= self.entry(self.functions)? {
            return None;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.entry(middle)? <= offset { low = middle } else { high = middle }
        }
        if self.entry(low)? <= offset { self.function(low) } else { None }
    }

    /// Where a function's code begins.
    fn entry(&self, index: u64) -> Option<u32> {
        u32_at(&self.table, self.records.checked_add(usize::try_from(index.checked_mul(8)?).ok()?)?)
    }

    fn function(&self, index: u64) -> Option<Function> {
        let at = self.records.checked_add(usize::try_from(index.checked_mul(8)?).ok()? + 4)?;
        let record = self.records.checked_add(usize::try_from(u32_at(&self.table, at)?).ok()?)?;
        let field = |number: usize| u32_at(&self.table, record + number * 4);
        let (values, datas) = (field(7)?, *self.table.get(record + FUNCTION_BYTES - 1)?);
        let behind = |number: u64| u32_at(&self.table, record + FUNCTION_BYTES + usize::try_from(number).ok()? * 4);
        Some(Function {
            entry: field(0)?,
            name: field(1)?,
            files: field(5)?,
            lines: field(6)?,
            unit: field(8)?,
            inline_index: if values > INLINE_INDEX { behind(INLINE_INDEX.into())? } else { 0 },
            inline_tree: match u32::from(datas) > INLINE_TREE {
                true => behind(u64::from(values) + u64::from(INLINE_TREE)).filter(|&at| at != u32::MAX),
                false => None,
            },
        })
    }

    fn inlined_call(&self, function: &Function, offset: u64) -> Option<InlinedCall> {
        let index = usize::try_from(self.value(function.inline_index, offset)?).ok()?;
        self.call(function.inline_tree?, index)
    }

    fn call(&self, tree: u32, index: usize) -> Option<InlinedCall> {
        let at = usize::try_from(tree).ok()?.checked_add(index.checked_mul(CALL_BYTES)?)?;
        Some(InlinedCall { name: u32_at(&self.data, at + 4)?, parent: u32_at(&self.data, at + 8)? })
    }

    /// Whether this is the data of the table's functions: their inlined calls have names that begin where names do.
    fn fits(&mut self, data: &[u8]) -> bool {
        const TRIED: usize = 64;
        self.data = data.to_vec();
        let functions = (0..self.functions).filter_map(|index| self.function(index));
        let calls: Vec<Option<InlinedCall>> =
            functions.filter_map(|it| it.inline_tree).take(TRIED).map(|tree| self.call(tree, 0)).collect();
        let begins = |call: &InlinedCall| {
            let at = usize::try_from(call.name).ok().and_then(|name| self.names.checked_add(name));
            at.is_some_and(|at| self.table.get(at - 1) == Some(&0))
        };
        let named = |call: &Option<InlinedCall>| call.as_ref().is_some_and(|call| call.name != 0);
        calls.iter().any(named) && calls.iter().all(|call| call.as_ref().is_some_and(begins))
    }

    /// The value at an offset of a function, in a table of pairs of differences; `None` where there is none, or it is
    /// negative, which stands for none.
    fn value(&self, table: u32, offset: u64) -> Option<i64> {
        let mut bytes = self.table.get(self.values.checked_add(usize::try_from(table).ok()?)?..)?;
        let (mut value, mut end, mut first) = (-1_i64, 0_u64, true);
        if table == 0 {
            return None;
        }
        loop {
            let difference = varint(&mut bytes)?;
            if difference == 0 && !first {
                return None;
            }
            first = false;
            value += i64::from(difference >> 1) ^ -i64::from(difference & 1);
            end += u64::from(varint(&mut bytes)?);
            if offset < end {
                return (value >= 0).then_some(value);
            }
        }
    }

    fn text_at(&self, base: usize, offset: u32) -> Option<String> {
        let bytes = self.table.get(base.checked_add(usize::try_from(offset).ok()?)?..)?;
        let end = bytes.iter().take(NAME_BYTES_MAX).position(|&byte| byte == 0)?;
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }
}

struct Function {
    /// Behind the start of all code.
    entry: u32,
    name: u32,
    files: u32,
    lines: u32,
    unit: u32,
    inline_index: u32,
    inline_tree: Option<u32>,
}

struct InlinedCall {
    name: u32,
    /// Where the call stands, behind the function's entry.
    parent: u32,
}

/// `runtime.moduledata`: the only thing that points to the table's start.
struct ModuleData {
    address: u64,
    /// Words that the dynamic linker fills in: their addresses and values.
    relocated: Vec<(u64, u64)>,
}

impl ModuleData {
    fn find<'data>(file: &object::File<'data, impl ReadRef<'data>>, table: u64) -> Option<ModuleData> {
        let relocations = file.dynamic_relocations().into_iter().flatten();
        let mut relocated: Vec<(u64, u64)> =
            relocations.map(|(at, relocation)| (at, relocation.addend().cast_unsigned())).collect();
        relocated.sort_unstable();
        let by_relocation = relocated.iter().find(|&&(_, value)| value == table).map(|&(at, _)| at);
        let in_section = || {
            [".go.module", ".noptrdata", ".data"].iter().find_map(|name| {
                let section = file.section_by_name(name)?;
                let words = section.data().ok()?.chunks_exact(8);
                let place = words.into_iter().position(|word| word == table.to_le_bytes())?;
                Some(section.address() + place as u64 * 8)
            })
        };
        let address = by_relocation.or_else(in_section)?;
        Some(ModuleData { address, relocated })
    }

    fn word<'data>(&self, file: &object::File<'data, impl ReadRef<'data>>, number: u64) -> Option<u64> {
        let at = self.address.checked_add(number * 8)?;
        if let Ok(found) = self.relocated.binary_search_by_key(&at, |&(at, _)| at) {
            return Some(self.relocated[found].1);
        }
        u64_at(&data_at(file, at)?, 0)
    }
}

/// The bytes of a section from an address on.
fn data_at<'data>(file: &object::File<'data, impl ReadRef<'data>>, address: u64) -> Option<Vec<u8>> {
    let within = |it: &object::Section<'data, '_, _>| address >= it.address() && address - it.address() < it.size();
    let section = file.sections().find(within)?;
    let offset = usize::try_from(address - section.address()).ok()?;
    Some(section.data().ok()?.get(offset..)?.to_vec())
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

fn varint(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0_u32;
    for shift in (0..32).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests;
