//! Live objects and bytes of real programs at work against two independent counts: a library that counts by itself, and
//! what the programs' own allocators say.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{TIME_LIMIT, compiled, number, pagetrace, processes, report, text_of};

const REDIS: &str = "/usr/bin/redis-server";
const SQLITE: &str = "/usr/bin/sqlite3";

/// Rows in a table with an index, some of them out again, for as long as it takes.
const SQL: &str = "
CREATE TABLE t(n INTEGER PRIMARY KEY, s TEXT, b BLOB);
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 150000)
INSERT INTO t SELECT n, 'row ' || (n * 7919 % 100003), randomblob(n % 90) FROM numbers;
CREATE INDEX i ON t(s);
DELETE FROM t WHERE n % 3 = 0;
";

/// What the shell of sqlite3 has for itself, and the C library for both.
const SHELL_OBJECTS: u64 = 200;
const SHELL_BYTES: u64 = 128 << 10;

/// Which library the program calls first.
#[derive(Clone, Copy, Debug)]
enum First {
    Tracer,
    Counter,
}

/// A command under the recorder and the counter, which kills it at its `after`th malloc.
fn counted(first: First, after: u64, command: &[&str], directory: &Path, options: &[&str]) -> Command {
    // Its own calls stay within it.
    let counter = text_of(&compiled("counter", &["-shared", "-fPIC", "-Wl,-Bsymbolic", "-ldl"]));
    let mut recorder = Command::new(pagetrace());
    recorder.args(["record", "--quiet", "-o"]).arg(directory.join("trace")).args(options).arg("--");
    recorder.env("COUNTER_FILE", directory.join("counts"));
    match first {
        // The recorder puts its own in front of what is there.
        First::Tracer => {
            recorder.args(command).env("LD_PRELOAD", counter).env("COUNTER_AFTER", after.to_string());
        }
        First::Counter => {
            let script =
                r#"LD_PRELOAD="$0:$LD_PRELOAD" COUNTER_AFTER=$1; export LD_PRELOAD COUNTER_AFTER; shift; exec "$@""#;
            recorder.args(["/bin/sh", "-c", script, &counter, &after.to_string()]).args(command);
        }
    }
    recorder
}

/// What the counter wrote, and the report.
fn both_counts(first: First, program: &str, directory: &Path) -> (Vec<u64>, Value) {
    let counts = std::fs::read_to_string(directory.join("counts")).expect("the counter was asked in time");
    let counts: Vec<u64> = counts.split_whitespace().map(|it| it.parse().expect("a number")).collect();
    let report = report(&directory.join("trace"));
    println!("{program}, {first:?} first: the counter {counts:?}, the trace {}", objects_of(&report, program));
    (counts, report)
}

/// The counts are estimated in all three figures, each within five of its errors; that of objects may lack a few small ones,
/// of which none was sampled and which no error tells of.
fn assert_estimated(program: &str, sample_bytes: u64, directory: &Path) {
    let (counts, report) = both_counts(First::Tracer, program, directory);
    let objects = objects_of(&report, program);
    for (name, count) in ["live", "live_bytes", "live_usable_bytes"].into_iter().zip(&counts) {
        let (estimate, error) = (number(&objects[name]), number(&objects[format!("{name}_error")]));
        let off = 5 * error + if name == "live" { sample_bytes / 8 } else { 0 };
        assert!(estimate.abs_diff(*count) <= off, "{program}: {name}: {estimate} ± {error}, counted {count}");
        let says_much = error > 0 && (error < count / 8 || name == "live");
        assert!(says_much, "{program}: {name}: {estimate} ± {error} says little of {count}");
    }
    assert_eq!((&objects["unknown_frees"], &objects["replaced"]), (&0.into(), &0.into()));
    assert_no_objects_lost(&report);
}

/// The counts are the same in all three figures.
fn assert_equal(first: First, program: &str, directory: &Path) {
    let (counts, report) = both_counts(first, program, directory);
    let objects = objects_of(&report, program);
    let traced: Vec<u64> =
        ["live", "live_bytes", "live_usable_bytes"].iter().map(|name| number(&objects[*name])).collect();
    assert_eq!(traced, counts, "{program}, {first:?} first");
    assert_eq!((&objects["unknown_frees"], &objects["replaced"]), (&0.into(), &0.into()));
    assert!(counts[0] > 100, "too early to say anything: {counts:?}");
    assert_no_objects_lost(&report);
}

