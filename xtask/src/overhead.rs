//! What recording costs: plain and recorded runs of one C program in turn, and the medians of their ratios. In turn,
//! because a machine that grows slower or faster meanwhile then does so for both.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::process::{cargo, run, target_directory};

/// Allocations of one run unless told otherwise.
pub const DEFAULT_PAIRS: u64 = 5_000_000;

const ROUNDS: usize = 5;

/// proc_pid_stat(5) counts in clock ticks; USER_HZ is 100 on all of Linux' architectures that we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// What one run took, with all processes that it consisted of.
struct Cost {
    wall_seconds: f64,
    cpu_seconds: f64,
    /// As the program itself counted.
    events: u64,
}

/// Builds, measures, prints.
pub fn run_pairs(root: &Path, pairs: u64) -> Result<()> {
    ensure!(pairs > 0, "PAIRS: expected at least 1");
    cargo(root, &["build", "--release", "-p", "pagetrace-cli"], &[])?;
    let target = target_directory(root);
    let directory = target.join("overhead");
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let stress = directory.join("malloc_stress");
    compile(&root.join("xtask/workloads/malloc_stress.c"), &stress)?;
    let trace = directory.join("malloc_stress.pagetrace");
    let pagetrace = target.join("release/pagetrace");

    let (mut wall, mut cpu, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let plain = measure(Command::new(&stress).arg(pairs.to_string()))?;
        let mut recorder = Command::new(&pagetrace);
        recorder.args(["record", "-o"]).arg(&trace).arg("--").arg(&stress).arg(pairs.to_string());
        let recorded = measure(&mut recorder)?;
        let trace_bytes = fs::metadata(&trace).with_context(|| format!("no trace {}", trace.display()))?.len();
        println!(
            "round {round} of {ROUNDS}: plain {:.2} s, CPU {:.2} s; recorded {:.2} s, CPU {:.2} s; {} events, {trace_bytes} bytes",
            plain.wall_seconds, plain.cpu_seconds, recorded.wall_seconds, recorded.cpu_seconds, recorded.events,
        );
        ensure!(plain.cpu_seconds > 0.0, "a run of {pairs} pairs is too short to measure: give more");
        wall.push(recorded.wall_seconds / plain.wall_seconds);
        cpu.push(recorded.cpu_seconds / plain.cpu_seconds);
        bytes.push(trace_bytes as f64 / recorded.events as f64);
    }
    println!("medians: wall × {:.2}, CPU × {:.2}, {:.2} bytes/event", median(wall), median(cpu), median(bytes));
    Ok(())
}

fn compile(source: &Path, program: &Path) -> Result<()> {
    let mut compiler = Command::new("gcc");
    compiler.args(["-O2", "-g", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls", "-pthread", "-o"]);
    compiler.arg(program).arg(source);
    run(&mut compiler, &format!("gcc … {}", source.display()))
}

fn measure(command: &mut Command) -> Result<Cost> {
    let cpu_before = children_cpu_seconds()?;
    let start = Instant::now();
    let output = command.stderr(Stdio::piped()).output().with_context(|| format!("cannot start {command:?}"))?;
    let wall_seconds = start.elapsed().as_secs_f64();
    let messages = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed ({}): {messages}", output.status);
    let printed = String::from_utf8_lossy(&output.stdout);
    let events = events_of(&printed).with_context(|| format!("malloc_stress printed {printed:?}"))?;
    Ok(Cost { wall_seconds, cpu_seconds: children_cpu_seconds()? - cpu_before, events })
}

/// The sum of the numbers in `N allocations, N frees`.
fn events_of(printed: &str) -> Option<u64> {
    let (allocations, frees) = printed.trim().split_once(", ")?;
    let allocations: u64 = allocations.strip_suffix(" allocations")?.parse().ok()?;
    let frees: u64 = frees.strip_suffix(" frees")?.parse().ok()?;
    Some(allocations + frees)
}

/// The time of all children that have been waited for, theirs included.
fn children_cpu_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat").context("/proc/self/stat: is /proc mounted?")?;
    let ticks = children_ticks(&stat).with_context(|| format!("/proc/self/stat has no cutime: {stat:?}"))?;
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// `cutime` and `cstime`, the 16th and 17th field. The second one, the name, may hold spaces and parentheses.
fn children_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(13);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
    }

    #[test]
    fn events_are_counted_from_what_the_program_prints() {
        assert_eq!(events_of("5 allocations, 4 frees\n"), Some(9));
        assert_eq!(events_of("5 allocations\n"), None);
    }

    #[test]
    fn the_time_of_children_is_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 10 20 0 0 3 4 50 60 20 0 1 0 100";
        assert_eq!(children_ticks(stat), Some(110));
        assert_eq!(children_ticks("7 (sh) S 1"), None);
    }
}
