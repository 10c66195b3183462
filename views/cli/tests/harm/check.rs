//! One hazard: the program alone and recorded, and what the trace says of it against what it counted.

use std::fmt::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use serde_json::Value;

use crate::counts::{self, Count};
use crate::harness::{number, pagetrace, processes, report};
use crate::hazards::{Around, Ends, Events, Hazard, Library};
use crate::places::{Group, Places};
use crate::programs::{Language, Programs};
use crate::runs::{Ran, run};

/// What came of it.
pub enum Verdict {
    /// Nothing was harmed; with a remark.
    Harmless(String),
    /// It cannot be tried here.
    Skipped(String),
    /// What is wrong, a line each.
    Harmed(String),
}

/// Of recordings of a sample.
const SAMPLE_BYTES: u64 = 256;

/// What the start of a Rust program allocates beside the allocator that counts.
const OF_RUST_RUNTIME: u64 = 10;

/// Tries it.
pub fn check(hazard: &Hazard, language: Language, programs: &Programs, places: &Places) -> Verdict {
    let directory = match tempfile::tempdir_in(places.directory()) {
        Ok(directory) => directory,
        Err(error) => return Verdict::Harmed(format!("no directory for a trace: {error}")),
    };
    let bench = match Bench::set(hazard, language, programs, places, directory.path()) {
        Ok(bench) => bench,
        Err(why) => return Verdict::Skipped(why),
    };
    let Some(alone) = bench.run_alone() else { return Verdict::Harmed("it hangs by itself".to_owned()) };
    if !hazard.ends.is(alone.status) {
        return Verdict::Harmed(format!("alone: expected {:?}, found {alone:#?}", hazard.ends));
    }
    let Some(recorded) = bench.run_recorded() else {
        return Verdict::Harmed("it hangs while it is recorded".to_owned());
    };
    let mut faults = Vec::new();
    for (what, alone, recorded) in
        [("standard output", &alone.stdout, &recorded.stdout), ("standard error", &alone.stderr, &recorded.stderr)]
    {
        if without_tids(alone) != without_tids(recorded) {
            faults.push(format!("{what}: alone {alone:?}, recorded {recorded:?}"));
        }
    }
    if alone.status != recorded.status {
        faults.push(format!("alone it ended with {}, recorded with {}", alone.status, recorded.status));
    }
    let trace = bench.trace();
    if !trace.exists() {
        faults.push("there is no trace".to_owned());
        return Verdict::Harmed(faults.join("\n"));
    }
    let report = report(&trace);
    let mut expected = *hazard;
    if language == Language::Rust {
        expected.of_libraries += OF_RUST_RUNTIME;
    }
    let note = compare(&expected, &report, &counts::read(&bench.counts()), &mut faults);
    if faults.is_empty() {
        return Verdict::Harmless(note);
    }
    let mut text = faults.join("\n");
    let _ = write!(text, "\n{}", summary(&report));
    Verdict::Harmed(text)
}

/// A text without numbers in parentheses: Rust's standard library names threads so.
fn without_tids(text: &str) -> String {
    let mut parts = text.split('(');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |whole, part| whole + "(" + part.trim_start_matches(|it: char| it.is_ascii_digit()))
}

/// A program with all that it needs.
struct Bench<'a> {
    program: &'a Path,
    name: &'static str,
    directory: &'a Path,
    variables: Vec<(&'static str, String)>,
    sampled: bool,
    _group: Option<Group>,
}

impl<'a> Bench<'a> {
    fn set(
        hazard: &Hazard,
        language: Language,
        programs: &'a Programs,
        places: &Places,
        directory: &'a Path,
    ) -> Result<Bench<'a>, String> {
        let mut group = None;
        let mut variables = vec![
            ("HARM_STATIC", programs.still().display().to_string()),
            ("HARM_PLUGIN", programs.library("plugin").display().to_string()),
        ];
        match hazard.around {
            Around::Nothing => {}
            Around::Linked(library) => {
                library_file(library, programs)?;
            }
            Around::Preloaded(library) => variables.push(("LD_PRELOAD", library_file(library, programs)?)),
            Around::Group => {
                let made = Group::make(&format!("pagetrace-harm-{}-{}-{language}", std::process::id(), hazard.name))?;
                variables.push(("HARM_GROUP", made.joined_by().display().to_string()));
                group = Some(made);
            }
            Around::Root | Around::Rights if !rustix::process::geteuid().is_root() => {
                return Err("only root can give these rights away".to_owned());
            }
            Around::Root => variables.push(("HARM_ROOT", places.root().display().to_string())),
            Around::Rights => {}
        }
        let program = programs.of(hazard, language);
        Ok(Bench { program, name: hazard.name, directory, variables, sampled: hazard.sampled, _group: group })
    }

    fn trace(&self) -> std::path::PathBuf {
        self.directory.join("trace")
    }

    fn counts(&self) -> std::path::PathBuf {
        self.directory.join("counts")
    }

    fn run_alone(&self) -> Option<Ran> {
        // A file of its own: a daemon may be counting yet while the next run has begun.
        self.run(Command::new(self.program).arg(self.name), &self.directory.join("counts-alone"))
    }

    fn run_recorded(&self) -> Option<Ran> {
        let mut command = Command::new(pagetrace());
        // What a busy machine makes the kernel lose is no matter of these tests.
        command.args(["record", "--quiet", "--kernel-buffer", "16384", "-o"]).arg(self.trace());
        if self.sampled {
            command.args(["--sample-bytes", &SAMPLE_BYTES.to_string()]);
        }
        self.run(command.arg("--").arg(self.program).arg(self.name), &self.counts())
    }

    fn run(&self, command: &mut Command, counts: &Path) -> Option<Ran> {
        counts::prepare(counts);
        run(command.env("HARM_COUNTS", counts).envs(self.variables.iter().map(|(name, value)| (name, value))))
    }
}

