//! The process that programs wait for: takes each call down and lets it go on. It ends when no program has the filter any more.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::call_log::{CallLog, Seen};
use super::followed::Followed;
use super::sys::{self, Listener};
use crate::recorder::now;
use crate::sys::fork_detached;

/// Starts one. It gets the listener by `channel` when the command has the filter, and ends at once when the other end is closed
/// before.
///
/// # Errors
/// Those of fork(2).
pub fn start(log: CallLog, channel: OwnedFd) -> io::Result<()> {
    fork_detached(&[channel.as_raw_fd()], || {
        log.supervised();
        let listener = sys::receive_descriptor(&channel).map(Listener::new);
        drop(channel);
        if let Ok(listener) = listener {
            supervise(&listener, log);
        }
    })
}

fn supervise(listener: &Listener, log: CallLog) {
    let mut followed = Followed::default();
    while let Some(call) = listener.next() {
        let time = now().0;
        let (pid, before) = followed.call(time, call.tid, call.number);
        if let Some((time, seen)) = before {
            log.put(time, pid, call.tid, seen);
        }
        if call.number != libc::SYS_execve && call.number != libc::SYS_execveat {
            log.put(time, pid, call.tid, Seen::Call(call.number, call.arguments));
        }
        listener.go_on(&call);
    }
}
