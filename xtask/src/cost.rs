//! What a recorded event costs, stage by stage, in the program and in the recorder: nanoseconds by samples of processor
//! time, and instructions by callgrind, which are the same each time.

mod elf;
mod instructions;
mod places;
mod samples;
mod stages;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::overhead::compile_stress;
use crate::process::{cargo, target_directory};
use elf::Segments;
use instructions::Counts;
use samples::PERIOD_NS;
use stages::{Frame, Side, stage_of};

const LIBRARY: &str = "libpagetrace_preload.so";
const PROGRAM: &str = "malloc_stress";
/// For time: rounds of plain and recorded runs in turn.
const ROUNDS: u64 = 3;
const PAIRS: u64 = 2_000_000;
/// For instructions: a run and one twice as long, the difference of which has neither start nor end in it. All slots of
/// the program are filled by then.
const COUNTED_PAIRS: u64 = 300_000;
/// What the names of files with instructions begin with.
const COUNTS_PREFIX: &str = "callgrind.out.";
/// Of each pair both are recorded.
const EVENTS_A_PAIR: u64 = 2;

/// The library keeps its lines, which changes none of its instructions.
const WITH_LINES: &[(&str, &str)] =
    &[("CARGO_PROFILE_PRELOAD_DEBUG", "line-tables-only"), ("CARGO_PROFILE_PRELOAD_STRIP", "none")];

/// How a stage's cost was found, a column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Column {
    PlainTime,
    Time,
    PlainInstructions,
    Instructions,
}

type Costs = BTreeMap<(Side, String), BTreeMap<Column, f64>>;

/// Builds, measures, prints.
pub fn run(root: &Path) -> Result<()> {
    let target = target_directory(root).join("cost");
    let shown = target.to_str().context("the target directory's path is not UTF-8")?;
    cargo(root, &["build", "--release", "-p", "pagetrace-cli", "--target-dir", shown], WITH_LINES)?;
    let directory = target.join("runs");
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let program = compile_stress(&root.join("xtask/workloads"), &directory)?;
    let pagetrace = target.join("release/pagetrace");
    let library = newest_library(&target.join("release/build"))?;
    let mut bench = Bench { directory, program, pagetrace, library, segments: HashMap::new(), frames: HashMap::new() };
    let mut costs = Costs::new();
    let mut skipped = Vec::new();
    for (needed, part) in
        [("perf", Bench::time as fn(&mut Bench, &mut Costs) -> Result<()>), ("valgrind", Bench::count)]
    {
        if runs(Command::new(needed).arg("--version")) {
            part(&mut bench, &mut costs)?;
        } else {
            skipped.push(format!("skipped: {needed} is not installed"));
        }
    }
    print(&costs);
    skipped.iter().for_each(|why| println!("{why}"));
    fs::remove_dir_all(&bench.directory).with_context(|| format!("cannot remove {}", bench.directory.display()))
}

/// The library that is inside the binary: its build directory has a hash in its name, and old ones stay.
fn newest_library(builds: &Path) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(builds).with_context(|| format!("cannot list {}", builds.display()))? {
        let library = entry?.path().join("out/preload/preload").join(LIBRARY);
        if let Ok(modified) = fs::metadata(&library).and_then(|it| it.modified()) {
            found.push((modified, library));
        }
    }
    found.sort();
    Ok(found.pop().with_context(|| format!("no {LIBRARY} below {}", builds.display()))?.1)
}

struct Bench {
    directory: PathBuf,
    program: PathBuf,
    pagetrace: PathBuf,
    library: PathBuf,
    segments: HashMap<PathBuf, Segments>,
    frames: HashMap<(PathBuf, u64), Vec<Frame>>,
}

