//! Attaching to a program that runs: which may be attached to, and what is done while it is held.
//!
//! All threads of a process stand still while events are opened on them, so that none is missed and none that one of them starts
//! has events twice; and while its pages are looked at, which is where events go on from.

use std::io::Write;
use std::time::Duration;

use pagetrace_format::records::Record;

use super::idle_tracer::{IdleTracer, NotWoken};
use super::{KernelStreams, Recorder, machine};
use crate::error::KernelError;
use crate::process_dir::ProcessDir;
use crate::process_tree::children_listed;
use crate::stop::Stopped;

/// A process that does not come to a stop, as in vfork(2), is tried so often.
const TRIES: usize = 5;
/// A process that is joining a session as it is held has joined after this time.
const JOINS_WITHIN: Duration = Duration::from_millis(2);

/// Why a process cannot be attached to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// There is none.
    #[error("no process {0}: it has ended, or its pid is another one")]
    NoSuchProcess(u32),
    /// It has ended and waits for its parent.
    #[error("process {0} is a zombie: it has ended and has no memory any more")]
    Zombie(u32),
    /// It is a part of the kernel.
    #[error("process {0} is a thread of the kernel: it has no memory of its own")]
    KernelThread(u32),
    /// It is the recorder itself.
    #[error("process {0} is this recorder: it cannot stop itself to look at its own pages")]
    Itself(u32),
    /// The number is one of a thread.
    #[error("{tid} is a thread of process {pid}: give -p {pid} to record it")]
    Thread {
        /// The number that was given.
        tid: u32,
        /// Its process.
        pid: u32,
    },
    /// It may not be looked at.
    #[error(
        "process {pid}: not permitted: it belongs to another user (uid {uid}), runs with raised privileges, or has forbidden to \
         be looked at (PR_SET_DUMPABLE of prctl(2)): run pagetrace as that user or as root"
    )]
    NotPermitted {
        /// Its pid.
        pid: u32,
        /// Its effective user.
        uid: u32,
    },
    /// Something else.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// How attaching to a process went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its pid.
    pub pid: u32,
    /// Its threads.
    pub threads: usize,
    /// How long it stood still.
    pub stopped_for: Duration,
}

impl<W: Write> Recorder<W> {
    /// Attaches to a process and all below it. Those below that end meanwhile, or may not be looked at, are left out.
    ///
    /// # Errors
    /// Why the process itself cannot be attached to; nothing was done to it then.
    pub fn attach(&mut self, pid: u32) -> Result<Vec<Attached>, AttachError> {
        check(pid)?;
        if self.options.objects || self.options.write_epochs.is_some() {
            self.processes.wake_tracers(self.session.path());
        }
        self.kernel = KernelStreams::attaching(self.options.kernel_events.as_ref());
        self.trace.records(&[Record::Machine(machine::this_machine())]);
        let mut done = Vec::new();
        let mut children = Vec::new();
        done.push(self.attach_one(pid, &mut children)?);
        while let Some(child) = children.pop() {
            if check(child).is_ok()
                && let Ok(attached) = self.attach_one(child, &mut children)
            {
                done.push(attached);
            }
        }
        Ok(done)
    }

    fn attach_one(&mut self, pid: u32, children: &mut Vec<u32>) -> Result<Attached, AttachError> {
        let process = ProcessDir::open(pid).map_err(|error| of(pid, error))?;
        let (stopped, tracer) = self.hold_and_wake(&process).map_err(|error| of(pid, error))?;
        let threads = process.numbers("task").map_err(|error| of(pid, error))?;
        self.kernel.attach(pid, &threads);
        let (records, snapshot) = self.processes.attach(pid, tracer);
        self.write_records(&records);
        if let Some(snapshot) = snapshot {
            self.trace.snapshot(snapshot);
        }
        // Those that it forks from now on have its events.
        children.extend(children_listed(&process).ok().flatten().unwrap_or_default());
        Ok(Attached { pid, threads: threads.len(), stopped_for: stopped.stopped_for() })
    }
}

impl<W: Write> Recorder<W> {
    /// Holds a process, at a moment when the tracer in it can be woken if there is one.
    fn hold_and_wake(&mut self, process: &ProcessDir) -> Result<(Stopped, Option<IdleTracer>), KernelError> {
        let mut tries = 1..TRIES;
        loop {
            let stopped = match Stopped::stop_process(process, self.processes.held()) {
                Err(KernelError::StillRunning { .. }) if tries.next().is_some() => continue,
                stopped => stopped?,
            };
            match self.processes.wake(process.pid()) {
                Err(NotWoken::Now) if tries.next().is_some() => drop(stopped),
                woken => return Ok((stopped, woken.ok().flatten())),
            }
            std::thread::sleep(JOINS_WITHIN);
        }
    }
}

/// Whether a process can be attached to at all.
fn check(pid: u32) -> Result<(), AttachError> {
    if pid == std::process::id() {
        return Err(AttachError::Itself(pid));
    }
    let process = ProcessDir::open(pid).map_err(|error| of(pid, error))?;
    let status = process.read("status").map_err(|error| of(pid, error))?;
    let status = String::from_utf8_lossy(&status);
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = |name, nth: usize| field(name)?.split_ascii_whitespace().nth(nth)?.parse::<u32>().ok();
    match field("State").map(|state| state.trim().starts_with(['Z', 'X'])) {
        Some(false) => {}
        Some(true) => return Err(AttachError::Zombie(pid)),
        None => return Err(AttachError::NoSuchProcess(pid)),
    }
    if let Some(leader) = number("Tgid", 0).filter(|&leader| leader != pid) {
        return Err(AttachError::Thread { tid: pid, pid: leader });
    }
    if field("VmSize").is_none() {
        return Err(AttachError::KernelThread(pid));
    }
    // What may be read of it is what the kernel lets this user see (PTRACE_MODE_READ of ptrace(2)).
    match process.file("pagemap").and_then(|_| process.read("maps")) {
        Ok(_) => Ok(()),
        Err(KernelError::Denied { .. }) => {
            Err(AttachError::NotPermitted { pid, uid: number("Uid", 1).unwrap_or(u32::MAX) })
        }
        Err(error) => Err(of(pid, error)),
    }
}

fn of(pid: u32, error: KernelError) -> AttachError {
    match error {
        KernelError::Gone { .. } => AttachError::NoSuchProcess(pid),
        error => AttachError::Kernel(error),
    }
}
