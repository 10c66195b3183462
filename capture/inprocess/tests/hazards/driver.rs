//! Runs the cases: each program with its environment, then the checks of how it ended and of what it left.

use std::env;
use std::fs;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::PROGRAM;
use crate::cases::{CASES, Case, Ends, Left, LeftBehind};
use crate::counts::{self, Counts};
use crate::programs::stress;
use crate::sys;
use crate::trace::{self, Seen};

/// A command to run the programs under, such as valgrind with its options.
const RUNNER_VARIABLE: &str = "HAZARD_RUNNER";
/// Where to leave the programs' files, for somebody who wants to look at them.
const KEEP_VARIABLE: &str = "HAZARD_KEEP";
/// A program that has not ended so long after the longest of them should have hangs, also under a runner that makes it
/// slow.
const PATIENCE: Duration = Duration::from_secs(120);
/// What a program prints in front of why it could not do all of its work.
const SKIPPED: &str = "skipped: ";

/// Runs the cases whose names contain one of the arguments that are no options, or all. With `--exact` those that are called so,
/// if there are any: the names may be those of other tests of the workspace.
pub fn run(arguments: &[String]) -> ExitCode {
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let exact = arguments.iter().any(|argument| argument == "--exact");
    let is_called = |case: &&Case, part: &String| if exact { case.name == part } else { case.name.contains(part) };
    let chosen = CASES.iter().filter(|case| wanted.is_empty() || wanted.iter().any(|part| is_called(case, part)));
    let directory = tempfile::tempdir().expect("a directory for the traces");
    let (mut failed, mut passed, mut skipped) = (Vec::new(), 0, 0);
    for case in chosen {
        match check(case, directory.path()) {
            Ok(notes) => {
                println!("test {} ... ok", case.name);
                passed += 1;
                skipped += notes.iter().filter(|note| note.starts_with(SKIPPED)).count();
                notes.iter().for_each(|note| println!("    {note}"));
            }
            Err(what) => {
                println!("test {} ... FAILED\n{what}", case.name);
                failed.push(case.name);
            }
        }
    }
    println!("\nhazards: {passed} passed, {} failed, {skipped} parts skipped", failed.len());
    if let Some(keep) = env::var_os(KEEP_VARIABLE) {
        let kept = directory.keep();
        fs::rename(&kept, &keep).unwrap_or_else(|error| println!("the traces stay in {}: {error}", kept.display()));
    }
    if failed.is_empty() && (passed > 0 || exact) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One case. Its notes, or everything that is known of its failure.
fn check(case: &Case, directory: &Path) -> Result<Vec<String>, String> {
    let file = directory.join(format!("{}.pagetrace", case.name));
    let Some(output) = start(case, &file) else {
        return Err(format!("it did not end within {:?}", PATIENCE + stress::lasts()));
    };
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut faults = Vec::new();
    if !case.ends.is(output.status) {
        faults.push(format!("expected it to end so: {:?}, found {}", case.ends, output.status));
    }
    let times = if case.says.is_empty() { 0 } else { said.matches(case.says).count() };
    match case.says {
        "" if said.contains("page trace") => faults.push("the tracer had something to say".to_owned()),
        "" => {}
        says if times != 1 => faults.push(format!("expected `{says}` once on standard error, found it {times} times")),
        _ => {}
    }
    let mut told = counts::told(&printed);
    for left in case.left {
        faults.extend(check_file(left, &file, &mut told));
    }
    if !told.is_empty() && case.left.iter().any(|left| left.what != LeftBehind::Anything) {
        faults.push(format!("processes that are in no trace: {told:?}"));
    }
    if faults.is_empty() {
        return Ok(printed.lines().filter_map(|line| line.strip_prefix("note ")).map(str::to_owned).collect());
    }
    Err(format!("{}\n-- it printed --\n{printed}-- and said --\n{said}", faults.join("\n")))
}

fn start(case: &Case, file: &Path) -> Option<Output> {
    let program = env::current_exe().expect("this program has a path");
    let runner = env::var(RUNNER_VARIABLE).unwrap_or_default();
    let mut words = runner.split_whitespace();
    let mut command = match words.next() {
        Some(runner) => {
            let mut command = Command::new(runner);
            command.args(words).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.process_group(0).args([PROGRAM, case.name]).arg(file).env_remove("PAGETRACE").env_remove("GODEBUG");
    command.env("RUST_BACKTRACE", "0");
    for (name, value) in case.environment {
        command.env(name, value.replace("{file}", &file.display().to_string()));
    }
    ended(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts"))
}

/// What the program gives until all that hold its output have ended; killed when it takes too long.
fn ended(mut program: Child) -> Option<Output> {
    let (stdout, stderr) = (program.stdout.take(), program.stderr.take());
    thread::scope(|scope| {
        let read = |mut pipe: Box<dyn Read + Send>| {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).map(|_| bytes).expect("a pipe can be read")
        };
        let stdout = scope.spawn(move || read(Box::new(stdout.expect("it is piped"))));
        let stderr = scope.spawn(move || read(Box::new(stderr.expect("it is piped"))));
        let start = Instant::now();
        let status = loop {
            if let Some(status) = program.try_wait().expect("it is our child") {
                break status;
            }
            if start.elapsed() > PATIENCE + stress::lasts() {
                // Its children, too: they hold the output open.
                sys::kill_group(program.id());
                program.wait().expect("it is our child");
                return None;
            }
            thread::sleep(Duration::from_millis(2));
        };
        let read = |thread: thread::ScopedJoinHandle<'_, Vec<u8>>| thread.join().expect("it does not panic");
        Some(Output { status, stdout: read(stdout), stderr: read(stderr) })
    })
}

impl Ends {
    fn is(self, status: ExitStatus) -> bool {
        match self {
            Ends::Exits(code) => status.code() == Some(code),
            Ends::Signaled(signal) => status.signal() == Some(signal),
        }
    }
}

/// Checks one file that should be there, and takes the processes that are in it out of `told`.
fn check_file(left: &Left, file: &Path, told: &mut Vec<(u32, Counts)>) -> Vec<String> {
    let paths = left.file.paths(file);
    let shown = |what: String| format!("{left:?}: {what}");
    if left.what == LeftBehind::Nothing {
        return paths
            .iter()
            .filter(|path| path.exists())
            .map(|path| shown(format!("{} exists", path.display())))
            .collect();
    }
    let [path] = &paths[..] else { return vec![shown(format!("expected one file, found {paths:?}"))] };
    let seen = match trace::read(path) {
        Ok(seen) => seen,
        Err(error) => return vec![shown(error)],
    };
    let mut faults: Vec<String> = seen.faults.iter().cloned().map(shown).collect();
    if seen.cut && left.what != LeftBehind::Anything {
        faults.push(shown("the last chunk is cut".to_owned()));
    }
    if !seen.complete && left.what != LeftBehind::Prefix && left.what != LeftBehind::Anything {
        faults.push(shown("the trace has no end".to_owned()));
    }
    if left.what == LeftBehind::Whole {
        return faults;
    }
    let mut compared = 0;
    told.retain(|(pid, counts)| {
        // A trace of Go's has one process without a number.
        let Some(found) = seen.processes.get(pid).or_else(|| seen.processes.get(&0)) else { return true };
        compared += 1;
        faults.extend(left.what.compare(counts, found, &seen).map(|what| shown(format!("pid {pid}: {what}"))));
        false
    });
    if compared == 0 && left.what != LeftBehind::Anything {
        faults.push(shown(format!("none of the processes are in it: {told:?}, {seen:?}")));
    }
    faults
}

impl LeftBehind {
    /// What is wrong with a process's events, against its own counts.
    fn compare(self, counts: &Counts, found: &trace::SeenProcess, seen: &Seen) -> Option<String> {
        let all = |counts: &Counts| counts.made + counts.freed + counts.page_events;
        let in_order = match self {
            LeftBehind::Exact => found.counts == *counts && seen.lost == 0,
            LeftBehind::ExactWithLost => {
                found.counts.made <= counts.made
                    && found.counts.page_events <= counts.page_events
                    && all(&found.counts) + seen.lost >= all(counts)
            }
            LeftBehind::AllLost => all(&found.counts) + seen.lost == all(counts) && seen.lost > 0,
            LeftBehind::Prefix => found.counts.made >= counts.made && found.counts.page_events >= counts.page_events,
            LeftBehind::LiveExact => found.live() == counts.made - counts.freed && seen.lost == 0,
            LeftBehind::LiveAtMost => found.live() <= counts.made - counts.freed && seen.lost == 0,
            LeftBehind::Whole | LeftBehind::Anything | LeftBehind::Nothing => true,
        };
        (!in_order).then(|| {
            format!("{self:?}: counted {counts:?}, found {:?}, {} live, {} lost", found.counts, found.live(), seen.lost)
        })
    }
}

impl crate::cases::FileOf {
    fn paths(self, file: &Path) -> Vec<PathBuf> {
        let name = file.file_name().and_then(|name| name.to_str()).expect("the driver made the name");
        let directory = file.parent().expect("the driver made the path");
        match self {
            crate::cases::FileOf::Given => vec![file.to_path_buf()],
            crate::cases::FileOf::Second => vec![file.with_extension("second")],
            crate::cases::FileOf::WithPid => {
                let entries = fs::read_dir(directory).expect("the driver made the directory");
                let paths = entries.map(|entry| entry.expect("an entry").path());
                paths
                    .filter(|path| {
                        let suffix = path.file_name().and_then(|it| it.to_str()).and_then(|it| it.strip_prefix(name));
                        suffix.and_then(|it| it.strip_prefix('.')).is_some_and(|it| it.parse::<u32>().is_ok())
                    })
                    .collect()
            }
        }
    }
}
