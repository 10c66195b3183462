//! Addresses to functions: file offsets in modules, looked up in files that are the same as those that were recorded.
//!
//! Sources, by module: files of the directories that the user names, the file itself on this machine, separate debug
//! information of distributions or of debuginfod servers, Go's own function table, and what the recorder has put into
//! the trace. A later one is asked for what the ones before do not know.

mod debuginfod;
mod elf_facts;
mod embedded;
mod files;
mod function;
mod go_table;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};
use pagetrace_format::Address;
use pagetrace_format::records::Module;
use pagetrace_kernel::modules::KeptFile;
use pagetrace_replay::Metadata;
use pagetrace_replay::results::Frame;

use debuginfod::Debuginfod;
use embedded::Embedded;
pub use embedded::embed;
use files::{SymbolFile, SymbolFiles};
pub use function::{Function, NamedFunction};
use go_table::GoTable;

/// Where symbols may come from, beside the files that were mapped.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SymbolOptions {
    /// A directory with programs, libraries or debug information of the machine that was recorded; files are told by
    /// their build ids. May be given several times
    #[arg(long = "symbols", value_name = "DIR")]
    pub directories: Vec<PathBuf>,
    /// Whether debuginfod servers may be asked.
    #[arg(skip = true)]
    pub ask_servers: bool,
}

/// Finds the functions that return addresses lie in.
pub struct Symbols<'m> {
    modules: &'m [Module],
    symbolizer: Symbolizer,
    files: SymbolFiles,
    embedded: Embedded<'m>,
    found: HashMap<(Option<usize>, Address), Vec<Function>>,
    /// Files that could not be used, and why.
    problems: BTreeMap<String, String>,
}

/// The file name of the library that `record` preloads; what lies around it differs from recording to recording.
const PRELOAD_LIBRARY: &str = "libpagetrace_preload.so";

/// Path and build id of a module.
type ModuleFile<'m> = (&'m str, &'m [u8]);
/// A frame by its offset in the file of its module.
type Place = (u64, Option<usize>, Address);
/// What is known of a place: functions innermost first, empty where nothing is.
type Known = Vec<NamedFunction>;

