//! What all processes of a recording have together: each page once, whoever has it, as root and as an ordinary user.

use serde_json::Value;

use crate::harness::{compiled, number, processes, program, record_as, record_with, report_at};

const MIB: u64 = 1 << 20;
/// What the programs have beside the memory that is under test: libraries, stacks, the recorder's session.
const BESIDE: u64 = 4 * MIB;

/// What the parent touches at last, and has alone.
const LAST: u64 = 16 * MIB;

/// A recording of the program `forking` and what its report says of all processes, at the peak.
struct Tree {
    report: Value,
    text: String,
}

impl Tree {
    fn of(as_nobody: bool, arguments: &[&str]) -> Tree {
        let directory = tempfile::tempdir().expect("a directory for a trace");
        let program = compiled("forking", &[]);
        record_as(as_nobody, directory.path(), &["--no-kernel-events"], &[], &program, arguments);
        let trace = directory.path().join("trace");
        let text = assert_cmd::Command::new(crate::harness::pagetrace()).arg("report").arg(&trace).output();
        let text = String::from_utf8(text.expect("the report is made").stdout).expect("text");
        Tree { report: report_at("peak", &trace), text }
    }

    fn figure(&self, name: &str) -> u64 {
        number(&self.report["tree"][name])
    }

    /// That pages are told apart so, that all figures fit together, and that these are right within what is beside.
    fn check(&self, as_nobody: bool, distinct: u64, shared: u64, kind: &str) {
        let tree = &self.report["tree"];
        let what = format!("{tree:#}\n{}", self.text);
        assert_eq!(tree["processes"], 5, "{what}");
        assert_eq!(
            (&tree["at_once"], &tree["steady"], &tree["unseen_processes"]),
            (&true.into(), &true.into(), &0.into()),
            "{what}"
        );
        let by = if as_nobody { "files_and_pss" } else { "frames" };
        assert_eq!(tree["counted_by"], by, "{what}");
        assert_eq!((&tree["is_upper_bound"], tree["frame_bytes"].is_null()), (&false.into(), as_nobody), "{what}");
        let near = |figure: u64, truth: u64| (truth..=truth + BESIDE).contains(&figure);
        assert!(near(self.figure("distinct_bytes"), distinct), "{what}");
        assert!(near(self.figure("files_and_pss_bytes"), distinct), "{what}");
        assert!(near(self.figure("shared_bytes"), shared), "{what}");
        let of_kind = if kind == "anonymous_bytes" { distinct } else { distinct - LAST };
        assert!(near(self.figure(kind), of_kind), "{kind}: {what}");
        // Both ways of counting agree to a few hundred pages.
        let ways = self.figure("distinct_bytes").abs_diff(self.figure("files_and_pss_bytes"));
        assert!(ways <= distinct / 100, "{what}");
        assert_eq!(self.figure("private_bytes") + self.figure("shared_bytes"), self.figure("distinct_bytes"), "{what}");

        let members = tree["members"].as_array().expect("members");
        let sum_of = |name: &str| members.iter().map(|member| number(&member[name])).sum::<u64>();
        let largest = members.iter().map(|member| number(&member["rss_bytes"])).max().expect("members");
        assert_eq!(sum_of("rss_bytes"), self.figure("rss_sum_bytes"), "{what}");
        assert_eq!(sum_of("pss_bytes"), self.figure("pss_sum_bytes"), "{what}");
        assert_eq!(sum_of("private_bytes") + sum_of("shared_bytes"), self.figure("rss_sum_bytes"), "{what}");
        assert!((largest..=self.figure("rss_sum_bytes")).contains(&self.figure("distinct_bytes")), "{what}");
        // Programs outside have libraries of these, so the kernel's figure of all is lower, but never above.
        assert!(self.figure("pss_sum_bytes") <= self.figure("distinct_bytes"), "{what}");
        assert!(self.figure("pss_sum_bytes") + BESIDE >= self.figure("distinct_bytes"), "{what}");
        assert!(self.text.contains("All processes together"), "{what}");
        assert!(self.text.contains("5 processes had "), "{what}");
        assert_eq!(processes(&self.report).len(), 5, "{what}");
    }
}

/// 64 MiB, four children that write 16 MiB each.
fn check_all(as_nobody: bool) {
    // What a child wrote is its own; of the parent's heap the rest is shared, and what all children wrote is the parent's.
    let heap = ("heap", (64 + 4 * 16) * MIB, 48 * MIB, "anonymous_bytes");
    // What children touch they share with the parent, which has all of it.
    let shared = ("shared", 64 * MIB, 16 * MIB, "shared_memory_bytes");
    let memfd = ("memfd", 64 * MIB, 16 * MIB, "shared_memory_bytes");
    let directory = tempfile::tempdir().expect("a directory for a file");
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("ours");
    let path = directory.path().join("mapped").to_string_lossy().into_owned();
    let file = (&path[..], 64 * MIB, 16 * MIB, "file_bytes");
    for (memory, distinct, several, kind) in [heap, shared, memfd, file] {
        Tree::of(as_nobody, &["64", "4", "16", memory]).check(as_nobody, distinct + LAST, several, kind);
    }
}

#[test]
fn each_page_counts_once() {
    if !rustix::process::geteuid().is_root() {
        return check_all(true);
    }
    check_all(false);
}

#[test]
fn an_ordinary_user_counts_the_same() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: becoming another user needs root");
        return;
    }
    check_all(true);
}

#[test]
fn a_child_in_its_parents_memory_is_not_counted() {
    // Nothing joins for a child of vfork: it is found from outside, and has been there long enough for that.
    let recorded = record_with(&["--quiet", "--no-kernel-events"], &[], &[&program("lingers")]);
    assert!(recorded.output.status.success(), "{}", recorded.output.status);
    let report = recorded.report();
    let exes: Vec<&Value> = processes(&report).iter().map(|process| &process["exe"]).collect();
    assert_eq!(exes.len(), 1, "{exes:?}");
    assert_eq!(report["tree"], Value::Null);
}
