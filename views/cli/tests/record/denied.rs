//! Where the kernel's mechanisms are denied, as in containers: programs run as they do alone, and the trace says what that cost.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{TIME_LIMIT, assert_whole, compiled, copied_into, number, pagetrace, processes, report, text_of};

/// What common container profiles deny, and what stricter ones do.
const COMMON: &str = "perf_event_open,userfaultfd,ptrace";
const STRICT: &str = "perf_event_open,userfaultfd,ptrace,process_vm_readv,pidfd_getfd,seccomp";
const BY_SECCOMP: &[&str] = &["--page-calls=seccomp"];

/// A directory with all that is run, which any user may use.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn make() -> Place {
        let directory = tempfile::tempdir_in("/var/tmp").expect("a directory");
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).expect("a directory of ours");
        for file in [pagetrace(), &compiled("denies", &[])] {
            copied_into(directory.path(), file);
        }
        Place { directory }
    }

    fn program(&self, name: &str, options: &[&str]) -> String {
        text_of(&copied_into(self.directory.path(), &compiled(name, options)))
    }

    fn trace(&self) -> PathBuf {
        self.directory.path().join("trace")
    }

    /// Runs the binary under test with `denied` in force, as this user or an ordinary one.
    fn run(&self, as_nobody: bool, (how, denied): (&str, &str), arguments: &[&str]) -> Output {
        let inside = |name: &str| text_of(&self.directory.path().join(name));
        let [denies, tool] = ["denies", "pagetrace"].map(inside);
        let user: &[&str] =
            if as_nobody { &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] } else { &[] };
        let all: Vec<&str> = user.iter().copied().chain([&denies[..], how, denied, &tool]).collect();
        let mut command = assert_cmd::Command::new(all[0]);
        command.args(&all[1..]).args(arguments).env("XDG_CACHE_HOME", self.directory.path()).timeout(TIME_LIMIT);
        command.output().expect("it runs")
    }

    fn record(&self, as_nobody: bool, denied: (&str, &str), options: &[&str], command: &[&str]) -> Output {
        let trace = text_of(&self.trace());
        let arguments = [&["record", "--quiet", "-o", &trace][..], options, &["--"], command].concat();
        self.run(as_nobody, denied, &arguments)
    }
}

fn source<'a>(report: &'a Value, name: &str) -> (bool, &'a str) {
    let sources = report["sources"].as_array().expect("a list");
    let found = sources.iter().find(|source| source["name"] == name).unwrap_or_else(|| panic!("no source {name}"));
    (found["active"].as_bool().expect("a flag"), found["missed"].as_str().expect("a text"))
}

/// Users as whom a test can run: this one, and where it is root an ordinary one.
fn users() -> &'static [bool] {
    if rustix::process::geteuid().is_root() {
        return &[false, true];
    }
    println!("skipped: becoming another user needs root");
    &[false]
}

fn check(denied: (&str, &str), options: &[&str]) {
    let place = Place::make();
    let family = place.program("family", &[]);
    let sleeper = place.program("static_sleeper", &["-static"]);
    let commands: [&[&str]; 4] = [&[&family, "fork"], &[&sleeper], &[&family, "spawn"], &[&family, "threads"]];
    for &as_nobody in users() {
        let count = if as_nobody { 2 } else { commands.len() };
        for command in &commands[..count] {
            let what = format!("{denied:?} {options:?} {command:?} as nobody {as_nobody}");
            let alone = Command::new(command[0]).args(&command[1..]).output().expect("the program runs alone");
            let recorded = place.record(as_nobody, denied, options, command);
            let said = String::from_utf8_lossy(&recorded.stderr);
            assert_eq!((recorded.status, &recorded.stdout), (alone.status, &alone.stdout), "{what}: {said}");
            assert_eq!(said, "", "{what}");
            let report = report(&place.trace());
            if command.len() > 1 {
                assert_whole(&report, &what);
            }
            assert_eq!(
                (&report["complete"], &report["lost"]["events"]),
                (&true.into(), &0.into()),
                "{what}: {report:#}"
            );
            check_sources(&report, denied, options, &what);
            check_processes(&report, command, &what);
            std::fs::remove_file(place.trace()).expect("the trace");
        }
    }
}

