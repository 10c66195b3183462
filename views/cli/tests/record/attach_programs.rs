//! `record -p` on real programs: redis under load and Python with threads and children, which go on as if nothing had been there.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::attach::{Recorder, source};
use crate::harness::{TIME_LIMIT, number, pagetrace, processes, report};

#[test]
fn redis_under_load_is_attached_to_and_let_go() {
    let runs = |name: &&&str| Command::new(name).arg("--version").output().is_ok();
    if ["redis-server", "redis-cli", "redis-benchmark"].iter().filter(runs).count() < 3 {
        return println!("skipped: redis-server, redis-cli or redis-benchmark is not installed");
    }
    for idle in [false, true] {
        let directory = tempfile::tempdir().expect("a directory");
        let mut server = Server::start(directory.path(), idle);
        server.load(&["-n", "20000", "-r", "20000", "-d", "500", "-t", "set"]);
        let options = ["--quiet", "--writes=200ms", "--interval", "200"];
        let recorder = Recorder::attach(directory.path(), false, server.child.id(), &options);
        server.load(&["-n", "40000", "-r", "80000", "-d", "500", "-t", "set"]);
        let output = recorder.interrupted();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        // Nothing was lost, and it goes on.
        let keys = number_of(&server.cli(&["dbsize"]));
        assert!(keys > 30_000, "{keys} keys");
        assert_eq!(server.cli(&["set", "after", "attach"]).trim(), "OK");
        server.end();

        let report = report(&directory.path().join("trace"));
        assert_eq!(report["complete"], true, "{report:#}");
        let process = &processes(&report)[0];
        println!("idle library {idle}: {:#}", process["rss"]["classes"]);
        let [residency, change] = ["residency_agreement", "change_agreement"].map(|it| process["rss"][it].as_f64());
        assert!(residency.is_some_and(|it| it >= 0.98) && change.is_some_and(|it| it >= 0.9), "{:#}", process["rss"]);
        assert_eq!(source(&report, "page_writes")["active"], true, "{}", source(&report, "page_writes"));
        assert!(number(&process["writes"]["written_pages"]) > 5_000, "{:#}", process["writes"]);
        assert_eq!(source(&report, "objects")["active"], idle, "{}", source(&report, "objects"));
        if idle {
            let objects = &process["objects"];
            assert!(number(&objects["allocated"]) > 40_000, "{objects}");
            assert_eq!((&objects["unknown_frees"], &objects["replaced"]), (&0.into(), &0.into()), "{objects}");
        }
    }
}

const PYTHON: &str = r"
import multiprocessing, sys, threading
def grow(kept, count):
    for _ in range(count):
        kept.append(bytearray(100_000))
def child(start):
    start.recv()
    kept = []
    grow(kept, 50)
    start.send(len(kept))
before = []
grow(before, 50)
here, there = multiprocessing.Pipe()
process = multiprocessing.get_context('fork').Process(target=child, args=(there,))
process.start()
print('ready', flush=True)
for line in sys.stdin:
    kept = []
    threads = [threading.Thread(target=grow, args=(kept, 25)) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    here.send('go')
    print(len(kept), here.recv(), flush=True)
process.join()
print('ended', process.exitcode, flush=True)
";

#[test]
fn python_with_threads_and_a_child_is_attached_to_and_let_go() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = Command::new("/usr/bin/python3");
    let mut target =
        command.args(["-c", PYTHON]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3");
    let mut lines = BufReader::new(target.stdout.take().expect("a pipe")).lines();
    let mut next = || lines.next().expect("a line").expect("text");
    assert_eq!(next(), "ready");
    let recorder = Recorder::attach(directory.path(), false, target.id(), &["--quiet", "--interval", "100"]);
    target.stdin.as_mut().expect("a pipe").write_all(b"go\n").expect("it reads");
    assert_eq!(next(), "100 50");
    // It keeps all of that until it is let go, for longer than a snapshot is away: forty times what the last one took, which
    // on a busy machine may be a second.
    std::thread::sleep(Duration::from_millis(2000));
    drop(target.stdin.take());
    assert_eq!(next(), "ended 0");
    assert!(target.wait().expect("it ends").success());
    assert_eq!(recorder.ended().status.code(), Some(0));
    // Where it had the most: at its end it has given all back.
    let output = Command::new(pagetrace()).args(["report", "--json"]).arg(directory.path().join("trace")).output();
    let report: Value = serde_json::from_slice(&output.expect("the report is made").stdout).expect("JSON");
    let origins: Vec<&Value> = processes(&report).iter().map(|process| &process["origin"]).collect();
    assert_eq!(origins, ["attached", "attached"]);
    let touches = &processes(&report)[0]["touches"];
    let sites = touches["sites"].as_array().expect("page events");
    let of = |seen: bool| -> u64 {
        let wanted = sites.iter().filter(|site| (site["cause"] != "resident_at_attach") == seen);
        wanted.map(|site| number(&site["resident_bytes"])).sum()
    };
    // The last snapshot before that may have been taken a little earlier.
    assert!(of(true) >= 80 * 100_000 && of(false) >= 45 * 100_000, "{} and {}: {touches:#}", of(true), of(false));
}

/// A server that is not recorded from its start.
struct Server<'d> {
    child: Child,
    directory: &'d Path,
}

impl Server<'_> {
    fn start(directory: &Path, idle: bool) -> Server<'_> {
        let socket = directory.join("socket");
        let mut command = Command::new(if idle { pagetrace() } else { Path::new("redis-server") });
        if idle {
            command.args(["run-idle", "--", "redis-server"]);
        }
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
        let child = command.arg("--dir").arg(directory).stdout(Stdio::null()).spawn().expect("it starts");
        let started = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            assert!(started.elapsed() < TIME_LIMIT, "it does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        Server { child, directory }
    }

    fn run(&self, name: &str, arguments: &[&str]) -> String {
        let output = Command::new(name).arg("-s").arg(self.directory.join("socket")).args(arguments).output();
        String::from_utf8_lossy(&output.expect("it runs").stdout).into_owned()
    }

    fn cli(&self, arguments: &[&str]) -> String {
        self.run("redis-cli", arguments)
    }

    fn load(&self, arguments: &[&str]) {
        self.run("redis-benchmark", &[arguments, &["-q", "-P", "16"]].concat());
    }

    fn end(&mut self) {
        self.cli(&["shutdown", "nosave"]);
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn number_of(text: &str) -> u64 {
    text.trim().parse().unwrap_or_else(|_| panic!("expected a number, found {text:?}"))
}
