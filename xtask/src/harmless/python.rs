//! CPython's own tests, alone and recorded, result by result.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Tally;
use super::runs::{Bench, Mode, ended, lack_of};

/// A module, and those of its tests that are run in one process. Most of their time these tests sleep.
const TESTS: &[(&str, &[&str])] = &[
    ("test.test_multiprocessing_spawn", &["WithProcesses"]),
    ("test.test_multiprocessing_spawn", &["WithManager"]),
    ("test.test_multiprocessing_spawn", &["-WithProcesses", "-WithManager"]),
    ("test.test_multiprocessing_fork", &["WithProcesses"]),
    ("test.test_multiprocessing_fork", &["WithManager"]),
    ("test.test_multiprocessing_fork", &["-WithProcesses", "-WithManager"]),
    ("test.test_subprocess", &[]),
    ("test.test_threading", &[]),
    ("test.test_os", &[]),
    ("test.test_ctypes", &[]),
    ("test.test_mmap", &[]),
];

/// Runs at once: more than there are processors, since they sleep.
const WORKERS: usize = 4;
const LONGEST: Duration = Duration::from_secs(600);
/// A test whose results differ is run again by itself, both ways, so often: CPython's tests of times fail on busy machines.
/// It differs for good where it never gave the same result both ways.
const TRIES: usize = 3;

/// How each test ended.
type Outcomes = BTreeMap<String, String>;

/// Compares all, or the modules that are named.
pub fn compare(bench: &Bench, modules: &[&str]) -> Result<Tally> {
    let Some(python) = python_with_tests() else {
        println!("skipped: no Python has its own tests here (apt-get install libpython3.11-testsuite)");
        return Ok(Tally { skipped: 1, ..Tally::default() });
    };
    let is_wanted = |module: &str| modules.is_empty() || modules.iter().any(|name| module.contains(name));
    let jobs: Vec<(usize, Mode)> = (0..TESTS.len())
        .filter(|&place| is_wanted(TESTS[place].0))
        .flat_map(|place| Mode::ALL.map(|mode| (place, mode)))
        .collect();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(&(place, mode)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (module, parts) = TESTS[place];
                    let name = format!("{place}-{}", mode.name());
                    let result = outcomes(bench, &python, mode, &name, module, parts);
                    results.lock().expect("no worker panics while it holds it").insert((place, mode.name()), result);
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no worker panicked");
    let mut tally = Tally::default();
    for (place, (module, parts)) in TESTS.iter().enumerate() {
        let mut taken = |mode: Mode| results.remove(&(place, mode.name()));
        let (Some(alone), Some(recorded)) = (taken(Mode::Alone), taken(Mode::Recorded)) else { continue };
        let one = judge(bench, &python, module, parts, alone?, recorded?)?;
        (tally.same, tally.other) = (tally.same + one.same, tally.other + one.other);
    }
    Ok(tally)
}

/// One run's results, how long it took, and what its trace lacks.
struct Run {
    outcomes: Outcomes,
    took: Duration,
    lack: Option<String>,
}

fn outcomes(bench: &Bench, python: &Path, mode: Mode, name: &str, module: &str, parts: &[&str]) -> Result<Run> {
    let place = |ending: &str| bench.directory.join(format!("{name}.{ending}"));
    let (trace, file, output) = (place("trace"), place("results"), place("output"));
    // Tests leave files where they run.
    let own = place("directory");
    fs::create_dir_all(&own)?;
    let mut command = bench.command(mode, &trace, python);
    command.arg(bench.scripts.join("run_tests.py")).arg(&file).arg(module).args(parts).current_dir(&own);
    // With it CPython loses what a write leaves that a stop has cut short, which README tells.
    command.env_remove("PYTHONUNBUFFERED");
    let start = Instant::now();
    let status = ended(&mut command, &output, LONGEST)?;
    let took = start.elapsed();
    let said = || {
        let text = fs::read_to_string(&output).unwrap_or_default();
        text.lines().rev().take(30).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    };
    ensure!(status.is_some_and(|status| status.success()), "{module} {}: {status:?}\n{}", mode.name(), said());
    let text = fs::read_to_string(&file).with_context(|| format!("{module} {}: {}", mode.name(), said()))?;
    let outcomes: Outcomes =
        text.lines().filter_map(|line| line.split_once('\t')).map(|(test, end)| (test.into(), end.into())).collect();
    let lack = if mode == Mode::Recorded { lack_of(&trace)? } else { None };
    let _ = fs::remove_file(&trace);
    Ok(Run { outcomes, took, lack })
}

fn judge(bench: &Bench, python: &Path, module: &str, parts: &[&str], alone: Run, recorded: Run) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut names: Vec<&String> = alone.outcomes.keys().chain(recorded.outcomes.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let of = |run: &Run, name: &str| run.outcomes.get(name).cloned().unwrap_or_else(|| "not run".to_owned());
    let count = |end: &str| alone.outcomes.values().filter(|it| *it == end).count();
    println!(
        "{module} {}: {} tests ({} ok, {} skipped), alone {:.0?}, recorded {:.0?}",
        parts.join(" "),
        names.len(),
        count("ok"),
        count("skipped"),
        alone.took,
        recorded.took
    );
    ensure!(!names.is_empty(), "{module} {}: there are no such tests", parts.join(" "));
    if let Some(lack) = &recorded.lack {
        println!("  the trace: {lack}");
        tally.other += 1;
    }
    for name in names {
        let (end_alone, end_recorded) = (of(&alone, name), of(&recorded, name));
        if end_alone == end_recorded || same_when_repeated(bench, python, module, name)? {
            tally.same += 1;
        } else {
            println!("  {name}: {end_alone} alone, {end_recorded} recorded");
            tally.other += 1;
        }
    }
    Ok(tally)
}

fn same_when_repeated(bench: &Bench, python: &Path, module: &str, test: &str) -> Result<bool> {
    for attempt in 0..TRIES {
        let mut ends = Vec::new();
        for mode in Mode::ALL {
            let name = format!("again-{attempt}-{}", mode.name());
            let run = outcomes(bench, python, mode, &name, module, &[test])?;
            ends.push(run.outcomes.get(test).cloned());
        }
        println!("  {test} again: {ends:?}");
        if ends[0] == ends[1] {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A Python that has all its own tests: the one on the path, or the system's. Not a script in front of it.
fn python_with_tests() -> Option<PathBuf> {
    ["python3", "/usr/bin/python3"].into_iter().find_map(|python| {
        let output = Command::new(python)
            .args(["-c", "import test.test_multiprocessing_spawn, test.test_threading, sys; print(sys.executable)"])
            .output()
            .ok()?;
        let path = String::from_utf8(output.stdout).ok()?;
        (output.status.success() && !path.trim().is_empty()).then(|| path.trim().into())
    })
}
