//! Files of /proc, without allocation and without a change of `errno` that matters: callers keep it.

use core::ffi::{CStr, c_int};

/// A file open for reading; closed when dropped.
#[derive(Debug)]
pub struct ReadFile(c_int);

impl ReadFile {
    /// Opens it, closed on exec. `None` if that fails.
    pub fn open(path: &CStr) -> Option<ReadFile> {
        // SAFETY: a valid C string (open(2)).
        let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
        (fd >= 0).then_some(ReadFile(fd))
    }

    /// Reads on from where it stands. `None` for an error, 0 at the end.
    pub fn read(&self, buffer: &mut [u8]) -> Option<usize> {
        // SAFETY: an open descriptor and a buffer of the length given (read(2)).
        retried(|| unsafe { libc::read(self.0, buffer.as_mut_ptr().cast(), buffer.len()) })
    }

    /// Reads from this offset in bytes. `None` for an error, 0 at the end.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Option<usize> {
        let offset = libc::off_t::try_from(offset).ok()?;
        // SAFETY: an open descriptor and a buffer of the length given (pread(2)).
        retried(|| unsafe { libc::pread(self.0, buffer.as_mut_ptr().cast(), buffer.len(), offset) })
    }

    /// Reads whole words from this offset in bytes. `None` for an error, 0 at the end.
    pub fn read_words_at(&self, words: &mut [u64], offset: u64) -> Option<usize> {
        let offset = libc::off_t::try_from(offset).ok()?;
        // SAFETY: an open descriptor and a buffer of the length given, in which any bits are valid (pread(2)).
        let bytes = retried(|| unsafe { libc::pread(self.0, words.as_mut_ptr().cast(), size_of_val(words), offset) })?;
        Some(bytes / size_of::<u64>())
    }

    pub(super) fn descriptor(&self) -> c_int {
        self.0
    }
}

impl Drop for ReadFile {
    fn drop(&mut self) {
        // SAFETY: the descriptor is this value's own and used no more.
        unsafe { libc::close(self.0) };
    }
}

/// Where a symbolic link leads to, written to the front of `buffer`: how many bytes. A longer one is cut. `None` if it
/// cannot be read.
pub fn read_link(path: &CStr, buffer: &mut [u8]) -> Option<usize> {
    // SAFETY: a valid C string and a buffer of the length given (readlink(2)).
    retried(|| unsafe { libc::readlink(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) })
}

/// Bytes of a page of the kernel's.
pub fn page_bytes() -> u64 {
    // SAFETY: reads a number of the auxiliary vector (getauxval(3)); every Linux gives this one.
    unsafe { libc::getauxval(libc::AT_PAGESZ) }
}

fn retried(mut call: impl FnMut() -> isize) -> Option<usize> {
    loop {
        let result = call();
        if let Ok(bytes) = usize::try_from(result) {
            return Some(bytes);
        }
        // SAFETY: errno is the calling thread's own.
        if unsafe { *libc::__errno_location() } != libc::EINTR {
            return None;
        }
    }
}
