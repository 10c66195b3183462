//! The directory `/proc/PID` held open, so that files read later are of the same process even if its pid was reused.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

use crate::error::KernelError;

/// `/proc/PID` of one process. It survives the process, and then only gives [`KernelError::Gone`].
#[derive(Debug)]
pub struct ProcessDir {
    pid: u32,
    fd: OwnedFd,
}

impl ProcessDir {
    /// Opens the directory of a process.
    ///
    /// # Errors
    /// [`KernelError::Gone`] where there is no such process.
    pub fn open(pid: u32) -> Result<ProcessDir, KernelError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty()) {
            Ok(fd) => Ok(ProcessDir { pid, fd }),
            Err(errno) => Err(KernelError::of(pid, "", errno.into())),
        }
    }

    /// The pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Opens a file of the directory.
    ///
    /// # Errors
    /// [`KernelError::Gone`] if the process has ended, [`KernelError::Denied`] where the kernel refuses.
    pub fn file(&self, name: &str) -> Result<File, KernelError> {
        self.try_file(name).map_err(|source| KernelError::of(self.pid, name, source))
    }

    /// The same with the kernel's own error, for files that not every kernel has.
    pub(crate) fn try_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&self.fd, name, flags, Mode::empty())?))
    }

    /// Reads a whole file of the directory.
    ///
    /// # Errors
    /// As [`ProcessDir::file`].
    pub fn read(&self, name: &str) -> Result<Vec<u8>, KernelError> {
        let mut file = self.file(name)?;
        let mut bytes = Vec::with_capacity(4096);
        match file.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(source) => Err(KernelError::of(self.pid, name, source)),
        }
    }

    /// Names of a folder of the directory that are numbers: the tids of `task`.
    ///
    /// # Errors
    /// As [`ProcessDir::file`].
    pub fn numbers(&self, folder: &str) -> Result<Vec<u32>, KernelError> {
        let error = |errno: rustix::io::Errno| KernelError::of(self.pid, folder, errno.into());
        let dir = rustix::fs::Dir::new(self.file(folder)?).map_err(error)?;
        let mut numbers = Vec::new();
        for entry in dir {
            let entry = entry.map_err(error)?;
            numbers.extend(entry.file_name().to_str().ok().and_then(|name| name.parse::<u32>().ok()));
        }
        Ok(numbers)
    }

    /// The target of a link of the directory, such as `exe`.
    ///
    /// # Errors
    /// As [`ProcessDir::file`].
    pub fn link(&self, name: &str) -> Result<PathBuf, KernelError> {
        match rustix::fs::readlinkat(&self.fd, name, Vec::new()) {
            Ok(target) => Ok(PathBuf::from(String::from_utf8_lossy(target.as_bytes()).into_owned())),
            Err(errno) => Err(KernelError::of(self.pid, name, errno.into())),
        }
    }
}
