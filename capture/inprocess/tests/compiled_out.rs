//! Compiled out means out: the machine code of functions with calls to the tracer is, byte for byte, that of the same
//! functions without them. One program is built three ways; the build with the tracer compiled in shows that the
//! comparison can fail. Besides, what only a program can show whose panics abort.
#![cfg(not(feature = "enabled"))]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget};
use pagetrace_format::Trace;
use pagetrace_replay::{Moment, replay};

/// Prefix of the functions that are compared, and the allocator's entry points that rustc makes for the program.
const COMPARED: &[&str] = &["subject_", "__rust_alloc", "__rust_dealloc", "__rust_realloc", "__rust_alloc_zeroed"];
/// How many functions these are: a name that is inlined away or spelled otherwise is not to pass for equal.
const COMPARED_COUNT: usize = 12;

static BARE: LazyLock<Built> = LazyLock::new(|| build("bare", "", "unwind"));
static OFF: LazyLock<Built> = LazyLock::new(|| build("off", "calls", "unwind"));
static ON: LazyLock<Built> = LazyLock::new(|| build("on", "on", "unwind"));

/// signal(7).
const SIGABRT: i32 = 6;

/// One of the programs.
struct Built {
    /// The compiler's output, before linking: calls are still by name here.
    object: Vec<u8>,
    /// The linked program.
    program: PathBuf,
    elf: Vec<u8>,
}

/// A function's machine code, and what it refers to: offset, symbol and the number added to its address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Code {
    bytes: Vec<u8>,
    references: Vec<(u64, String, i64)>,
}

fn build(name: &str, features: &str, panic: &str) -> Built {
    let directory = package();
    let object = directory.join(format!("{name}.o"));
    let target = directory.join(name);
    let mut cargo = cargo();
    cargo.args(["rustc", "--release", "--offline", "--quiet", "--features", features, "--target-dir"]).arg(&target);
    cargo.args(["--config", &format!("profile.release.panic=\"{panic}\"")]);
    cargo.arg("--").arg(format!("--emit=obj={}", object.display()));
    run(&mut cargo);
    let program = target.join("release/subject");
    Built {
        object: fs::read(&object).expect("rustc wrote the object file"),
        elf: fs::read(&program).expect("rustc wrote the program"),
        program,
    }
}

/// A package of the program, outside of the workspace: there the preload library would switch the feature on.
fn package() -> &'static Path {
    static PACKAGE: LazyLock<PathBuf> = LazyLock::new(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled_out");
        let tracer = Path::new(env!("CARGO_MANIFEST_DIR"));
        fs::create_dir_all(&directory).expect("the target directory can be written");
        let manifest = format!(
            "[package]\nname = \"subject\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
             [workspace]\n\
             [features]\ncalls = [\"dep:pagetrace\"]\non = [\"calls\", \"pagetrace/enabled\"]\n\
             [dependencies]\npagetrace = {{ path = {tracer:?}, optional = true }}\n\
             [[bin]]\nname = \"subject\"\npath = {:?}\n\
             [profile.release]\ncodegen-units = 1\n",
            tracer.join("tests/compiled_out/subject.rs"),
        );
        fs::write(directory.join("Cargo.toml"), manifest).expect("the target directory can be written");
        // The workspace's own choice of versions: nothing is to be downloaded that is not there already.
        fs::copy(tracer.join("../../Cargo.lock"), directory.join("Cargo.lock")).expect("the workspace has a lock file");
        directory
    });
    &PACKAGE
}

fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    // Flags for a sanitizer or for coverage put code of their own into functions.
    cargo.current_dir(package()).env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    cargo
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The compared functions of an object file, by their names without the compiler's hash.
fn functions(object: &[u8]) -> BTreeMap<String, Code> {
    let file = object::File::parse(object).expect("an object file");
    let mut functions = BTreeMap::new();
    for symbol in file.symbols().filter(|symbol| !symbol.is_undefined() && symbol.size() > 0) {
        let mangled = symbol.name().expect("a name");
        let Some(name) = COMPARED.iter().find_map(|prefix| plain_name(mangled, prefix)) else { continue };
        let section = file.section_by_index(symbol.section_index().expect("defined")).expect("its section");
        let range = symbol.address()..symbol.address() + symbol.size();
        let data = section.data().expect("its bytes");
        let references = section.relocations().filter(|(offset, _)| range.contains(offset));
        let references = references.map(|(offset, it)| {
            let target = match it.target() {
                RelocationTarget::Symbol(index) => name_of(&file, file.symbol_by_index(index).expect("a symbol")),
                other => format!("{other:?}"),
            };
            (offset - range.start, target, it.addend())
        });
        let code =
            Code { bytes: data[range.start as usize..range.end as usize].to_vec(), references: references.collect() };
        assert!(functions.insert(name.clone(), code).is_none(), "{name} is there twice");
    }
    assert_eq!(functions.len(), COMPARED_COUNT, "{:?}", functions.keys());
    functions
}

