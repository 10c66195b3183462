//! Tells a signal to the whole process group from one to the recorder alone.
//!
//! The command shares the recorder's process group, as a shell would have it, so what is sent to the group has reached
//! it already: a second SIGINT would break into the program's handling of the first. The kernel does not say which of
//! the two kill(2) it was. A child that only waits does: a signal to the group ends it too.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Who signals a group signals its members one by one: all have it by then.
const REACHED_WITHIN: Duration = Duration::from_millis(50);
/// A witness that has the signal ends as soon as it runs, which may take long on a busy machine.
const DIES_WITHIN: Duration = Duration::from_secs(10);

/// A child in the recorder's process group that any signal ends. It goes when the recorder does.
pub struct GroupWitness(Option<Child>);

impl GroupWitness {
    /// Starts one. Where that cannot be, no signal is taken for one to the group.
    pub fn start() -> GroupWitness {
        let mut cat = Command::new("cat");
        // It reads from a pipe that the recorder holds open.
        cat.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).env_remove("LD_PRELOAD");
        GroupWitness(cat.spawn().ok())
    }

    /// Whether this signal, which the recorder has just had, went to the group.
    pub fn had(&mut self, signal: i32) -> bool {
        let Some(witness) = &mut self.0 else { return false };
        let asked = Instant::now();
        let mut patience = REACHED_WITHIN;
        loop {
            match witness.try_wait() {
                Ok(Some(status)) => {
                    *self = GroupWitness::start();
                    return status.signal() == Some(signal);
                }
                Ok(None) if asked.elapsed() < patience => {
                    if is_about_to_end(witness.id()) {
                        patience = DIES_WITHIN;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(None) | Err(_) => return false,
            }
        }
    }
}

/// Whether it has a signal that it has not taken yet (proc_pid_status(5)): each one ends it.
fn is_about_to_end(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pending = status.lines().filter_map(|line| line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:")));
    pending.map(str::trim).any(|mask| mask.bytes().any(|digit| digit != b'0'))
}

impl Drop for GroupWitness {
    fn drop(&mut self) {
        if let Some(witness) = &mut self.0 {
            // It may have ended by a signal already.
            let _ = witness.kill();
            let _ = witness.wait();
        }
    }
}
