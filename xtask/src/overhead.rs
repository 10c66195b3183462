//! What recording costs: real programs and a small C program, plain and recorded in turn, and the medians of their ratios
//! against what was asked for. In turn, because a machine that grows slower or faster meanwhile then does so for all.

mod heaptrack;
mod measuring;
mod redis;
mod table;
mod workloads;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{cargo, run as run_shown, target_directory};
use measuring::{Sample, measure, trace_figures};
use table::{ROUNDS_MIN, Skipped, Table};
use workloads::{ANALYSED, DIRECTORY, SOURCES, Try, WORKLOADS, Work, Workload};

/// What is asked of the measurement.
#[derive(Debug)]
pub struct Options<'a> {
    names: Vec<&'a str>,
    rounds: usize,
    json: bool,
}

/// `[NAME...] [--rounds N] [--json]`.
pub fn options<'a>(arguments: &[&'a str]) -> Result<Options<'a>> {
    let mut options = Options { names: Vec::new(), rounds: ROUNDS_MIN, json: false };
    let mut rest = arguments.iter();
    while let Some(&argument) = rest.next() {
        match argument {
            "--json" => options.json = true,
            "--rounds" => {
                let rounds = rest.next().copied().unwrap_or_default();
                options.rounds =
                    rounds.parse().ok().filter(|&rounds| rounds > 0).with_context(|| {
                        format!("--rounds: expected a whole number of at least 1, found `{rounds}`")
                    })?;
            }
            name if WORKLOADS.iter().any(|workload| workload.name == name) => options.names.push(name),
            other => {
                let names: Vec<&str> = WORKLOADS.iter().map(|workload| workload.name).collect();
                bail!("overhead: expected one of {}, --rounds N or --json; found `{other}`", names.join(", "))
            }
        }
    }
    Ok(options)
}

/// Builds, measures, prints. It fails only where something could not be measured: figures are no tests.
pub fn run(root: &Path, options: &Options<'_>) -> Result<()> {
    cargo(root, &["build", "--release", "-p", "pagetrace-cli"], &[])?;
    let directory = target_directory(root).join("overhead");
    // Traces of another version would be analysed otherwise.
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let bench = Bench {
        pagetrace: target_directory(root).join("release/pagetrace"),
        sources: root.join("xtask/workloads"),
        directory,
        rounds: options.rounds,
        heaptrack: heaptrack::why_not(),
    };
    compile_stress(&bench.sources, &bench.directory)?;
    let before = load()?;
    let mut table = Table::default();
    let wanted = |workload: &&Workload| options.names.is_empty() || options.names.contains(&workload.name);
    for workload in WORKLOADS.iter().filter(wanted) {
        bench.workload(workload, &mut table).with_context(|| workload.name)?;
    }
    let load = [before, load()?];
    if options.json {
        println!("{:#}", table.json(options.rounds, &load));
    } else {
        print!("{}", table.text(options.rounds, &load));
    }
    // The traces are large.
    fs::remove_dir_all(&bench.directory).with_context(|| format!("cannot remove {}", bench.directory.display()))
}

