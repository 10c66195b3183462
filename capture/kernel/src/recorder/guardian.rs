//! What is done for the programs when the recorder is killed.
//!
//! A process of its own has one end of a pipe whose other end the recorder alone has, so it learns of the recorder's end
//! whatever brings that about. It lets go of the program that was held for a snapshot, and tells the hooks that wait that
//! nobody will come. It is in no process group of the command's and has none of the recorder's files open.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use pagetrace_format::session::{Session, slot_state};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process};

use super::sys::futex_wake_all;
use crate::sys::{fork_detached, word_shared_with_forks};

/// The recorder's side of it.
#[derive(Debug)]
pub struct Guardian {
    held: &'static AtomicU32,
    /// The guardian acts when this is closed. Nothing is ever written.
    _lifeline: OwnedFd,
}

impl Guardian {
    /// Starts one for a session whose recorder is this process.
    ///
    /// # Errors
    /// Where there is no room for a page, a pipe or a process.
    pub fn start(session: Session) -> io::Result<Guardian> {
        let held = word_shared_with_forks()?;
        let (watched, lifeline) = pipe_with(PipeFlags::CLOEXEC)?;
        fork_detached(&[watched.as_raw_fd()], || {
            wait_for_end(&watched);
            let_go(held);
            end_for_hooks(session);
        })?;
        Ok(Guardian { held, _lifeline: lifeline })
    }

    /// Where the pid of the process that is held now has to be, 0 for none.
    pub fn held(&self) -> &'static AtomicU32 {
        self.held
    }
}

fn wait_for_end(watched: &OwnedFd) {
    while rustix::io::read(watched, &mut [0_u8; 1]) == Err(Errno::INTR) {}
}

fn let_go(held: &AtomicU32) {
    if let Some(pid) = Pid::from_raw(held.load(Ordering::Acquire) as i32) {
        // It may have been killed, too.
        let _ = kill_process(pid, Signal::CONT);
    }
}

/// Ends the recording for all programs: hooks that wait go on at once, and no program joins any more.
pub fn end_for_hooks(session: Session) {
    let header = session.header();
    header.recording.store(0, Ordering::Release);
    header.blocks_freed.0.fetch_add(1, Ordering::Release);
    futex_wake_all(&header.blocks_freed.0);
    let slots = (0..session.layout().process_slots).filter_map(|index| session.slot(index));
    // Those that are about to exit wait for their last snapshot.
    for slot in slots.filter(|slot| slot.state.load(Ordering::Acquire) == slot_state::PARKED) {
        futex_wake_all(&slot.state);
    }
}
