//! The cases: a program, what it runs in, how it ends, and what must be left of it.

use std::path::Path;

use crate::programs::{ends, files, forks, life, load, stress, switching};

/// One case.
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// The program; it gets the file to record to.
    pub program: fn(&Path),
    /// Its environment besides; `{file}` stands for the file.
    pub environment: &'static [(&'static str, &'static str)],
    /// How it ends.
    pub ends: Ends,
    /// What must be on standard error, once. Where empty, nothing of the tracer may be there.
    pub says: &'static str,
    /// The files that it leaves.
    pub left: &'static [Left],
}

/// How a program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// With this exit status.
    Exits(i32),
    /// By this signal.
    Signaled(i32),
}

/// A file that a program leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Which.
    pub file: FileOf,
    /// What is in it.
    pub what: LeftBehind,
}

/// Which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileOf {
    /// The one that the program was given.
    Given,
    /// The one that the program names itself, with the ending `second`.
    Second,
    /// The only one with a dot and a pid behind the given name.
    WithPid,
}

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftBehind {
    /// A whole trace with exactly the events that the processes counted, and nothing lost.
    Exact,
    /// As exact, but for events that are counted as lost.
    ExactWithLost,
    /// As exact, and the events that are not there are those counted as lost, of which there are some.
    AllLost,
    /// A trace without its end, with at least what the processes had counted when they last said so.
    Prefix,
    /// A whole trace; at its end the objects live that the processes say live.
    LiveExact,
    /// A whole trace; at its end no more objects live than the processes say.
    LiveAtMost,
    /// A whole trace, of which the program tells nothing more.
    Whole,
    /// A trace that can be read, if its end is missing, too.
    Anything,
    /// There is no such file.
    Nothing,
}

const fn left(what: LeftBehind) -> Left {
    Left { file: FileOf::Given, what }
}

const PLAIN: Case =
    Case { name: "", program: life::one_run, environment: &[], ends: Ends::Exits(0), says: "", left: EXACT };

const EXACT: &[Left] = &[left(LeftBehind::Exact)];
const PREFIX: &[Left] = &[left(LeftBehind::Prefix)];
const NOTHING: &[Left] = &[left(LeftBehind::Nothing)];

