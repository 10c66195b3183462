//! Where an export goes: to standard output, or to a file that is replaced only when all of it was written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, bail};
use tempfile::NamedTempFile;

/// What every failed write of a trace says.
const FAILED: &str = "failed to write page trace";

/// Calls `write` with the output: the file at `path`, or standard output without one. A file that was there stays as
/// it was unless `write` succeeds. `input` is what is read meanwhile and never replaced.
///
/// # Errors
/// What `write` gives, and what the output gives, as a failed write.
pub fn write_output(
    path: Option<&Path>,
    input: &Path,
    write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Some(path) = path else {
        // The lock's own buffer would flush at every line.
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned().context(FAILED)?);
        return write_all(stdout, write).map(drop);
    };
    let existing = fs::metadata(path).ok();
    let source = fs::metadata(input).ok();
    if let (Some(existing), Some(source)) = (&existing, &source)
        && (existing.dev(), existing.ino()) == (source.dev(), source.ino())
    {
        bail!("{FAILED}: {} is the trace that is read; name another file with -o", path.display());
    }
    match existing {
        // A device or a pipe holds nothing that could be lost, and cannot be renamed over.
        Some(existing) if !existing.is_file() => {
            let file = OpenOptions::new().write(true).open(path).with_context(|| failed(path))?;
            write_all(file, write).map(drop)
        }
        _ => replace(path, write),
    }
}

fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>) -> anyhow::Result<()> {
    // Through a link to the file it points to, so that the link stays.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = NamedTempFile::new_in(directory).with_context(|| failed(path))?;
    let file = write_all(file, write)?;
    file.as_file().sync_all().with_context(|| failed(path))?;
    file.persist(&target).map_err(|error| error.error).with_context(|| failed(path))?;
    Ok(())
}

fn write_all<W: Write>(out: W, write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>) -> anyhow::Result<W> {
    let mut out = BufWriter::with_capacity(1 << 16, out);
    let written = write(&mut out).and_then(|()| Ok(out.flush()?));
    match written {
        Ok(()) => Ok(out.into_inner().map_err(io::IntoInnerError::into_error).context(FAILED)?),
        Err(error) => {
            // Otherwise dropping it would try to write once more.
            drop(out.into_parts());
            if error.downcast_ref::<io::Error>().is_some() { Err(error.context(FAILED)) } else { Err(error) }
        }
    }
}

fn failed(path: &Path) -> String {
    format!("{FAILED}: {}", path.display())
}
