//! Ways of making processes and threads: the program behaves as it does alone, and each process is in the trace.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::LazyLock;

use serde_json::Value;

use crate::classes::check_process;
use crate::harness::{Recorded, assert_whole, compiled, number, processes, program, record, record_with, text_of};

/// What is expected of a process: its origin, the file name of its program, its live objects and their bytes at its
/// end where these are known.
type Expected<'a> = (&'a str, &'a str, Option<(u64, u64)>);

fn check(command: &[&str], expected: &[Expected]) -> Value {
    let alone = Command::new(command[0]).args(&command[1..]).output().expect("the program runs alone");
    let recorded = record(command);
    assert_as_alone(command, &recorded, &alone);
    let report = recorded.report();
    assert_whole(&report, &format!("{command:?}"));
    let found: Vec<Expected> = processes(&report).iter().zip(expected).map(|it| summary(it.0, it.1)).collect();
    assert_eq!(found, expected, "{command:?}: {report:#}");
    assert_eq!(processes(&report).len(), expected.len(), "{command:?}: {report:#}");
    for process in processes(&report).iter().filter(|process| process["rss"].is_object()) {
        check_process(command, process);
    }
    report
}

fn assert_as_alone(command: &[&str], recorded: &Recorded, alone: &Output) {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(shown(&recorded.output.stdout), shown(&alone.stdout), "{command:?}: standard output");
    let said = shown(&recorded.output.stderr);
    // On a busy machine it takes a daemon long to end.
    let said: String = said.split_inclusive('\n').filter(|line| !line.contains("are still recorded")).collect();
    assert_eq!(said, shown(&alone.stderr), "{command:?}: standard error");
    assert_eq!(recorded.output.status, alone.status, "{command:?}");
}

fn summary<'a>(process: &'a Value, expected: &Expected) -> Expected<'a> {
    let exe = process["exe"].as_str().and_then(|exe| Path::new(exe).file_name()?.to_str()).unwrap_or("");
    let objects = &process["objects"];
    let live = expected.2.map(|_| (number(&objects["live"]), number(&objects["live_bytes"])));
    (process["origin"].as_str().unwrap_or(""), exe, live)
}

#[test]
fn ways_of_one_program() {
    let family = program("family");
    let ways: &[(&str, &[Expected])] = &[
        ("fork", &[("command", "family", Some((107, 103_500))), ("fork", "family", Some((150, 250_000)))]),
        ("spawn", &[("command", "family", Some((10, 1000))), ("exec", "family", Some((11, 1221)))]),
        ("vfork-exec", &[("command", "family", Some((10, 1000))), ("exec", "family", Some((11, 1221)))]),
        ("vfork-exit", &[("command", "family", Some((20, 2000)))]),
        (
            "daemon",
            &[
                ("command", "family", Some((20, 2000))),
                ("fork", "family", Some((20, 2000))),
                ("fork", "family", Some((50, 8000))),
            ],
        ),
        ("threads", &[("command", "family", None)]),
        ("handler", &[("command", "family", None)]),
        ("longjmp", &[("command", "family", Some((1050, 11_550)))]),
        ("fork-in-thread", &[("command", "family", None), ("fork", "family", None)]),
    ];
    for (way, expected) in ways {
        check(&[&family, way], expected);
    }
}

#[test]
fn threads_that_end_in_every_way_leave_no_object_behind() {
    let report = check(&[&program("family"), "threads"], &[("command", "family", None)]);
    let objects = &processes(&report)[0]["objects"];
    // 500 of malloc and as many of realloc in each of 64 threads; what the C library keeps for threads is on top.
    assert!((64_000..64_500).contains(&number(&objects["allocated"])), "{objects:#}");
    assert!(number(&objects["live"]) <= 100, "{objects:#}");
}

#[test]
fn a_child_forked_by_a_thread_has_the_objects_of_all() {
    let report =
        check(&[&program("family"), "fork-in-thread"], &[("command", "family", None), ("fork", "family", None)]);
    let live = |place: usize| number(&processes(&report)[place]["objects"]["live"]);
    assert_eq!(live(1), live(0) - 7 + 50);
}

