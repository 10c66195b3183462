//! The tracer in a process that was started idle: finding it, waking it, and letting go of it.
//!
//! Everything that is read of it is the process's claim, and is used for nothing but to write to that same process. It stands still
//! meanwhile, but for the letting go, which changes a single byte.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::offset_of;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use pagetrace_format::Address;
use pagetrace_format::idle::{IDLE_MAGIC, IDLE_NAME, IDLE_PATH_BYTES, IdleControl, refusal};

use crate::proc_maps::read_mappings;
use crate::process_tree::start_time;

/// The two lowest bits of the word that hooks look at say whether they are at work.
const AT_WORK_BITS: u8 = 3;

/// The control block of one process.
#[derive(Clone, Copy, Debug)]
pub struct IdleTracer {
    pid: u32,
    at: u64,
    active_at: u64,
    looking_at: u64,
    /// The real malloc.
    pub malloc: Address,
}

/// Why a tracer could not be woken.
#[derive(Debug, PartialEq, Eq)]
pub enum NotWoken {
    /// Right now: its process is in the middle of something.
    Now,
    /// For this reason.
    Because(String),
}

impl IdleTracer {
    /// The tracer of a process, `None` where it has none that waits to be woken.
    pub fn find(pid: u32) -> Option<IdleTracer> {
        let name = format!("/memfd:{IDLE_NAME}");
        let mappings = read_mappings(pid).ok()?;
        let at = mappings.iter().find(|it| it.path.starts_with(&name))?.start.0;
        let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
        let word = |offset: usize| word_at(&memory, at + offset as u64).ok();
        (word(offset_of!(IdleControl, magic))? == IDLE_MAGIC).then_some(())?;
        let active_at = word(offset_of!(IdleControl, active_at))?;
        let looking_at = word(offset_of!(IdleControl, looking_at))?;
        let malloc = Address(word(offset_of!(IdleControl, malloc))?);
        Some(IdleTracer { pid, at, active_at, looking_at, malloc })
    }

    /// Asks it to join the session at this path with its next hook. The process stands still.
    ///
    /// # Errors
    /// Why that cannot be.
    pub fn wake(&self, session: &Path) -> Result<(), NotWoken> {
        let path: &OsStr = session.as_os_str();
        if path.len() >= IDLE_PATH_BYTES {
            return Err(NotWoken::Because("the session's path is too long: set TMPDIR to a shorter one".into()));
        }
        let memory = self.memory()?;
        let read = |offset| number_at(&memory, self.at + offset as u64).map_err(|error| self.because(&error));
        let recorder = read(offset_of!(IdleControl, recorder_pid))?;
        let since = word_at(&memory, self.at + offset_of!(IdleControl, recorder_start) as u64);
        if recorder != 0 && start_time(recorder).ok() == since.ok() {
            return Err(NotWoken::Because(format!("another recorder (pid {recorder}) has its objects")));
        }
        let word = |at| number_at(&memory, at).map_err(|error| self.because(&error));
        if word(self.active_at)? == 0 && word(self.looking_at)? != 0 {
            return Err(NotWoken::Now);
        }
        let own_start = start_time(std::process::id()).unwrap_or(0);
        let request = read(offset_of!(IdleControl, request))?.wrapping_add(1);
        let closed_path = [path.as_bytes(), &[0]].concat();
        let at = |offset: usize| self.at + offset as u64;
        let writes: [(u64, &[u8]); 7] = [
            (at(offset_of!(IdleControl, path)), &closed_path),
            (at(offset_of!(IdleControl, refused)), &refusal::NONE.to_ne_bytes()),
            (at(offset_of!(IdleControl, recorder_start)), &own_start.to_ne_bytes()),
            (at(offset_of!(IdleControl, recorder_pid)), &std::process::id().to_ne_bytes()),
            (at(offset_of!(IdleControl, request)), &request.to_ne_bytes()),
            (self.looking_at, &0_u32.to_ne_bytes()),
            (self.active_at, &0_u32.to_ne_bytes()),
        ];
        for (at, bytes) in writes {
            memory.write_all_at(bytes, at).map_err(|error| self.because(&error))?;
        }
        Ok(())
    }

    /// Makes its hooks idle, and lets others wake it. What an earlier request has left to be done is not done.
    pub fn let_go(&self) {
        let let_go = || -> io::Result<()> {
            let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{}/mem", self.pid))?;
            let field = |offset: usize| self.at + offset as u64;
            if number_at(&memory, field(offset_of!(IdleControl, recorder_pid)))? != std::process::id() {
                return Ok(());
            }
            let active = number_at(&memory, self.active_at)?.to_ne_bytes();
            if active[0] & AT_WORK_BITS != 0 {
                // The epoch stays, so that hooks that are at work see that it is another word.
                memory.write_all_at(&[active[0] & !AT_WORK_BITS], self.active_at)?;
            }
            memory.write_all_at(&0_u32.to_ne_bytes(), field(offset_of!(IdleControl, recorder_pid)))
        };
        // It may have ended, or become another program.
        let _ = let_go();
    }

    /// Why it has refused the last request, if it has.
    pub fn refused(&self) -> Option<&'static str> {
        let memory = File::open(format!("/proc/{}/mem", self.pid)).ok()?;
        match number_at(&memory, self.at + offset_of!(IdleControl, refused) as u64).ok()? {
            refusal::BUSY => Some("a hook of an earlier recording does not come to its end"),
            refusal::NO_SESSION => Some("it could not open the session, or there was no room for one more process"),
            refusal::SANDBOX => Some("it has given up system calls (seccomp(2))"),
            _ => None,
        }
    }

    fn memory(&self) -> Result<File, NotWoken> {
        let opened = OpenOptions::new().read(true).write(true).open(format!("/proc/{}/mem", self.pid));
        opened.map_err(|error| self.because(&error))
    }

    fn because(&self, error: &io::Error) -> NotWoken {
        let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
        let scope = match scope.trim() {
            "" | "0" => String::new(),
            scope => format!("; kernel.yama.ptrace_scope is {scope}, so that only root may"),
        };
        NotWoken::Because(format!("its memory cannot be written to: {error}{scope}"))
    }
}

fn word_at(memory: &File, at: u64) -> io::Result<u64> {
    let mut bytes = [0; 8];
    memory.read_exact_at(&mut bytes, at)?;
    Ok(u64::from_ne_bytes(bytes))
}

fn number_at(memory: &File, at: u64) -> io::Result<u32> {
    let mut bytes = [0; 4];
    memory.read_exact_at(&mut bytes, at)?;
    Ok(u32::from_ne_bytes(bytes))
}
