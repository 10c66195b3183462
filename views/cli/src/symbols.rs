//! Addresses to functions: file offsets in modules, looked up in the files on this machine if they are the same files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::Path;

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};
use pagetrace_format::Address;
use pagetrace_format::records::Module;
use pagetrace_replay::results::Frame;

/// Finds the functions that return addresses lie in.
pub struct Symbols<'m> {
    modules: &'m [Module],
    symbolizer: Symbolizer,
    found: HashMap<(Option<usize>, Address), Vec<Function>>,
    /// Files that could not be used, and why.
    problems: BTreeMap<String, String>,
}

/// A function of a stack, or the place where one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// The demangled name, `None` where no symbol was found.
    pub name: Option<String>,
    /// The file name of the module, without its directory.
    pub module: Option<String>,
    /// File and line of the call, where the debug information gives it.
    pub line: Option<String>,
    /// The return address: an offset in the module's file, or as it is where no module is known.
    pub offset: u64,
}

/// The file name of the library that `record` preloads; what lies around it differs from recording to recording.
const PRELOAD_LIBRARY: &str = "libpagetrace_preload.so";

/// Path and build id of a module.
type ModuleFile<'m> = (&'m str, &'m [u8]);
/// A frame by its offset in the file of its module.
type Place = (u64, Option<usize>, Address);

