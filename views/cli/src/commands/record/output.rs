//! The file that a recording goes to. What was there before is replaced only when the command really runs.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use pagetrace_format::Trace;

/// Where a trace goes.
pub struct Output {
    wanted: Option<PathBuf>,
    /// The file that is written; its name until the command runs.
    path: PathBuf,
    state: State,
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
                return Ok(Output { wanted: None, path: path.to_owned(), state: State::NoFile });
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
        Ok(Output { wanted: wanted.map(Path::to_owned), path, state: State::Temporary })
    }

    /// The file, for the recorder.
    pub fn writer(&mut self) -> anyhow::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600);
        if self.state == State::Temporary {
            options.create_new(true);
        }
        let shown = self.shown().display().to_string();
        options.open(&self.path).with_context(|| format!("failed to write page trace: cannot create {shown}"))
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

    /// Whether another file can take the place of the one that is written.
    pub fn may_be_replaced(&self) -> bool {
        self.state != State::NoFile
    }

    /// Whether the trace can be read back.
    pub fn is_file(&self) -> bool {
        self.state == State::InPlace
    }

    /// The recording is over; the file stays.
    pub fn done(&mut self) {
        if self.state == State::Temporary {
            self.state = State::InPlace;
        }
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
