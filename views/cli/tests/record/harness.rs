//! Compiles the test programs, records commands and reads the reports.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::time::Duration;

use serde_json::Value;

/// No recording of these tests comes near it: what takes so long hangs.
pub const TIME_LIMIT: Duration = Duration::from_secs(60);

static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    // Any user may read what is here: one test runs as another.
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("record");
    std::fs::create_dir_all(&directory).expect("a directory for compiled programs");
    directory
});

/// The C program of this name, compiled once with these options.
pub fn compiled(name: &str, options: &[&str]) -> PathBuf {
    static COMPILED: LazyLock<Mutex<HashMap<String, Arc<OnceLock<PathBuf>>>>> = LazyLock::new(Mutex::default);
    let key = format!("{name}{}", options.concat().replace('/', "_"));
    let once = Arc::clone(COMPILED.lock().expect("no test panics while it holds it").entry(key.clone()).or_default());
    once.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(format!("{name}.c"));
        let target = DIRECTORY.join(key);
        let fresh = target.with_extension(std::process::id().to_string());
        let mut cc = Command::new("cc");
        cc.args(["-g", "-O1", "-fno-omit-frame-pointer", "-fno-builtin", "-D_GNU_SOURCE", "-pthread"]).arg(&source);
        let status = cc.arg("-o").arg(&fresh).args(options).status().expect("a C compiler: apt-get install gcc");
        assert!(status.success(), "{} does not compile", source.display());
        std::fs::rename(&fresh, &target).expect("the compiled program takes its place");
        target
    })
    .clone()
}

/// The same as text.
pub fn program(name: &str) -> String {
    text_of(&compiled(name, &[]))
}

/// A path of these tests as text.
pub fn text_of(path: &Path) -> String {
    path.to_str().expect("paths of these tests are text").to_owned()
}

/// The binary under test.
pub fn pagetrace() -> &'static Path {
    assert_cmd::cargo::cargo_bin!("pagetrace")
}

/// A program that a test can interrupt. What a shell without job control starts in the background has that signal ignored, and so
/// would all that it starts.
pub fn interruptible(program: &Path) -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal=INT").arg(program);
    command
}

/// A recording that has ended.
pub struct Recorded {
    /// The recorder's own status and what was printed.
    pub output: Output,
    directory: tempfile::TempDir,
}

impl Recorded {
    /// Its trace.
    pub fn trace(&self) -> PathBuf {
        self.directory.path().join("trace")
    }

    /// The report at the end.
    pub fn report(&self) -> Value {
        report(&self.trace())
    }
}

/// `report --at end --json` of a trace.
pub fn report(trace: &Path) -> Value {
    report_at("end", trace)
}

/// `report --at MOMENT --json` of a trace.
pub fn report_at(moment: &str, trace: &Path) -> Value {
    let arguments = ["report", "--at", moment, "--json"].map(OsStr::new).into_iter().chain([trace.as_ref()]);
    let output = assert_cmd::Command::new(pagetrace()).args(arguments).timeout(TIME_LIMIT).output();
    let output = output.expect("the report is made");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "report ended with {}: {errors}", output.status);
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Records a command with more options and variables.
pub fn record_with(options: &[&str], variables: &[(&str, &str)], command: &[&str]) -> Recorded {
    let directory = tempfile::tempdir().expect("a directory for a trace");
    let mut recorder = assert_cmd::Command::new(pagetrace());
    recorder.arg("record").arg("-o").arg(directory.path().join("trace")).args(options).arg("--").args(command);
    recorder.envs(variables.iter().copied()).timeout(TIME_LIMIT);
    let output = recorder.output().expect("the recorder runs");
    Recorded { output, directory }
}

/// Records a command.
pub fn record(command: &[&str]) -> Recorded {
    record_with(&["--quiet"], &[], command)
}

/// What the trace of a program that lost nothing looks like.
pub fn assert_whole(report: &Value, what: &str) {
    assert_eq!(report["complete"], true, "{what}: {report:#}");
    assert_eq!(report["lost"]["events"], 0, "{what}: {:#}", report["lost"]);
    assert_eq!(report["anomalies"], serde_json::json!({}), "{what}");
    assert_eq!(report["defects"], serde_json::json!([]), "{what}");
    for process in processes(report) {
        assert_eq!(process["objects"]["unknown_frees"], 0, "{what}: {:#}", process["objects"]);
        assert_eq!(process["objects"]["replaced"], 0, "{what}: {:#}", process["objects"]);
    }
}

/// The processes of a report.
pub fn processes(report: &Value) -> &[Value] {
    report["processes"].as_array().map_or(&[], Vec::as_slice)
}

/// A number of a report.
pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("expected a number, found {value}"))
}

/// Copies a program into a directory, where another user may run it. By a process of its own: a program that this one forks
/// meanwhile would hold the copy open for writing, and what is open so cannot be run (ETXTBSY of execve(2)).
pub fn copied_into(directory: &Path, file: &Path) -> PathBuf {
    let copy = directory.join(file.file_name().expect("a file"));
    let copying = Command::new("cp").args([file, &copy]).status().expect("cp runs");
    assert!(copying.success(), "{} to {}", file.display(), copy.display());
    copy
}

/// Records a program as this user or as an ordinary one, into `trace` of this directory, and gives what it printed. Neither
/// the build nor the sources need be open to others: both programs are copied to where they are.
pub fn record_as(
    as_nobody: bool,
    directory: &Path,
    options: &[&str],
    variables: &[(&str, &str)],
    program: &Path,
    arguments: &[&str],
) -> String {
    std::fs::set_permissions(directory, PermissionsExt::from_mode(0o777)).expect("a directory of ours");
    let (tool, program) = (copied_into(directory, pagetrace()), copied_into(directory, program));
    let mut command = match as_nobody {
        true => {
            let mut command = assert_cmd::Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&tool);
            command
        }
        false => assert_cmd::Command::new(&tool),
    };
    command.args(["record", "--quiet", "-o"]).arg(directory.join("trace")).args(options).arg("--").arg(&program);
    command.args(arguments).env("XDG_CACHE_HOME", directory).envs(variables.iter().copied()).timeout(TIME_LIMIT);
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
