//! Stacks at each instruction of a program that steps through a known chain of calls.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use object::{Object, ObjectSymbol};
use pagetrace_format::records::StackEnd;
use pagetrace_format::snapshot::Mapping;
use pagetrace_kernel::proc_maps::read_mappings;
use pagetrace_kernel::unwind::{StackUnwinder, UnwoundStack, UserRegisters};

/// A program that has stepped through its chain and waits; killed when dropped.
struct Stepped {
    child: Child,
    samples: Vec<(UserRegisters, Vec<u8>)>,
    mappings: Vec<Mapping>,
    /// Functions of the program by their addresses in the process.
    functions: BTreeMap<u64, String>,
    _folder: tempfile::TempDir,
}

impl Drop for Stepped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const NOBODY: u32 = 65534;

impl Stepped {
    fn run(flags: &[&str], argument: &str) -> Stepped {
        let folder = tempfile::tempdir().expect("a folder for the program");
        let source = folder.path().join("each_instruction.c");
        std::fs::write(&source, include_str!("programs/each_instruction.c")).expect("writable");
        let path = folder.path().join("each_instruction");
        let status = Command::new("cc").args(["-pthread", "-o"]).args([&path, &source]).args(flags).status();
        assert!(status.expect("a C compiler").success());
        let dumps = folder.path().join("dumps");
        let mut command = Command::new(&path);
        command.arg(argument).stdout(Stdio::piped()).stderr(File::create(&dumps).expect("writable"));
        if rustix_is_root() {
            std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("our folder");
            command.uid(NOBODY).gid(NOBODY);
        }
        let mut child = command.spawn().expect("the program starts");
        let mut ready = [0; 6];
        let said = child.stdout.take().expect("piped").read_exact(&mut ready);
        said.unwrap_or_else(|error| panic!("{flags:?} {argument}: {error}, {:?}", child.wait()));
        let mappings = read_mappings(child.id()).expect("alive");
        let base = mappings.iter().find(|it| it.path == path.to_string_lossy()).expect("its own file").start.0;
        let bytes = std::fs::read(&path).expect("readable");
        let file = object::File::parse(&bytes[..]).expect("an ELF file");
        // The first segment of one at a fixed address says where.
        let bias = if base == 0x40_0000 { 0 } else { base };
        let functions = file.symbols().filter(|it| it.kind() == object::SymbolKind::Text && it.size() > 0);
        let functions = functions.map(|it| (bias + it.address(), it.name().unwrap_or_default().to_owned())).collect();
        Stepped {
            samples: samples(&std::fs::read(dumps).expect("readable")),
            child,
            mappings,
            functions,
            _folder: folder,
        }
    }

    /// The program's own functions and the names of other files of a stack, outermost first, repetitions once.
    fn chain(&self, stack: &UnwoundStack) -> Vec<String> {
        let mut chain: Vec<String> = stack.frames.iter().rev().map(|&address| self.name(address - 1)).collect();
        chain.dedup();
        chain
    }

    fn name(&self, address: u64) -> String {
        let Some(mapping) = self.mappings.iter().find(|it| (it.start.0..it.end.0).contains(&address)) else {
            return format!("{address:#x}");
        };
        if !mapping.path.ends_with("each_instruction") {
            let name = mapping.path.rsplit('/').next().unwrap_or_default();
            return if name.is_empty() { "generated".to_owned() } else { name.to_owned() };
        }
        let before = self.functions.range(..=address).next_back();
        before.map_or_else(|| "no function".to_owned(), |(_, name)| name.clone())
    }
}

fn rustix_is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn samples(mut dumps: &[u8]) -> Vec<(UserRegisters, Vec<u8>)> {
    let mut samples = Vec::new();
    while let Some((head, rest)) = dumps.split_at_checked(18 * 8) {
        let words: Vec<u64> =
            head.chunks_exact(8).map(|it| u64::from_le_bytes(it.try_into().expect("eight bytes"))).collect();
        let (stack, rest) = rest.split_at(usize::try_from(words[17]).expect("small"));
        samples.push((UserRegisters::from_perf(&words[..17]).expect("all registers"), stack.to_vec()));
        dumps = rest;
    }
    samples
}

