//! A userfaultfd(2) made in a program into which nothing could be loaded: one of its threads is led through two system calls.
//!
//! ```text
//!  recorder                     helper, a process of its own                     thread of the program
//!     │ ── pid ────────────────▶ PTRACE_SEIZE, PTRACE_INTERRUPT ────────────────▶ stops where it is
//!     │                          registers and signal mask kept
//!     │                          registers: userfaultfd(2) at a `syscall` of its vDSO ▶ makes the call
//!     │ ◀── descriptor's number ┤
//!     │ pidfd_getfd             │
//!     │ ── taken ──────────────▶ registers: close(2) ──────────────────────────▶ makes the call
//!     │                          a new stop, registers and mask as they were,
//!     │ ◀── done ───────────────┤ PTRACE_DETACH ─────────────────────────────────▶ goes on
//! ```
//! The helper outlives a recorder that is killed, so that the thread is led back whatever happens to that. Only a SIGKILL of the helper
//! in this millisecond would leave it on its way.

mod error;
mod safe_point;
mod sys;
mod thread;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

pub use error::InjectError;
use error::{REPLY_BYTES, Reply};

use crate::process_dir::ProcessDir;
use crate::sys::fork_detached;
use crate::writes::take_descriptor;

/// The helper has led the thread so far within this time, or never will.
const STEP_WITHIN: Duration = Duration::from_millis(1500);

/// A userfaultfd of the process, which has none of it left.
///
/// # Errors
/// Why that cannot be done safely here; the process is as it was.
pub fn userfaultfd_of(pid: u32) -> Result<OwnedFd, InjectError> {
    let (replies, mut reply_to) = pipe()?;
    let (taken, take) = pipe()?;
    let kept = [reply_to.as_raw_fd(), taken.as_raw_fd()];
    fork_detached(&kept, || {
        let reply = thread::lead_through(pid, |number| {
            let _ = reply_to.write_all(&Reply::Made(number).encode());
            // Until it was taken, or nobody will.
            let _ = (&taken).read(&mut [0]);
        });
        let _ = reply_to.write_all(&reply.encode());
    })
    .map_err(InjectError::Helper)?;
    drop((reply_to, taken));
    let number = match next_reply(&replies)? {
        Reply::Made(number) => number,
        Reply::Done => return Err(InjectError::Helper(io::ErrorKind::UnexpectedEof.into())),
        Reply::Refused(why) => return Err(why),
    };
    let descriptor = take_descriptor(pid, number).map_err(|source| InjectError::Taking { source });
    // The helper goes on, whether or not there was anything to take.
    drop(take);
    match next_reply(&replies)? {
        Reply::Refused(why) => Err(why),
        _ => descriptor,
    }
}

/// Checks what can be known before a thread is touched.
fn check(pid: u32) -> Result<(), InjectError> {
    let status = ProcessDir::open(pid).and_then(|process| process.read("status")).map_err(|_| InjectError::Gone)?;
    let status = String::from_utf8_lossy(&status);
    let number = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u32>().ok());
    match number("TracerPid:") {
        None => return Err(InjectError::Gone),
        Some(0) => {}
        Some(tracer) => return Err(InjectError::Traced(tracer)),
    }
    if number("Seccomp:").is_some_and(|mode| mode != 0) {
        return Err(InjectError::Seccomp);
    }
    Ok(())
}

fn pipe() -> Result<(File, File), InjectError> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| InjectError::Helper(errno.into()))?;
    Ok((File::from(read), File::from(write)))
}

fn next_reply(mut replies: &File) -> Result<Reply, InjectError> {
    let timeout = Timespec { tv_sec: STEP_WITHIN.as_secs() as i64, tv_nsec: i64::from(STEP_WITHIN.subsec_nanos()) };
    let mut polled = [PollFd::new(replies, PollFlags::IN)];
    let is_there = loop {
        match poll(&mut polled, Some(&timeout)) {
            // A signal to the recorder.
            Err(rustix::io::Errno::INTR) => {}
            polled => break polled.map_err(|errno| InjectError::Helper(errno.into()))?,
        }
    };
    if is_there == 0 {
        return Err(InjectError::Helper(io::ErrorKind::TimedOut.into()));
    }
    let mut bytes = [0; REPLY_BYTES];
    replies.read_exact(&mut bytes).map_err(InjectError::Helper)?;
    Ok(Reply::decode(bytes))
}

#[cfg(test)]
mod tests;
