//! Runs a command, alone or recorded, within a time, and looks whether the trace is whole.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pagetrace_format::Trace;
use pagetrace_format::records::{LossReason, Record};

use crate::agreement::records;

/// Where things are.
pub struct Bench {
    /// The recorder.
    pub pagetrace: PathBuf,
    /// For everything that is written.
    pub directory: PathBuf,
    /// What is run besides other people's programs.
    pub scripts: PathBuf,
}

/// How a command is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By itself.
    Alone,
    /// Under the recorder.
    Recorded,
}

impl Mode {
    /// Both.
    pub const ALL: [Mode; 2] = [Mode::Alone, Mode::Recorded];

    /// A name for files.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Alone => "alone",
            Mode::Recorded => "recorded",
        }
    }
}

impl Bench {
    /// The command as it is run in this mode, with the trace that it would leave.
    pub fn command(&self, mode: Mode, trace: &Path, program: &Path) -> Command {
        match mode {
            Mode::Alone => Command::new(program),
            Mode::Recorded => {
                let mut command = Command::new(&self.pagetrace);
                command.args(["record", "--quiet", "-o"]).arg(trace).arg("--").arg(program);
                command
            }
        }
    }
}

/// Runs it to its end with its output in a file. `None` where it took too long.
pub fn ended(command: &mut Command, output: &Path, within: Duration) -> Result<Option<ExitStatus>> {
    let file = File::create(output).with_context(|| format!("{}", output.display()))?;
    command.process_group(0).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    wait(&mut child, within)
}

/// Waits for it; it is killed with all its group where that takes too long.
pub fn wait(child: &mut Child, within: Duration) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > within {
            let group = format!("-{}", child.id());
            Command::new("kill").args(["-KILL", "--", &group]).status().context("kill")?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// What a trace lacks. What the kernel could not keep of pages and what handlers did within hooks is counted, and no lack.
pub fn lack_of(trace: &Path) -> Result<Option<String>> {
    let bytes = fs::read(trace).with_context(|| format!("{}", trace.display()))?;
    let trace = Trace::open(&bytes)?;
    let (mut has_end, mut lost) = (false, 0);
    for record in records(&trace)? {
        match record {
            Record::End(_) => has_end = true,
            Record::Loss(loss) if loss.reason == LossReason::BufferFull => lost += loss.events.max(1),
            _ => {}
        }
    }
    let lack = match (has_end, lost) {
        (true, 0) => None,
        (true, lost) => Some(format!("{lost} events of objects were lost")),
        (false, _) => Some("it has no end".to_owned()),
    };
    Ok(lack)
}