fn check_sources(report: &Value, (how, denied): (&str, &str), options: &[&str], what: &str) {
    let reason = if how == "ENOSYS" { "not implemented" } else { "not permitted" };
    for name in ["page_faults", "kernel_mode_faults", "read_family_results", "touch_stacks"] {
        let (active, missed) = source(report, name);
        assert!(!active && missed.contains("perf_event_open") && missed.contains(reason), "{what}: {name}: {missed}");
    }
    assert!(source(report, "page_faults").1.contains("thread unknown"), "{what}: the cost is not named: {report:#}");
    assert!(source(report, "residency_scans").0, "{what}");
    let (active, missed) = source(report, "page_system_calls");
    let calls = &report["events"]["page_calls"];
    match (options.is_empty(), denied.contains("seccomp")) {
        (false, false) => {
            assert!(active && missed.contains("what they returned"), "{what}: {missed}");
            assert!(number(&calls["brk"]) > 1, "{what}: {calls}");
        }
        (false, true) => {
            assert!(!active && missed.contains("seccomp: ") && missed.contains(reason), "{what}: {missed}")
        }
        (true, false) => assert!(!active && missed.contains("--page-calls=seccomp"), "{what}: {missed}"),
        (true, true) => assert!(!active && !missed.contains("--page-calls=seccomp"), "{what}: {missed}"),
    }
    assert_eq!(report["events"]["page_faults"], 0, "{what}");
}

fn check_processes(report: &Value, command: &[&str], what: &str) {
    let exe = Path::new(command[0]).file_name().and_then(|name| name.to_str()).expect("a name");
    let expected = if matches!(command.get(1), Some(&"fork" | &"spawn")) { 2 } else { 1 };
    assert_eq!(processes(report).len(), expected, "{what}: {report:#}");
    for process in processes(report) {
        assert!(process["exe"].as_str().is_some_and(|it| it.ends_with(exe)), "{what}: {process:#}");
        let rss = &process["rss"];
        assert!(rss["explained_fraction"].as_f64().is_some_and(|it| it > 0.98), "{what}: {rss:#}");
        // Nothing was predicted, so nothing can agree.
        assert!(rss["residency_agreement"].is_null() && rss["change_agreement"].is_null(), "{what}: {rss:#}");
        let touches = &process["touches"];
        assert!(touches.is_null() || touches["events"] == 0, "{what}: {touches:#}");
    }
}

#[test]
fn what_container_profiles_deny() {
    check(("EPERM", COMMON), &[]);
}

#[test]
fn calls_are_taken_down_where_faults_are_denied() {
    check(("EPERM", COMMON), BY_SECCOMP);
}

#[test]
fn what_strict_profiles_deny() {
    check(("ENOSYS", STRICT), &[]);
    check(("EPERM", STRICT), BY_SECCOMP);
}

#[test]
fn the_doctor_says_the_same() {
    let place = Place::make();
    for (how, denied) in [("EPERM", COMMON), ("ENOSYS", STRICT)] {
        let output = place.run(false, (how, denied), &["doctor", "--json"]);
        let answers: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let answer = |name: &str| {
            let found = answers.as_array().expect("a list").iter().find(|answer| answer["name"] == name);
            let found = found.unwrap_or_else(|| panic!("{name} is not asked for"));
            (found["works"].as_bool().expect("a flag"), found["detail"].as_str().expect("a text"))
        };
        let reason = if how == "ENOSYS" { "not implemented" } else { "not permitted" };
        for name in ["page faults", "page system calls", "page writes"] {
            let (works, detail) = answer(name);
            assert!(!works && detail.contains(reason), "{how} {denied}: {name}: {detail}");
        }
        for name in ["stopping processes", "residency scan", "smaps_rollup"] {
            assert!(answer(name).0, "{how} {denied}: {name}: {}", answer(name).1);
        }
        assert_eq!(answer("call notification").0, !denied.contains("seccomp"), "{how} {denied}");
    }
}
