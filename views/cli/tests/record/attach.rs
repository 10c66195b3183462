//! `record -p`: what is there at attach and what happens from then on, of all threads and processes, as root and as an ordinary
//! user; which processes are refused; and how a recording ends.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{TIME_LIMIT, compiled, copied_into, interruptible, number, pagetrace, processes, report};

/// What `attached.c` touches, in bytes.
const EARLY_KEPT: u64 = 156 << 12;
const LATE: u64 = 512 << 12;
const THREADS: u64 = (2 * 64 + 32) << 12;
const CHILD: u64 = 128 << 12;
const NEW_CHILD: u64 = 48 << 12;
const NOBODY: u32 = 65_534;

#[test]
fn a_program_and_all_below_it_are_recorded_from_then_on() {
    check_attaching(false);
}

#[test]
fn an_ordinary_user_attaches_to_programs_of_its_own() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: only root can become another user");
    }
    check_attaching(true);
}

fn check_attaching(as_nobody: bool) {
    let directory = tempfile::tempdir().expect("a directory for a trace");
    let mut target = Target::start(&compiled("attached", &[]), directory.path(), as_nobody);
    let recorder = Recorder::attach(directory.path(), as_nobody, target.pid(), &["--quiet", "--interval", "50"]);
    target.go();
    std::thread::sleep(Duration::from_millis(150));
    let output = recorder.interrupted();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    target.go();
    target.ends_well();

    let report = report(&directory.path().join("trace"));
    assert_nothing_lost(&report);
    let [program, child, new_child] = processes(&report) else { panic!("three processes: {report:#}") };
    assert_eq!(program["origin"], "attached");
    assert_eq!((&child["origin"], &child["parent"]), (&"attached".into(), &0.into()));
    assert_eq!((&new_child["origin"], &new_child["parent"]), (&"fork".into(), &0.into()));
    for process in [program, child] {
        let before = touched(process, |site| site["cause"] == "resident_at_attach");
        assert!(before >= EARLY_KEPT, "{before} bytes were there: {process:#}");
        let is_early = |site: &Value| names(site, "touch_early");
        assert_eq!(touched(process, is_early), 0, "first touches that nobody saw: {process:#}");
        let [residency, change] = ["residency_agreement", "change_agreement"].map(|it| process["rss"][it].as_f64());
        assert!(residency.is_some_and(|it| it >= 0.98) && change.is_some_and(|it| it >= 0.9), "{:#}", process["rss"]);
    }
    assert_eq!(touched(program, |site| names(site, "touch_late")), LATE, "{program:#}");
    assert_eq!(touched(program, |site| names(site, "touch_in_thread")), THREADS, "{program:#}");
    assert_eq!(touched(child, |site| names(site, "touch_late")), CHILD, "{child:#}");
    // It began with what its parent had by then.
    let of_new_child = touched(new_child, |site| names(site, "touch_late"));
    assert_eq!(of_new_child, LATE + NEW_CHILD, "{new_child:#}");
    let objects = source(&report, "objects");
    assert!(objects["missed"].as_str().is_some_and(|missed| missed.contains("not visible")), "{objects}");
    assert_eq!(source(&report, "page_faults")["active"], true, "{report:#}");
}

#[test]
fn a_recording_ends_with_its_time_or_with_the_process() {
    let directory = tempfile::tempdir().expect("a directory for a trace");
    let mut target = Target::start(&compiled("attached", &[]), directory.path(), false);
    let started = Instant::now();
    let options = ["--quiet", "--duration", "300ms"];
    let output = Recorder::attach(directory.path(), false, target.pid(), &options).ended();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
    assert_eq!(report(&directory.path().join("trace"))["complete"], true);

    let recorder = Recorder::attach(directory.path(), false, target.pid(), &[]);
    target.go();
    target.ends_well();
    let output = recorder.ended();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("attached to 2 processes with 4 threads, held for"), "{said}");
    assert!(said.contains("next: pagetrace report"), "{said}");
    let report = report(&directory.path().join("trace"));
    assert_nothing_lost(&report);
    assert!(processes(&report).iter().all(|it| it["running"] == false), "{report:#}");
}