/// The kernel may lose events of pages when the machine is busy; those of objects are all there.
fn assert_no_objects_lost(report: &Value) {
    let reasons = report["lost"]["reasons"].as_object().expect("reasons");
    let of_objects: Vec<&String> = reasons.keys().filter(|reason| !reason.starts_with("kernel")).collect();
    assert!(of_objects.is_empty(), "{of_objects:?}");
}

/// Of the last process that ran this program.
fn objects_of<'r>(report: &'r Value, program: &str) -> &'r Value {
    let of_program = |it: &&Value| it["exe"].as_str().is_some_and(|exe| exe.contains(program));
    let process = processes(report).iter().rev().find(of_program);
    &process.unwrap_or_else(|| panic!("no {program} in {report:#}"))["objects"]
}

#[test]
fn sqlite_in_the_middle_of_its_work() {
    for (first, after) in [(First::Tracer, 60_000), (First::Counter, 60_000), (First::Tracer, 150_000)] {
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = counted(first, after, &[SQLITE, ":memory:", SQL], directory.path(), &[]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("the recorder runs");
        wait_for(child);
        assert_equal(first, "sqlite3", directory.path());
    }
}

#[test]
fn programs_in_the_middle_of_their_work_whose_objects_are_sampled() {
    const LOADS: &str =
        "import json; d = [json.loads('{\"id\": %d, \"tags\": [\"a\", \"b\"]}' % i) for i in range(60000)]";
    for (program, sample_bytes, after, command) in [
        ("sqlite3", 4096, 150_000, &[SQLITE, ":memory:", SQL][..]),
        ("python3", 8192, 300_000, &["/usr/bin/env", "PYTHONMALLOC=malloc", "/usr/bin/python3", "-c", LOADS]),
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let options = ["--sample-bytes", &sample_bytes.to_string()[..]];
        let mut command = counted(First::Tracer, after, command, directory.path(), &options);
        wait_for(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("the recorder runs"));
        assert_estimated(program, sample_bytes, directory.path());
    }
}

#[test]
fn redis_under_load_whose_objects_are_sampled() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("socket");
    let arguments = redis(&socket);
    let command: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = counted(First::Tracer, 120_000, &command, directory.path(), &["--sample-bytes", "8KiB"]);
    let server = start_server(server, directory.path(), &socket);
    let load = load(&socket, "200000").status().expect("redis-benchmark: apt-get install redis-tools");
    println!("redis-benchmark: {load}");
    wait_for(server);
    assert_estimated("redis", 8192, directory.path());
}

/// It counts what its core holds by the allocator's usable sizes; the shell around it has a little beside.
#[test]
fn sqlite_and_what_it_says_itself() {
    let directory = tempfile::tempdir().expect("a directory");
    let trace = directory.path().join("trace");
    let mut command = Command::new(pagetrace());
    command.args(["record", "--quiet", "-o"]).arg(&trace).args(["--", SQLITE, ":memory:", SQL, ".stats on"]);
    let printed = directory.path().join("printed");
    // What is printed is in the file once another takes its place.
    let to_file = format!(".output {}", printed.display());
    command.args([&to_file, "SELECT 1;", ".output stdout", ".shell kill -KILL $PPID"]);
    wait_for(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("the recorder runs"));
    let printed = std::fs::read_to_string(printed).expect("what it printed");
    let figure = |name: &str| -> u64 {
        let line = printed.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{printed}"));
        line.split_whitespace().next().and_then(|it| it.parse().ok()).unwrap_or_else(|| panic!("{printed}"))
    };
    let (bytes, allocations) = (figure("Memory Used:"), figure("Number of Outstanding Allocations:"));
    let report = report(&trace);
    assert_no_objects_lost(&report);
    let objects = objects_of(&report, "sqlite3");
    println!("sqlite says {allocations} allocations of {bytes} bytes, the trace {objects}");
    let (live, usable) = (number(&objects["live"]), number(&objects["live_usable_bytes"]));
    assert!((allocations..allocations + SHELL_OBJECTS).contains(&live), "{live} live, sqlite says {allocations}");
    assert!((bytes..bytes + SHELL_BYTES).contains(&usable), "{usable} bytes, sqlite says {bytes}");
}

