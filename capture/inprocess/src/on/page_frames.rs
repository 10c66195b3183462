//! The physical frame of a page, where the kernel tells (proc(5), pagemap; the kernel's
//! Documentation/admin-guide/mm/pagemap.rst): it says the frame's number to those with CAP_SYS_ADMIN, zero to others.
//!
//! A frame belongs to a page until the kernel moves it, swaps it out or copies it after a fork: only for locked pages is
//! the answer still true a moment later.

use crate::objects::{FrameError, PageFrame};
use crate::sys;

const PRESENT: u64 = 1 << 63;
const FRAME_MASK: u64 = (1 << 55) - 1;
const ENTRY_BYTES: usize = size_of::<u64>();

/// The frame of the page in which the address lies, at this moment. Opens a file each time: some microseconds.
///
/// # Errors
/// See [`FrameError`].
pub fn frame_of(address: usize) -> Result<PageFrame, FrameError> {
    let offset = (address / sys::PAGE_BYTES * ENTRY_BYTES) as u64;
    let mut entry = [0; ENTRY_BYTES];
    match sys::keeping_errno(|| sys::read_file_at(c"/proc/self/pagemap", offset, &mut entry)) {
        Ok(ENTRY_BYTES) => frame_in(u64::from_le_bytes(entry)),
        // The file ends where a user's addresses do.
        Ok(_) => Err(FrameError::NotResident),
        // A process that is not dumpable may not open it.
        Err(libc::EPERM | libc::EACCES) => Err(FrameError::NotPermitted),
        Err(errno) => Err(FrameError::Unavailable(errno)),
    }
}

fn frame_in(entry: u64) -> Result<PageFrame, FrameError> {
    match (entry & PRESENT != 0, entry & FRAME_MASK) {
        (false, _) => Err(FrameError::NotResident),
        // Frame 0 holds the firmware's tables on x86: it is never a program's.
        (true, 0) => Err(FrameError::NotPermitted),
        (true, frame) => Ok(PageFrame(frame)),
    }
}

#[cfg(test)]
mod tests;
