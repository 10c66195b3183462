//! Whether writes can be tracked here: tried on a page of this process's own.

use std::hint::black_box;
use std::io;
use std::os::fd::OwnedFd;

use super::protection::{HowFound, WriteProtection};
use super::sys;
use crate::sys::open_userfaultfd;

const PROBED_PAGES: usize = 8;

/// Arms memory of this process, writes to one page of it, and sees whether that one is found and no other.
///
/// # Errors
/// A sentence that says what was refused or wrong.
pub fn probe() -> Result<(), String> {
    let userfaultfd = own_descriptor().map_err(|error| format!("{error}{}", setting()))?;
    let page_bytes = rustix::param::page_size();
    let mut memory = vec![1_u8; page_bytes * (PROBED_PAGES + 1)];
    let first = memory.as_ptr().align_offset(page_bytes);
    let page = |memory: &[u8], index: usize| (memory.as_ptr() as usize + first + index * page_bytes) / page_bytes;
    let mut protection =
        WriteProtection::of(std::process::id(), userfaultfd, &[]).map_err(|error| error.to_string())?;
    memory[first + 3 * page_bytes] = 2;
    black_box(&mut memory);
    let look = protection.look().map_err(|error| error.to_string())?;
    let is_found = |index: usize| {
        let page = page(&memory, index) as u64;
        let runs = look.found.iter().filter(|run| run.how == HowFound::Armed);
        runs.map(|run| run.range).any(|range| range.first.0 <= page && page < range.first.0 + range.pages.0)
    };
    match (0..PROBED_PAGES).filter(|&index| is_found(index)).collect::<Vec<_>>()[..] {
        [3] => Ok(()),
        ref found => Err(format!("of {PROBED_PAGES} pages the fourth was written, found were {found:?}")),
    }
}

/// A descriptor for this process's own memory, as programs offer theirs.
///
/// # Errors
/// What the kernel refuses: userfaultfd(2), or asynchronous write protection before Linux 6.7.
pub fn own_descriptor() -> io::Result<OwnedFd> {
    let refused = |what: &str, error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"));
    let userfaultfd = open_userfaultfd().map_err(|error| refused("userfaultfd", error))?;
    prepare(&userfaultfd).map_err(|error| refused("asynchronous write protection", error))?;
    Ok(userfaultfd)
}

/// Asks a new descriptor, of whatever process, for what is needed.
///
/// # Errors
/// What the kernel refuses: asynchronous write protection before Linux 6.7.
pub fn prepare(userfaultfd: &OwnedFd) -> io::Result<()> {
    sys::ask_for_async_protection(userfaultfd)
}

fn setting() -> String {
    let allowed = std::fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd").unwrap_or_default();
    match allowed.trim() {
        "" => String::new(),
        level => format!("; vm.unprivileged_userfaultfd is {level}"),
    }
}
