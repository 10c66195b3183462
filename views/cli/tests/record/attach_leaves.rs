//! What an attached recorder leaves behind: nothing, however it ends.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::attach::{Recorder, Target, state_of};
use crate::harness::compiled;
use crate::random::Random;

const KILLS: u64 = 20;

#[test]
fn a_program_is_as_it_was_when_a_recorder_has_let_go() {
    let directory = tempfile::tempdir().expect("a directory for a trace");
    let mut target = Target::start(&compiled("attached", &[]), directory.path(), false);
    target.go();
    let before = [target.pid(), target.below].map(Seen::of_waiting);
    let output = Recorder::attach(directory.path(), false, target.pid(), &["--quiet"]).interrupted();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    for before in before {
        assert_eq!(Seen::of_waiting(before.pid).differences(&before), [""; 0]);
    }
    target.go();
    target.ends_well();
}

#[test]
fn a_program_is_as_it_was_when_a_recorder_was_killed() {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    for kill in 0..KILLS {
        let after = Duration::from_micros(random.below(200_000));
        let what = format!("seed {seed}, kill {kill}, after {after:?}");
        let directory = tempfile::tempdir().expect("a directory for a trace");
        let mut target = Target::start(&compiled("attached", &[]), directory.path(), false);
        let before = [target.pid(), target.below].map(Seen::of_waiting);
        let options = ["--quiet", "--interval", "10"];
        let recorder = Recorder::start(directory.path(), false, target.pid(), &options);
        std::thread::sleep(after);
        recorder.signal(Signal::KILL);
        drop(recorder.ended());
        before.iter().for_each(|before| assert_as_before(before, &what));
        target.go();
        target.ends_well();
    }
}

/// At the moment of the kill it may be held, or be about to; the recorder's guardian lets it go.
fn assert_as_before(before: &Seen, what: &str) {
    const LET_GO_WITHIN: Duration = Duration::from_secs(10);
    let started = Instant::now();
    loop {
        let differences = Seen::of(before.pid).differences(before);
        if differences.is_empty() {
            return;
        }
        assert!(started.elapsed() < LET_GO_WITHIN, "{what}: {differences:#?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What others can see of a process that waits.
struct Seen {
    pid: u32,
    maps: Vec<String>,
    descriptors: Vec<String>,
    /// Lines of proc_pid_status(5) that are no counts.
    status: Vec<String>,
    threads: Vec<String>,
}

impl Seen {
    /// Of a process that is about to wait.
    fn of_waiting(pid: u32) -> Seen {
        while state_of(pid) != Some('S') {
            std::thread::sleep(Duration::from_millis(1));
        }
        Seen::of(pid)
    }

    fn of(pid: u32) -> Seen {
        const COUNTS: [&str; 6] = ["Vm", "Rss", "Huge", "SigQ", "voluntary", "nonvoluntary"];
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("it runs");
        let names = |folder: &str| {
            let entries = std::fs::read_dir(format!("/proc/{pid}/{folder}")).expect("it runs");
            let mut names: Vec<String> =
                entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        };
        let open = |name: &String| {
            let link = std::fs::read_link(format!("/proc/{pid}/fd/{name}")).expect("it is open");
            format!("descriptor {name}: {}", link.display())
        };
        let status = read("status");
        let status = status.lines().filter(|line| !COUNTS.iter().any(|count| line.starts_with(count)));
        Seen {
            pid,
            maps: read("maps").lines().map(str::to_owned).collect(),
            descriptors: names("fd").iter().map(open).collect(),
            status: status.map(str::to_owned).collect(),
            threads: names("task"),
        }
    }

    fn lines(&self) -> BTreeSet<&str> {
        let parts = [&self.maps, &self.descriptors, &self.status, &self.threads];
        parts.into_iter().flatten().map(String::as_str).collect()
    }

    /// Lines that one of the two has.
    fn differences(&self, other: &Seen) -> Vec<String> {
        let (own, others) = (self.lines(), other.lines());
        own.symmetric_difference(&others).map(|&line| line.to_owned()).collect()
    }
}
