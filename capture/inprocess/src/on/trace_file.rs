//! The file of a program that writes its trace itself. All processes of the recording append whole chunks to it.
//!
//! The program may close descriptors that it does not know, and give their numbers to files of its own: so before each
//! use it is looked at what the number stands for, and the file is opened again by its name if need be.

use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pagetrace_format::header::FILE_MAGIC;
use pagetrace_format::session::FileState;

use super::path_buffer::PathBuffer;
use super::process::PROCESS;
use crate::error::Error;
use crate::sys;

static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);
static PATH: PathBuffer = PathBuffer::new();
static REPORTED: AtomicBool = AtomicBool::new(false);

/// The bits of a word that a page trace of Go starts with, the P that its first buffer belongs to.
const GO_FIRST_BITS: (u64, u64) = (0b111, 0b100);

/// Makes the file, or takes over a trace that is there.
///
/// # Errors
/// [`Error::Create`], [`Error::NotATrace`].
pub fn create(path: &Path, state: &FileState) -> Result<(), Error> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut chosen = absolute.clone();
    let mut descriptor = open(&chosen)?;
    if !sys::lock_file(descriptor) {
        sys::close(descriptor);
        let mut name = absolute.into_os_string();
        name.push(format!(".{}", std::process::id()));
        chosen = PathBuf::from(name);
        descriptor = open(&chosen)?;
        sys::lock_file(descriptor);
    }
    let taken = take_over(descriptor, &chosen).and_then(|()| {
        let failed = |source| Error::Create { path: chosen.clone(), source };
        let high = sys::move_descriptor_up(descriptor);
        let found = sys::file_identity(high).map_err(failed)?;
        PATH.set(chosen.as_os_str().as_bytes()).map_err(failed)?;
        Ok((high, found))
    });
    match taken {
        Ok((high, (device, inode))) => {
            state.device.store(device, Ordering::Relaxed);
            state.inode.store(inode, Ordering::Relaxed);
            state.bytes.store(0, Ordering::Relaxed);
            state.errno.store(0, Ordering::Relaxed);
            state.ended.store(0, Ordering::Relaxed);
            REPORTED.store(false, Ordering::Relaxed);
            DESCRIPTOR.store(high, Ordering::Release);
            Ok(())
        }
        Err(error) => {
            sys::close(descriptor);
            Err(error)
        }
    }
}

/// Appends `bytes`. After a failure, which is reported once on standard error, nothing more is written.
pub fn append(bytes: &[u8]) -> bool {
    let Some(session) = PROCESS.session() else { return false };
    let state = &session.header().file;
    if state.errno.load(Ordering::Relaxed) != 0 {
        return false;
    }
    let result = descriptor_of(state).and_then(|descriptor| sys::write_all(descriptor, bytes));
    match result {
        Ok(()) => {
            state.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            true
        }
        Err(errno) => {
            state.errno.store(errno as u32, Ordering::Relaxed);
            report(errno);
            // Hooks of the other processes find out when they need a block.
            session.header().recording.store(0, Ordering::Relaxed);
            PROCESS.become_idle();
            false
        }
    }
}

/// A file that was removed, or replaced by another, takes all that was written with it: that is an error, too.
pub fn check_that_it_is_there() {
    let Some(session) = PROCESS.session() else { return };
    let (state, descriptor) = (&session.header().file, DESCRIPTOR.load(Ordering::Acquire));
    if state.errno.load(Ordering::Relaxed) == 0 && is_ours(descriptor, state) && sys::is_removed(descriptor) {
        state.errno.store(libc::ENOENT as u32, Ordering::Relaxed);
        report(libc::ENOENT);
    }
}

/// The error that ended the writing.
pub fn failure() -> Option<Error> {
    let errno = PROCESS.session()?.header().file.errno.load(Ordering::Relaxed);
    (errno != 0).then(|| Error::Write {
        path: PathBuf::from(std::ffi::OsStr::from_bytes(PATH.get())),
        source: io::Error::from_raw_os_error(errno as i32),
    })
}

/// Closes the file in this process.
pub fn close() {
    let descriptor = DESCRIPTOR.swap(-1, Ordering::AcqRel);
    let known = PROCESS.session().map(|session| &session.header().file);
    if known.is_some_and(|state| is_ours(descriptor, state)) {
        sys::close(descriptor);
    }
}

/// Says on standard error what has failed.
pub fn report(errno: i32) {
    if !REPORTED.swap(true, Ordering::Relaxed) {
        sys::print_error(&[b"pagetrace: failed to write page trace: ", PATH.get(), b": "], errno);
    }
}

fn open(path: &Path) -> Result<i32, Error> {
    let failed = |source| Error::Create { path: path.to_owned(), source };
    let text = CString::new(path.as_os_str().as_bytes()).map_err(|error| failed(error.into()))?;
    sys::open_for_trace(&text).map_err(failed)
}

/// Empties a trace; refuses another file that is not empty. What is no regular file is taken as it is.
fn take_over(descriptor: i32, path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Create { path: path.to_owned(), source };
    if !sys::is_regular(descriptor).map_err(failed)? {
        return Ok(());
    }
    let mut start = [0; 8];
    match sys::read_at(descriptor, &mut start, 0).map_err(failed)? {
        0 => return Ok(()),
        8 if start == FILE_MAGIC => {}
        8 if u64::from_le_bytes(start) & GO_FIRST_BITS.0 == GO_FIRST_BITS.1 => {}
        _ => return Err(Error::NotATrace(path.to_owned())),
    }
    sys::truncate(descriptor).map_err(failed)
}

fn is_ours(descriptor: i32, state: &FileState) -> bool {
    let known = (state.device.load(Ordering::Relaxed), state.inode.load(Ordering::Relaxed));
    descriptor >= 0 && sys::file_identity(descriptor).is_ok_and(|found| found == known)
}

fn descriptor_of(state: &FileState) -> Result<i32, i32> {
    let descriptor = DESCRIPTOR.load(Ordering::Acquire);
    if is_ours(descriptor, state) {
        return Ok(descriptor);
    }
    let again = PATH.c_string().ok_or(libc::EBADF).and_then(sys::open_again)?;
    if !is_ours(again, state) {
        sys::close(again);
        return Err(libc::EBADF);
    }
    let again = sys::move_descriptor_up(again);
    DESCRIPTOR.store(again, Ordering::Release);
    Ok(again)
}
