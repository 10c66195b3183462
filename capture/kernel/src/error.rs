//! What can go wrong when a process is looked at from outside.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a process could not be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// It has ended, or has replaced its program while it was being read.
    #[error("process {pid} has ended or replaced its program while it was being read")]
    Gone {
        /// Its pid.
        pid: u32,
    },
    /// The kernel does not let this user look at it.
    #[error(
        "process {pid}: no permission for {what}; it belongs to another user or runs with raised privileges: \
         run pagetrace as that user or as root"
    )]
    Denied {
        /// Its pid.
        pid: u32,
        /// What was refused.
        what: String,
    },
    /// It was sent SIGSTOP and went on; it has been sent SIGCONT since.
    #[error(
        "process {pid} was still running {} ms after SIGSTOP: thread {tid} is in state {state} \
         (D is a wait that cannot be interrupted, for example in vfork); it has been let go again",
        waited.as_millis()
    )]
    StillRunning {
        /// Its pid.
        pid: u32,
        /// A thread that had not stopped.
        tid: u32,
        /// The state of that thread as in proc_pid_stat(5).
        state: char,
        /// How long this was waited for.
        waited: Duration,
    },
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the kernel holds something unexpected.
    #[error("{}: expected {expected}, found {found:?}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What should be there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A system call failed.
    #[error("process {pid}: {call} failed: {source}")]
    Call {
        /// The process it was about.
        pid: u32,
        /// Which call.
        call: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl KernelError {
    /// What an error of a file below `/proc/PID`, or of a signal to it, means for the process.
    pub(crate) fn of(pid: u32, what: &str, source: io::Error) -> KernelError {
        match source.raw_os_error() {
            Some(libc::ESRCH | libc::ENOENT) => KernelError::Gone { pid },
            Some(libc::EACCES | libc::EPERM) => KernelError::Denied { pid, what: what.to_owned() },
            _ => KernelError::Read { path: PathBuf::from(format!("/proc/{pid}/{what}")), source },
        }
    }
}
