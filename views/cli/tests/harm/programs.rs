//! Compiles the programs: each once for what it is linked with.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::hazards::{Around, Hazard, Library};
use crate::places::Places;

/// What a program is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// C.
    C,
    /// C++.
    Cpp,
    /// Rust.
    Rust,
}

impl fmt::Display for Language {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(match self {
            Language::C => "C",
            Language::Cpp => "C++",
            Language::Rust => "Rust",
        })
    }
}

/// Sources that a program consists of besides its own.
const FURTHER_SOURCES: &[(&str, &[&str])] = &[("own_malloc", &["bump"])];

/// One thing to compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Build {
    Program(Language, &'static str, Option<Library>),
    Library(&'static str),
    Static(&'static str),
}

/// What is compiled.
pub struct Programs {
    compiled: HashMap<Build, PathBuf>,
}

impl Programs {
    /// Compiles what the cases need, some at a time.
    pub fn compile(places: &Places, cases: &[(&Hazard, Language)], workers: usize) -> Programs {
        // Libraries first: programs are linked with them.
        let dynamic = Build::Program(Language::C, "still", None);
        let libraries = [Build::Library("bump"), Build::Library("plugin"), Build::Static("still"), dynamic];
        let mut programs: Vec<Build> = cases.iter().map(|(hazard, language)| build_of(hazard, *language)).collect();
        // What is not installed is skipped later.
        programs.retain(
            |build| !matches!(build, Build::Program(.., Some(Library::System(path))) if !Path::new(path).exists()),
        );
        programs.sort_unstable_by_key(|build| format!("{build:?}"));
        programs.dedup();
        let mut compiled = HashMap::new();
        for builds in [&libraries[..], &programs] {
            compiled.extend(compile_all(places, builds, workers));
        }
        places.furnish_root(&compiled[&Build::Static("still")], &compiled[&dynamic]);
        Programs { compiled }
    }

    /// The program of a case.
    pub fn of(&self, hazard: &Hazard, language: Language) -> &Path {
        &self.compiled[&build_of(hazard, language)]
    }

    /// A library of ours.
    pub fn library(&self, name: &'static str) -> &Path {
        &self.compiled[&Build::Library(name)]
    }

    /// The static program.
    pub fn still(&self) -> &Path {
        &self.compiled[&Build::Static("still")]
    }
}

fn build_of(hazard: &Hazard, language: Language) -> Build {
    let linked = match hazard.around {
        Around::Linked(library) => Some(library),
        _ => None,
    };
    Build::Program(language, hazard.program, linked)
}

fn compile_all(places: &Places, builds: &[Build], workers: usize) -> HashMap<Build, PathBuf> {
    let next = AtomicUsize::new(0);
    let compiled = Mutex::new(HashMap::new());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(&build) = builds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let path = compile(places, build);
                    compiled.lock().expect("no worker panics while it holds it").insert(build, path);
                }
            });
        }
    });
    compiled.into_inner().expect("no worker panicked")
}

fn compile(places: &Places, build: Build) -> PathBuf {
    let named = |language: &str, linked: Option<Library>| match (build, linked) {
        (Build::Program(_, name, _), Some(library)) => format!("{name}-{language}-{}", library.name()),
        (Build::Program(_, name, _), None) => format!("{name}-{language}"),
        (Build::Library(name) | Build::Static(name), _) => name.to_owned(),
    };
    let (name, mut command) = match build {
        Build::Program(Language::C, name, linked) => {
            let mut cc = cc(name);
            for (_, sources) in FURTHER_SOURCES.iter().filter(|(program, _)| *program == name) {
                cc.args(sources.iter().map(|name| source(Language::C, name)));
            }
            (named("c", linked), linked_with(cc, places, linked))
        }
        Build::Program(Language::Cpp, name, linked) => {
            let mut cpp = Command::new("c++");
            cpp.args(["-g", "-O1", "-std=c++17", "-Wall", "-Wextra", "-D_GNU_SOURCE", "-pthread"]);
            cpp.arg(source(Language::Cpp, name));
            (named("cpp", linked), linked_with(cpp, places, linked))
        }
        Build::Program(Language::Rust, name, linked) => {
            let mut rustc = Command::new("rustc");
            rustc.args(["--edition", "2024", "-Copt-level=1", "-Cdebuginfo=1"]).arg(source(Language::Rust, name));
            if let Some(library) = linked.map(|library| library_file(places, library)) {
                // In front of the C library, which comes with the standard library.
                let (folder, file) = (library.parent(), library.file_name().and_then(|name| name.to_str()));
                rustc.arg(format!("-Lnative={}", folder.expect("a file's path").display()));
                rustc.arg(format!("-ldylib:+verbatim={}", file.expect("a name")));
                rustc.arg(format!("-Clink-arg=-Wl,-rpath,{}", places.directory().display()));
            }
            (named("rust", linked), rustc)
        }
        Build::Library(name) => {
            let mut cc = cc(name);
            cc.args(["-shared", "-fPIC"]);
            (format!("lib{name}.so"), cc)
        }
        Build::Static(name) => {
            let mut cc = cc(name);
            cc.arg("-static");
            (name.to_owned(), cc)
        }
    };
    let target = places.directory().join(name);
    let output = command.arg("-o").arg(&target).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}; apt-get install gcc g++"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    target
}

fn cc(name: &str) -> Command {
    let mut cc = Command::new("cc");
    // Without built-in functions: the compiler may leave allocations out that nobody looks at.
    cc.args(["-g", "-O1", "-Wall", "-Wextra", "-fno-builtin", "-D_GNU_SOURCE", "-pthread"])
        .arg(source(Language::C, name));
    cc
}

fn linked_with(mut command: Command, places: &Places, library: Option<Library>) -> Command {
    if let Some(library) = library {
        command.arg(library_file(places, library)).arg(format!("-Wl,-rpath,{}", places.directory().display()));
    }
    command
}

fn library_file(places: &Places, library: Library) -> PathBuf {
    match library {
        Library::System(path) => path.into(),
        Library::Own(name) => places.directory().join(format!("lib{name}.so")),
    }
}

fn source(language: Language, name: &str) -> PathBuf {
    let (folder, ending) = match language {
        Language::C => ("c", "c"),
        Language::Cpp => ("cpp", "cpp"),
        Language::Rust => ("rust", "rs"),
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/harm/programs").join(folder);
    folder.join(name).with_extension(ending)
}
