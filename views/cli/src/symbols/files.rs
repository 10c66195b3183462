//! Which files have symbols of a module: never one with another build id than the module had.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use pagetrace_kernel::modules::KeptFile;

use super::debuginfod::Debuginfod;
use super::elf_facts::ElfFacts;
use super::hex;

/// Where distributions put files of debug information.
const DEBUG_DIRECTORIES: [&str; 2] = ["/usr/lib/debug", "/lib/debug"];
/// Directories within directories that are looked into: deeper is a circle of links, which are not followed anyway.
const DEPTH_MAX: u32 = 64;

/// Finds files with symbols.
#[derive(Debug)]
pub struct SymbolFiles {
    directories: Vec<PathBuf>,
    /// The files of the directories, once they were asked for.
    index: Option<Index>,
    debuginfod: Debuginfod,
    /// Paths of files that are held open, by the paths at which they were mapped and their build ids.
    kept: HashMap<(String, Vec<u8>), PathBuf>,
}

/// A file to ask for symbols.
#[derive(Clone, Debug)]
pub struct SymbolFile {
    /// Where it is.
    pub path: PathBuf,
    /// What is in it.
    pub facts: ElfFacts,
}

#[derive(Debug, Default)]
struct Index {
    by_build_id: HashMap<Vec<u8>, Vec<SymbolFile>>,
    /// By the name of the file alone: to say which file was not believed.
    by_name: BTreeMap<String, SymbolFile>,
}

impl SymbolFiles {
    /// Files of these directories and of this machine.
    pub fn new(directories: Vec<PathBuf>, debuginfod: Debuginfod) -> SymbolFiles {
        SymbolFiles { directories, index: None, debuginfod, kept: HashMap::new() }
    }

    /// Files that are held open by this process.
    pub fn use_kept(&mut self, kept: &[KeptFile]) {
        let named = |it: &KeptFile| {
            let path = PathBuf::from(format!("/proc/self/fd/{}", it.file.as_raw_fd()));
            ((it.path.clone(), it.build_id.clone()), path)
        };
        self.kept.extend(kept.iter().map(named));
    }

    /// Directories in which separate debug information is looked for by its build id.
    pub fn debug_directories(&self) -> Vec<PathBuf> {
        self.directories.iter().cloned().chain(DEBUG_DIRECTORIES.map(PathBuf::from)).collect()
    }

    /// The files to ask for a module's symbols, the best first. Without any there is a reason.
    pub fn of(&mut self, path: &str, build_id: &[u8]) -> Result<Vec<SymbolFile>, String> {
        let mut files = Vec::new();
        // The kernel's own library is no file: its name is all that is wanted.
        if path.starts_with('[') {
            return Ok(files);
        }
        if !self.directories.is_empty() {
            let directories = &self.directories;
            let index = self.index.get_or_insert_with(|| Index::of(directories));
            files.extend(index.by_build_id.get(build_id).into_iter().flatten().cloned());
        }
        let here = match self.kept(path, build_id) {
            // What is at the path here could be another file, and would not be told from it.
            Some(kept) if build_id.is_empty() => Ok(kept),
            kept => at_its_path(path, build_id).or_else(|problem| kept.ok_or(problem)),
        };
        let problem = match here {
            Ok(file) => {
                files.push(file);
                None
            }
            Err(problem) => Some(problem),
        };
        if !files.iter().any(|it| it.facts.has_lines) {
            files.extend(self.separate(build_id));
        }
        if !files.iter().any(|it| it.facts.has_lines) {
            let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
            files.extend(self.debuginfod.find(build_id, &name).and_then(|path| with_id(path, build_id)));
        }
        match problem.filter(|_| files.is_empty()) {
            None => Ok(files),
            Some(problem) => Err(self.not_believed(path, build_id).unwrap_or(problem)),
        }
    }

    fn kept(&self, path: &str, build_id: &[u8]) -> Option<SymbolFile> {
        let path = self.kept.get(&(path.to_owned(), build_id.to_vec()))?.clone();
        let facts = ElfFacts::read(&path)?;
        Some(SymbolFile { path, facts })
    }

    /// Files of debug information in the directories that are arranged by build id.
    fn separate(&self, build_id: &[u8]) -> Option<SymbolFile> {
        let name = hex(build_id);
        let (directory, file) = name.split_at_checked(2).filter(|(_, file)| !file.is_empty())?;
        let within = format!(".build-id/{directory}/{file}.debug");
        self.debug_directories().iter().find_map(|it| with_id(it.join(&within), build_id))
    }

    /// What to say where the directories have a file of the same name with another build id.
    fn not_believed(&self, path: &str, build_id: &[u8]) -> Option<String> {
        let name = Path::new(path).file_name()?.to_string_lossy();
        let found = self.index.as_ref()?.by_name.get(&*name)?;
        Some(another_build(&format!("{} is another build", found.path.display()), build_id, &found.facts.build_id))
    }
}

impl Index {
    fn of(directories: &[PathBuf]) -> Index {
        let mut index = Index::default();
        for directory in directories {
            index.add_directory(directory, 0);
        }
        index
    }

    fn add_directory(&mut self, directory: &Path, depth: u32) {
        let Ok(entries) = std::fs::read_dir(directory) else { return };
        let mut entries: Vec<_> = entries.flatten().collect();
        entries.sort_unstable_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            // A link to a file is one; what it leads to may lie outside the directory, and is checked all the same.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < DEPTH_MAX => self.add_directory(&entry.path(), depth + 1),
                Ok(kind) if kind.is_file() || kind.is_symlink() => self.add_file(entry.path()),
                _ => {}
            }
        }
    }

    fn add_file(&mut self, path: PathBuf) {
        let Some(facts) = ElfFacts::read(&path).filter(|it| !it.build_id.is_empty()) else { return };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = SymbolFile { path, facts };
        self.by_name.entry(name).or_insert_with(|| file.clone());
        let same = self.by_build_id.entry(file.facts.build_id.clone()).or_default();
        same.push(file);
        // Debug information first.
        same.sort_by_key(|it| !it.facts.has_lines);
    }
}

/// The file that lies at a module's path on this machine, if it is the same.
fn at_its_path(path: &str, build_id: &[u8]) -> Result<SymbolFile, String> {
    let path = Path::new(path);
    if !path.exists() {
        return Err("there is no such file here".into());
    }
    let facts = ElfFacts::read(path).ok_or("it cannot be read on this machine, or is no program or library")?;
    // A file without a build id cannot be checked; most such are the program's own, just built.
    if !build_id.is_empty() && facts.build_id != build_id {
        return Err(another_build("it has changed since the recording", build_id, &facts.build_id));
    }
    Ok(SymbolFile { path: path.to_owned(), facts })
}

fn with_id(path: PathBuf, build_id: &[u8]) -> Option<SymbolFile> {
    let facts = ElfFacts::read(&path).filter(|it| it.build_id == build_id && !build_id.is_empty())?;
    Some(SymbolFile { path, facts })
}

fn another_build(what: &str, expected: &[u8], found: &[u8]) -> String {
    let found = if found.is_empty() { "none".into() } else { hex(found) };
    format!("{what}: expected build id {}, found {found}", hex(expected))
}