fn library_file(library: Library, programs: &Programs) -> Result<String, String> {
    match library {
        Library::System(path) if !Path::new(path).exists() => Err(format!("{path} is not there")),
        Library::System(path) => Ok(path.to_owned()),
        Library::Own(name) => Ok(programs.library(name).display().to_string()),
    }
}

impl Ends {
    fn is(self, status: ExitStatus) -> bool {
        match self {
            Ends::Exits(code) => status.code() == Some(code),
            Ends::Signaled(signal) => status.signal() == Some(signal),
        }
    }
}

/// Holds the trace against what was counted. A remark for the list of results.
fn compare(hazard: &Hazard, report: &Value, counts: &[Count], faults: &mut Vec<String>) -> String {
    let lost = number(&report["lost"]["events"]);
    let in_handlers = hazard.events == Events::LostInHandlers;
    if report["complete"] != true {
        faults.push("the trace is not complete".to_owned());
    }
    if lost != 0 && !in_handlers {
        faults.push(format!("lost: {}", report["lost"]));
    }
    let mut joined: Vec<&Value> = processes(report).iter().collect();
    for count in counts {
        // Those of one pid are in order of their start: a program and the one that took its place. Between fork and exec a
        // library's child does not count.
        let is_it = |process: &&Value| {
            process["pid"] == count.pid
                && (count.made == 0
                    || process["objects"]["allocated"] != 0
                    || hazard.events == Events::None
                    || hazard.sampled)
        };
        match joined.iter().position(is_it) {
            Some(place) => compare_process(hazard, joined.remove(place), count, lost, faults),
            None => faults.push(format!("not in the trace: {count:?}")),
        }
    }
    if joined.len() != hazard.uncounted {
        let expected = hazard.uncounted;
        faults.push(format!("expected {expected} processes that do not count, found {}", joined.len()));
    }
    if lost > 0 { format!(" ({lost} events lost, and counted)") } else { String::new() }
}

fn compare_process(hazard: &Hazard, process: &Value, count: &Count, lost: u64, faults: &mut Vec<String>) {
    let objects = &process["objects"];
    let unexpected = |name: &str| number(&objects[name]);
    // Where an event is missing, others contradict it.
    if lost == 0 && hazard.events != Events::None && (unexpected("unknown_frees"), unexpected("replaced")) != (0, 0) {
        faults.push(format!("contradictions: {objects}"));
    }
    for (name, counted) in [("allocated", count.made), ("freed", count.freed)] {
        let traced = number(&objects[name]);
        // Six errors of the estimate, and the same of what was too little to be in a sample.
        let off = match hazard.sampled {
            true => 6 * (number(&objects[format!("{name}_error")]) + SAMPLE_BYTES),
            false => 0,
        };
        let right = match hazard.events {
            Events::All if hazard.sampled => {
                (counted.saturating_sub(off)..=counted + hazard.of_libraries + off).contains(&traced)
            }
            Events::LostInHandlers if hazard.sampled => traced <= counted + hazard.of_libraries + off,
            Events::AtLeast if hazard.sampled => traced + off >= counted.saturating_sub(hazard.of_libraries),
            Events::All => (counted..=counted + hazard.of_libraries).contains(&traced),
            Events::LostInHandlers => traced <= counted + hazard.of_libraries && traced + lost >= counted,
            Events::AtLeast => traced >= counted.saturating_sub(hazard.of_libraries),
            Events::None => traced == 0,
        };
        if !right {
            faults.push(format!("{name}: the program counted {counted}, the trace has {traced}: {:?}", hazard.events));
        }
    }
}

/// What one needs to see of a report when it is wrong.
fn summary(report: &Value) -> String {
    let mut text = format!("lost {}, anomalies {}, defects {}", report["lost"], report["anomalies"], report["defects"]);
    for process in processes(report) {
        let [pid, exe, origin, end, objects] =
            ["pid", "exe", "origin", "end_status", "objects"].map(|name| process[name].to_string());
        let _ = write!(text, "\n  pid {pid} {exe} {origin}, {end}: {objects}");
    }
    text
}
