//! What the kernel is asked for, and access to what it gave.

use std::io;
use std::ptr;

use crate::{Block, PAGE_BYTES};

/// Reserves zeroed memory, aligned to [`PAGE_BYTES`]. The kernel puts pages behind it as they are touched.
pub fn reserve(bytes: usize) -> io::Result<usize> {
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    // One page more, since mmap(2) aligns to the kernel's pages only.
    // SAFETY: an anonymous mapping at an address that the kernel chooses touches no memory of ours.
    let mapped = unsafe { libc::mmap(ptr::null_mut(), bytes + PAGE_BYTES, protection, flags, -1, 0) };
    if mapped == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok((mapped as usize).next_multiple_of(PAGE_BYTES))
}

/// Gives pages back to the kernel (madvise(2), MADV_DONTNEED); they read as zero afterwards. Whether it took them.
///
/// The caller has reserved them, and no [`Block`] lies on them.
pub fn give_back(address: usize, bytes: usize) -> bool {
    // SAFETY: the pages are in a region of this crate, and free: nobody has a reference into them.
    unsafe { libc::madvise(address as *mut libc::c_void, bytes, libc::MADV_DONTNEED) == 0 }
}

impl Block {
    /// Its memory, zeroed when it was never used before.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: a block is made by `Allocator::alloc` alone, of memory in a region that is never unmapped and that no
        // other block has. It is not copied, and a borrowed one cannot be given back.
        unsafe { std::slice::from_raw_parts_mut(self.address as *mut u8, self.bytes) }
    }
}
