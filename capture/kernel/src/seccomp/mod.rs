//! The system calls about pages where perf events are not to be had: a seccomp filter in the command makes each of them wait
//! until a process of the recorder's has taken down what was called and said "go on".
//!
//! ```text
//!  command ── filter ──▶ call waits ──▶ supervisor: time, thread, arguments ──▶ log in shared memory ──▶ recorder
//!                              ◀── go on ──┘ (a process of its own)
//! ```
//!
//! It is for those who ask for it, never chosen by itself, since programs can tell: without CAP_SYS_ADMIN the kernel wants
//! `no_new_privs` first, so that setuid programs get no rights; a program's own SECCOMP_MODE_STRICT and its own listener are refused
//! beside ours; a signal that comes while the supervisor has not looked yet makes a call fail with EINTR where its handler does not
//! restart calls. And where the supervisor is killed, calls about pages fail with ENOSYS: so it is a process of its own
//! that no signal but SIGKILL reaches, in no group and session of anybody else's, and it goes on for as long as a
//! program has the filter, whatever becomes of the recorder.
//!
//! A notification has the arguments of a call and not its result (seccomp_unotify(2)).

mod call_log;
mod filter;
mod followed;
mod supervisor;
mod sys;

use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::perf::PerfRecord;
use call_log::CallLog;
use sys::Outcome;

/// A supervisor is there within this time, or the command runs without a filter.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// The calls that a command and its descendants make.
#[derive(Debug)]
pub struct CallNotifications {
    log: CallLog,
}

/// How the filter came into the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Whether `no_new_privs` had to be set for it.
    pub sets_no_new_privs: bool,
}

impl CallNotifications {
    /// Has the command get the filter as it starts, with a supervisor that is there already.
    ///
    /// # Errors
    /// Where no process, pipe or memory can be had. Whether the kernel lets the command have the filter shows when it is started:
    /// [`CallNotifications::installed`].
    pub fn prepare(command: &mut Command) -> io::Result<CallNotifications> {
        let log = CallLog::new()?;
        let (of_supervisor, of_command) = sys::descriptor_channel()?;
        supervisor::start(log, of_supervisor)?;
        let begun = Instant::now();
        while !log.is_supervised() {
            if begun.elapsed() > READY_WITHIN {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the supervisor did not start"));
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        sys::install_in(command, filter::program(), of_command, log.outcome());
        Ok(CallNotifications { log })
    }

    /// Whether the command has the filter, once it was started.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn installed(&self) -> Result<Installed, String> {
        match Outcome::of(self.log.outcome()) {
            Outcome::Installed(installed) => Ok(installed),
            Outcome::Nothing => Err("seccomp: the command was not started".into()),
            Outcome::Refused(error) => Err(format!("seccomp: {error}")),
        }
    }

    /// Takes what was called since the last time, in the order of time.
    pub fn take(&mut self, each: impl FnMut(PerfRecord)) {
        self.log.take(each);
    }

    /// How many calls found no room, so far.
    pub fn lost(&self) -> u64 {
        self.log.lost()
    }
}

/// Whether a program of this user's could have the filter: tried on a child.
///
/// # Errors
/// A sentence that says why not.
pub fn probe() -> Result<Installed, String> {
    let log = CallLog::new().map_err(|error| error.to_string())?;
    sys::try_in_child(&filter::program(), log.outcome()).map_err(|error| error.to_string())?;
    CallNotifications { log }.installed()
}
