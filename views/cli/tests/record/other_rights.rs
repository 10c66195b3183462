//! Programs that run with other rights than their caller: they run as they do alone, and the trace says what is not in it and why.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::harness::{TIME_LIMIT, compiled, copied_into, number, pagetrace, processes, report, text_of};

const OF_ROOT_ALONE: &str = "the kernel shows its memory to root alone";

/// A directory that any user may use, with the tool and a program.
struct Place {
    directory: tempfile::TempDir,
    program: PathBuf,
}

impl Place {
    /// Root may give rights away, others may not.
    fn make() -> Option<Place> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: giving a program other rights needs root");
            return None;
        }
        let directory = tempfile::tempdir_in("/var/tmp").expect("a directory");
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).expect("a directory of ours");
        copied_into(directory.path(), pagetrace());
        let program = copied_into(directory.path(), &compiled("rights", &[]));
        Some(Place { directory, program })
    }

    fn with_mode(self, mode: u32) -> Place {
        std::fs::set_permissions(&self.program, PermissionsExt::from_mode(mode)).expect("a file of ours");
        self
    }

    fn as_nobody(&self, command: &[&str]) -> Output {
        let mut setpriv = assert_cmd::Command::new("setpriv");
        setpriv.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).args(command);
        setpriv.env("XDG_CACHE_HOME", self.directory.path()).timeout(TIME_LIMIT).output().expect("setpriv runs")
    }

    /// Records a command as an ordinary user; it prints and ends as it does alone.
    fn check(&self, options: &[&str], command: &[&str]) -> Value {
        let alone = self.as_nobody(command);
        let [trace, tool] = ["trace", "pagetrace"].map(|name| text_of(&self.directory.path().join(name)));
        let arguments = [&[&tool, "record", "--quiet", "-o", &trace][..], options, &["--"], command].concat();
        let recorded = self.as_nobody(&arguments);
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(shown(&recorded.stdout), shown(&alone.stdout), "{command:?}");
        assert_eq!(shown(&recorded.stderr), shown(&alone.stderr), "{command:?}");
        assert_eq!(recorded.status, alone.status, "{command:?}");
        let report = report(Path::new(&trace));
        assert_eq!(
            (&report["complete"], &report["lost"]["events"]),
            (&true.into(), &0.into()),
            "{command:?}: {report:#}"
        );
        report
    }
}

fn missed<'a>(report: &'a Value, name: &str) -> &'a str {
    let sources = report["sources"].as_array().expect("a list");
    let found = sources.iter().find(|source| source["name"] == name).unwrap_or_else(|| panic!("no source {name}"));
    found["missed"].as_str().expect("a text")
}

fn check_is_hidden(report: &Value, name: &str) {
    for source in ["objects", "residency_scans"] {
        let missed = missed(report, source);
        assert!(missed.contains(name) && missed.contains(OF_ROOT_ALONE), "{source}: {missed}");
    }
    let named = |process: &&Value| process["exe"].as_str().is_some_and(|exe| exe.ends_with(name));
    let process = processes(report).iter().find(named).unwrap_or_else(|| panic!("{name} is not there: {report:#}"));
    let rss = &process["rss"];
    assert!(number(&rss["kernel_bytes"]) > 4 << 20, "{process:#}");
    // Nothing is known of what it is, and none of it is claimed.
    assert_eq!(rss["classes"]["unexplained"], rss["kernel_bytes"], "{rss:#}");
    assert!(process["objects"]["allocated"].is_null(), "{process:#}");
}

#[test]
fn programs_with_other_rights_are_refused_with_the_reason() {
    for mode in [0o4755, 0o2755] {
        let Some(place) = Place::make().map(|place| place.with_mode(mode)) else { return };
        let program = text_of(&place.program);
        check_is_hidden(&place.check(&[], &[&program]), "rights");
        // Below a shell, which is recorded as ever.
        let report = place.check(&[], &["/bin/sh", "-c", &format!("{program}; {program}; exit 3")]);
        check_is_hidden(&report, "rights");
        assert!(number(&processes(&report)[0]["objects"]["allocated"]) > 0, "{report:#}");
        assert_eq!(processes(&report)[0]["rss"]["explained_fraction"], 1.0, "{report:#}");
    }
}

#[test]
fn file_capabilities_are_rights_too() {
    let Some(place) = Place::make() else { return };
    // Revision 2, effective: CAP_DAC_READ_SEARCH (capabilities(7), linux/capability.h).
    let mut capabilities = [0_u8; 20];
    capabilities[..4].copy_from_slice(&0x0200_0001_u32.to_le_bytes());
    capabilities[4..8].copy_from_slice(&(1_u32 << 2).to_le_bytes());
    let flags = rustix::fs::XattrFlags::empty();
    if let Err(error) = rustix::fs::setxattr(&place.program, "security.capability", &capabilities, flags) {
        println!("skipped: files of this filesystem have no capabilities: {error}");
        return;
    }
    check_is_hidden(&place.check(&[], &[&text_of(&place.program)]), "rights");
}

#[test]
fn programs_of_the_system_that_gain_rights_run_as_ever() {
    let Some(place) = Place::make() else { return };
    for command in [&["su", "--version"][..], &["passwd", "--help"], &["mount", "--version"]] {
        let found = std::env::split_paths("/usr/bin:/bin").map(|it| it.join(command[0])).find(|it| it.is_file());
        let Some(path) = found else {
            println!("skipped: there is no {} here", command[0]);
            continue;
        };
        let path = text_of(&path);
        let report = place.check(&[], &[&[&path[..]], &command[1..]].concat());
        let missed = missed(&report, "objects");
        assert!(missed.contains(command[0]) && missed.contains("with more rights"), "{missed}");
    }
}

#[test]
fn taking_calls_down_takes_rights_away_and_says_so() {
    let Some(place) = Place::make().map(|place| place.with_mode(0o4755)) else { return };
    let [trace, tool] = ["trace", "pagetrace"].map(|name| text_of(&place.directory.path().join(name)));
    let options = ["record", "--quiet", "--page-calls=seccomp", "--no-kernel-events", "-o", &trace, "--"];
    let recorded = place.as_nobody(&[&[&tool[..]], &options[..], &[&text_of(&place.program)]].concat());
    assert_eq!(String::from_utf8_lossy(&recorded.stdout), "user 65534 as 65534, group 65534 as 65534, may not\n");
    assert_eq!(recorded.status.code(), Some(5));
    let report = report(Path::new(&trace));
    let missed = missed(&report, "page_system_calls");
    assert!(missed.contains("no_new_privs was set"), "{missed}");
}
