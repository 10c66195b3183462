//! Does what is predicted from the kernel's events agree with the kernel? Programs run under the recorder, a program of
//! its own stops them at random moments and lists their pages, and the two are compared: as root and as an ordinary user.

mod figures;
mod mutation;
mod programs;
mod recording;
mod truth;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pagetrace_format::records::{LossReason, Process, Record};
use pagetrace_format::{ChunkKind, ProcessId, Trace, TraceNanos};
use pagetrace_replay::{predicted_anonymous_pages, predicted_file_pages};

use crate::debian::is_root;
use crate::process::{cargo, target_directory};
use figures::{Agreement, PageSet, agreement};
use mutation::{Mutation, mutate};
use programs::{Program, prepare};
use recording::{Bench, Recording, User};
use truth::{Stop, worst_difference};

/// Fewer stops say nothing.
const STOPS_MIN: usize = 8;
/// The list of pages and smaps_rollup may differ by so much: the kernel counts in batches a CPU.
const ROLLUP_DIFFERENCE_MAX: f64 = 0.001;
const TRIES: u64 = 3;
/// What many comparisons need a second try for is no accident.
const ONCE_MORE_MAX: usize = 2;

/// The truth is asked for with this seed, and one more for each try.
const SEED: u64 = 20_240_229;

/// How well pages of ELF files have to agree, of which few are touched in events that a user may see.
const ELF_LEAST: f64 = 0.94;

/// What of a trace is looked at, and how well it has to agree.
struct Mode {
    name: &'static str,
    without: Option<Mutation>,
    least: f64,
}

const AS_ROOT: &[Mode] = &[Mode { name: "root", without: None, least: 0.999 }];
const AS_ORDINARY: &[Mode] = &[
    Mode { name: "user, page calls", without: Some(Mutation::NoFilled), least: 0.985 },
    Mode { name: "user, and reads", without: None, least: 0.999 },
];

