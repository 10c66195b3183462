//! The one error of this crate.

use std::io;

/// Why a trace could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The file has no bytes.
    #[error(
        "the file is empty: expected a trace. If a recording made it, the recorder was killed before its first write; record again"
    )]
    Empty,
    /// The file starts with something else.
    #[error("not a trace: expected {expected} at offset 0, found {found}")]
    Foreign {
        /// What a trace starts with.
        expected: &'static str,
        /// The first bytes of the file.
        found: String,
    },
    /// The file header is cut or damaged.
    #[error("the file header is damaged: {0}. Nothing can be read without it; record again")]
    Header(String),
    /// A later version wrote this trace.
    #[error("the trace has format version {found}, this program reads versions up to {known}: use a newer pagetrace")]
    Newer {
        /// The version of the file.
        found: u32,
        /// The last version known here.
        known: u32,
    },
    /// A payload does not hold what its header says.
    #[error("damaged payload: {0}")]
    Payload(&'static str),
    /// An execution trace of Go that cannot be read, with where and why.
    #[error("cannot be read as a Go execution trace at offset {offset}: {what}")]
    GoExecutionTrace {
        /// Where in the file, bytes.
        offset: u64,
        /// What was expected, what was found, what to do.
        what: String,
    },
    /// A payload that would be larger than the format allows.
    #[error("a payload of {0} bytes is more than the format's limit of 16 MiB")]
    TooLarge(usize),
    /// The trace cannot be written in the wanted format.
    #[error("cannot be written as {format}: {why}")]
    CannotConvert {
        /// The format that was asked for.
        format: &'static str,
        /// What does not fit.
        why: String,
    },
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}