#[test]
fn what_cannot_be_attached_to_is_refused_with_a_reason() {
    let refused = |what: &str, recorder: &mut Command, expected: &str| {
        let directory = tempfile::tempdir().expect("a directory for a trace");
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).expect("a directory of ours");
        let output = recorder.current_dir(directory.path()).output().expect("the recorder runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(125), "{what}: {said}");
        assert!(said.contains(expected), "{what}: {said}");
        assert_eq!(std::fs::read_dir(directory.path()).expect("a directory").count(), 0, "{what}: a file is left");
    };
    let attach = |pid: u32| {
        let mut recorder = Command::new(pagetrace());
        recorder.args(["record", "-p", &pid.to_string()]);
        recorder
    };
    refused("none", &mut attach(4_194_304), "no process 4194304");
    let mut zombie = Command::new("true").spawn().expect("true");
    while state_of(zombie.id()) != Some('Z') {
        std::thread::sleep(Duration::from_millis(1));
    }
    refused("zombie", &mut attach(zombie.id()), "is a zombie");
    zombie.wait().expect("it has ended");
    let mut itself = Command::new("sh");
    itself.args(["-c", "exec \"$0\" record -p $$"]).arg(pagetrace());
    refused("itself", &mut itself, "is this recorder");
    match std::fs::read_to_string("/proc/2/comm").as_deref() {
        Ok("kthreadd\n") => refused("kernel", &mut attach(2), "is a thread of the kernel"),
        _ => println!("skipped: threads of the kernel are not to be seen here"),
    }
    let directory = tempfile::tempdir().expect("a directory");
    let target = Target::start(&compiled("attached", &[]), directory.path(), false);
    let threads = std::fs::read_dir(format!("/proc/{}/task", target.pid())).expect("it runs");
    let threads = threads.filter_map(|it| it.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let thread = threads.max().expect("it has threads");
    refused("thread", &mut attach(thread), &format!("is a thread of process {}", target.pid()));
    if rustix::process::geteuid().is_root() {
        let tool = copied_into(directory.path(), pagetrace());
        let mut nobody = Command::new("setpriv");
        nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(tool);
        nobody.args(["record", "-p", &target.pid().to_string()]);
        refused("another user", &mut nobody, "not permitted: it belongs to another user (uid 0)");
    } else {
        refused("another user", &mut attach(1), "not permitted");
    }
    target.ends_well();
}

/// `attached.c`, at work.
pub struct Target {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    /// The child that it has from the beginning.
    pub below: u32,
}

impl Target {
    /// Starts it, and waits until it is ready.
    pub fn start(program: &Path, directory: &Path, as_nobody: bool) -> Target {
        std::fs::set_permissions(directory, PermissionsExt::from_mode(0o777)).expect("a directory of ours");
        Target::started(&mut as_user(as_nobody, &copied_into(directory, program)))
    }

    /// The same by this command.
    pub fn started(command: &mut Command) -> Target {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
        let to = child.stdin.take().expect("a pipe");
        let from = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut target = Target { child, to, from, below: 0 };
        let ready = target.line();
        target.below = ready.trim().strip_prefix("ready ").and_then(|pid| pid.parse().ok()).expect(&ready);
        target
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it touch memory, and waits until it has.
    pub fn go(&mut self) {
        self.to.write_all(b"go\n").expect("it reads");
        assert_eq!(self.line(), "done\n");
    }

    /// It ends as it does when nobody looks.
    pub fn ends_well(mut self) {
        drop(self.to);
        let status = self.child.wait().expect("it ends");
        assert_eq!((status.code(), status.signal()), (Some(7), None));
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).expect("it writes");
        line
    }
}

/// A recorder that has attached.
pub struct Recorder(Child);

impl Recorder {
    /// Attaches; the trace is in this directory.
    pub fn attach(directory: &Path, as_nobody: bool, pid: u32, options: &[&str]) -> Recorder {
        let trace = directory.join("trace");
        let _ = std::fs::remove_file(&trace);
        let mut recorder = Recorder::start(directory, as_nobody, pid, options);
        // The trace has its name when the recorder has attached.
        let started = Instant::now();
        while !trace.exists() {
            if recorder.0.try_wait().expect("it is ours").is_some() {
                panic!("the recorder has ended: {:?}", recorder.ended());
            }
            assert!(started.elapsed() < TIME_LIMIT, "the recorder does not attach to {:?}", state_of(pid));
            std::thread::sleep(Duration::from_millis(1));
        }
        recorder
    }

    /// Begins to attach.
    pub fn start(directory: &Path, as_nobody: bool, pid: u32, options: &[&str]) -> Recorder {
        let copy = directory.join("pagetrace");
        let tool = match as_nobody {
            // What is run cannot be written to.
            true if copy.exists() => copy,
            true => copied_into(directory, pagetrace()),
            false => PathBuf::from(pagetrace()),
        };
        let mut recorder = as_user(as_nobody, &tool);
        recorder.args(["record", "-o"]).arg(directory.join("trace")).args(options).args(["-p", &pid.to_string()]);
        recorder.env("XDG_CACHE_HOME", directory).stderr(Stdio::piped());
        Recorder(recorder.spawn().expect("the recorder runs"))
    }

    /// Ctrl-C.
    pub fn interrupted(self) -> Output {
        self.signal(Signal::INT);
        self.ended()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.0.id() as i32).expect("a pid"), signal).expect("the recorder is there");
    }

    /// Waits until it has ended.
    pub fn ended(self) -> Output {
        let (done, waiting) = std::sync::mpsc::channel();
        std::thread::spawn(move || done.send(self.0.wait_with_output()));
        waiting.recv_timeout(TIME_LIMIT).expect("the recorder hangs").expect("it ends")
    }
}

/// A command as this user or as an ordinary one.
pub fn as_user(as_nobody: bool, program: &Path) -> Command {
    let mut command = interruptible(if as_nobody { Path::new("setpriv") } else { program });
    if as_nobody {
        command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups"]).arg(program);
    }
    command
}

/// Waits until a process runs this program.
pub fn wait_for_program(pid: u32, program: &Path) {
    let started = Instant::now();
    while std::fs::read_link(format!("/proc/{pid}/exe")).ok().as_deref() != Some(program) {
        assert!(started.elapsed() < TIME_LIMIT, "{} is not run by {:?}", program.display(), state_of(pid));
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The state of a process, a letter of proc_pid_stat(5).
pub fn state_of(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn assert_nothing_lost(report: &Value) {
    assert_eq!((&report["complete"], &report["lost"]["events"]), (&true.into(), &0.into()), "{report:#}");
    assert_eq!(report["defects"], serde_json::json!([]), "{report:#}");
}

/// A source of a report.
pub fn source<'r>(report: &'r Value, name: &str) -> &'r Value {
    let sources = report["sources"].as_array().expect("sources");
    sources.iter().find(|it| it["name"] == name).expect("it is named")
}

fn touched(process: &Value, wanted: impl Fn(&Value) -> bool) -> u64 {
    let sites = process["touches"]["sites"].as_array().expect("page events");
    sites.iter().filter(|site| wanted(site)).map(|site| number(&site["resident_bytes"])).sum()
}

/// Whether a site's innermost function is this one.
fn names(site: &Value, function: &str) -> bool {
    site["stack"][0].as_str().is_some_and(|frame| frame.starts_with(function))
}