/// All cases.
pub const CASES: &[Case] = &[
    // The life of a recording.
    Case { name: "one_run", ..PLAIN },
    Case { name: "init_twice", program: life::init_twice, ..PLAIN },
    Case { name: "finish_early_and_twice", program: life::finish_early_and_twice, ..PLAIN },
    Case { name: "hooks_before_and_after", program: life::hooks_before_and_after, ..PLAIN },
    Case {
        name: "reset_and_again",
        program: life::reset_and_again,
        left: &[left(LeftBehind::Exact), Left { file: FileOf::Second, what: LeftBehind::Whole }],
        ..PLAIN
    },
    Case { name: "unknown_frees", program: life::unknown_frees, ..PLAIN },
    Case { name: "started_by_environment", program: life::by_environment, environment: STARTED, ..PLAIN },
    Case {
        name: "go_debug",
        program: life::pages_by_environment,
        environment: &[("GODEBUG", "pagetrace={file}")],
        ..PLAIN
    },
    // Switching.
    Case {
        name: "off_keep_under_load",
        program: switching::keep_under_load,
        left: &[left(LeftBehind::LiveExact)],
        ..PLAIN
    },
    Case {
        name: "off_drop_under_load",
        program: switching::drop_under_load,
        left: &[left(LeftBehind::LiveAtMost)],
        ..PLAIN
    },
    Case { name: "off_keep_resumes", program: switching::keep_resumes, left: &[left(LeftBehind::LiveExact)], ..PLAIN },
    Case { name: "off_drop_forgets", program: switching::drop_forgets, left: &[left(LeftBehind::LiveAtMost)], ..PLAIN },
    Case {
        name: "new_stacks_while_off",
        program: switching::new_stacks_while_off,
        left: &[left(LeftBehind::LiveExact)],
        ..PLAIN
    },
    Case {
        name: "off_in_the_parent",
        program: forks::off_in_the_parent,
        left: &[left(LeftBehind::LiveExact)],
        ..PLAIN
    },
    Case { name: "off_in_the_child", program: forks::off_in_the_child, left: &[left(LeftBehind::LiveAtMost)], ..PLAIN },
    Case {
        name: "off_gives_memory_back",
        program: switching::memory_given_back,
        left: &[left(LeftBehind::Anything)],
        ..PLAIN
    },
    // Ends of programs.
    Case { name: "guard_leaked", program: ends::guard_leaked, ..PLAIN },
    Case { name: "panic_unwinds", program: ends::panic_unwinds, ends: Ends::Exits(101), ..PLAIN },
    Case { name: "panic_in_thread", program: ends::panic_in_thread, ..PLAIN },
    Case {
        name: "panic_aborts",
        program: ends::panic_aborts,
        ends: Ends::Signaled(libc::SIGABRT),
        left: PREFIX,
        ..PLAIN
    },
    Case {
        name: "exit_from_thread",
        program: ends::exit_from_thread,
        ends: Ends::Exits(3),
        left: &[left(LeftBehind::Anything)],
        ..PLAIN
    },
    Case { name: "killed", program: ends::killed, ends: Ends::Signaled(libc::SIGKILL), left: PREFIX, ..PLAIN },
    Case { name: "ends_without_exit", program: ends::ends_without_exit, ends: Ends::Exits(4), left: PREFIX, ..PLAIN },
    // Forks.
    Case { name: "fork_exits", program: forks::child_exits, ..PLAIN },
    Case { name: "fork_ends_without_exit", program: forks::child_ends_without_exit, left: PREFIX, ..PLAIN },
    Case { name: "fork_killed", program: forks::child_killed, left: PREFIX, ..PLAIN },
    Case { name: "fork_of_fork", program: forks::grandchild, ..PLAIN },
    Case { name: "fork_with_threads", program: forks::with_threads, ..PLAIN },
    Case { name: "daemon", program: forks::daemon, ..PLAIN },
    Case {
        name: "exec_with_the_same_environment",
        program: forks::execs,
        environment: STARTED,
        // The child's own file first: as a fork it is in its parent's, too.
        left: &[Left { file: FileOf::WithPid, what: LeftBehind::Exact }, left(LeftBehind::Exact)],
        ..PLAIN
    },
    // Files.
    Case {
        name: "descriptors_closed_and_reused",
        program: files::descriptors_reused,
        left: &[left(LeftBehind::Anything)],
        ..PLAIN
    },
    Case {
        name: "file_size_limit",
        program: files::size_limit,
        says: "failed to write page trace: ",
        left: &[left(LeftBehind::Anything)],
        ..PLAIN
    },
    Case { name: "file_removed", program: files::removed, says: "No such file or directory", left: NOTHING, ..PLAIN },
    Case { name: "file_replaced", program: files::replaced, says: "failed to write page trace: ", left: &[], ..PLAIN },
    Case {
        name: "reader_gone",
        program: files::reader_gone,
        says: "failed to write page trace: ",
        left: NOTHING,
        ..PLAIN
    },
    Case {
        name: "disk_full",
        program: life::unwritten,
        environment: &[("PAGETRACE", "/dev/full")],
        says: "/dev/full",
        left: NOTHING,
        ..PLAIN
    },
    Case {
        name: "path_not_writable",
        program: life::untraced,
        environment: &[("PAGETRACE", "{file}/in/a/directory/that/is/not")],
        says: "failed to create page trace: ",
        left: NOTHING,
        ..PLAIN
    },
    Case {
        name: "file_in_the_way",
        program: files::in_the_way,
        left: &[Left { file: FileOf::Second, what: LeftBehind::Whole }],
        ..PLAIN
    },
    Case {
        name: "unknown_option",
        program: life::untraced,
        environment: &[("PAGETRACE", "{file},speed=warp")],
        says: "speed=warp",
        left: NOTHING,
        ..PLAIN
    },
    Case {
        name: "impossible_value",
        program: life::untraced,
        environment: &[("PAGETRACE", "{file},page_size=3000")],
        says: "page_size=3000",
        left: NOTHING,
        ..PLAIN
    },
    // Load.
    Case {
        name: "signal_handler_in_hooks",
        program: load::signal_handler,
        left: &[left(LeftBehind::AllLost)],
        ..PLAIN
    },
    Case { name: "threads_start_and_end", program: load::threads_start_and_end, ..PLAIN },
    Case { name: "many_idle_threads", program: load::many_idle_threads, ..PLAIN },
    Case {
        name: "small_buffers_lose",
        program: load::small_buffers_lose,
        left: &[left(LeftBehind::ExactWithLost)],
        ..PLAIN
    },
    // Everything at once; `cargo xtask stress` runs these for longer.
    Case { name: "stress_exact", program: stress::exact, ..PLAIN },
    Case { name: "stress_tracked", program: stress::tracked, ..PLAIN },
    Case { name: "stress_switched", program: stress::switched, left: &[left(LeftBehind::LiveAtMost)], ..PLAIN },
];

const STARTED: &[(&str, &str)] = &[("PAGETRACE", "{file}")];
