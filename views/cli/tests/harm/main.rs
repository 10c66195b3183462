//! Programs that do what a tracer may break, in C, C++ and Rust: each runs alone and under `pagetrace record`, behaves the
//! same both times, and its trace is complete. `hazards.rs` lists them; arguments choose by parts of their names, with
//! `--exact` by their names.

mod check;
mod counts;
mod hazards;
mod places;
mod programs;
mod runs;

#[allow(dead_code, reason = "the tests of `record` use the rest")]
#[path = "../record/harness.rs"]
mod harness;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use check::{Verdict, check};
use hazards::{HAZARDS, Hazard};
use places::Places;
use programs::{Language, Programs};

/// Runs at once: more would make the machine's own load the hazard.
const WORKERS: usize = 3;

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let exact = std::env::args().any(|argument| argument == "--exact");
    let cases: Vec<(&Hazard, Language)> = HAZARDS
        .iter()
        .flat_map(|hazard| hazard.languages.iter().map(move |&language| (hazard, language)))
        .filter(|(hazard, language)| {
            let name = hazard.title(*language);
            wanted.is_empty() || wanted.iter().any(|part| if exact { name == *part } else { name.contains(part) })
        })
        .collect();
    if cases.is_empty() {
        // They are meant for other tests of the workspace.
        println!("harm: none of {} hazards is called so", HAZARDS.len());
        return ExitCode::SUCCESS;
    }
    let places = Places::make();
    let programs = Programs::compile(&places, &cases, WORKERS);
    let next = AtomicUsize::new(0);
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some((hazard, language)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let verdict = check_whole(hazard, *language, &programs, &places);
                    tally.lock().expect("no worker panics while it holds it").count(hazard, *language, verdict);
                }
            });
        }
    });
    tally.into_inner().expect("no worker panicked").conclude()
}

/// A check that fails by itself is a fault of this row, not the end of all.
fn check_whole(hazard: &Hazard, language: Language, programs: &Programs, places: &Places) -> Verdict {
    let checked = std::panic::catch_unwind(AssertUnwindSafe(|| check(hazard, language, programs, places)));
    checked.unwrap_or_else(|_| Verdict::Harmed("the check itself failed, see above".to_owned()))
}

#[derive(Default)]
struct Tally {
    passed: usize,
    skipped: usize,
    failed: Vec<String>,
}

impl Tally {
    fn count(&mut self, hazard: &Hazard, language: Language, verdict: Verdict) {
        let name = hazard.title(language);
        match verdict {
            Verdict::Harmless(note) => {
                println!("test {name} ... ok{note}");
                self.passed += 1;
            }
            Verdict::Skipped(why) => {
                println!("test {name} ... skipped: {why}");
                self.skipped += 1;
            }
            Verdict::Harmed(faults) => {
                println!("test {name} ... FAILED\n{faults}");
                self.failed.push(name);
            }
        }
    }

    fn conclude(self) -> ExitCode {
        println!("\nharm: {} passed, {} failed, {} skipped", self.passed, self.failed.len(), self.skipped);
        for name in &self.failed {
            println!("  failed: {name}");
        }
        if self.failed.is_empty() && self.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