/// Runs all programs, or those whose names contain one of `wanted`. With `all` nothing may be skipped.
pub fn run(root: &Path, wanted: &[&str], all: bool) -> Result<()> {
    cargo(root, &["build", "--release", "-p", "pagetrace-cli"], &[])?;
    let directory = std::env::temp_dir().join(format!("pagetrace-agreement.{}", std::process::id()));
    let in_memory = Path::new("/dev/shm").join(format!("pagetrace-agreement.{}", std::process::id()));
    let directories = [directory.as_path(), in_memory.as_path()];
    for directory in directories {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        fs::set_permissions(directory, Permissions::from_mode(0o755))?;
    }
    let done = compare_all(root, &directory, &in_memory, wanted, all);
    for directory in directories {
        fs::remove_dir_all(directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    done
}

fn compare_all(root: &Path, directory: &Path, in_memory: &Path, wanted: &[&str], all: bool) -> Result<()> {
    fs::copy(target_directory(root).join("release/pagetrace"), directory.join("pagetrace")).context("the recorder")?;
    let bench = Bench { directory: directory.to_owned(), is_root: is_root()? };
    let mut tally = Tally::default();
    let is_wanted = |program: &Program| wanted.is_empty() || wanted.iter().any(|name| program.name.contains(name));
    println!(
        "{:<18} {:<28} {:>9} {:>9} {:>6} {:>7} {:>9} {:>9}",
        "program", "events", "residency", "change", "stops", "lost", "missing", "extra"
    );
    for program in prepare(root, directory, in_memory)?.iter().filter(|program| is_wanted(program)) {
        for user in [User::Root, User::Ordinary] {
            tally.compare(&bench, program, user)?;
        }
    }
    println!("\n{} passed, {} failed, {} skipped", tally.passed, tally.failed.len(), tally.skipped);
    // Once more behind all rows: of a long log the end is what is kept.
    if !tally.failed_once.is_empty() {
        println!("failed at the first try:\n{}", tally.failed_once.join("\n"));
    }
    ensure!(tally.failed.is_empty(), "comparisons failed:\n{}", tally.failed.join("\n"));
    ensure!(tally.passed > 0, "nothing was compared");
    ensure!(!all || tally.skipped == 0, "{} comparisons were skipped, and none may be here", tally.skipped);
    Ok(())
}

#[derive(Default)]
struct Tally {
    passed: usize,
    /// What is wrong with each that failed.
    failed: Vec<String>,
    /// The same of those that were made once more.
    failed_once: Vec<String>,
    skipped: usize,
}

impl Tally {
    fn compare(&mut self, bench: &Bench, program: &Program, user: User) -> Result<()> {
        if user == User::Root && !bench.is_root {
            self.skip(&program.name, "root", "this user is not root");
            return Ok(());
        }
        if program.executable().is_none() {
            self.skip(&program.name, "all", &format!("{} is not installed", program.command[0]));
            return Ok(());
        }
        let mut tried = Tally::default();
        tried.record_and_judge(bench, program, user)?;
        if !tried.failed.is_empty() && self.failed_once.len() < ONCE_MORE_MAX {
            // As with tests: programs are held at random moments on machines that may be busy. What fails twice fails.
            println!("{:<18} once more", program.name);
            self.failed_once.append(&mut tried.failed);
            tried = Tally::default();
            tried.record_and_judge(bench, program, user)?;
            if tried.passed == 0 {
                tried.failed.push(format!("{:<18} FAILED, and was not compared again", program.name));
            }
        }
        self.passed += tried.passed;
        self.skipped += tried.skipped;
        self.failed.append(&mut tried.failed);
        Ok(())
    }

    fn record_and_judge(&mut self, bench: &Bench, program: &Program, user: User) -> Result<()> {
        let recording = match record(bench, program, user) {
            Ok(recording) => recording,
            Err(error) => {
                let what = format!("{:<18} FAILED: {error:#}", program.name);
                println!("{what}");
                self.failed.push(what);
                return Ok(());
            }
        };
        if let Some(why) = inactive_sources(&recording.trace, program.needs_read_family)? {
            self.skip(&program.name, if user == User::Root { "root" } else { "user" }, &why);
            return Ok(());
        }
        for mode in if user == User::Root { AS_ROOT } else { AS_ORDINARY } {
            self.judge(program, mode, &recording)?;
        }
        if user == User::Ordinary {
            self.judge_elf(program, &recording)?;
        }
        Ok(())
    }

    /// Mappings of ELF files. Where the page cache may hold large folios, of which one touch maps more, the figure is
    /// for information.
    fn judge_elf(&mut self, program: &Program, recording: &Recording) -> Result<()> {
        let found = judged_elf(recording)?;
        let row = row(program, "user, ELF files", &found, recording, &recording.trace)?;
        if program.small_folios {
            self.count(found.residency >= ELF_LEAST, &row, "", "FAILED");
        } else {
            println!("{row}  not judged: large folios are possible");
        }
        Ok(())
    }

    fn judge(&mut self, program: &Program, mode: &Mode, recording: &Recording) -> Result<()> {
        // What of the memory comes from reads cannot be predicted without them.
        if mode.without == Some(Mutation::NoFilled) && program.needs_read_family {
            return Ok(());
        }
        let bytes = match mode.without {
            Some(mutation) => mutate(&recording.trace, mutation, SEED)?.0,
            None => recording.trace.clone(),
        };
        let found = judged(&bytes, recording)?;
        let good = |found: &Agreement| found.residency >= mode.least && found.change >= mode.least;
        self.count(good(&found), &row(program, mode.name, &found, recording, &bytes)?, "", "FAILED");
        if mode.without.is_none() {
            let must_be_noticed = |it: &Mutation| it.must_be_noticed_on().contains(&program.name.as_str());
            for mutation in Mutation::WRONG.into_iter().filter(must_be_noticed) {
                let (bytes, changed) = mutate(&recording.trace, mutation, SEED)?;
                let found = judged(&bytes, recording)?;
                let noticed = changed > 0 && !good(&found);
                let row = row(program, &format!("  {}", mutation.name()), &found, recording, &bytes)?;
                self.count(noticed, &row, "noticed, as it must be", "FAILED: not noticed");
            }
        }
        Ok(())
    }

    fn count(&mut self, good: bool, row: &str, praise: &str, blame: &str) {
        if good {
            self.passed += 1;
            println!("{row}  {praise}");
        } else {
            println!("{row}  {blame}");
            self.failed.push(format!("{row}  {blame}"));
        }
    }

    fn skip(&mut self, program: &str, mode: &str, why: &str) {
        self.skipped += 1;
        println!("{program:<18} {mode:<28} skipped: {why}");
    }
}

fn row(program: &Program, mode: &str, found: &Agreement, recording: &Recording, trace: &[u8]) -> Result<String> {
    let Agreement { residency, change, missing, extra, .. } = found;
    let (name, stops, lost) = (&program.name, recording.stops.len(), lost_events(trace)?);
    Ok(format!("{name:<18} {mode:<28} {residency:>9.5} {change:>9.5} {stops:>6} {lost:>7} {missing:>9} {extra:>9}"))
}

/// Once more where the truth program was disturbed so often that it has too few stops, or events were lost: without these
/// nothing can be predicted, as the trace says.
fn record(bench: &Bench, program: &Program, user: User) -> Result<Recording> {
    let mut with_losses = None;
    for attempt in 0..TRIES {
        let recording = bench.record(program, user, SEED + attempt)?;
        let (stops, lost) = (recording.stops.len(), lost_events(&recording.trace)?);
        if stops < STOPS_MIN || lost > 0 {
            println!("{:<18} recorded with {stops} stops, {lost} events lost", program.name);
            with_losses = Some(recording).filter(|_| stops >= STOPS_MIN).or(with_losses);
            continue;
        }
        let difference = worst_difference(&recording.stops)?;
        ensure!(
            difference <= ROLLUP_DIFFERENCE_MAX,
            "the truth is none: expected what smaps_rollup says, found a difference of {difference:.4}"
        );
        return Ok(recording);
    }
    with_losses.with_context(|| format!("fewer than {STOPS_MIN} stops in each of {TRIES} runs"))
}

fn judged(trace: &[u8], recording: &Recording) -> Result<Agreement> {
    let trace = Trace::open(trace).context("the trace")?;
    let predicted = predicted_anonymous_pages(&trace, &moments(&trace, recording)?)?;
    let predicted: Vec<PageSet> = predicted.into_iter().map(PageSet::new).collect();
    Ok(compared(&predicted, recording, |stop| &stop.anonymous))
}

/// Of what is predicted of files only mappings of other files are left out: a page where nothing is mapped counts.
fn judged_elf(recording: &Recording) -> Result<Agreement> {
    let trace = Trace::open(&recording.trace).context("the trace")?;
    let predicted = predicted_file_pages(&trace, &moments(&trace, recording)?)?.into_iter().map(PageSet::new);
    let of_elf = predicted.zip(&recording.stops).map(|(pages, stop)| pages.without(&stop.other_files));
    Ok(compared(&of_elf.collect::<Vec<_>>(), recording, |stop| &stop.elf))
}

/// When the process was looked at.
fn moments(trace: &Trace<'_>, recording: &Recording) -> Result<Vec<(ProcessId, TraceNanos)>> {
    let processes = processes(trace)?;
    let moment = |stop: &Stop| Ok((process_at(&processes, recording.pid, stop)?, TraceNanos(stop.time_ns)));
    recording.stops.iter().map(moment).collect()
}

fn compared(predicted: &[PageSet], recording: &Recording, truth_of: impl Fn(&Stop) -> &PageSet) -> Agreement {
    let truth: Vec<PageSet> = recording.stops.iter().map(|stop| truth_of(stop).clone()).collect();
    let found = agreement(predicted, &truth);
    if std::env::var_os("AGREEMENT_EXPLAIN").is_some() {
        println!("  worst stop at {} ns", recording.stops[found.worst_stop].time_ns);
        explain(&predicted[found.worst_stop], &truth[found.worst_stop]);
    }
    found
}

/// For who looks for a missing rule: the ranges in which the worst stop is wrong.
fn explain(predicted: &PageSet, truth: &PageSet) {
    for (what, pages) in [("missing", truth.without(predicted)), ("extra", predicted.without(truth))] {
        let mut ranges = pages.ranges().to_vec();
        ranges.sort_by_key(|range| std::cmp::Reverse(range.end - range.start));
        for range in ranges.iter().take(12) {
            println!("  {what} {:#x}-{:#x}: {} pages", range.start << 12, range.end << 12, range.end - range.start);
        }
    }
}

fn processes(trace: &Trace<'_>) -> Result<Vec<Process>> {
    let records = records(trace)?.into_iter();
    Ok(records.filter_map(|record| if let Record::Process(process) = record { Some(process) } else { None }).collect())
}

/// The last image of a pid at a stop. The first one may have begun before its record says so.
fn process_at(processes: &[Process], pid: u32, stop: &Stop) -> Result<ProcessId> {
    let images = || processes.iter().filter(|process| process.pid == pid);
    let begun = images().filter(|process| process.start.0 <= stop.time_ns).max_by_key(|process| process.start);
    let image = begun.or_else(|| images().min_by_key(|process| process.start));
    Ok(image.with_context(|| format!("the trace has no process with pid {pid}"))?.id)
}

fn lost_events(trace: &[u8]) -> Result<u64> {
    let records = records(&Trace::open(trace)?)?.into_iter();
    let lost = records.filter_map(|record| match record {
        Record::Loss(loss) if loss.reason == LossReason::KernelBufferFull => Some(loss.events.max(1)),
        _ => None,
    });
    Ok(lost.sum())
}

/// Why there is nothing to compare, `None` where there is.
fn inactive_sources(trace: &[u8], reads: bool) -> Result<Option<String>> {
    let mut needed = vec!["page_faults", "page_system_calls"];
    if reads {
        needed.push("read_family_results");
    }
    for record in records(&Trace::open(trace)?)? {
        if let Record::Source(source) = record {
            if source.active {
                needed.retain(|name| *name != source.name);
            } else if needed.contains(&source.name.as_str()) {
                return Ok(Some(format!("{}: {}", source.name, source.missed)));
            }
        }
    }
    Ok(needed.first().map(|name| format!("{name}: the trace does not say why")))
}

/// All records of a trace.
pub fn records(trace: &Trace<'_>) -> Result<Vec<Record>> {
    let chunks = trace.chunks().iter().filter(|chunk| chunk.header.kind == ChunkKind::RECORDS);
    let mut records = Vec::new();
    for chunk in chunks {
        records.extend(trace.records(chunk)?);
    }
    Ok(records)
}