impl<'m> Symbols<'m> {
    /// Symbols of these modules, which frames refer to; no file is opened yet.
    pub fn new(modules: &'m [Module]) -> Symbols<'m> {
        let symbolizer = Symbolizer::builder().enable_inlined_fns(true).enable_demangling(true).build();
        Symbols { modules, symbolizer, found: HashMap::new(), problems: BTreeMap::new() }
    }

    /// Whether the frame is the tracer's: its shell around a thread's first function.
    pub fn is_tracer(&self, frame: &Frame) -> bool {
        let module = frame.module.and_then(|index| self.modules.get(index));
        module.is_some_and(|module| module.path.contains(PRELOAD_LIBRARY))
    }

    /// Looks up many frames at once: each module's file is opened once, whatever number of processes mapped it.
    pub fn resolve(&mut self, frames: impl IntoIterator<Item = Frame>) {
        let mut by_file: BTreeMap<ModuleFile<'m>, BTreeSet<Place>> = BTreeMap::new();
        let frames: Vec<Frame> = frames.into_iter().filter(|frame| !self.is_tracer(frame)).collect();
        for Frame { address, module } in frames {
            match module.and_then(|index| self.modules.get(index)) {
                Some(file) => {
                    let offset = address.0.wrapping_sub(file.start.0).wrapping_add(file.file_offset);
                    let key = (file.path.as_str(), file.build_id.as_slice());
                    by_file.entry(key).or_default().insert((offset, module, address));
                }
                None => {
                    let unknown = Function { name: None, module: None, line: None, offset: address.0 };
                    self.found.insert((module, address), vec![unknown]);
                }
            }
        }
        for ((path, build_id), places) in by_file {
            self.resolve_file(path, build_id, &places);
        }
    }

    /// The functions at a frame, inlined ones first. Empty before [`Symbols::resolve`].
    pub fn functions(&self, frame: &Frame) -> &[Function] {
        self.found.get(&(frame.module, frame.address)).map_or(&[], Vec::as_slice)
    }

    /// Files whose symbols could not be used, each with the reason.
    pub fn into_problems(self) -> BTreeMap<String, String> {
        self.problems
    }

    fn resolve_file(&mut self, path: &str, build_id: &[u8], places: &BTreeSet<Place>) {
        let name = Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_else(|| path.to_owned());
        // The call, not what follows it, which may belong to another line or function.
        let offsets: Vec<u64> = places.iter().map(|(offset, ..)| offset.saturating_sub(1)).collect();
        let found = match file_defect(path, build_id) {
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
        for (&(offset, module, address), symbol) in places.iter().zip(found) {
            self.found.insert((module, address), functions_of(&name, offset, symbol.as_ref()));
        }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, &self.module, &self.line) {
            (Some(name), _, Some(line)) => write!(f, "{name} ({line})"),
            (Some(name), Some(module), None) => write!(f, "{name} ({module})"),
            (Some(name), None, None) => write!(f, "{name}"),
            (None, Some(module), _) => write!(f, "{module}+{:#x}", self.offset),
            (None, None, _) => write!(f, "{:#x}", self.offset),
        }
    }
}

fn file_defect(path: &str, build_id: &[u8]) -> Option<String> {
    if !Path::new(path).exists() {
        return Some("there is no such file here".into());
    }
    let found = match blazesym::helper::read_elf_build_id(&path) {
        Ok(found) => found.unwrap_or_default(),
        Err(error) => return Some(format!("it cannot be read on this machine: {error}")),
    };
    // A file without a build id cannot be checked; most such are the program's own, just built.
    (!build_id.is_empty() && *found != *build_id).then(|| {
        let (expected, found) = (hex(build_id), if found.is_empty() { "none".into() } else { hex(&found) });
        format!("it has changed since the recording: expected build id {expected}, found {found}")
    })
}

fn owned(symbolized: Symbolized<'_>) -> Option<Sym<'static>> {
    symbolized.into_sym().map(Sym::into_owned)
}

fn functions_of(module: &str, offset: u64, symbol: Option<&Sym<'_>>) -> Vec<Function> {
    let function = |name, line| Function { name, module: Some(module.to_owned()), line, offset };
    let Some(symbol) = symbol else { return vec![function(None, None)] };
    let line = symbol.code_info.as_deref().map(line_of);
    let mut functions = vec![function(Some(symbol.name.to_string()), line)];
    // Outermost first there, innermost first here.
    for inlined in &symbol.inlined {
        functions.push(function(Some(inlined.name.to_string()), inlined.code_info.as_ref().map(line_of)));
    }
    functions.reverse();
    functions
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

#[cfg(test)]
mod tests {
    use std::fs;

    use pagetrace_format::ProcessId;

    use super::*;

    /// A function whose address the tests look up in the file of the tests themselves.
    #[inline(never)]
    fn looked_up() -> u64 {
        std::hint::black_box(42)
    }

    fn module_with(address: u64, build_id: Vec<u8>) -> Module {
        let maps = fs::read_to_string("/proc/self/maps").expect("maps");
        let number = |text: &str| u64::from_str_radix(text, 16).expect("a number");
        for line in maps.lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (start, end) = fields[0].split_once('-').expect("a range");
            let (start, end) = (number(start), number(end));
            if (start..end).contains(&address) {
                let process = ProcessId(0);
                let (start, end, file_offset) = (Address(start), Address(end), number(fields[2]));
                return Module { process, start, end, file_offset, path: fields[5].into(), build_id };
            }
        }
        panic!("no mapping holds {address:#x}");
    }

    /// The frame of a return address in the middle of [`looked_up`], as text, and the problems.
    fn check(build_id: Vec<u8>, expected: &str) -> BTreeMap<String, String> {
        assert_eq!(looked_up(), 42);
        let address = looked_up as fn() -> u64 as usize as u64 + 2;
        let modules = [module_with(address, build_id)];
        let frame = Frame { address: Address(address), module: Some(0) };
        let mut symbols = Symbols::new(&modules);
        symbols.resolve([frame]);
        let names: Vec<String> = symbols.functions(&frame).iter().map(ToString::to_string).collect();
        assert!(names.iter().any(|name| name.contains(expected)), "expected {expected:?} in {names:?}");
        symbols.into_problems()
    }

    #[test]
    fn functions_have_names_and_lines() {
        let problems = check(Vec::new(), "tests::looked_up (symbols.rs:");
        assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn another_build_is_not_believed() {
        let exe = std::env::current_exe().expect("the path of the tests");
        let name = exe.file_name().expect("a name").to_string_lossy().into_owned();
        let problems = check(vec![0xab; 20], &format!("{name}+0x"));
        assert!(problems.values().all(|why| why.contains("expected build id abab")), "{problems:?}");
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn what_lies_nowhere_is_an_address() {
        let frame = Frame { address: Address(0x1234), module: None };
        let mut symbols = Symbols::new(&[]);
        symbols.resolve([frame]);
        assert_eq!(symbols.functions(&frame).iter().map(ToString::to_string).collect::<Vec<_>>(), ["0x1234"]);
    }
}
