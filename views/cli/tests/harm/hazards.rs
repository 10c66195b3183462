//! The hazards: a program, what surrounds it, how it ends, and how far its trace tells of it.

use crate::programs::Language::{self, C, Cpp, Rust};

use Around::{Linked, Preloaded};
use Library::{Own, System};

/// A hazard.
#[derive(Clone, Copy)]
pub struct Hazard {
    /// Its name, and the program's first argument.
    pub name: &'static str,
    /// The source's name.
    pub program: &'static str,
    /// In which languages it is written.
    pub languages: &'static [Language],
    /// How it ends.
    pub ends: Ends,
    /// What surrounds it.
    pub around: Around,
    /// Objects that the libraries of each process make for themselves, at most; the program does not count those.
    pub of_libraries: u64,
    /// Whether its events are in the trace.
    pub events: Events,
    /// The processes that the trace has besides those that count.
    pub uncounted: usize,
    /// Whether a sample of its objects is recorded.
    pub sampled: bool,
}

/// How a program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// With this exit status.
    Exits(i32),
    /// By this signal.
    Signaled(i32),
}

/// What surrounds a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Around {
    /// Nothing in particular.
    Nothing,
    /// A library that is preloaded: a file of the system's, or one of the programs.
    Preloaded(Library),
    /// A library that the program is linked with.
    Linked(Library),
    /// A control group with a limit of 32 MiB, which the program joins.
    Group,
    /// A directory that can be a root. Only root may change its root.
    Root,
    /// The rights of root, which are given away.
    Rights,
}

/// A library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Library {
    /// Debian's file.
    System(&'static str),
    /// One of the C programs, built as a library.
    Own(&'static str),
}

/// How far the trace has the events that a program counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    /// All, and nothing is lost.
    All,
    /// All but those that a handler made while it interrupted a hook: they are counted as lost.
    LostInHandlers,
    /// At least as many as were counted when the process ended: other threads were still at work.
    AtLeast,
    /// None: the program has an allocator of its own that nothing can stand in front of.
    None,
}

impl Hazard {
    /// What a list of results calls it.
    pub fn title(&self, language: Language) -> String {
        let around = match self.around {
            Preloaded(library) => format!(", {} preloaded", library.name()),
            Linked(library) => format!(", {} linked", library.name()),
            _ => String::new(),
        };
        let sampled = if self.sampled { ", sampled" } else { "" };
        format!("{} in {language}{around}{sampled}", self.name)
    }
}

impl Library {
    /// Its file's name, without what that ends with.
    pub fn name(self) -> &'static str {
        let (System(name) | Own(name)) = self;
        let file = name.rsplit('/').next().unwrap_or(name);
        file.split('.').next().unwrap_or(file)
    }
}

const PLAIN: Hazard = Hazard {
    name: "",
    program: "",
    languages: ALL,
    ends: Ends::Exits(0),
    around: Around::Nothing,
    of_libraries: 0,
    events: Events::All,
    uncounted: 0,
    sampled: false,
};

/// The same with a sample of the objects, in one language: what is at stake is the hook.
const SAMPLED: Hazard = Hazard { languages: C_ONLY, sampled: true, ..PLAIN };

const ALL: &[Language] = &[C, Cpp, Rust];
const C_ONLY: &[Language] = &[C];
const CPP_ONLY: &[Language] = &[Cpp];
const RUST_ONLY: &[Language] = &[Rust];
const C_CPP: &[Language] = &[C, Cpp];
const CPP_RUST: &[Language] = &[Cpp, Rust];

const JEMALLOC: Library = System("/usr/lib/x86_64-linux-gnu/libjemalloc.so.2");
const MIMALLOC: Library = System("/usr/lib/x86_64-linux-gnu/libmimalloc.so.2.0");
const TCMALLOC: Library = System("/usr/lib/x86_64-linux-gnu/libtcmalloc.so.4");
const TCMALLOC_MINIMAL: Library = System("/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4");

/// What libraries allocate that a program uses in ways which it cannot count: no figure.
const ANY: u64 = 10_000_000;

