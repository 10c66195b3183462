//! Programs that could not be looked into, and why: for the trace's sources, and for the user.

use std::path::Path;

use pagetrace_format::Address;
use pagetrace_format::snapshot::Mapping;

use crate::elf::{ElfKind, Executable, linked_allocator};
use crate::process_tree::args_of;

/// All of them, each once.
#[derive(Debug, Default)]
pub struct Unseen {
    programs: Vec<UnseenProgram>,
    /// Programs with the library in them, each once, and whether their `malloc` is their own.
    joined: Vec<(String, bool)>,
    past_hooks: u32,
}

/// A program whose objects, or whose pages too, are not in the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnseenProgram {
    /// Its path, or its name where no more is known.
    pub program: String,
    /// Whether the kernel shows this user nothing of its memory but how much is resident.
    pub hidden: bool,
}

impl Unseen {
    /// Nothing of the tracer came into this program; with `hidden` its memory is not shown either.
    pub fn note(&mut self, program: &str, hidden: bool) {
        match self.programs.iter_mut().find(|known| known.program == program) {
            Some(known) => known.hidden |= hidden,
            None => self.programs.push(UnseenProgram { program: program.to_owned(), hidden }),
        }
    }

    /// A process has the preload library in it and finds the program's `malloc` there; 0 where a linked tracer has joined alone.
    pub fn note_joined(&mut self, program: &str, malloc: Address, mappings: &[Mapping]) {
        if malloc == Address(0) {
            return;
        }
        let is_there = |mapping: &&Mapping| (mapping.start..mapping.end).contains(&malloc);
        let past_hooks = mappings.iter().find(is_there).is_some_and(|mapping| mapping.path == program);
        self.past_hooks += u32::from(past_hooks);
        if !self.joined.iter().any(|(known, _)| known == program) {
            self.joined.push((program.to_owned(), past_hooks));
        }
    }

    /// How many processes have the library in them and call a `malloc` of their own.
    pub fn past_hooks(&self) -> u32 {
        self.past_hooks
    }

    /// All of them.
    pub fn programs(&self) -> &[UnseenProgram] {
        &self.programs
    }

    /// What is missing of objects, beside what attaching missed, where `refused` programs found no room.
    pub fn missed_objects(&self, with_objects: bool, at_attach: Vec<String>, refused: u32) -> String {
        let mut missed = if with_objects {
            [at_attach, self.of_objects()].concat()
        } else {
            vec!["switched off by --no-objects".to_owned()]
        };
        if refused > 0 {
            missed.push(format!("{refused} processes found no room in the session"));
        }
        missed.join("; ")
    }

    /// What is missing of pages, beside what went wrong.
    pub fn missed_pages(&self, errors: impl Iterator<Item = String>) -> String {
        errors.chain(self.of_pages()).collect::<Vec<_>>().join("; ")
    }

    /// One sentence for each reason.
    fn of_objects(&self) -> Vec<String> {
        let (hidden, others): (Vec<&UnseenProgram>, Vec<_>) = self.programs.iter().partition(|it| it.hidden);
        let why = |it: &UnseenProgram| match Executable::inspect(Path::new(&it.program)) {
            Ok(Executable { gains_rights: true, .. }) => PRIVILEGED,
            Ok(Executable { kind: ElfKind::Static, .. }) => STATIC,
            _ => NOT_JOINED,
        };
        let because = |reason: &str, programs: Vec<&UnseenProgram>| {
            (!programs.is_empty()).then(|| format!("no malloc or free of {}: {reason}", names_of(&programs)))
        };
        let of_reason = |reason| because(reason, others.iter().copied().filter(|it| why(it) == reason).collect());
        let reasons = [STATIC, NOT_JOINED, PRIVILEGED].into_iter().filter_map(of_reason).chain(because(HIDDEN, hidden));
        reasons.chain(self.of_linked_allocators()).collect()
    }

    /// What allocators that are linked into programs have: their functions are not found by name as those of libraries are.
    fn of_linked_allocators(&self) -> impl Iterator<Item = String> {
        self.joined.iter().filter_map(|(program, past_hooks)| {
            match (past_hooks, linked_allocator(Path::new(program))) {
                (true, _) => Some(format!("no malloc or free of {program}: {LINKED}")),
                (false, Some(name)) => Some(format!("no objects of {name} in {program}: {LINKED_APART}")),
                (false, None) => None,
            }
        })
    }

    fn of_pages(&self) -> Option<String> {
        let hidden: Vec<&UnseenProgram> = self.programs.iter().filter(|it| it.hidden).collect();
        let missed =
            || format!("mappings and pages of {}, of which only the RSS is known: {HIDDEN}", names_of(&hidden));
        (!hidden.is_empty()).then(missed)
    }
}

fn names_of(programs: &[&UnseenProgram]) -> String {
    programs.iter().map(|it| it.program.as_str()).collect::<Vec<_>>().join(", ")
}

const STATIC: &str = "a static program, into which nothing can be loaded";
const NOT_JOINED: &str = "the program brings its own loader, dropped the environment, or ended before it could be seen";
const LINKED: &str =
    "its allocator is linked into it, so that nothing that is loaded comes before it, and what it has is unexplained";
const LINKED_APART: &str =
    "the allocator is linked into it under names of its own, and what it has counts as other anonymous";
const PRIVILEGED: &str = "it runs with more rights than its caller (setuid, setgid or file capabilities), so that the dynamic linker \
                          preloads nothing";
const HIDDEN: &str = "it runs with more rights than its caller (setuid, setgid or file capabilities) or as another user, so that the \
                      dynamic linker preloads nothing and the kernel shows its memory to root alone";

/// What a program is called that does not let its path be seen: its first argument where that is one, else the kernel's name.
pub fn name_of_hidden(pid: u32) -> String {
    let first = args_of(pid).ok().and_then(|args| args.into_iter().next());
    let is_program = |path: &String| path.starts_with('/') && Executable::inspect(Path::new(path)).is_ok();
    first.filter(is_program).unwrap_or_else(|| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim_end().to_owned()
    })
}
