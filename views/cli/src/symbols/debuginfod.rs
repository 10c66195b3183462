//! Debug information from servers, by `debuginfod-find` of elfutils (debuginfod-find(1)).
//!
//! It is asked only where the user has named servers in `DEBUGINFOD_URLS`, as all tools of elfutils and gdb do.

use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::hex;

/// A server that takes longer for all files together is not asked any more.
const TIME_MAX: Duration = Duration::from_secs(120);
const PROGRAM: &str = "debuginfod-find";

/// Asks servers for files of debug information.
#[derive(Debug)]
pub struct Debuginfod {
    /// Where the program is; `None` where nothing is to be asked.
    program: Option<PathBuf>,
    time_left: Duration,
}

impl Debuginfod {
    /// As the environment says.
    pub fn from_environment() -> Debuginfod {
        let named = std::env::var_os("DEBUGINFOD_URLS").is_some_and(|urls| !urls.is_empty());
        let directories = std::env::var_os("PATH").filter(|_| named).unwrap_or_default();
        let program = std::env::split_paths(&directories).map(|it| it.join(PROGRAM)).find(|it| it.is_file());
        Debuginfod { program, time_left: TIME_MAX }
    }

    /// One that asks nobody.
    pub fn off() -> Debuginfod {
        Debuginfod { program: None, time_left: Duration::ZERO }
    }

    /// The file of debug information with this build id, which the program keeps in its cache; `name` is shown meanwhile.
    pub fn find(&mut self, build_id: &[u8], name: &str) -> Option<PathBuf> {
        let program = self.program.as_deref().filter(|_| !build_id.is_empty() && !self.time_left.is_zero())?;
        // Shown on standard error, and only where that is a terminal.
        let progress = ProgressBar::new_spinner();
        progress.set_message(format!("asking for debug information of {name}"));
        progress.enable_steady_tick(Duration::from_millis(100));
        let begun = Instant::now();
        let found = ask(program, build_id, begun + self.time_left);
        self.time_left = self.time_left.saturating_sub(begun.elapsed());
        progress.finish_and_clear();
        found
    }
}

fn ask(program: &Path, build_id: &[u8], until: Instant) -> Option<PathBuf> {
    let mut command = Command::new(program);
    command.arg("debuginfo").arg(hex(build_id));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let mut pause = Duration::from_millis(1);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if Instant::now() < until => std::thread::sleep(pause),
            _ => break None,
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    };
    let Some(status) = status else {
        // It may have ended meanwhile; there is nobody to tell of a failure.
        let _ = child.kill();
        let _ = child.wait();
        return None;
    };
    let mut said = Vec::new();
    // A path is shorter than what a pipe holds, so it did not wait for a reader.
    child.stdout.take()?.take(1 << 16).read_to_end(&mut said).ok()?;
    let path = said.trim_ascii_end().to_vec();
    (status.success() && path.first() == Some(&b'/')).then(|| PathBuf::from(std::ffi::OsString::from_vec(path)))
}