/// All hazards.
pub const HAZARDS: &[Hazard] = &[
    // Processes. Threads have their vectors from the C library.
    Hazard { name: "fork_without_exec", program: "processes", of_libraries: 4, ..PLAIN },
    Hazard { name: "fork_in_threads", program: "processes", of_libraries: 60, ..PLAIN },
    Hazard { name: "vfork_exec", program: "processes", languages: C_CPP, of_libraries: 4, ..PLAIN },
    Hazard { name: "posix_spawn", program: "processes", of_libraries: 4, ..PLAIN },
    Hazard { name: "fork_exec", program: "processes", languages: RUST_ONLY, of_libraries: 4, uncounted: 1, ..PLAIN },
    Hazard {
        name: "exec_static",
        program: "processes",
        languages: C_ONLY,
        ends: Ends::Exits(3),
        uncounted: 2,
        ..PLAIN
    },
    Hazard { name: "daemon", program: "processes", of_libraries: 8, ..PLAIN },
    // Threads.
    Hazard { name: "threads_churn", program: "threads", of_libraries: 3000, ..PLAIN },
    Hazard { name: "detached_at_exit", program: "threads", of_libraries: 16, events: Events::AtLeast, ..PLAIN },
    Hazard { name: "cancelled_threads", program: "threads", languages: C_ONLY, of_libraries: 80, ..PLAIN },
    Hazard { name: "tls_destructors", program: "threads", languages: CPP_RUST, of_libraries: 200, ..PLAIN },
    Hazard { name: "tls_destructors", program: "ends", languages: C_ONLY, of_libraries: 16, ..PLAIN },
    // Jumps, exceptions, handlers and stacks.
    Hazard { name: "longjmp", program: "stacks", languages: C_ONLY, ..PLAIN },
    Hazard { name: "exceptions", program: "exceptions", languages: CPP_ONLY, of_libraries: ANY, ..PLAIN },
    Hazard { name: "no_memory", program: "exceptions", languages: CPP_ONLY, of_libraries: 100, ..PLAIN },
    Hazard {
        name: "not_caught",
        program: "exceptions",
        languages: CPP_ONLY,
        ends: Ends::Signaled(6),
        of_libraries: 20,
        ..PLAIN
    },
    Hazard {
        name: "not_caught_in_thread",
        program: "exceptions",
        languages: CPP_ONLY,
        ends: Ends::Signaled(6),
        of_libraries: 20,
        ..PLAIN
    },
    Hazard { name: "panics", program: "panics", languages: RUST_ONLY, of_libraries: 80, ..PLAIN },
    Hazard {
        name: "not_caught",
        program: "panics",
        languages: RUST_ONLY,
        ends: Ends::Exits(101),
        of_libraries: 4,
        ..PLAIN
    },
    Hazard {
        name: "twice",
        program: "panics",
        languages: RUST_ONLY,
        ends: Ends::Signaled(6),
        of_libraries: 4,
        ..PLAIN
    },
    Hazard { name: "coroutines", program: "stacks", languages: C_ONLY, ..PLAIN },
    Hazard { name: "coroutines", program: "signals", languages: CPP_RUST, of_libraries: 1000, ..PLAIN },
    Hazard { name: "handler_allocates", program: "signals", of_libraries: 4, ..PLAIN },
    Hazard { name: "sigaltstack", program: "signals", of_libraries: 4, ..PLAIN },
    Hazard { name: "walk_from_handler", program: "signals", languages: C_ONLY, of_libraries: ANY, ..PLAIN },
    Hazard {
        name: "handler_in_hook",
        program: "reentrant",
        languages: C_ONLY,
        around: Linked(Own("bump")),
        of_libraries: 4,
        events: Events::LostInHandlers,
        ..PLAIN
    },
    Hazard {
        name: "handler_above_hook",
        program: "reentrant",
        languages: C_ONLY,
        around: Linked(Own("bump")),
        of_libraries: 4,
        events: Events::LostInHandlers,
        ..PLAIN
    },
    Hazard {
        name: "jump_out_of_handler",
        program: "reentrant",
        languages: C_ONLY,
        around: Linked(Own("bump")),
        of_libraries: ANY,
        events: Events::LostInHandlers,
        ..PLAIN
    },
    // Libraries.
    Hazard { name: "dlopen_dlclose", program: "libraries", of_libraries: 20_000, ..PLAIN },
    Hazard {
        name: "fork_without_exec",
        program: "processes",
        around: Preloaded(Own("plugin")),
        of_libraries: 8,
        ..PLAIN
    },
    // Allocators.
    Hazard { name: "whole_family", program: "allocators", of_libraries: 80, ..PLAIN },
    Hazard { name: "whole_family", program: "allocators", around: Linked(JEMALLOC), of_libraries: 80, ..PLAIN },
    Hazard { name: "whole_family", program: "allocators", around: Linked(MIMALLOC), of_libraries: 80, ..PLAIN },
    Hazard { name: "whole_family", program: "allocators", around: Linked(TCMALLOC), of_libraries: 80, ..PLAIN },
    Hazard { name: "whole_family", program: "allocators", around: Linked(TCMALLOC_MINIMAL), of_libraries: 80, ..PLAIN },
    Hazard { name: "whole_family", program: "allocators", around: Preloaded(JEMALLOC), of_libraries: 80, ..PLAIN },
    Hazard { name: "whole_family", program: "allocators", around: Preloaded(MIMALLOC), of_libraries: 80, ..PLAIN },
    Hazard { name: "whole_family", program: "allocators", around: Preloaded(TCMALLOC), of_libraries: 80, ..PLAIN },
    Hazard {
        name: "whole_family",
        program: "allocators",
        around: Preloaded(TCMALLOC_MINIMAL),
        of_libraries: 80,
        ..PLAIN
    },
    Hazard { name: "threads_churn", program: "threads", around: Preloaded(JEMALLOC), of_libraries: 3000, ..PLAIN },
    Hazard { name: "threads_churn", program: "threads", around: Preloaded(MIMALLOC), of_libraries: 3000, ..PLAIN },
    Hazard { name: "threads_churn", program: "threads", around: Preloaded(TCMALLOC), of_libraries: 3000, ..PLAIN },
    Hazard { name: "own_malloc", program: "own_malloc", languages: C_ONLY, events: Events::None, ..PLAIN },
    // Early and late.
    Hazard { name: "constructors_and_atexit", program: "ends", of_libraries: 4, ..PLAIN },
    // Ends.
    Hazard { name: "exit_at_once", program: "ends", ends: Ends::Exits(7), of_libraries: 4, ..PLAIN },
    Hazard {
        name: "exit_from_thread",
        program: "ends",
        languages: CPP_RUST,
        ends: Ends::Exits(12),
        of_libraries: 8,
        ..PLAIN
    },
    Hazard { name: "quick_exit", program: "ends", languages: C_CPP, ends: Ends::Exits(9), of_libraries: 4, ..PLAIN },
    Hazard { name: "bare_exit_group", program: "ends", languages: C_ONLY, ends: Ends::Exits(8), ..PLAIN },
    Hazard { name: "abort", program: "ends", ends: Ends::Signaled(6), of_libraries: 4, ..PLAIN },
    Hazard { name: "killed", program: "ends", languages: C_ONLY, ends: Ends::Signaled(9), ..PLAIN },
    Hazard { name: "stack_overflow", program: "ends", ends: Ends::Signaled(11), of_libraries: 4, ..PLAIN },
    Hazard {
        name: "thread_stack_overflow",
        program: "ends",
        languages: C_CPP,
        ends: Ends::Signaled(11),
        of_libraries: 8,
        ..PLAIN
    },
    // The standard library says what happened, and aborts.
    Hazard {
        name: "thread_stack_overflow",
        program: "ends",
        languages: RUST_ONLY,
        ends: Ends::Signaled(6),
        of_libraries: 8,
        ..PLAIN
    },
    Hazard {
        name: "overflow_handled",
        program: "ends",
        languages: C_ONLY,
        ends: Ends::Exits(11),
        // Where the stack ends inside a hook, what the handler allocates is lost, and counted.
        events: Events::LostInHandlers,
        ..PLAIN
    },
    // Limits. Streams of C++ have their buffers from malloc.
    Hazard { name: "few_descriptors", program: "limits", of_libraries: 40, ..PLAIN },
    Hazard { name: "no_descriptor", program: "limits", languages: C_ONLY, ..PLAIN },
    Hazard { name: "little_address_space", program: "limits", of_libraries: 20, ..PLAIN },
    Hazard { name: "little_data", program: "limits", of_libraries: 20, ..PLAIN },
    Hazard { name: "wrong_limits", program: "limits", languages: C_ONLY, ..PLAIN },
    Hazard { name: "small_files", program: "limits", of_libraries: 20, ..PLAIN },
    Hazard { name: "cgroup_within", program: "limits", around: Around::Group, of_libraries: 20, ..PLAIN },
    Hazard { name: "cgroup_beyond", program: "limits", around: Around::Group, of_libraries: 20, ..PLAIN },
    // Rights given away.
    Hazard { name: "seccomp_strict", program: "sandbox", languages: C_ONLY, ends: Ends::Exits(5), ..PLAIN },
    Hazard { name: "seccomp_filter", program: "sandbox", of_libraries: ANY, ..PLAIN },
    Hazard { name: "seccomp_by_syscall", program: "sandbox", languages: C_ONLY, ends: Ends::Exits(6), ..PLAIN },
    Hazard { name: "seccomp_threads", program: "sandbox", languages: C_CPP, of_libraries: ANY, ..PLAIN },
    Hazard { name: "seccomp_fork", program: "sandbox", languages: C_ONLY, ..PLAIN },
    Hazard { name: "seccomp_bare_clone", program: "sandbox", languages: C_ONLY, ..PLAIN },
    Hazard { name: "chroot", program: "sandbox", languages: C_ONLY, around: Around::Root, uncounted: 2, ..PLAIN },
    Hazard {
        name: "chroot",
        program: "sandbox",
        languages: CPP_ONLY,
        around: Around::Root,
        ends: Ends::Exits(3),
        of_libraries: ANY,
        uncounted: 1,
        ..PLAIN
    },
    Hazard {
        name: "chroot",
        program: "sandbox",
        languages: RUST_ONLY,
        around: Around::Root,
        ends: Ends::Exits(3),
        of_libraries: ANY,
        uncounted: 2,
        ..PLAIN
    },
    Hazard { name: "pivot_root", program: "sandbox", languages: C_ONLY, around: Around::Root, uncounted: 2, ..PLAIN },
    Hazard { name: "closefrom", program: "sandbox", of_libraries: ANY, ..PLAIN },
    // A sample of the objects.
    Hazard { name: "fork_without_exec", program: "processes", of_libraries: 4, ..SAMPLED },
    Hazard { name: "fork_in_threads", program: "processes", of_libraries: 60, ..SAMPLED },
    Hazard { name: "vfork_exec", program: "processes", of_libraries: 4, ..SAMPLED },
    Hazard { name: "threads_churn", program: "threads", of_libraries: 3000, ..SAMPLED },
    Hazard { name: "detached_at_exit", program: "threads", of_libraries: 16, events: Events::AtLeast, ..SAMPLED },
    Hazard { name: "tls_destructors", program: "ends", of_libraries: 16, ..SAMPLED },
    Hazard { name: "longjmp", program: "stacks", ..SAMPLED },
    Hazard { name: "handler_allocates", program: "signals", of_libraries: 4, ..SAMPLED },
    Hazard {
        name: "handler_in_hook",
        program: "reentrant",
        around: Linked(Own("bump")),
        of_libraries: 4,
        events: Events::LostInHandlers,
        ..SAMPLED
    },
    Hazard { name: "whole_family", program: "allocators", of_libraries: 80, ..SAMPLED },
    Hazard { name: "whole_family", program: "allocators", around: Preloaded(JEMALLOC), of_libraries: 80, ..SAMPLED },
    Hazard { name: "constructors_and_atexit", program: "ends", of_libraries: 4, ..SAMPLED },
    Hazard { name: "little_address_space", program: "limits", of_libraries: 20, ..SAMPLED },
    Hazard { name: "seccomp_strict", program: "sandbox", ends: Ends::Exits(5), ..SAMPLED },
    Hazard { name: "seccomp_bare_clone", program: "sandbox", ..SAMPLED },
    Hazard { name: "other_user", program: "sandbox", around: Around::Rights, of_libraries: ANY, ..PLAIN },
];
