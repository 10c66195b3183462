//! Programs that have the tracer say who wrote and who read. Each runs as a process of its own, where this runs as root also
//! as an ordinary user, and holds what the tracer says against what it did.
//!
//! One binary is both: without `--program` it starts itself for each case.

mod memory;
mod programs;
mod sys;
mod trace;

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode, Output};

use programs::{lifecycle, maps, signals, stops, stress, watches, writes};

/// A program's arguments: this, its case's name, and a file to record to.
const PROGRAM: &str = "--program";

#[global_allocator]
static ALLOCATOR: pagetrace::Traced<std::alloc::System> = pagetrace::Traced::new(std::alloc::System);

struct Case {
    name: &'static str,
    program: fn(&Path),
    /// The signal that ends it, 0 for none.
    signal: i32,
}

const fn case(name: &'static str, program: fn(&Path)) -> Case {
    Case { name, program, signal: 0 }
}

const CASES: &[Case] = &[
    case("pattern_of_four_threads", writes::pattern_of_four_threads),
    case("kernel_writes", writes::kernel_writes),
    case("discarded_pages", writes::discarded_pages),
    case("tasks", writes::tasks),
    case("one_thread_alone", writes::one_thread_alone),
    case("two_threads_on_a_page", writes::two_threads_on_a_page),
    case("page_info_from_any_thread", writes::page_info_from_any_thread),
    case("new_mappings", maps::new_mappings),
    case("heap_grows", maps::heap_grows),
    case("moved_memory", maps::moved_memory),
    case("huge_pages", maps::huge_pages),
    case("mapped_again", maps::mapped_again),
    case("files_and_shared_memory", maps::files_and_shared_memory),
    case("forked_child", lifecycle::forked_child),
    case("forks_under_load", lifecycle::forks_under_load),
    case("finish_gives_all_back", lifecycle::finish_gives_all_back),
    case("off_and_on", lifecycle::off_and_on),
    case("descriptors_closed", lifecycle::descriptors_closed),
    case("starts_and_stops", lifecycle::starts_and_stops),
    case("environment_starts_it", lifecycle::environment_starts_it),
    case("watch_reads_and_writes", watches::reads_and_writes),
    case("watch_and_system_calls", watches::system_calls),
    case("watch_of_one_thread", watches::one_thread_alone),
    case("watch_ping_pong", watches::ping_pong),
    case("watch_and_forks", watches::forks),
    case("watch_and_memory_given_back", watches::memory_given_back),
    case("watch_refuses", watches::refuses),
    case("watch_and_rights", watches::rights),
    case("watch_by_signals", signals::watches),
    case("watch_by_signals_and_handlers", signals::other_handlers),
    Case { name: "watch_by_signals_and_real_faults", program: signals::real_faults, signal: libc::SIGSEGV },
    case("watch_beside_tracking", watches::beside_tracking),
    case("watch_ends_with_finish", watches::ends_with_finish),
    Case { name: "watch_aborts", program: stops::aborts, signal: libc::SIGABRT },
    case("watch_stops", stops::stops),
    case("stress_watched", stress::watched),
    case("stress_watched_by_signals", stress::watched_by_signals),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [flag, name, file] = &arguments[..]
        && flag == PROGRAM
    {
        let case = CASES.iter().find(|case| case.name == name).expect("the driver gives the name of a case");
        (case.program)(Path::new(file));
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    // Names that are meant so may be those of other tests of the workspace.
    let exact = arguments.iter().any(|argument| argument == "--exact");
    let is_called = |shown: &str, part: &String| if exact { shown == part } else { shown.contains(part) };
    let directory = tempfile::tempdir().expect("a directory for the traces");
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).expect("it is ours");
    let users: &[Option<u32>] = if sys::is_root() { &[None, Some(65534)] } else { &[None] };
    let (mut passed, mut failed) = (0, 0);
    for case in CASES {
        for user in users {
            let shown = user.map_or(case.name.to_owned(), |user| format!("{} as user {user}", case.name));
            if !wanted.is_empty() && !wanted.iter().any(|part| is_called(&shown, part)) {
                continue;
            }
            let output = run(case, *user, directory.path());
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (printed, said) = (text(&output.stdout), text(&output.stderr));
            let ended =
                if case.signal == 0 { output.status.success() } else { output.status.signal() == Some(case.signal) };
            if ended && !printed.contains("not to be printed") {
                println!("test {shown} ... ok");
                printed.lines().filter(|line| line.starts_with("skipped: ")).for_each(|line| println!("    {line}"));
                passed += 1;
            } else {
                println!(
                    "test {shown} ... FAILED\n{}\n-- it printed --\n{printed}-- and said --\n{said}",
                    output.status
                );
                failed += 1;
            }
        }
    }
    println!("\naccesses: {passed} passed, {failed} failed");
    if failed == 0 && (passed > 0 || exact) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(case: &Case, user: Option<u32>, directory: &Path) -> Output {
    let program = env::current_exe().expect("this program has a path");
    // A program that hangs is to end, too.
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "120"]);
    if let Some(user) = user {
        command.args(["setpriv", &format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups"]);
    }
    let file = directory.join(format!("{}.{}.pagetrace", case.name, user.unwrap_or(0)));
    command.arg(program).args([PROGRAM, case.name]).arg(&file).env("RUST_BACKTRACE", "0");
    if case.name.starts_with("environment") {
        command.env("PAGETRACE", format!("{},writes=20ms", file.display()));
    } else {
        command.env_remove("PAGETRACE");
    }
    command.output().expect("timeout and setpriv run: apt-get install coreutils util-linux")
}
