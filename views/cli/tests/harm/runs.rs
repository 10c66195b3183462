//! Runs a program, alone or recorded, until everybody who holds its output has ended.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// What takes so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a run left.
#[derive(Debug)]
pub struct Ran {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it said on standard error.
    pub stderr: String,
}

/// Runs it. `None` where it had to be killed.
pub fn run(command: &mut Command) -> Option<Ran> {
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        let stdout = scope.spawn(move || read_all(stdout.expect("it is piped")));
        let stderr = scope.spawn(move || read_all(stderr.expect("it is piped")));
        let status = ended(&mut child);
        let text = |reader: std::thread::ScopedJoinHandle<String>| reader.join().expect("it does not panic");
        let (stdout, stderr) = (text(stdout), text(stderr));
        status.map(|status| Ran { status, stdout, stderr })
    })
}

fn read_all(mut pipe: impl Read) -> String {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).expect("a pipe can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn ended(child: &mut Child) -> Option<ExitStatus> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            return Some(status);
        }
        if started.elapsed() > PATIENCE {
            // Its children, too: they hold the output open.
            let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
            child.wait().expect("a child of ours");
            return None;
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}