impl Bench {
    /// Nanoseconds of processor time.
    fn time(&mut self, costs: &mut Costs) -> Result<()> {
        let pairs = PAIRS.to_string();
        for round in 1..=ROUNDS {
            eprintln!("time, round {round} of {ROUNDS}");
            for column in [Column::PlainTime, Column::Time] {
                let mut words = Vec::new();
                if column == Column::Time {
                    words = self.recorder(&[]);
                }
                words.extend([self.program.display().to_string(), pairs.clone(), "2".to_owned()]);
                let counts = self.sampled(&words)?;
                let per_event = PERIOD_NS as f64 / (PAIRS * EVENTS_A_PAIR * ROUNDS) as f64;
                self.attribute(&counts, column, per_event, costs)?;
            }
        }
        Ok(())
    }

    fn sampled(&mut self, words: &[String]) -> Result<HashMap<Side, Counts>> {
        let data = self.directory.join("perf.data");
        let mut perf = Command::new("perf");
        perf.args(["record", "--quiet", "--event", "cpu-clock", "--count", &PERIOD_NS.to_string(), "--output"]);
        output(perf.arg(&data).arg("--").args(words))?;
        let mut script = Command::new("perf");
        script.args(["script", "-F", "comm,pid,tid,ip,dso", "--show-mmap-events", "--input"]).arg(&data);
        let text = output(&mut script)?;
        let mut failure = None;
        let samples = samples::parse(&text, &mut |file, offset| {
            self.segments(file).map(|segments| segments.address_of(offset)).unwrap_or_else(|error| {
                failure.get_or_insert(error);
                offset
            })
        })?;
        failure.map_or(Ok(()), Err)?;
        let mut counts: HashMap<Side, Counts> = HashMap::new();
        for ((command, file, address), count) in
            samples.into_iter().filter(|((command, ..), _)| !command.starts_with("perf"))
        {
            let side = if command == PROGRAM { Side::Program } else { Side::Recorder };
            *counts.entry(side).or_default().entry((file, address)).or_default() += count;
        }
        Ok(counts)
    }

    /// Instructions. One thread in the program, so that it does the same each time; valgrind runs one at a time anyway.
    fn count(&mut self, costs: &mut Costs) -> Result<()> {
        let per_event = 1.0 / (COUNTED_PAIRS * EVENTS_A_PAIR) as f64;
        for (what, side, column) in [
            ("the plain program", Side::Program, Column::PlainInstructions),
            ("the recorded program", Side::Program, Column::Instructions),
            ("the recorder", Side::Recorder, Column::Instructions),
        ] {
            let mut counts = [Counts::new(), Counts::new()];
            for (counts, pairs) in counts.iter_mut().zip([COUNTED_PAIRS, 2 * COUNTED_PAIRS]) {
                eprintln!("instructions of {what}, {pairs} pairs");
                let program = [self.program.display().to_string(), pairs.to_string(), "1".to_owned()];
                let mut words =
                    if column == Column::Instructions { self.recorder(&["--no-kernel-events"]) } else { Vec::new() };
                let callgrind = self.callgrind();
                if side == Side::Recorder {
                    words.splice(0..0, callgrind);
                } else {
                    words.extend(callgrind);
                }
                words.extend(program);
                output(Command::new(&words[0]).args(&words[1..]))?;
                *counts = self.take_counts()?;
            }
            let [short, long] = counts;
            let more = instructions::difference(long, short, |file| self.here(file).display().to_string());
            self.attribute(&HashMap::from([(side, more)]), column, per_event, costs)?;
        }
        Ok(())
    }