impl<'m> Symbols<'m> {
    /// Symbols of these modules, which frames refer to; no file is opened yet.
    pub fn new(modules: &'m [Module], options: &SymbolOptions) -> Symbols<'m> {
        let debuginfod = if options.ask_servers { Debuginfod::from_environment() } else { Debuginfod::off() };
        let files = SymbolFiles::new(options.directories.clone(), debuginfod);
        let symbolizer = Symbolizer::builder().enable_inlined_fns(true).enable_demangling(true);
        let symbolizer = symbolizer.set_debug_dirs(Some(files.debug_directories())).build();
        Symbols {
            modules,
            symbolizer,
            files,
            embedded: Embedded::default(),
            found: HashMap::new(),
            problems: BTreeMap::new(),
        }
    }

    /// Uses what the recorder has put into the trace too, where files do not say more.
    #[must_use]
    pub fn with_embedded(self, metadata: &'m Metadata) -> Symbols<'m> {
        Symbols { embedded: Embedded::of(metadata), ..self }
    }

    /// Uses files that are held open, too, where the ones at their paths are others.
    #[must_use]
    pub fn with_kept(mut self, kept: &[KeptFile]) -> Symbols<'m> {
        self.files.use_kept(kept);
        self
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
                    let unknown = Function { named: None, module: None, offset: address.0 };
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
    pub fn problems(&self) -> BTreeMap<String, String> {
        self.problems.clone()
    }

    fn resolve_file(&mut self, path: &'m str, build_id: &'m [u8], places: &BTreeSet<Place>) {
        let name = Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_else(|| path.to_owned());
        let mut known: Vec<Known> = vec![Vec::new(); places.len()];
        match self.files.of(path, build_id) {
            Ok(files) => {
                let mut problem = None;
                for file in files {
                    if known.iter().all(is_whole) {
                        break;
                    }
                    match self.ask(&file, places) {
                        Ok(found) => known.iter_mut().zip(found).for_each(|(known, found)| take_better(known, found)),
                        Err(why) => problem = Some(format!("symbols of {} cannot be read: {why}", file.path.display())),
                    }
                }
                if let Some(problem) = problem.filter(|_| known.iter().all(Vec::is_empty)) {
                    self.problems.insert(path.to_owned(), problem);
                }
            }
            Err(why) => {
                self.problems.insert(path.to_owned(), why);
            }
        }
        for (&(offset, ..), known) in places.iter().zip(&mut known) {
            if let Some(functions) = self.embedded.functions(path, build_id, offset).filter(|_| !is_whole(known)) {
                take_better(known, functions.clone());
            }
        }
        // Embedded symbols are as good as the file was: nobody misses it.
        if known.iter().all(|known| !known.is_empty()) {
            self.problems.remove(path);
        }
        for (&(offset, module, address), known) in places.iter().zip(known) {
            let function = |named| Function { named, module: Some(name.clone()), offset };
            let functions = match known.is_empty() {
                true => vec![function(None)],
                false => known.into_iter().map(|named| function(Some(named))).collect(),
            };
            self.found.insert((module, address), functions);
        }
    }

    /// What a file knows of places.
    fn ask(&self, file: &SymbolFile, places: &BTreeSet<Place>) -> Result<Vec<Known>, String> {
        // The call, not what follows it, which may belong to another line or function.
        let at: Vec<u64> = places
            .iter()
            .map(|&(offset, module, address)| {
                let stated = || {
                    let module = self.modules.get(module?)?;
                    let distance = address.0.checked_sub(module.start.0)?;
                    file.facts.stated_address(distance, module.end.0.saturating_sub(module.start.0))
                };
                // An address that no function can have stands for one that is not known.
                if file.facts.has_code { offset.saturating_sub(1) } else { stated().map_or(u64::MAX, |it| it - 1) }
            })
            .collect();
        let input = if file.facts.has_code { Input::FileOffset(&at[..]) } else { Input::VirtOffset(&at[..]) };
        let found = self.symbolizer.symbolize(&Source::Elf(Elf::new(&file.path)), input).or_else(|_| {
            // Debug information that is damaged or another's: the file has names all the same.
            let mut names_only = Elf::new(&file.path);
            names_only.debug_syms = false;
            self.symbolizer.symbolize(&Source::Elf(names_only), input)
        });
        let found = found.map_err(|error| error.to_string())?;
        let mut known: Vec<Known> = found.into_iter().map(known_of).collect();
        if file.facts.has_go_table
            && let Some(table) = GoTable::read(&file.path)
        {
            for (&(offset, ..), known) in places.iter().zip(&mut known).filter(|(_, known)| !is_whole(known)) {
                let address = file.facts.address_of(offset.saturating_sub(1));
                take_better(known, address.map(|address| table.functions(address)).unwrap_or_default());
            }
        }
        Ok(known)
    }
}

/// Whether there is nothing more to be known.
fn is_whole(known: &Known) -> bool {
    known.first().is_some_and(|innermost| innermost.line.is_some())
}

fn take_better(known: &mut Known, found: Known) {
    if known.is_empty() || !is_whole(known) && is_whole(&found) {
        *known = found;
    }
}

fn known_of(symbolized: Symbolized<'_>) -> Known {
    let Symbolized::Sym(symbol) = symbolized else { return Vec::new() };
    let Sym { name, code_info, inlined, .. } = symbol;
    let mut functions = vec![named(name.into_owned(), code_info.as_deref(), false)];
    // Outermost first there, innermost first here.
    for it in inlined.into_vec() {
        functions.push(named(it.name.into_owned(), it.code_info.as_ref(), true));
    }
    functions.reverse();
    functions
}

fn named(name: String, code: Option<&CodeInfo<'_>>, inlined: bool) -> NamedFunction {
    let file = code.map(|code| code.to_path().to_string_lossy().into_owned());
    NamedFunction { name, file, line: code.and_then(|code| code.line), inlined }
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
        let mut symbols = Symbols::new(&modules, &SymbolOptions::default());
        symbols.resolve([frame]);
        let names: Vec<String> = symbols.functions(&frame).iter().map(ToString::to_string).collect();
        assert!(names.iter().any(|name| name.contains(expected)), "expected {expected:?} in {names:?}");
        symbols.problems()
    }

    #[test]
    fn functions_have_names_and_lines() {
        let problems = check(Vec::new(), "tests::looked_up (mod.rs:");
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
        let mut symbols = Symbols::new(&[], &SymbolOptions::default());
        symbols.resolve([frame]);
        assert_eq!(
            symbols.functions(&frame).iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["[unknown region 0x1234]"]
        );
    }
}
