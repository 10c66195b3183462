//! Real programs, alone and recorded: do they answer the same and end the same, is the trace whole, and does it say what it must?

mod databases;
mod places;
mod runtimes;
mod verdict;
mod web_servers;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::debian::is_root;
use crate::harmless::runs::Mode;
use crate::process::{cargo, target_directory};
use places::{Answers, Place, User};
use verdict::{Expected, judged};

/// No program takes longer.
const LONGEST: Duration = Duration::from_secs(120);

/// What is run, and what its trace must say.
pub struct Program {
    /// For the table, and to choose it.
    pub name: &'static str,
    /// As whom.
    pub user: User,
    /// Builds what it needs; says why where it cannot be run here.
    pub prepare: fn(&Stage) -> Result<Option<String>>,
    /// Runs it in a place, to its end.
    pub run: fn(&Stage, &Place) -> Result<Answers>,
    /// Of the trace.
    pub expected: &'static [Expected],
}

/// Where things are.
pub struct Stage {
    /// The recorder, where any user may run it.
    pub pagetrace: PathBuf,
    /// For everything that is written.
    pub directory: PathBuf,
    /// The programs that are ours.
    pub sources: PathBuf,
    /// The project's root.
    pub root: PathBuf,
    /// For what is kept from run to run.
    pub kept: PathBuf,
    /// Whether we are root, and can be anyone.
    pub is_root: bool,
}

/// Runs all programs, or those whose names contain one of `wanted`. With `all` nothing may be skipped.
pub fn run(root: &Path, wanted: &[&str], all: bool) -> Result<()> {
    cargo(root, &["build", "--release", "-p", "pagetrace-cli"], &[])?;
    let directory = std::env::temp_dir().join(format!("pagetrace-programs.{}", std::process::id()));
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    fs::set_permissions(&directory, Permissions::from_mode(0o755))?;
    let done = compare_all(root, &directory, wanted, all);
    fs::remove_dir_all(&directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    done
}

fn compare_all(root: &Path, directory: &Path, wanted: &[&str], all: bool) -> Result<()> {
    let stage = Stage {
        pagetrace: directory.join("pagetrace"),
        directory: directory.to_owned(),
        sources: root.join("xtask/programs"),
        root: root.to_owned(),
        kept: target_directory(root).join("programs"),
        is_root: is_root()?,
    };
    fs::copy(target_directory(root).join("release/pagetrace"), &stage.pagetrace).context("the recorder")?;
    fs::create_dir_all(&stage.kept).with_context(|| format!("cannot make {}", stage.kept.display()))?;
    let mut tally = Tally::default();
    let programs = [databases::PROGRAMS, web_servers::PROGRAMS, runtimes::PROGRAMS];
    let is_wanted = |it: &&Program| wanted.is_empty() || wanted.iter().any(|name| it.name.contains(name));
    for program in programs.into_iter().flatten().filter(is_wanted) {
        tally.try_out(&stage, program)?;
    }
    println!("\nprograms: {} are as they must be, {} are not, {} skipped", tally.good, tally.bad, tally.skipped);
    ensure!(tally.bad == 0, "{} programs are not as they must be", tally.bad);
    ensure!(tally.good > 0, "nothing was run");
    ensure!(!all || tally.skipped == 0, "{} programs were skipped, and none may be here", tally.skipped);
    Ok(())
}

#[derive(Default)]
struct Tally {
    good: usize,
    bad: usize,
    skipped: usize,
}

impl Tally {
    fn try_out(&mut self, stage: &Stage, program: &Program) -> Result<()> {
        let start = Instant::now();
        if let Some(why) = (program.prepare)(stage).with_context(|| program.name.to_owned())? {
            self.skipped += 1;
            println!("{}: skipped: {why}", program.name);
            return Ok(());
        }
        let prepared = start.elapsed();
        let faults = compared(stage, program).unwrap_or_else(|error| vec![format!("{error:#}")]);
        println!("{}: {:.1?}, and {:.1?} to prepare", program.name, start.elapsed() - prepared, prepared);
        for fault in &faults {
            println!("  FAILED: {fault}");
        }
        if faults.is_empty() {
            self.good += 1
        } else {
            self.bad += 1
        }
        Ok(())
    }
}

/// All that is not as it must be.
fn compared(stage: &Stage, program: &Program) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let [place, recorded_place] = [Mode::Alone, Mode::Recorded].map(|mode| Place::new(stage, program, mode));
    let (place, recorded_place) = (place?, recorded_place?);
    let alone = (program.run)(stage, &place).context("alone")?;
    let recorded = (program.run)(stage, &recorded_place).context("recorded")?;
    ensure!(alone.status.is_some(), "alone: it has not ended after {LONGEST:?}");
    if alone.status != recorded.status {
        faults.push(format!("alone it ends with {:?}, recorded with {:?}", alone.status, recorded.status));
    }
    if alone.printed != recorded.printed {
        let different = alone.printed.lines().zip(recorded.printed.lines()).find(|(alone, recorded)| alone != recorded);
        faults.push(format!("it answers otherwise while recorded; first of what differs: {different:?}"));
    }
    faults.extend(judged(&stage.pagetrace, &recorded_place.trace, program.expected)?);
    Ok(faults)
}