    /// Those of the process that executed the most: the others are forks that do next to nothing.
    fn take_counts(&self) -> Result<Counts> {
        let mut most = Counts::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(COUNTS_PREFIX)) {
                let counts = instructions::parse(&fs::read_to_string(&path)?)?;
                fs::remove_file(&path)?;
                if counts.values().sum::<u64>() > most.values().sum() {
                    most = counts;
                }
            }
        }
        ensure!(!most.is_empty(), "callgrind has counted nothing");
        Ok(most)
    }

    fn recorder(&self, options: &[&str]) -> Vec<String> {
        let trace = self.directory.join("trace.pagetrace");
        let mut words = vec![self.pagetrace.display().to_string(), "record".to_owned(), "--quiet".to_owned()];
        words.extend(options.iter().map(|&option| option.to_owned()));
        words.extend(["-o".to_owned(), trace.display().to_string(), "--".to_owned()]);
        words
    }

    fn callgrind(&self) -> Vec<String> {
        // Processes that are forked write a file, too, when they end.
        let file = format!("--callgrind-out-file={}", self.directory.join(COUNTS_PREFIX).display()) + "%p";
        let words = [
            "valgrind",
            "--quiet",
            "--tool=callgrind",
            "--dump-instr=yes",
            "--compress-pos=no",
            "--compress-strings=no",
            &file,
        ];
        words.map(str::to_owned).into()
    }

    /// Adds counts to the stages that their places belong to.
    fn attribute(
        &mut self,
        sides: &HashMap<Side, Counts>,
        column: Column,
        per_event: f64,
        costs: &mut Costs,
    ) -> Result<()> {
        for (&side, counts) in sides {
            let mut of_files: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
            for (file, address) in counts.keys() {
                of_files.entry(file).or_default().insert(*address);
            }
            for (file, mut addresses) in of_files {
                let here = self.here(file);
                addresses.retain(|&address| !self.frames.contains_key(&(here.clone(), address)));
                // What is no file, as the kernel is, has no lines.
                if here.is_file() && !addresses.is_empty() {
                    let found = places::frames(&here, &addresses)?;
                    self.frames.extend(found.into_iter().map(|(address, frames)| ((here.clone(), address), frames)));
                }
            }
            for ((file, address), &count) in counts {
                let frames = self.frames.get(&(self.here(file), *address)).map_or(&[][..], Vec::as_slice);
                let stage = stage_of(side, file, frames);
                *costs.entry((side, stage)).or_default().entry(column).or_default() += count as f64 * per_event;
            }
        }
        Ok(())
    }

    /// The file on disk: the library that was preloaded has gone with its recording.
    fn here(&self, file: &str) -> PathBuf {
        if file.ends_with(LIBRARY) { self.library.clone() } else { PathBuf::from(file) }
    }

    fn segments(&mut self, file: &str) -> Result<&Segments> {
        let here = self.here(file);
        if !self.segments.contains_key(&here) {
            let segments = if here.is_file() { Segments::of(&here)? } else { Segments::default() };
            self.segments.insert(here.clone(), segments);
        }
        Ok(&self.segments[&here])
    }
}

/// Runs a command that must succeed, and gives what it printed.
fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed ({}): {errors}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn runs(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// A stage's line; most first.
fn print(costs: &Costs) {
    const COLUMNS: [Column; 4] = [Column::PlainTime, Column::Time, Column::PlainInstructions, Column::Instructions];
    println!("{:<40} {:>19} {:>23}", "an event, on average", "nanoseconds", "instructions");
    println!("{:<40} {:>9} {:>9} {:>11} {:>11}", "", "plain", "recorded", "plain", "recorded");
    for (side, name) in [(Side::Program, "in the program"), (Side::Recorder, "in the recorder")] {
        let mut of_side: Vec<_> = costs.iter().filter(|((of, _), _)| *of == side).collect();
        let weight = |columns: &BTreeMap<Column, f64>| {
            columns.get(&Column::Time).or(columns.get(&Column::Instructions)).copied()
        };
        of_side.sort_by(|(_, one), (_, other)| weight(other).unwrap_or(0.0).total_cmp(&weight(one).unwrap_or(0.0)));
        let sum = |column: Column| of_side.iter().filter_map(|(_, columns)| columns.get(&column)).sum::<f64>();
        let line = |name: &str, value: &dyn Fn(Column) -> f64| {
            let [plain_time, time, plain, recorded] = COLUMNS.map(value);
            println!("{name:<40} {plain_time:>9.1} {time:>9.1} {plain:>11.1} {recorded:>11.1}");
        };
        line(name, &sum);
        for ((_, stage), columns) in &of_side {
            if columns.values().any(|&value| value >= 0.1) {
                line(&format!("  {stage}"), &|column| columns.get(&column).copied().unwrap_or(0.0));
            }
        }
    }
}
