//! The numbers that the kernel gave to the tracepoints that are used, which change from boot to boot.
//!
//! Root reads them in tracefs. Everyone else may open the tracepoints of single system calls, but not read their
//! numbers: see `marker_search`.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};

use super::sys;
use super::traced_calls::TRACED;

/// The tracepoints of system calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallTracepoints {
    /// Those that all calls pass. They tell only who may see the kernel anything.
    All(EnterExit),
    /// One pair a call of [`TRACED`], `None` where the kernel has no such.
    Each(Vec<Option<EnterExit>>),
}

/// The numbers of the tracepoints at a call's begin and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnterExit {
    /// At its begin.
    pub enter: u32,
    /// At its end.
    pub exit: u32,
}

/// What root can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelTracepoints {
    /// System calls.
    pub calls: CallTracepoints,
    /// `exceptions:page_fault_kernel`; not every architecture has it.
    pub kernel_fault: Option<u32>,
}

impl KernelTracepoints {
    /// Reads them in tracefs, which need not be mounted.
    ///
    /// # Errors
    /// EACCES or EPERM but for root; ENOENT where the kernel has no tracepoints of system calls.
    pub fn read() -> io::Result<KernelTracepoints> {
        let tracefs = open_tracefs()?;
        let id = |name: &str| sys::number_in(&tracefs, &format!("events/{name}/id"));
        let all = EnterExit { enter: id("raw_syscalls/sys_enter")?, exit: id("raw_syscalls/sys_exit")? };
        let kernel_fault = id("exceptions/page_fault_kernel").ok();
        Ok(KernelTracepoints { calls: CallTracepoints::All(all), kernel_fault })
    }
}

/// The tracepoints of each traced call as tracefs has them: what a search must find.
///
/// # Errors
/// As [`KernelTracepoints::read`].
#[cfg(test)]
pub fn read_each() -> io::Result<Vec<Option<EnterExit>>> {
    let tracefs = open_tracefs()?;
    let id = |way: &str, name: &str| sys::number_in(&tracefs, &format!("events/syscalls/sys_{way}_{name}/id")).ok();
    let each =
        TRACED.iter().map(|call| Some(EnterExit { enter: id("enter", call.name)?, exit: id("exit", call.name)? }));
    Ok(each.collect())
}

fn open_tracefs() -> io::Result<OwnedFd> {
    for path in ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"] {
        let opened = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        if let Ok(directory) = opened
            && sys::number_in(&directory, "events/raw_syscalls/sys_enter/id").is_ok()
        {
            return Ok(directory);
        }
    }
    sys::unseen_tracefs()
}

/// As many numbers as there are traced calls, or none: what a cache or a search gave.
pub fn all_needed(each: &[Option<EnterExit>], needed: usize) -> bool {
    each.len() == TRACED.len() && each.iter().take(needed).all(Option::is_some)
}
