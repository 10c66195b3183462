//! The file that a recording goes to. What was there before is replaced only when the command really runs.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};
use pagetrace_format::Trace;

use super::pipe;

/// Where a trace goes.
pub struct Output {
    wanted: Option<PathBuf>,
    /// The file that is written; its name until the command runs.
    path: PathBuf,
    state: State,
    written: WrittenFile,
}

/// A second descriptor of the file that is written, to see whether what has its name is still that.
#[derive(Clone, Debug, Default)]
pub struct WrittenFile(Arc<Mutex<Option<File>>>);

impl WrittenFile {
    /// Another file is written now.
    pub fn set(&self, file: Option<File>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = file;
    }

    /// Where it is, `path` being where it should be. What is no file of its own, or is not known, is where it should be.
    pub fn place(&self, path: &Path) -> Place {
        let file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(written) = file.as_ref().and_then(|file| file.metadata().ok()) else { return Place::Named };
        let is_written = |found: &fs::Metadata| (found.dev(), found.ino()) == (written.dev(), written.ino());
        match fs::metadata(path) {
            Ok(found) if is_written(&found) => Place::Named,
            _ if written.nlink() == 0 => Place::Lost,
            _ => Place::Elsewhere,
        }
    }
}

/// Where the trace is when the recording is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where it was to be.
    Named,
    /// In a file that has another name now, or can be reached from elsewhere only.
    Elsewhere,
    /// Nowhere: the file was removed, or something else was put in its place.
    Lost,
}

impl Place {
    /// What a person must be told, `None` where all is well.
    pub fn loss(self) -> Option<&'static str> {
        match self {
            Place::Named => None,
            Place::Elsewhere => Some("it was moved while it was written, and is whole where it is now"),
            Place::Lost => Some("the file was removed or replaced while it was written, so the trace is gone"),
        }
    }
}

#[derive(PartialEq, Eq)]
enum State {
    /// A temporary file beside the wanted one.
    Temporary,
    /// The file under its own name.
    InPlace,
    /// A device or a pipe.
    NoFile,
}

impl Output {
    /// Checks that the wanted file may be written.
    pub fn create(wanted: Option<&Path>) -> anyhow::Result<Output> {
        if let Some(path) = wanted
            && let Ok(found) = fs::metadata(path)
        {
            if found.is_dir() {
                bail!("{}: expected a file to write the trace to, found a directory", path.display());
            }
            let kind = found.file_type();
            if kind.is_char_device() || kind.is_fifo() || kind.is_block_device() || kind.is_socket() {
                return Ok(Output {
                    wanted: None,
                    path: path.to_owned(),
                    state: State::NoFile,
                    written: WrittenFile::default(),
                });
            }
            if found.len() > 0 && !is_trace(path)? {
                bail!(
                    "{}: expected a trace to replace or no file, found a file that is no trace; it is left as it is. \
                     Choose another name with -o, or remove it",
                    path.display()
                );
            }
        }
        // A link stays one, be it /dev/stdout: what it leads to is replaced.
        let target = wanted.filter(|path| path.is_symlink()).and_then(|path| path.canonicalize().ok());
        let wanted = target.as_deref().or(wanted);
        let beside = wanted.and_then(Path::parent).filter(|parent| !parent.as_os_str().is_empty());
        let path = beside.unwrap_or(Path::new(".")).join(format!(".pagetrace-{}.tmp", std::process::id()));
        Ok(Output {
            wanted: wanted.map(Path::to_owned),
            path,
            state: State::Temporary,
            written: WrittenFile::default(),
        })
    }

    /// The file, for the recorder. A pipe may wait for its reader; whether an end is `asked` for is looked at meanwhile.
    pub fn writer(&mut self, asked: impl FnMut() -> bool) -> anyhow::Result<File> {
        if self.state == State::NoFile && fs::metadata(&self.path).is_ok_and(|found| found.file_type().is_fifo()) {
            let opened = pipe::open_for_writing(&self.path, asked);
            return opened.with_context(|| format!("failed to write page trace: {}", self.path.display()));
        }
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600);
        if self.state == State::Temporary {
            options.create_new(true);
        }
        let shown = self.shown().display().to_string();
        let file =
            options.open(&self.path).with_context(|| format!("failed to write page trace: cannot create {shown}"))?;
        self.written.set(if self.state == State::Temporary { file.try_clone().ok() } else { None });
        Ok(file)
    }

    /// The command runs: the trace takes its place.
    pub fn command_runs(&mut self, command: &Path, pid: u32) {
        if self.state != State::Temporary {
            return;
        }
        let name = command.file_name().map_or_else(|| "trace".into(), |name| name.to_string_lossy().into_owned());
        let wanted = self.wanted.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.{pid}.pagetrace")));
        if fs::rename(&self.path, &wanted).is_ok() {
            self.path = wanted;
        }
        self.state = State::InPlace;
    }

    /// The name to show to a person.
    pub fn shown(&self) -> &Path {
        match (&self.state, &self.wanted) {
            (State::Temporary, Some(wanted)) => wanted,
            _ => &self.path,
        }
    }

    /// The file that is written, for who puts another in its place.
    pub fn written(&self) -> WrittenFile {
        self.written.clone()
    }

    /// Whether another file can take the place of the one that is written.
    pub fn may_be_replaced(&self) -> bool {
        self.state != State::NoFile
    }

    /// Whether the trace can be read back.
    pub fn is_file(&self) -> bool {
        self.state == State::InPlace
    }

    /// The recording is over; the file stays. Where it is now.
    pub fn done(&mut self) -> Place {
        if self.state == State::Temporary {
            self.state = State::InPlace;
        }
        self.written.place(&self.path)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.state == State::Temporary {
            // The command never ran; there may be no file either.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn is_trace(path: &Path) -> anyhow::Result<bool> {
    let mut start = Vec::new();
    let file = File::open(path).with_context(|| format!("cannot look at {}", path.display()))?;
    file.take(8).read_to_end(&mut start).with_context(|| format!("cannot look at {}", path.display()))?;
    Ok(Trace::is_trace(&start))
}