/// A symbol's name, or its section's: read-only data has no name of its own.
fn name_of<'data>(file: &object::File<'data>, symbol: object::Symbol<'data, '_>) -> String {
    let name = symbol.name().expect("a name");
    match symbol.section_index() {
        Some(section) if name.is_empty() => {
            file.section_by_index(section).and_then(|section| section.name().map(without_hash)).expect("its section")
        }
        _ => without_hash(name),
    }
}

/// Rust's mangled names end with a hash of the crate they are in, and the programs are different crates by their
/// features. It is the only thing that the comparison disregards.
fn without_hash(mangled: &str) -> String {
    let start = mangled.len().wrapping_sub("17h0123456789abcdefE".len());
    match mangled.get(start..) {
        Some(hash) if hash.starts_with("17h") && hash.ends_with('E') => mangled[..start].to_owned(),
        _ => mangled.to_owned(),
    }
}

/// `prefix…` in a mangled name, up to where the compiler's own part begins.
fn plain_name(mangled: &str, prefix: &str) -> Option<String> {
    let tail = &mangled[mangled.find(prefix)?..];
    let length = tail.find(|character: char| !character.is_ascii_lowercase() && character != '_').unwrap_or(tail.len());
    Some(tail[..length].to_owned())
}

fn names_of_the_tracer(built: &Built) -> Vec<String> {
    let file = object::File::parse(&*built.elf).expect("a program");
    let all: Vec<&str> = file.symbols().map(|symbol| symbol.name().expect("a name")).collect();
    assert!(all.iter().any(|name| name.contains("subject_")), "the program has been stripped of its symbols");
    all.into_iter().filter(|name| name.to_ascii_lowercase().contains("pagetrace")).map(str::to_owned).collect()
}

fn section_bytes(built: &Built, name: &str) -> u64 {
    let file = object::File::parse(&*built.elf).expect("a program");
    file.section_by_name(name).map_or(0, |section| section.size())
}

/// What the program prints of its own types: bytes of the arena, and of the tracer's types.
fn sizes(built: &Built) -> (usize, usize) {
    let printed = run(&mut Command::new(&built.program));
    let numbers: Vec<usize> = printed.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [arena, buffer] = numbers[..] else { panic!("the program printed {printed:?}") };
    (arena, buffer)
}

#[test]
fn calls_leave_no_trace_in_the_machine_code() {
    let (bare, off, on) = (functions(&BARE.object), functions(&OFF.object), functions(&ON.object));
    for (name, code) in &bare {
        assert_eq!(off[name], *code, "{name}, compiled out and bare");
        assert_ne!(on[name], *code, "{name}, compiled in and bare: the comparison could not fail");
    }
}

#[test]
fn no_symbol_is_the_tracers() {
    assert_eq!(names_of_the_tracer(&OFF), Vec::<String>::new());
    assert!(!names_of_the_tracer(&ON).is_empty(), "the look could not fail");
}

#[test]
fn types_have_no_size() {
    let (bare, off, on) = (sizes(&BARE), sizes(&OFF), sizes(&ON));
    assert_eq!(off, bare);
    assert_eq!(off.1, 0);
    assert!(on.0 > bare.0 && on.1 > 0, "compiled in they have: {on:?}");
}

#[test]
fn nothing_runs_before_main_and_no_section_is_longer() {
    for section in [".init_array", ".text", ".rodata", ".data", ".bss", ".tdata", ".tbss"] {
        assert_eq!(section_bytes(&OFF, section), section_bytes(&BARE, section), "{section}");
    }
    for section in [".init_array", ".text", ".tbss"] {
        assert!(section_bytes(&ON, section) > section_bytes(&BARE, section), "compiled in, {section} is longer");
    }
}

#[test]
fn the_crate_depends_on_nothing() {
    let tree = |features: &str| {
        let mut cargo = cargo();
        cargo.args(["tree", "--offline", "-e", "normal", "--prefix", "none", "--features", features]);
        let printed = run(&mut cargo);
        printed.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect::<Vec<String>>()
    };
    assert_eq!(tree("calls"), ["subject", "pagetrace"]);
    assert_eq!(tree("on"), ["subject", "pagetrace", "libc", "pagetrace-format"]);
}

#[test]
fn a_panic_that_aborts_finishes_the_trace() {
    let built = build("abort", "on", "abort");
    let file = package().join("abort.pagetrace");
    let output = Command::new(&built.program).arg("panic").env("PAGETRACE", &file).output().expect("it starts");
    assert_eq!(output.status.signal(), Some(SIGABRT), "{output:?}");
    let bytes = fs::read(&file).expect("there is a trace");
    let trace = Trace::open(&bytes).expect("it can be read");
    let replayed = replay(&trace, Moment::End, &mut |_events| {}).expect("it can be replayed");
    assert!(replayed.complete, "{:?}", replayed.defects);
    assert!(replayed.events.page_alloc > 0 && replayed.events.object_alloc > 0, "{:?}", replayed.events);
}
