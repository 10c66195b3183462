//! Programs in namespaces of their own: their files are looked at where they see them.

use std::path::Path;

use serde_json::Value;

use crate::harness::{TIME_LIMIT, assert_whole, compiled, number, pagetrace, processes, report, text_of};

/// Whether this user may make namespaces.
fn may_unshare() -> bool {
    let may = std::process::Command::new("unshare").args(["-m", "-p", "-f", "true"]).output();
    let may = may.is_ok_and(|output| output.status.success());
    if !may {
        println!("skipped: namespaces cannot be made here");
    }
    may
}

/// Records a script below `unshare` with these options, its first word being `argument`; what it prints and what the trace says.
fn recorded(record: &[&str], unshare: &[&str], script: &str, arguments: &[&str]) -> (String, String, Value) {
    let directory = tempfile::tempdir().expect("a directory");
    let trace = directory.path().join("trace");
    let mut command = assert_cmd::Command::new(pagetrace());
    command.args(["record", "--quiet", "-o"]).arg(&trace).args(record).args(["--", "unshare"]).args(unshare);
    command.args(["sh", "-c", script, "sh"]).args(arguments).timeout(TIME_LIMIT);
    let output = command.output().expect("it runs");
    let [said, errors] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert!(output.status.success(), "{unshare:?}: {}: {errors}", output.status);
    (said, errors, report(&trace))
}

fn process_of<'a>(report: &'a Value, name: &str) -> &'a Value {
    let named = |process: &&Value| process["exe"].as_str().is_some_and(|exe| exe.ends_with(name));
    processes(report).iter().rfind(named).unwrap_or_else(|| panic!("{name} is not there: {report:#}"))
}

/// The stack of the allocation of `inlines`.
fn stack(process: &Value) -> String {
    let sites = process["sites"].as_array().expect("sites");
    let site = sites.iter().find(|site| site["allocated_bytes"] == 123_456);
    site.unwrap_or_else(|| panic!("no site: {process:#}"))["stack"].to_string()
}

/// The program is on a filesystem that nobody outside sees, and that goes with its last process.
const ONLY_INSIDE: &str = "mkdir -p $1 && mount -t tmpfs none $1 && cp $2 $1/only-inside && $1/only-inside";

#[test]
fn a_program_that_only_its_namespace_has_keeps_its_names() {
    if !may_unshare() {
        return;
    }
    for build_id in ["-Wl,--build-id", "-Wl,--build-id=none"] {
        let program = text_of(&compiled("inlines", &["-O2", build_id]));
        let directory = tempfile::tempdir().expect("a directory");
        let inside = text_of(&directory.path().join("inside"));
        let arguments = [&inside[..], &program];
        let (_, errors, embedded) = recorded(&["--embed-symbols"], &["-m"], ONLY_INSIDE, &arguments);
        assert_eq!(errors, "");
        assert!(!Path::new(&inside).join("only-inside").exists());
        assert_whole(&embedded, build_id);
        let process = process_of(&embedded, "/inside/only-inside");
        assert!(stack(process).contains("not_inlined (inlines.c:11)"), "{build_id}: {}", stack(process));
        assert_eq!(process["rss"]["explained_fraction"], 1.0, "{build_id}: {process:#}");

        let (_, _, bare) = recorded(&[], &["-m"], ONLY_INSIDE, &arguments);
        let process = process_of(&bare, "/inside/only-inside");
        assert!(stack(process).contains("only-inside+0x"), "{build_id}: {}", stack(process));
        let unresolved = bare["unresolved_modules"].to_string();
        assert!(unresolved.contains("only-inside") && unresolved.contains("no such file here"), "{unresolved}");
    }
}

#[test]
fn processes_of_another_pid_namespace_are_followed() {
    if !may_unshare() {
        return;
    }
    let family = text_of(&compiled("family", &[]));
    let script = "\"$1\" fork; echo ended with $? as $$";
    for options in [&[][..], &["--page-calls=seccomp", "--no-kernel-events"]] {
        let (said, errors, report) = recorded(options, &["-m", "-p", "-f", "--mount-proc"], script, &[&family]);
        assert!(said.ends_with("ended with 3 as 1\n") && errors.is_empty(), "{options:?}: {said}{errors}");
        assert_whole(&report, &format!("{options:?}"));
        let of_family: Vec<&Value> = processes(&report)
            .iter()
            .filter(|it| it["exe"].as_str().is_some_and(|exe| exe.ends_with("family")))
            .collect();
        let [command, forked] = of_family[..] else { panic!("{options:?}: expected two processes: {report:#}") };
        let live = |process: &Value| number(&process["objects"]["live"]);
        assert_eq!((live(command), live(forked)), (107, 150), "{options:?}: {report:#}");
        for process in [command, forked] {
            assert_eq!(process["rss"]["explained_fraction"], 1.0, "{options:?}: {process:#}");
        }
    }
}

/// The session and the library are out of sight behind other mounts.
const HIDES_ALL: &str =
    "for place in /dev/shm /tmp; do mount -t tmpfs none $place; done; \"$1\" fork; echo ended with $?";

#[test]
fn where_the_library_is_out_of_sight_programs_run_and_the_trace_says_so() {
    if !may_unshare() {
        return;
    }
    let directory = tempfile::tempdir_in("/var/tmp").expect("a directory");
    let family = text_of(&crate::harness::copied_into(directory.path(), &compiled("family", &[])));
    let (said, errors, report) = recorded(&[], &["-m"], HIDES_ALL, &[&family]);
    assert!(said.ends_with("ended with 3\n"), "{said}{errors}");
    // The dynamic linker says that, and goes on: ld.so(8).
    for line in errors.lines() {
        assert!(line.contains("from LD_PRELOAD cannot be preloaded") && line.contains("ignored"), "{errors}");
    }
    let objects =
        report["sources"].as_array().expect("a list").iter().find(|it| it["name"] == "objects").expect("there");
    let missed = objects["missed"].as_str().expect("a text");
    println!("{missed}");
    assert!(missed.contains(&family), "{report:#}");
    // Nothing of it was seen inside.
    assert!(process_of(&report, "family")["objects"]["allocated"].is_null(), "{report:#}");
}
