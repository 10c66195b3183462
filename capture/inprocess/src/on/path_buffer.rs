//! A path that code can read which must not allocate.

use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::io;

/// PATH_MAX of Linux.
const BYTES: usize = 4096;

/// Set while nobody reads: by who starts a recording, before anybody writes to its file.
pub struct PathBuffer {
    bytes: UnsafeCell<[u8; BYTES]>,
    length: AtomicUsize,
}

// SAFETY: written only by `set`, whose caller holds the lock for switching a recording while none is going on; read only
// while one is.
unsafe impl Sync for PathBuffer {}

impl PathBuffer {
    /// Empty.
    pub const fn new() -> PathBuffer {
        PathBuffer { bytes: UnsafeCell::new([0; BYTES]), length: AtomicUsize::new(0) }
    }

    /// Takes a path, to be called as the type's documentation says.
    ///
    /// # Errors
    /// It is longer than the kernel takes.
    pub fn set(&self, path: &[u8]) -> io::Result<()> {
        if path.len() >= BYTES {
            return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
        }
        self.length.store(0, Ordering::Relaxed);
        // SAFETY: see the argument for `Sync`.
        let bytes = unsafe { &mut *self.bytes.get() };
        bytes[..path.len()].copy_from_slice(path);
        bytes[path.len()] = 0;
        self.length.store(path.len(), Ordering::Release);
        Ok(())
    }

    /// The path.
    pub fn get(&self) -> &[u8] {
        let length = self.length.load(Ordering::Acquire);
        // SAFETY: see the argument for `Sync`.
        unsafe { &(&*self.bytes.get())[..length] }
    }

    /// The same with its final zero.
    pub fn c_string(&self) -> Option<&CStr> {
        let length = self.length.load(Ordering::Acquire);
        // SAFETY: see the argument for `Sync`.
        CStr::from_bytes_with_nul(unsafe { &(&*self.bytes.get())[..=length] }).ok()
    }
}