/// Runs the program, and looks at the stack of each instruction.
fn check(flags: &[&str], argument: &str, outermost: &[&str]) {
    let program = Stepped::run(flags, argument);
    let what = format!("{flags:?} {argument}");
    assert!(program.samples.len() > 500, "{what}: {} instructions", program.samples.len());
    let mut unwinder = StackUnwinder::new();
    let mut seen: HashMap<String, u32> = HashMap::new();
    let mut wrong = Vec::new();
    for (registers, stack) in &program.samples {
        let found = unwinder.unwind(program.child.id(), registers, stack);
        let chain = program.chain(&found);
        let innermost = program.name(registers.instruction());
        *seen.entry(innermost.clone()).or_default() += 1;
        // No table knows generated code: there a caller can be missing, or all.
        let whole = found.end == StackEnd::ThreadStart
            && chain.len() >= outermost.len()
            && chain.iter().zip(outermost).all(|(found, expected)| found.contains(expected));
        if !whole && innermost != "generated" {
            wrong.push((registers.instruction(), chain, found.end));
        }
    }
    let total = program.samples.len();
    for (instruction, chain, end) in wrong.iter().take(20) {
        println!("{what}: at {instruction:#x}: {chain:?} {end:?}");
    }
    assert!(wrong.is_empty(), "{what}: {} of {total} stacks are wrong; seen {seen:?}", wrong.len());
    for part in ["walk", "with_stack_arguments", "compare", "in_handler", "generated"] {
        assert!(seen.contains_key(part), "{what}: {part} in {seen:?}");
    }
    let begun = Instant::now();
    for (registers, stack) in &program.samples {
        unwinder.unwind(program.child.id(), registers, stack);
    }
    println!("{what}: {total} stacks, {:?} a stack once all is known", begun.elapsed() / total as u32);
}

/// Nothing of a process can be looked up any more that ended before its samples are read.
#[test]
fn what_was_told_needs_no_process() {
    let mut program = Stepped::run(&["-O2", "-fomit-frame-pointer", "-Wl,-z,lazy"], "main");
    let pid = program.child.id();
    program.child.kill().expect("ours");
    program.child.wait().expect("ours");
    let mut told = StackUnwinder::new();
    for mapping in &program.mappings {
        told.mapped(pid, mapping);
    }
    const CHILD: u32 = u32::MAX;
    told.forked(pid, CHILD);
    let mut untold = StackUnwinder::new();
    for (registers, stack) in &program.samples {
        let found = told.unwind(pid, registers, stack);
        if program.name(registers.instruction()) != "generated" {
            assert_eq!(found.end, StackEnd::ThreadStart, "{:?}", program.chain(&found));
        }
        assert_eq!(told.unwind(CHILD, registers, stack), found);
        let instruction = registers.instruction() + 1;
        let nothing = UnwoundStack { frames: vec![instruction], end: StackEnd::Cut };
        assert_eq!(untold.unwind(pid, registers, stack), nothing);
    }
    told.executed(pid);
    told.process_ended(CHILD);
    let (registers, stack) = &program.samples[0];
    assert_eq!([pid, CHILD].map(|pid| told.unwind(pid, registers, stack).frames.len()), [1, 1]);
}

const STARTED: &[&str] = &["_start", "libc.so.6", "main", "walk"];
const THREAD: &[&str] = &["libc.so.6", "thread", "walk"];

#[test]
fn without_frame_pointers() {
    check(&["-O2", "-fomit-frame-pointer", "-Wl,-z,lazy"], "main", STARTED);
}

#[test]
fn with_frame_pointers() {
    check(&["-O1", "-fno-omit-frame-pointer", "-Wl,-z,now", "-fcf-protection"], "main", STARTED);
}

#[test]
fn in_a_thread() {
    check(&["-O2", "-fomit-frame-pointer", "-Wl,-z,lazy"], "thread", THREAD);
}

#[test]
fn in_a_static_program() {
    check(&["-O2", "-static"], "main", &["_start", "__libc_start_main", "__libc_start_call_main", "main", "walk"]);
}
