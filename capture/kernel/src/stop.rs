//! A process held by SIGSTOP, so that what is read of it agrees with itself.
//!
//! The parent of the process can see the stop (wait(2) with WUNTRACED), and a handler that the program has for SIGCONT
//! runs when it goes on. There is no way without ptrace that avoids this.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal};

use crate::error::KernelError;
use crate::process_dir::ProcessDir;
use crate::process_tree::{Stat, stat_of};

/// A process none of whose threads runs. It goes on when this is dropped, unless it was stopped before.
#[derive(Debug)]
pub struct Stopped {
    signals: Signals,
    since: Instant,
    was_stopped: bool,
    held: Option<&'static AtomicU32>,
}

/// How long a process has to come to a stop.
pub const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// So often at first the processor is given to who wants it, which may be a thread that has yet to stop: to sleep takes longer…
const YIELDS: u32 = 8;
/// … unless others want it, who keep it for longer than a thread takes to stop.
const YIELD_MAX: Duration = Duration::from_micros(100);

impl Stopped {
    /// Stops a process and waits until each of its threads has stopped. It need not be a child.
    ///
    /// # Errors
    /// [`KernelError::Gone`] where it has ended, also if it has become a zombie; [`KernelError::StillRunning`] where a
    /// thread does not stop within [`LONGEST_WAIT`], the process goes on then; [`KernelError::Denied`] where this user
    /// may not send it signals.
    pub fn stop(pid: u32) -> Result<Stopped, KernelError> {
        Stopped::stop_process(&ProcessDir::open(pid)?, None)
    }

    /// As [`Stopped::stop`]. The pid is in `held` from before the process is told to stop until after it was told to go on.
    pub(crate) fn stop_process(process: &ProcessDir, held: Option<&'static AtomicU32>) -> Result<Stopped, KernelError> {
        let signals = Signals::open(process.pid())?;
        // Of a process in a stop already nothing is changed: another SIGSTOP would be left pending under a debugger.
        let was_stopped = running_thread(process)?.is_none();
        let stopped = Stopped { signals, since: Instant::now(), was_stopped, held };
        if !was_stopped {
            stopped.note(process.pid());
            stopped.signals.send(Signal::STOP)?;
        }
        let (mut pause, mut yields_left) = (Duration::from_micros(10), YIELDS);
        while let Some((tid, state)) = running_thread(process)? {
            let waited = stopped.since.elapsed();
            if waited > LONGEST_WAIT {
                return Err(KernelError::StillRunning { pid: process.pid(), tid, state, waited });
            }
            if yields_left > 0 {
                yields_left -= 1;
                std::thread::yield_now();
                if stopped.since.elapsed() - waited > YIELD_MAX {
                    yields_left = 0;
                }
                continue;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(1));
        }
        Ok(stopped)
    }

    fn note(&self, pid: u32) {
        if let Some(held) = self.held {
            held.store(pid, Ordering::SeqCst);
        }
    }

    /// How long ago the process was told to stop.
    #[must_use]
    pub fn stopped_for(&self) -> Duration {
        self.since.elapsed()
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if !self.was_stopped {
            // A process that has been killed meanwhile needs no signal.
            let _ = self.signals.send(Signal::CONT);
            self.note(0);
        }
    }
}

/// A thread that has not stopped and its state.
fn running_thread(process: &ProcessDir) -> Result<Option<(u32, char)>, KernelError> {
    let mut stopped = false;
    for tid in process.numbers("task")? {
        match stat_of(process, &format!("task/{tid}/stat")) {
            Ok(Stat { state: 'T' | 't', .. }) => stopped = true,
            Ok(Stat { state: 'Z' | 'X', .. }) | Err(KernelError::Gone { .. }) => {}
            Ok(Stat { state, .. }) => return Ok(Some((tid, state))),
            Err(error) => return Err(error),
        }
    }
    // All threads have ended: what is left is a zombie.
    if stopped { Ok(None) } else { Err(KernelError::Gone { pid: process.pid() }) }
}

/// Sends signals to one process, and to no later one of the same pid where the kernel has pidfd_open(2).
#[derive(Debug)]
struct Signals {
    pid: u32,
    id: Pid,
    pidfd: Option<OwnedFd>,
}

impl Signals {
    fn open(pid: u32) -> Result<Signals, KernelError> {
        let id = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(KernelError::Gone { pid })?;
        match rustix::process::pidfd_open(id, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Signals { pid, id, pidfd: Some(pidfd) }),
            Err(rustix::io::Errno::SRCH) => Err(KernelError::Gone { pid }),
            Err(_) => Ok(Signals { pid, id, pidfd: None }),
        }
    }

    fn send(&self, signal: Signal) -> Result<(), KernelError> {
        let sent = match &self.pidfd {
            Some(pidfd) => rustix::process::pidfd_send_signal(pidfd, signal),
            None => rustix::process::kill_process(self.id, signal),
        };
        sent.map_err(|errno| KernelError::of(self.pid, "sending signals", errno.into()))
    }
}
