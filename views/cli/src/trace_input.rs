//! The trace that a command was given: opened, told apart by its content, and as native bytes whatever it was.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, anyhow, bail};
use memmap2::{Mmap, UncheckedAdvice};
use pagetrace_format::go_execution_trace::GoTraceVersion;
use pagetrace_format::header::FILE_HEADER_BYTES;
use pagetrace_format::{FormatError, GoPageTrace, Trace, go_to_native};
use pagetrace_replay::go_heap::go_heap_to_native;

/// Smaller files are read: that is as fast as mapping them, and nobody can change what was read.
const MAP_FROM_BYTES: u64 = 64 << 20;

/// A trace in memory.
pub struct TraceInput {
    path: PathBuf,
    /// Those of the file.
    bytes: Bytes,
    /// What the file was converted to, where it is not native itself.
    native: Native,
}

/// The native form of a trace.
enum Native {
    /// The file has it.
    AsItIs,
    /// It was made when the file was opened.
    Made(Vec<u8>),
    /// It is made when it is asked for: an execution trace of Go is analysed as it is.
    WhenAsked(OnceLock<Vec<u8>>),
}

enum Bytes {
    Owned(Vec<u8>),
    Mapped(Mmap),
}

impl TraceInput {
    /// Opens a trace of any known format.
    ///
    /// # Errors
    /// Says what the file is instead, or why it cannot be read, and what to do.
    pub fn open(path: &Path) -> anyhow::Result<TraceInput> {
        let bytes = read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let native = native(&bytes).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(TraceInput { path: path.to_path_buf(), bytes, native })
    }

    /// The first bytes of a native trace that is being written, with more chunks behind them.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn prefix(path: &Path, bytes: u64, behind: &[u8]) -> anyhow::Result<TraceInput> {
        let read = || -> io::Result<Bytes> {
            let file = File::open(path)?;
            let found = file.metadata()?.len();
            if found < bytes {
                // Beyond the end of a mapped file is SIGBUS.
                let what =
                    format!("expected {bytes} bytes, found {found}: it was cut or replaced while it was written");
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
            }
            if bytes >= MAP_FROM_BYTES && behind.is_empty() {
                return Ok(Bytes::Mapped(map(&file, bytes)?));
            }
            let mut prefix = Vec::new();
            file.take(bytes).read_to_end(&mut prefix)?;
            prefix.extend_from_slice(behind);
            Ok(Bytes::Owned(prefix))
        };
        let bytes = read().with_context(|| format!("cannot read {}", path.display()))?;
        Ok(TraceInput { path: path.to_path_buf(), bytes, native: Native::AsItIs })
    }

    /// The trace itself.
    ///
    /// # Errors
    /// Where its header cannot be read.
    pub fn trace(&self) -> anyhow::Result<Trace<'_>> {
        Trace::open_in_steps(self.native_bytes()?, &mut |_| self.give_back_memory())
            .with_context(|| format!("cannot read {}", self.path.display()))
    }

    /// The trace in the native format: the file's own bytes, or what they were converted to.
    ///
    /// # Errors
    /// Where an execution trace of Go cannot be converted.
    pub fn native_bytes(&self) -> anyhow::Result<&[u8]> {
        match &self.native {
            Native::AsItIs => Ok(self.bytes.as_slice()),
            Native::Made(native) => Ok(native),
            Native::WhenAsked(native) => match native.get() {
                Some(native) => Ok(native),
                None => {
                    let made = go_heap_to_native(self.bytes.as_slice(), Vec::new());
                    let made = made.with_context(|| format!("cannot read {}", self.path.display()))?;
                    Ok(native.get_or_init(|| made))
                }
            },
        }
    }

    /// The file's bytes, where it is an execution trace of Go.
    pub fn go_execution_trace(&self) -> Option<&[u8]> {
        matches!(self.native, Native::WhenAsked(_)).then(|| self.bytes.as_slice())
    }

    /// Takes what has been read of a mapped trace out of memory. It may be read again: the file is still there.
    pub fn give_back_memory(&self) {
        if let Bytes::Mapped(map) = &self.bytes {
            // SAFETY: the mapping is of a file and nobody ever wrote to it, so that what comes back when it is next
            // touched are the file's bytes, as `map` argues. Its references stay valid.
            let advised = unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) };
            // Nothing depends on it but how much memory this takes.
            drop(advised);
        }
    }

    /// Where it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Owned(bytes) => bytes,
            Bytes::Mapped(map) => map,
        }
    }
}

fn read(path: &Path) -> anyhow::Result<Bytes> {
    let mut file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            anyhow!("there is no such file: check the name, or make one with `pagetrace record`")
        }
        io::ErrorKind::PermissionDenied => {
            anyhow!("permission denied: traces are readable by their owner alone; ask for it or use sudo")
        }
        _ => error.into(),
    })?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        bail!("expected a trace file, found a directory: name a file in it");
    }
    if metadata.is_file() && metadata.len() >= MAP_FROM_BYTES {
        return Ok(Bytes::Mapped(map(&file, metadata.len())?));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Bytes::Owned(bytes))
}

fn map(file: &File, length: u64) -> io::Result<Mmap> {
    let length = usize::try_from(length).map_err(io::Error::other)?;
    // SAFETY: the mapping is private to this process and only read. Its bytes must not change under the slice made
    // of it: whoever writes a trace only appends to it, and what is appended lies behind `length`, taken before;
    // `record` replaces a trace by unlinking the old one, which stays whole while it is mapped. Someone else who
    // truncates or rewrites the file meanwhile can at worst end this process by SIGBUS or give it bytes that the
    // checksums refuse: no reader keeps a reference across two looks at the same field.
    unsafe { memmap2::MmapOptions::new().len(length).map(file) }
}

fn native(bytes: &Bytes) -> anyhow::Result<Native> {
    let found = bytes.as_slice();
    if GoTraceVersion::looks_like(found) {
        GoTraceVersion::read(found)?;
        return Ok(Native::WhenAsked(OnceLock::new()));
    }
    if found.is_empty() {
        return Err(FormatError::Empty.into());
    }
    if GoPageTrace::looks_like(found) {
        let go = GoPageTrace::open(found)?;
        return Ok(Native::Made(go_to_native(&go, Vec::new())?));
    }
    // The file header is enough to know.
    match Trace::open(&found[..found.len().min(FILE_HEADER_BYTES)]) {
        Err(FormatError::Foreign { expected, found }) => bail!(
            "not a trace: expected a recording, which starts with {expected}, a page trace of Go 1.20 to 1.22, or an \
             execution trace of Go 1.23 or later; found {found}. Check the file name, or record one with `pagetrace record`"
        ),
        opened => opened.map(drop)?,
    }
    Ok(Native::AsItIs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_longer_than_its_file_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("trace");
        let file = File::create(&path).expect("a file");
        file.set_len(MAP_FROM_BYTES).expect("a sparse file");
        assert!(TraceInput::prefix(&path, MAP_FROM_BYTES, &[]).is_ok());
        for bytes in [MAP_FROM_BYTES + 1, 2 * MAP_FROM_BYTES] {
            let refused = TraceInput::prefix(&path, bytes, &[]).err().expect("it is shorter");
            assert!(format!("{refused:#}").contains("replaced"), "{refused:#}");
        }
    }
}
