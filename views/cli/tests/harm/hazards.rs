//! The hazards: a program, what surrounds it, how it ends, and how far its trace tells of it.

use crate::programs::Language::{self, C};

/// A hazard.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

const PLAIN: Hazard = Hazard {
    name: "",
    program: "",
    languages: &[C],
    ends: Ends::Exits(0),
    around: Around::Nothing,
    of_libraries: 0,
    events: Events::All,
    uncounted: 0,
};

/// All hazards.
pub const HAZARDS: &[Hazard] = &[
    // Processes.
    Hazard { name: "fork_without_exec", program: "processes", ..PLAIN },
    // Threads have their vectors from the C library.
    Hazard { name: "fork_in_threads", program: "processes", of_libraries: 8, ..PLAIN },
    Hazard { name: "vfork_exec", program: "processes", ..PLAIN },
    Hazard { name: "posix_spawn", program: "processes", ..PLAIN },
    Hazard { name: "exec_static", program: "processes", ends: Ends::Exits(3), uncounted: 2, ..PLAIN },
    Hazard { name: "daemon", program: "processes", ..PLAIN },
    // Threads.
    Hazard { name: "threads_churn", program: "threads", of_libraries: 600, ..PLAIN },
    Hazard { name: "detached_at_exit", program: "threads", of_libraries: 16, events: Events::AtLeast, ..PLAIN },
    // What unwinding needs is loaded with the first.
    Hazard { name: "cancelled_threads", program: "threads", of_libraries: 80, ..PLAIN },
    // Jumps, handlers and stacks.
    Hazard { name: "longjmp", program: "stacks", ..PLAIN },
    Hazard { name: "coroutines", program: "stacks", ..PLAIN },
    Hazard { name: "handler_allocates", program: "signals", ..PLAIN },
    Hazard { name: "sigaltstack", program: "signals", ..PLAIN },
    // It allocates in other ways than it counts.
    Hazard { name: "walk_from_handler", program: "signals", of_libraries: 10_000_000, ..PLAIN },
    Hazard {
        name: "handler_in_hook",
        program: "reentrant",
        around: Around::Linked(Library::Own("bump")),
        of_libraries: 4,
        events: Events::LostInHandlers,
        ..PLAIN
    },
    Hazard {
        name: "jump_out_of_handler",
        program: "reentrant",
        around: Around::Linked(Library::Own("bump")),
        of_libraries: 10_000_000,
        events: Events::LostInHandlers,
        ..PLAIN
    },
    // Libraries.
    Hazard { name: "dlopen_dlclose", program: "libraries", of_libraries: 20_000, ..PLAIN },
    Hazard {
        name: "longjmp",
        program: "stacks",
        around: Around::Preloaded(Library::Own("plugin")),
        of_libraries: 4,
        ..PLAIN
    },
    // Allocators.
    Hazard { name: "whole_family", program: "allocators", of_libraries: 8, ..PLAIN },
    Hazard { name: "own_malloc", program: "own_malloc", events: Events::None, ..PLAIN },
    // Early and late.
    Hazard { name: "constructors_and_atexit", program: "ends", ..PLAIN },
    Hazard { name: "tls_destructors", program: "ends", of_libraries: 16, ..PLAIN },
    // Ends.
    Hazard { name: "exit_at_once", program: "ends", ends: Ends::Exits(7), ..PLAIN },
    Hazard { name: "quick_exit", program: "ends", ends: Ends::Exits(9), ..PLAIN },
    Hazard { name: "bare_exit_group", program: "ends", ends: Ends::Exits(8), ..PLAIN },
    Hazard { name: "abort", program: "ends", ends: Ends::Signaled(6), ..PLAIN },
    Hazard { name: "killed", program: "ends", ends: Ends::Signaled(9), ..PLAIN },
    Hazard { name: "stack_overflow", program: "ends", ends: Ends::Signaled(11), ..PLAIN },
    Hazard { name: "thread_stack_overflow", program: "ends", ends: Ends::Signaled(11), of_libraries: 4, ..PLAIN },
    Hazard { name: "overflow_handled", program: "ends", ends: Ends::Exits(11), ..PLAIN },
    // Limits.
    Hazard { name: "few_descriptors", program: "limits", ..PLAIN },
    Hazard { name: "no_descriptor", program: "limits", ..PLAIN },
    Hazard { name: "little_data", program: "limits", ..PLAIN },
    Hazard { name: "small_files", program: "limits", ..PLAIN },
    Hazard { name: "cgroup_within", program: "limits", around: Around::Group, ..PLAIN },
    Hazard { name: "cgroup_beyond", program: "limits", around: Around::Group, ..PLAIN },
    // Rights given away.
    Hazard { name: "seccomp_strict", program: "sandbox", ends: Ends::Exits(5), ..PLAIN },
    Hazard { name: "seccomp_filter", program: "sandbox", ..PLAIN },
    Hazard { name: "seccomp_by_syscall", program: "sandbox", ends: Ends::Exits(6), ..PLAIN },
    Hazard { name: "seccomp_threads", program: "sandbox", of_libraries: 16, ..PLAIN },
    Hazard { name: "seccomp_fork", program: "sandbox", ..PLAIN },
    Hazard { name: "chroot", program: "sandbox", around: Around::Root, uncounted: 1, ..PLAIN },
    Hazard { name: "closefrom", program: "sandbox", ..PLAIN },
    Hazard { name: "other_user", program: "sandbox", around: Around::Rights, ..PLAIN },
];
