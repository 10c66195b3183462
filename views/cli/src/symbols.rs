//! Addresses to functions: file offsets in modules, looked up in the files on this machine if they are the same files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::Path;

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};
use pagetrace_format::records::{Module, Process, ProcessOrigin, Record};
use pagetrace_format::{Address, ChunkKind, ProcessId, Trace};

/// Finds the functions that return addresses lie in.
pub struct Symbols {
    modules: HashMap<ProcessId, Vec<Module>>,
    /// Whose modules a forked process started with.
    forked_from: HashMap<ProcessId, ProcessId>,
    symbolizer: Symbolizer,
    frames: HashMap<(ProcessId, Address), Vec<Frame>>,
    /// Files that could not be used, and why.
    problems: BTreeMap<String, String>,
}

/// A function of a stack, or the place where one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The demangled name, `None` where no symbol was found.
    pub function: Option<String>,
    /// The file name of the module, without its directory.
    pub module: Option<String>,
    /// File and line of the call, where the debug information gives it.
    pub line: Option<String>,
    /// The return address: an offset in the module's file, or as it is where no module is known.
    pub offset: u64,
    /// Whether the compiler put this function into the one that follows.
    pub inlined: bool,
}

/// Path and build id of a module.
type ModuleFile = (String, Vec<u8>);

impl Symbols {
    /// Reads the modules of a trace; no symbol file is opened yet.
    pub fn new(trace: &Trace<'_>) -> Symbols {
        let mut symbols = Symbols {
            modules: HashMap::new(),
            forked_from: HashMap::new(),
            symbolizer: Symbolizer::builder().enable_inlined_fns(true).enable_demangling(true).build(),
            frames: HashMap::new(),
            problems: BTreeMap::new(),
        };
        let chunks = trace.chunks().iter().filter(|chunk| chunk.header.kind == ChunkKind::RECORDS);
        for record in chunks.filter_map(|chunk| trace.records(chunk).ok()).flatten() {
            match record {
                Record::Module(module) => symbols.modules.entry(module.process).or_default().push(module),
                Record::Process(Process { id, parent: Some(parent), origin: ProcessOrigin::Fork, .. }) => {
                    symbols.forked_from.insert(id, parent);
                }
                _ => {}
            }
        }
        symbols
    }

    /// Looks up many return addresses at once: each module's file is opened once.
    pub fn resolve(&mut self, process: ProcessId, return_addresses: impl IntoIterator<Item = Address>) {
        let mut by_module: BTreeMap<ModuleFile, BTreeSet<(u64, Address)>> = BTreeMap::new();
        for address in return_addresses {
            if self.frames.contains_key(&(process, address)) {
                continue;
            }
            match self.module_of(process, address) {
                Some(module) => {
                    let offset = file_offset(module, address);
                    let key = (module.path.clone(), module.build_id.clone());
                    by_module.entry(key).or_default().insert((offset, address));
                }
                None => {
                    let frame = Frame { function: None, module: None, line: None, offset: address.0, inlined: false };
                    self.frames.insert((process, address), vec![frame]);
                }
            }
        }
        for ((path, build_id), places) in by_module {
            self.resolve_module(process, &path, &build_id, &places);
        }
    }

    /// The frames at a return address, inlined functions first. Empty before [`Symbols::resolve`].
    pub fn frames(&self, process: ProcessId, return_address: Address) -> &[Frame] {
        self.frames.get(&(process, return_address)).map_or(&[], Vec::as_slice)
    }

    /// Files whose symbols could not be used, each with the reason.
    pub fn problems(&self) -> impl Iterator<Item = (&str, &str)> {
        self.problems.iter().map(|(path, why)| (path.as_str(), why.as_str()))
    }

    fn module_of(&self, process: ProcessId, return_address: Address) -> Option<&Module> {
        // A call may be the last instruction of a mapping; what it returns to is then behind it.
        let call = return_address.0.checked_sub(1)?;
        let mut process = process;
        // As many steps as there are forks, so that records that form a circle do not hang.
        for _ in 0..=self.forked_from.len() {
            let modules = self.modules.get(&process).map_or(&[][..], Vec::as_slice);
            // What was mapped last lies where older modules were unmapped.
            let found = modules.iter().rev().find(|module| (module.start.0..module.end.0).contains(&call));
            if found.is_some() {
                return found;
            }
            process = *self.forked_from.get(&process)?;
        }
        None
    }

    fn resolve_module(&mut self, process: ProcessId, path: &str, build_id: &[u8], places: &BTreeSet<(u64, Address)>) {
        let name = Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_else(|| path.to_owned());
        // The call, not what follows it, which may belong to another line or function.
        let offsets: Vec<u64> = places.iter().map(|(offset, _)| offset.saturating_sub(1)).collect();
        let found = match self.file_defect(path, build_id) {
            Some(why) => Err(why),
            None => self
                .symbolizer
                .symbolize(&Source::Elf(Elf::new(path)), Input::FileOffset(&offsets))
                .map(|found| found.into_iter().map(owned).collect::<Vec<_>>())
                .map_err(|error| format!("its symbols cannot be read: {error}")),
        };
        let found = found.unwrap_or_else(|why| {
            self.problems.insert(path.to_owned(), why);
            vec![None; places.len()]
        });
        for ((offset, address), symbol) in places.iter().zip(found) {
            self.frames.insert((process, *address), frames_of(&name, *offset, symbol.as_ref()));
        }
    }

    fn file_defect(&self, path: &str, build_id: &[u8]) -> Option<String> {
        let found = match blazesym::helper::read_elf_build_id(&path) {
            Ok(found) => found,
            Err(error) => return Some(format!("it cannot be read on this machine: {error}")),
        };
        // A file without a build id cannot be checked; most then are the program's own, just built.
        let found = found.unwrap_or_default();
        (!build_id.is_empty() && *found != *build_id).then(|| {
            let (expected, found) = (hex(build_id), if found.is_empty() { "none".into() } else { hex(&found) });
            format!("it has changed since the recording: expected build id {expected}, found {found}")
        })
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.function, &self.module, &self.line) {
            (Some(function), _, Some(line)) => write!(f, "{function} ({line})"),
            (Some(function), Some(module), None) => write!(f, "{function} ({module})"),
            (Some(function), None, None) => write!(f, "{function}"),
            (None, Some(module), _) => write!(f, "{module}+{:#x}", self.offset),
            (None, None, _) => write!(f, "{:#x}", self.offset),
        }
    }
}

fn file_offset(module: &Module, address: Address) -> u64 {
    address.0.wrapping_sub(module.start.0).wrapping_add(module.file_offset)
}

fn owned(symbolized: Symbolized<'_>) -> Option<Sym<'static>> {
    symbolized.into_sym().map(Sym::into_owned)
}

fn frames_of(module: &str, offset: u64, symbol: Option<&Sym<'_>>) -> Vec<Frame> {
    let frame = |function, line, inlined| Frame { function, module: Some(module.to_owned()), line, offset, inlined };
    let Some(symbol) = symbol else { return vec![frame(None, None, false)] };
    let mut frames = vec![frame(Some(symbol.name.to_string()), symbol.code_info.as_deref().map(line_of), false)];
    // Outermost first there, innermost first here.
    for function in &symbol.inlined {
        frames.push(frame(Some(function.name.to_string()), function.code_info.as_ref().map(line_of), true));
    }
    frames.reverse();
    frames
}

fn line_of(code: &CodeInfo<'_>) -> String {
    let file = code.file.to_string_lossy();
    match code.line {
        Some(line) => format!("{file}:{line}"),
        None => file.into_owned(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