/// malloc_stress, so that each of its calls keeps a frame.
pub fn compile_stress(sources: &Path, directory: &Path) -> Result<PathBuf> {
    let program = directory.join("malloc_stress");
    let mut compiler = Command::new("gcc");
    compiler.args(["-O2", "-g", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls", "-fno-inline", "-pthread"]);
    compiler.arg("-o").arg(&program).arg(sources.join("malloc_stress.c"));
    run_shown(&mut compiler, "gcc -O2 … malloc_stress.c")?;
    Ok(program)
}

/// Where everything is.
struct Bench {
    pagetrace: PathBuf,
    sources: PathBuf,
    directory: PathBuf,
    rounds: usize,
    /// Why heaptrack is not measured.
    heaptrack: Option<String>,
}

impl Bench {
    fn workload(&self, workload: &Workload, table: &mut Table) -> Result<()> {
        let mut tries = Vec::new();
        for &it in workload.tries {
            match self.why_skipped(workload, it) {
                None => tries.push(it),
                Some(why) => table.skipped.push(Skipped { workload: workload.name, of: it.name(), why }),
            }
        }
        if tries.first() != workload.tries.first() {
            return Ok(());
        }
        let mut rounds = Vec::new();
        for round in 1..=self.rounds {
            let mut samples = vec![Sample::default(); tries.len()];
            for index in order(round, tries.len()) {
                samples[index] = self.sample(workload, tries[index])?;
            }
            let shown = tries.iter().zip(&samples).map(|(it, sample)| {
                format!("{} {:.2} s, CPU {:.2} s", it.name(), sample.wall_seconds, sample.cpu_seconds)
            });
            let shown: Vec<String> = shown.collect();
            eprintln!("{} ({}), round {round} of {}: {}", workload.name, workload.what, self.rounds, shown.join("; "));
            ensure!(samples[0].cpu_seconds > 0.0, "a run too short to be measured");
            rounds.push(samples);
        }
        let names: Vec<&'static str> = tries.iter().map(|it| it.name()).collect();
        table.add(workload, &names, &rounds);
        Ok(())
    }

    fn why_skipped(&self, workload: &Workload, it: Try) -> Option<String> {
        let needed: &[&str] = match workload.work {
            Work::Program { command, .. } => &command[..1],
            Work::Redis { .. } => &["redis-server", "redis-benchmark", "redis-cli"],
            Work::Report => &[],
        };
        let missing = needed.iter().find(|name| !name.starts_with(DIRECTORY) && !on_path(name));
        match missing {
            Some(name) => Some(format!("{name} is not installed")),
            None if it == Try::Heaptrack => self.heaptrack.clone(),
            None => None,
        }
    }

    fn sample(&self, workload: &Workload, it: Try) -> Result<Sample> {
        let trace = self.trace(workload.name, it);
        let mut sample = match &workload.work {
            Work::Program { command, input, environment } => {
                let mut runs = self.in_front(it, &trace, &self.filled(command[0]));
                runs.args(command[1..].iter().map(|word| self.filled(word))).envs(environment.iter().copied());
                runs.stdin(match input {
                    None => Stdio::null(),
                    Some(path) => File::open(self.filled(path)).with_context(|| format!("cannot read {path}"))?.into(),
                });
                measure(&mut runs, &self.directory)?
            }
            Work::Redis { requests } => {
                redis::measure(self.in_front(it, &trace, "redis-server"), requests, &self.directory)?
            }
            Work::Report => {
                let trace = self.analysed_trace()?;
                let mut report = Command::new(&self.pagetrace);
                report.arg("report").arg(&trace).stdin(Stdio::null());
                let events = Some(trace_figures(&trace)?.events);
                Sample { events, ..measure(&mut report, &self.directory)? }
            }
        };
        if let Try::Recorded { .. } = it {
            let found = trace_figures(&trace)?;
            sample.trace_bytes = Some(found.bytes);
            if found.events > 0 {
                (sample.events, sample.object_bytes) = (Some(found.events), Some(found.object_bytes));
            }
        }
        Ok(sample)
    }

    /// A command that runs `program` in this way.
    fn in_front(&self, it: Try, trace: &Path, program: &str) -> Command {
        let mut command = match it {
            Try::Plain | Try::Again => return Command::new(program),
            Try::Recorded { options, .. } => {
                let mut recorder = Command::new(&self.pagetrace);
                recorder.args(["record", "-o"]).arg(trace).args(options).arg("--");
                recorder
            }
            Try::Idle => {
                let mut idle = Command::new(&self.pagetrace);
                idle.args(["run-idle", "--"]);
                idle
            }
            Try::Heaptrack => heaptrack::command(trace),
        };
        command.arg(program);
        command
    }

    fn trace(&self, workload: &str, it: Try) -> PathBuf {
        self.directory.join(format!("{workload}.{}.pagetrace", it.name()))
    }

    /// The trace of 40 million events, recorded now unless it was before.
    fn analysed_trace(&self) -> Result<PathBuf> {
        let workload = WORKLOADS.iter().find(|it| it.name == ANALYSED).context("the workload to analyse")?;
        let recorded =
            workload.tries.iter().find(|it| matches!(it, Try::Recorded { .. })).context("no recorded try")?;
        let trace = self.trace(workload.name, *recorded);
        if !trace.exists() {
            self.sample(workload, *recorded)?;
        }
        Ok(trace)
    }

    fn filled(&self, word: &str) -> String {
        word.replace(DIRECTORY, &self.directory.to_string_lossy()).replace(SOURCES, &self.sources.to_string_lossy())
    }
}

/// In which order a round makes its tries. What ran before leaves the machine rested or not, and its memory in some state: a server that
/// always ran behind the same one kept 0.945 of its own throughput. So each try comes first, and directly behind each
/// other one, about equally often: a Latin square of Williams (of an even number; of an odd one its rows forwards and backwards).
fn order(round: usize, tries: usize) -> Vec<usize> {
    let zigzag = (0..tries).map(|place| if place % 2 == 1 { place.div_ceil(2) } else { (tries - place / 2) % tries });
    let mut order: Vec<usize> = zigzag.map(|it| (it + round - 1) % tries).collect();
    if tries % 2 == 1 && (round - 1) / tries % 2 == 1 {
        order.reverse();
    }
    order
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Runnable processes on average over the last minute.
fn load() -> Result<String> {
    let loads = fs::read_to_string("/proc/loadavg").context("/proc/loadavg: is /proc mounted?")?;
    Ok(loads.split(' ').next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_try_comes_behind_each_other_one_equally_often() {
        for (tries, rounds) in [(2, 2), (3, 6), (4, 4), (7, 14), (8, 8)] {
            let mut behind = vec![vec![0; tries]; tries];
            let mut first = vec![0; tries];
            for round in 1..=rounds {
                let order = order(round, tries);
                assert_eq!(order.iter().collect::<std::collections::BTreeSet<_>>().len(), tries, "{order:?}");
                first[order[0]] += 1;
                order.windows(2).for_each(|two| behind[two[0]][two[1]] += 1);
            }
            assert!(first.iter().all(|&times| times == rounds / tries), "{tries}: {first:?}");
            for (before, row) in behind.iter().enumerate() {
                let others: Vec<_> = (0..tries).filter(|&it| it != before).map(|it| row[it]).collect();
                assert!(others.iter().all(|&times| times == rounds / tries), "{tries}: {behind:?}");
            }
        }
    }

    #[test]
    fn options_are_names_rounds_and_the_form() {
        let given = options(&["sqlite", "--rounds", "7", "--json"]).unwrap();
        assert_eq!((given.names.as_slice(), given.rounds, given.json), (&["sqlite"][..], 7, true));
        let none = options(&[]).unwrap();
        assert_eq!((none.names.len(), none.rounds, none.json), (0, ROUNDS_MIN, false));
        for wrong in [&["--rounds"][..], &["--rounds", "0"], &["no_such_workload"]] {
            assert!(options(wrong).is_err(), "{wrong:?}");
        }
    }
}
