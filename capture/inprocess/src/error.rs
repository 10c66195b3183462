//! What can go wrong.

use core::fmt;
use std::io;
use std::path::PathBuf;

/// Why the tracer did not do what it was asked to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Recording was started before, perhaps by the environment.
    AlreadyInitialized,
    /// There is no recording: it was not started, or has been finished.
    NotInitialized,
    /// An option in the environment that is unknown, or a value that cannot be.
    Option {
        /// The option as it was given.
        given: String,
        /// What can stand there.
        expected: &'static str,
    },
    /// A file that is not a trace stands in the way.
    NotATrace(PathBuf),
    /// The file cannot be created or opened.
    Create {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A write to the file failed. Nothing is written after it.
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel has no memory for buffers, or does not change their protection.
    Memory(io::Error),
    /// The flusher's thread could not be started.
    Thread(io::Error),
    /// A thread stood still inside a hook, so the buffers' memory could not be given back.
    Busy,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::AlreadyInitialized => f.write_str("the page trace is being recorded already: reset it first"),
            Error::NotInitialized => f.write_str("no page trace is being recorded: init starts one"),
            Error::Option { given, expected } => write!(f, "page trace option `{given}`: expected {expected}"),
            Error::NotATrace(path) => write!(
                f,
                "{}: expected a new name or a trace to replace, found another file; name another",
                path.display()
            ),
            Error::Create { path, source } => write!(f, "failed to create page trace: {}: {source}", path.display()),
            Error::Write { path, source } => write!(f, "failed to write page trace: {}: {source}", path.display()),
            Error::Memory(source) => write!(f, "no memory for the page trace's buffers: {source}"),
            Error::Thread(source) => write!(f, "the page trace's flusher could not be started: {source}"),
            Error::Busy => f.write_str("a thread stood still inside a hook: recording is off, its memory stays"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Create { source, .. } | Error::Write { source, .. } => Some(source),
            Error::Memory(source) | Error::Thread(source) => Some(source),
            _ => None,
        }
    }
}
