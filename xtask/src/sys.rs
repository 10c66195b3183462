//! wait4(2), which the standard library does not have: what a child used, with all that it waited for.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::Duration;

/// How a child ended and what it took.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// As [`Child::wait`] gives it.
    pub status: ExitStatus,
    /// Time on processors, of the child and of all descendants that were waited for.
    pub cpu: Duration,
}

/// Looks whether a child has ended. Where it has, it is gone: [`Child::wait`] has nothing to wait for any more.
///
/// # Errors
/// Those of wait4(2).
pub fn ended(child: &Child) -> io::Result<Option<Ended>> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to places of ours of the right types, which the call only writes to.
    let found = unsafe { libc::wait4(child.id() as libc::pid_t, &mut status, libc::WNOHANG, usage.as_mut_ptr()) };
    match found {
        0 => Ok(None),
        -1 => Err(io::Error::last_os_error()),
        _ => {
            // SAFETY: zero bytes are a valid rusage, and the call has written one over them.
            let usage = unsafe { usage.assume_init() };
            let cpu = duration(usage.ru_utime) + duration(usage.ru_stime);
            Ok(Some(Ended { status: ExitStatus::from_raw(status), cpu }))
        }
    }
}

fn duration(time: libc::timeval) -> Duration {
    Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
}