#[test]
fn a_shell_that_forks_and_execs() {
    let script = "(/usr/bin/python3 -c 'print(sum(len(str(i)) for i in range(1000)))'); true";
    // The child may have become another program before anyone could look at it: its name is its parent's all the same.
    let shell = shell_name();
    let report = check(
        &["/bin/sh", "-c", script],
        &[("command", shell, None), ("fork", shell, None), ("exec", python_name(), None)],
    );
    let [command, fork, exec] = processes(&report) else { panic!("expected three processes: {report:#}") };
    assert_eq!(fork["end_status"], "replaced");
    assert_eq!(fork["pid"], exec["pid"]);
    assert!(number(&fork["objects"]["inherited"]) > 10, "{fork:#}");
    assert!(number(&fork["objects"]["inherited"]) <= number(&command["objects"]["allocated"]), "{fork:#}");
}

#[test]
fn a_shell_whose_command_ends_by_a_signal() {
    let script = "/bin/sh -c 'kill -TERM $$'; echo $?";
    let recorded = record(&["/bin/sh", "-c", script]);
    assert_eq!(String::from_utf8_lossy(&recorded.output.stdout), "143\n");
    let report = recorded.report();
    assert_whole(&report, script);
    assert_eq!(processes(&report).len(), 2, "{report:#}");
}

fn shell_name() -> &'static str {
    static NAME: LazyLock<String> = LazyLock::new(|| file_name("/bin/sh"));
    &NAME
}

fn python_name() -> &'static str {
    static NAME: LazyLock<String> = LazyLock::new(|| file_name("/usr/bin/python3"));
    &NAME
}

/// The name of the file that this path leads to: the kernel names programs so.
fn file_name(path: &str) -> String {
    let path = Path::new(path).canonicalize().unwrap_or_else(|error| panic!("{path}: {error}; install it"));
    path.file_name().expect("a file").to_string_lossy().into_owned()
}

#[test]
fn a_program_that_allocates_nothing() {
    let report = check(&[&program("silent")], &[("command", "silent", Some((0, 0)))]);
    assert_eq!(report["events"]["object_alloc"], 0);
    assert!(processes(&report)[0]["rss"]["kernel_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{report:#}");
}

#[test]
fn allocations_before_main_and_after_it() {
    let report = check(&[&program("early_and_late")], &[("command", "early_and_late", Some((2, 23_456 + 34_567)))]);
    // The constructor's, the exit handler's, the destructor's.
    assert_eq!(report["events"]["object_alloc"], 3);
    assert_eq!(report["events"]["object_free"], 1);
}

#[test]
fn a_library_that_was_preloaded_already() {
    let library = text_of(&compiled("preloaded", &["-shared", "-fPIC"]));
    let leaf = [&program("family")[..], "leaf"];
    let recorded = record_with(&["--quiet"], &[("LD_PRELOAD", &library)], &leaf);
    // Once in the recorder, once in the program.
    assert_eq!(String::from_utf8_lossy(&recorded.output.stdout), "preloaded\npreloaded\nleaf\n");
    let report = recorded.report();
    assert_whole(&report, "preloaded");
    assert_eq!(processes(&report)[0]["objects"]["live"], 11);
}

#[test]
fn a_static_program_is_named_and_its_residency_recorded() {
    let sleeper = text_of(&compiled("static_sleeper", &["-static"]));
    let through_exec = format!("exec {sleeper}");
    for command in [&[&sleeper[..]][..], &["/bin/sh", "-c", &through_exec]] {
        let recorded = record_with(&[], &[], command);
        assert!(recorded.output.status.success(), "{command:?}: {}", recorded.output.status);
        assert_eq!(recorded.output.stdout, b"static\n", "{command:?}");
        let errors = String::from_utf8_lossy(&recorded.output.stderr);
        assert!(errors.contains(&sleeper) && errors.contains("static"), "{command:?}: {errors}");
        let report = recorded.report();
        assert_eq!(report["complete"], true, "{command:?}");
        let process = processes(&report).last().expect("a process");
        assert!(process["exe"].as_str().is_some_and(|exe| exe.ends_with("static_sleeper-static")), "{report:#}");
        assert!(number(&process["rss"]["kernel_bytes"]) > 8 << 20, "{command:?}: {process:#}");
        check_process(command, process);
    }
}
