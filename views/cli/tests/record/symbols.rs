//! Names of functions: inlined ones, separate debug information, files of another machine, servers.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{Recorded, TIME_LIMIT, assert_whole, compiled, pagetrace, processes, record_with, text_of};

/// A program that was recorded, and is gone since: its trace, and its files by their kinds.
struct Gone {
    recorded: Recorded,
    folder: tempfile::TempDir,
    build_id: String,
}

const INLINED: &str = "inlined_in_the_middle (inlines.c:5) (inlined)";
const AROUND: &str = "not_inlined (inlines.c:11)";

fn run(program: &str, arguments: &[&Path]) {
    let status = Command::new(program).args(arguments).status();
    assert!(status.unwrap_or_else(|error| panic!("{program}: {error}")).success(), "{program} {arguments:?}");
}

impl Gone {
    /// Records what objcopy makes of it; its debug information and the whole program are kept elsewhere.
    fn record(kept: &str, options: &[&str]) -> Gone {
        let whole = compiled("inlines", &["-O2", "-Wl,--build-id"]);
        let folder = tempfile::tempdir().expect("a directory");
        let at = |name: &str| folder.path().join(name);
        fs::copy(&whole, at("whole")).expect("copied");
        run("objcopy", &[Path::new("--only-keep-debug"), &whole, &at("debug")]);
        fs::create_dir(at("bin")).expect("made");
        let program = at("bin/inlines");
        run("objcopy", &[Path::new(kept), &whole, &program]);
        let recorded = record_with(options, &[], &[&text_of(&program)]);
        fs::remove_file(program).expect("removed");
        let said = Command::new("readelf").arg("-n").arg(&whole).output().expect("binutils").stdout;
        let said = String::from_utf8(said).expect("text");
        let build_id = said.split("Build ID: ").nth(1).expect("a build id").split_whitespace().next().expect("an id");
        Gone { recorded, build_id: build_id.to_owned(), folder }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn report(&self, options: &[&str], variables: &[(&str, &str)]) -> Value {
        let mut report = assert_cmd::Command::new(pagetrace());
        report.args(["report", "--at", "end", "--json"]).args(options).arg(self.recorded.trace());
        let output = report.envs(variables.iter().copied()).timeout(TIME_LIMIT).output().expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

/// The stack of the program's own allocation.
fn stack(report: &Value) -> Vec<&str> {
    let sites = processes(report)[0]["sites"].as_array().expect("sites");
    let site = sites.iter().find(|site| site["allocated_bytes"] == 123_456).expect("the program's allocation");
    site["stack"].as_array().expect("a stack").iter().filter_map(Value::as_str).collect()
}

fn check(report: &Value, expected: &[&str], what: &str) {
    let stack = stack(report);
    assert!(stack.windows(expected.len()).any(|frames| frames == expected), "{what}: {expected:?} in {stack:?}");
}

#[test]
fn a_program_that_is_gone_has_its_symbols_from_elsewhere() {
    let gone = Gone::record("--strip-all", &["--quiet"]);
    let bare = gone.report(&[], &[]);
    assert!(stack(&bare).iter().any(|frame| frame.starts_with("inlines+0x")), "{:?}", stack(&bare));
    let problems = bare["unresolved_modules"].to_string();
    assert!(problems.contains("there is no such file here"), "{problems}");

    // The whole program anywhere in a directory, under any name.
    fs::create_dir_all(gone.at("tree/deep/er")).expect("made");
    fs::copy(gone.at("whole"), gone.at("tree/deep/er/renamed")).expect("copied");
    let found = gone.report(&["--symbols", &text_of(&gone.at("tree"))], &[]);
    check(&found, &[INLINED, AROUND], "the whole program");
    assert!(!found["unresolved_modules"].to_string().contains("inlines"), "{}", found["unresolved_modules"]);

    // Debug information alone, arranged by build id as distributions and debuginfod do.
    let (directory, file) = gone.build_id.split_at(2);
    fs::create_dir_all(gone.at(&format!("usr/.build-id/{directory}"))).expect("made");
    symlink(gone.at("debug"), gone.at(&format!("usr/.build-id/{directory}/{file}.debug"))).expect("linked");
    let found = gone.report(&["--symbols", "/nonexistent", "--symbols", &text_of(&gone.at("usr"))], &[]);
    check(&found, &[INLINED, AROUND], "debug information");

    // Another build is not believed, and that is said.
    let other = compiled("inlines", &["-O1", "-Wl,--build-id", "-DOTHER"]);
    fs::create_dir(gone.at("other")).expect("made");
    fs::copy(other, gone.at("other/inlines")).expect("copied");
    let found = gone.report(&["--symbols", &text_of(&gone.at("other"))], &[]);
    assert!(stack(&found).iter().all(|frame| !frame.contains("not_inlined")), "{:?}", stack(&found));
    let problems = found["unresolved_modules"].to_string();
    assert!(problems.contains("is another build: expected build id"), "{problems}");
    fs::copy(gone.at("other/inlines"), gone.at("bin/inlines")).expect("copied");
    let problems = gone.report(&[], &[])["unresolved_modules"].to_string();
    assert!(problems.contains("has changed since the recording: expected build id"), "{problems}");
}

#[test]
fn servers_are_asked_where_the_user_has_named_some() {
    let gone = Gone::record("--strip-all", &["--quiet"]);
    let asked = gone.at("asked");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {}\n[ \"$2\" = {} ] && echo {} && exit 0\nexit 1\n",
        text_of(&asked),
        gone.build_id,
        text_of(&gone.at("debug")),
    );
    fs::create_dir(gone.at("path")).expect("made");
    let finder = gone.at("path/debuginfod-find");
    fs::write(&finder, script).expect("written");
    fs::set_permissions(&finder, fs::Permissions::from_mode(0o755)).expect("ours");
    let path = format!("{}:/usr/bin:/bin", text_of(&gone.at("path")));
    let path = ("PATH", path.as_str());

    let found = gone.report(&[], &[path, ("DEBUGINFOD_URLS", "")]);
    assert!(!asked.exists(), "nobody was named: {:?}", stack(&found));
    let found = gone.report(&[], &[path, ("DEBUGINFOD_URLS", "http://localhost:1")]);
    check(&found, &[INLINED, AROUND], "debuginfod");
    let asked = fs::read_to_string(asked).expect("written by the script");
    let once = asked.lines().filter(|line| *line == format!("debuginfo {}", gone.build_id)).count();
    assert_eq!(once, 1, "{asked}");
}

#[test]
fn symbols_in_the_trace_need_no_file() {
    let gone = Gone::record("--preserve-dates", &["--quiet", "--embed-symbols"]);
    let found = gone.report(&[], &[]);
    assert_whole(&found, "with symbols behind its end");
    check(&found, &[INLINED, AROUND], "embedded");
    assert!(!found["unresolved_modules"].to_string().contains("inlines"), "{}", found["unresolved_modules"]);

    // Names from a table of symbols in the trace give way to debug information.
    let gone = Gone::record("--strip-debug", &["--quiet", "--embed-symbols"]);
    check(&gone.report(&[], &[]), &["not_inlined (inlines)"], "embedded names");
    let found = gone.report(&["--symbols", &text_of(gone.folder.path())], &[]);
    check(&found, &[INLINED, AROUND], "better than embedded");
}

#[test]
fn debug_links_and_names_of_cpp() {
    let folder = tempfile::tempdir().expect("a directory");
    let at = |name: &str| folder.path().join(name);
    let source = "#include <stdlib.h>\nnamespace outer {\ntemplate <typename T> struct Keeper {\n  \
        __attribute__((noinline)) static void *keep(T size) { void *kept = malloc(size); *(char *)kept = 1; return kept; }\n\
        };\n}\nint main() { return outer::Keeper<unsigned long>::keep(123456) == nullptr; }\n";
    fs::write(at("keeper.cpp"), source).expect("written");
    let (program, debug) = (at("keeper"), at("keeper.debug"));
    run(
        "c++",
        &["-g", "-O1", "-Wl,--build-id=none", "-o"]
            .map(Path::new)
            .into_iter()
            .chain([&*program, &*at("keeper.cpp")])
            .collect::<Vec<_>>(),
    );
    run("objcopy", &[Path::new("--only-keep-debug"), &program, &debug]);
    let link = format!("--add-gnu-debuglink={}", text_of(&debug));
    run("objcopy", &[Path::new("--strip-all"), Path::new(&link), &program]);
    let recorded = record_with(&["--quiet"], &[], &[&text_of(&program)]);
    let report = recorded.report();
    let found = stack(&report);
    assert!(
        found.iter().any(|it| it.starts_with("outer::Keeper<unsigned long>::keep(unsigned long) (keeper.cpp:4)")),
        "{found:?}"
    );
    assert!(found.iter().any(|it| it.starts_with("main (keeper.cpp:7)")), "{found:?}");

    // Another file behind the link is no reason to have no names of other modules, and is not believed.
    fs::write(&debug, "something else").expect("written");
    let report = recorded.report();
    let found = stack(&report);
    assert!(found.iter().any(|it| it.starts_with("keeper+0x")), "{found:?}");
}
