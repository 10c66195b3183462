//! Where a program runs, as whom, alone or recorded, and what it answered.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{LONGEST, Program, Stage};
use crate::harmless::runs::{Mode, ended, wait};

/// nobody, of all systems.
const NOBODY: u32 = 65_534;

/// As whom a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// As who runs us.
    Ours,
    /// Not as root: as nobody where we are root.
    Ordinary,
}

/// A directory of its own for one run.
pub struct Place {
    /// It may write there.
    pub directory: PathBuf,
    /// The trace that it leaves if it is recorded.
    pub trace: PathBuf,
    pagetrace: PathBuf,
    mode: Mode,
    /// Whether we are somebody else's than the program's.
    is_nobody: bool,
}

/// What a program said, and how it ended; `None` where it took too long.
pub struct Answers {
    pub printed: String,
    pub status: Option<ExitStatus>,
}

impl Place {
    /// Made anew.
    pub fn new(stage: &Stage, program: &Program, mode: Mode) -> Result<Place> {
        let directory = stage.directory.join(format!("{}-{}", program.name.replace([' ', ','], "-"), mode.name()));
        let is_nobody = stage.is_root && program.user == User::Ordinary;
        make_directory(&directory, is_nobody)?;
        let trace = directory.join("trace");
        Ok(Place { trace, directory, pagetrace: stage.pagetrace.clone(), mode, is_nobody })
    }

    /// The program as it is run here.
    pub fn command(&self, program: &Path) -> Command {
        if self.mode == Mode::Alone {
            return self.beside(program);
        }
        let mut command = self.beside(&self.pagetrace);
        command.args(["record", "--quiet", "-o"]).arg(&self.trace).arg("--").arg(program);
        command
    }

    /// A command of the same user that is never recorded.
    pub fn beside(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if self.is_nobody {
            let id = NOBODY.to_string();
            command = Command::new("setpriv");
            command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]).arg(program);
        }
        command.current_dir(&self.directory).env("HOME", &self.directory).env("LC_ALL", "C");
        command
    }

    /// Runs it to its end; what it printed are its answers.
    pub fn ended(&self, command: &mut Command) -> Result<Answers> {
        let output = self.directory.join("output");
        let status = ended(command, &output, LONGEST)?;
        Ok(Answers { printed: fs::read_to_string(output)?, status })
    }

    /// Runs a server that listens on `socket`, asks it, and waits until it has ended, which asking must bring about.
    pub fn served(
        &self,
        command: &mut Command,
        socket: &Path,
        ask: impl FnOnce() -> Result<String>,
    ) -> Result<Answers> {
        let log = self.directory.join("log");
        let file = File::create(&log)?;
        command.process_group(0).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let mut server = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let listens = || -> Result<()> {
            let start = Instant::now();
            while UnixStream::connect(socket).is_err() {
                ensure!(start.elapsed() < LONGEST, "the server does not listen");
                thread::sleep(Duration::from_millis(10));
            }
            Ok(())
        };
        let asked = listens().and_then(|()| ask());
        let status = wait(&mut server, if asked.is_ok() { LONGEST } else { Duration::ZERO })?;
        let printed = asked.with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        Ok(Answers { printed, status })
    }

    /// Sends a signal to a server that has written its pid into a file.
    pub fn signal(&self, signal: &str, pid_file: &Path) -> Result<()> {
        let text = fs::read_to_string(pid_file).with_context(|| format!("{}", pid_file.display()))?;
        let pid = text.lines().next().unwrap_or_default().trim().to_owned();
        ensure!(pid.parse().is_ok_and(|pid: u32| pid > 1), "{}: no pid: {text}", pid_file.display());
        let status = Command::new("kill").arg(signal).arg(&pid).status().context("kill")?;
        ensure!(status.success(), "kill {signal} {pid} failed");
        Ok(())
    }

    /// A directory in which it may write.
    pub fn make_directory(&self, name: &str) -> Result<PathBuf> {
        let directory = self.directory.join(name);
        make_directory(&directory, self.is_nobody)?;
        Ok(directory)
    }
}

fn make_directory(directory: &Path, is_nobody: bool) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    fs::set_permissions(directory, Permissions::from_mode(0o755))?;
    if is_nobody {
        chown(directory, Some(NOBODY), Some(NOBODY))?;
    }
    Ok(())
}

/// What a command printed, which must not have failed.
pub fn printed_by(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {printed}{errors}", output.status);
    Ok(printed)
}
