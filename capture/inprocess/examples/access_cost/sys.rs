//! Memory of the program's own to write to.

/// New zeroed private memory.
pub fn map(bytes: usize) -> usize {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    assert_ne!(base, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
    base as usize
}

/// Writes a byte there.
pub fn write(address: usize, byte: u8) {
    // SAFETY: within a mapping of `map` that is never unmapped; no references into it exist.
    unsafe { (address as *mut u8).write_volatile(byte) };
}