#[test]
fn redis_under_load() {
    for first in [First::Tracer, First::Counter] {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("socket");
        let arguments = redis(&socket);
        let command: Vec<&str> = arguments.iter().map(String::as_str).collect();
        // In the middle of the load.
        let server = counted(first, 120_000, &command, directory.path(), &[]);
        let server = start_server(server, directory.path(), &socket);
        // It ends with the server, in failure.
        let load = load(&socket, "200000").status().expect("redis-benchmark: apt-get install redis-tools");
        println!("redis-benchmark: {load}");
        wait_for(server);
        assert_equal(first, "redis", directory.path());
    }
}

/// Without a thread cache jemalloc counts as allocated what the program holds, and no more.
#[test]
fn redis_and_what_its_allocator_says() {
    let directory = tempfile::tempdir().expect("a directory");
    let (socket, trace) = (directory.path().join("socket"), directory.path().join("trace"));
    let mut command = Command::new(pagetrace());
    command.args(["record", "--quiet", "-o"]).arg(&trace).arg("--").args(redis(&socket));
    command.env("MALLOC_CONF", "tcache:false");
    let server = start_server(command, directory.path(), &socket);
    let status = load(&socket, "30000").status().expect("redis-benchmark: apt-get install redis-tools");
    assert!(status.success(), "redis-benchmark: {status}");
    // redis asks its allocator ten times a second, and lets go of clients when it comes to it.
    let mut information = String::new();
    for _ in 0..50 {
        let before = std::mem::replace(&mut information, cli(&socket, &["info", "memory"]));
        if field(&before, "allocator_allocated") == field(&information, "allocator_allocated") {
            break;
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    let pid = cli(&socket, &["info", "server"]);
    let status =
        Command::new("kill").args(["-KILL", &field(&pid, "process_id").expect("a pid")]).status().expect("kill");
    assert!(status.success());
    wait_for(server);
    if !field(&information, "mem_allocator").is_some_and(|name| name.starts_with("jemalloc")) {
        println!("skipped: this redis does not use jemalloc, whose figures these are");
        return;
    }
    let allocated = field(&information, "allocator_allocated").expect("jemalloc's figure");
    let allocated: u64 = allocated.parse().expect("a number");
    let report = report(&trace);
    assert_no_objects_lost(&report);
    let traced = number(&objects_of(&report, "redis")["live_usable_bytes"]);
    println!("jemalloc says {allocated} bytes, the trace {traced}");
    // Half a hundredth: clients that come and go between the two looks have buffers.
    assert!(allocated.abs_diff(traced) <= allocated / 200, "jemalloc says {allocated}, the trace {traced}");
}

/// A field of what `info` prints.
fn field(information: &str, name: &str) -> Option<String> {
    let value = information.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

fn redis(socket: &Path) -> Vec<String> {
    let socket = text_of(socket);
    [REDIS, "--port", "0", "--save", "", "--appendonly", "no", "--unixsocket", &socket].map(str::to_owned).into()
}

/// Starts a server and waits until it listens.
fn start_server(mut command: Command, directory: &Path, socket: &Path) -> Child {
    let told = File::create(directory.join("told")).expect("a file");
    command.current_dir(directory).stdin(Stdio::null()).stdout(told.try_clone().expect("a file")).stderr(told);
    let mut server = command.spawn().expect("the recorder runs");
    let start = Instant::now();
    while UnixStream::connect(socket).is_err() {
        let told = || std::fs::read_to_string(directory.join("told")).unwrap_or_default();
        if let Some(status) = server.try_wait().expect("a child of ours") {
            panic!("the server ended with {status}: {}", told());
        }
        assert!(start.elapsed() < TIME_LIMIT, "the server does not listen: {}", told());
        std::thread::sleep(Duration::from_millis(5));
    }
    server
}

fn load(socket: &Path, requests: &str) -> Command {
    let mut benchmark = Command::new("timeout");
    benchmark.args(["60", "redis-benchmark", "-s"]).arg(socket);
    benchmark.args(["-n", requests, "-r", "50000", "-d", "200", "-c", "20", "-P", "8", "-t", "set,get", "-q"]);
    benchmark.stdout(Stdio::null()).stderr(Stdio::null());
    benchmark
}

fn cli(socket: &Path, words: &[&str]) -> String {
    let arguments = [OsStr::new("-s"), socket.as_ref()];
    let output = Command::new("redis-cli").args(arguments).args(words).output().expect("redis-cli");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits for a recorder whose command is killed.
fn wait_for(mut recorder: Child) {
    let start = Instant::now();
    while recorder.try_wait().expect("a child of ours").is_none() {
        if start.elapsed() > TIME_LIMIT {
            let _ = recorder.kill();
            panic!("the recording has not ended");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
