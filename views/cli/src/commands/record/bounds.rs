//! `--max-size` and `--keep-last`: what they may be, and the shorter trace that takes the place of the one being written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use pagetrace_format::{Chunk, FormatError, Trace, TraceNanos};
use pagetrace_kernel::recorder::{Bounds, CutError, CutOrder, Shortened, Shortener};
use pagetrace_replay::compact;

use super::durations::keep_last;
use super::output::{Place, WrittenFile};
use super::sizes::bytes;
use crate::trace_input::TraceInput;

/// With less there would be no room for what programs hold beside what happens.
const MAX_SIZE_LEAST: u64 = 1 << 20;
/// Events after the cut take one in so many of the bytes that the shorter trace may have.
const EVENTS_ONE_IN: u64 = 3;
const NOT_THERE: &str = "the trace is not where it was written any more";

/// Options of `record` that bound the trace.
#[derive(clap::Args)]
pub struct BoundsArgs {
    /// The recording never takes more disk: what is oldest goes, and a checkpoint of what lives then stays. Such as 500M or
    /// 2GiB; K, M and G are 1000s, KiB, MiB and GiB 1024s; at least 1MiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<u64>,
    /// Keep at least so much of the end, and not much more than twice that, such as 30s, 10m or 2h; at least 1s
    #[arg(long, value_name = "DURATION", value_parser = keep_last)]
    keep_last: Option<Duration>,
}

impl BoundsArgs {
    /// The bounds, `None` where there are none.
    pub fn bounds(&self) -> Option<Bounds> {
        let bounds = Bounds { max_bytes: self.max_size, keep_last: self.keep_last };
        (bounds.max_bytes.is_some() || bounds.keep_last.is_some()).then_some(bounds)
    }

    /// Buffers as large as asked for, but no larger than a small trace can take at once: what is in them comes to about a
    /// fourteenth of their size in the trace.
    pub fn buffer_bytes(&self, asked: usize) -> usize {
        let most = self.max_size.map_or(usize::MAX, |max| usize::try_from(max.saturating_mul(2)).unwrap_or(usize::MAX));
        asked.min(most)
    }
}

fn size(text: &str) -> Result<u64, String> {
    let bytes = bytes(text, "500M or 2GiB")?;
    if bytes < MAX_SIZE_LEAST {
        return Err(format!("expected at least 1MiB (1048576 bytes), found {bytes} bytes: choose a larger size"));
    }
    Ok(bytes)
}

/// Makes the shorter trace beside the one that is written.
#[derive(Debug)]
pub struct Compactor {
    trace: PathBuf,
    temporary: PathBuf,
    written: WrittenFile,
    /// The shorter trace, until it is in place.
    made: Option<File>,
}

impl Compactor {
    /// For the trace at this path, which is `written`.
    pub fn new(trace: &Path, written: WrittenFile) -> Compactor {
        let beside = trace.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let temporary = beside.join(format!(".pagetrace-{}.cut.tmp", std::process::id()));
        Compactor { trace: trace.to_owned(), temporary, written, made: None }
    }

    fn try_to_shorten(&mut self, order: &CutOrder) -> anyhow::Result<Result<Shortened<File>, CutError>> {
        let input = TraceInput::prefix(&self.trace, order.written, &order.behind)?;
        // After it was opened: what is mapped must be nobody else's, who might cut it.
        if self.written.place(&self.trace) != Place::Named {
            bail!(NOT_THERE);
        }
        let trace = input.trace()?;
        // Where that is too large still, as much goes as may.
        let is_new = |chunk: &&Chunk| chunk.header.last >= order.complete_until;
        let new_bytes =
            trace.chunks().iter().filter(is_new).map(|chunk| u64::from(chunk.header.stored_bytes)).sum::<u64>();
        if order.budget.is_some_and(|budget| new_bytes > budget / EVENTS_ONE_IN) {
            return Ok(Err(CutError::TooEarly));
        }
        let wanted = cut_at(&trace, order);
        let mut cuts = vec![wanted, order.complete_until];
        cuts.dedup();
        for at in cuts {
            // One that was left by a recorder that was killed is nobody's any more.
            let _ = fs::remove_file(&self.temporary);
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.temporary)?;
            self.made = file.try_clone().ok();
            let out = Budgeted { file, left: order.budget.unwrap_or(u64::MAX) };
            match compact(&trace, at, out) {
                Ok(writer) => {
                    let end = writer.end();
                    return Ok(Ok(Shortened { out: writer.into_inner()?.file, end, cut_at: at }));
                }
                Err(FormatError::Io(error)) if error.kind() == io::ErrorKind::FileTooLarge => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Err(CutError::OverBudget))
    }
}

impl Shortener<File> for Compactor {
    fn shorten(&mut self, order: &CutOrder) -> Result<Shortened<File>, CutError> {
        let made = self.try_to_shorten(order).unwrap_or_else(|error| Err(CutError::Failed(format!("{error:#}"))));
        if made.is_err() {
            let _ = fs::remove_file(&self.temporary);
        }
        made
    }

    fn put_in_place(&mut self) -> io::Result<()> {
        let placed = match self.written.place(&self.trace) {
            Place::Named => fs::rename(&self.temporary, &self.trace),
            // What is there now is another's.
            _ => Err(io::Error::new(io::ErrorKind::NotFound, NOT_THERE)),
        };
        match &placed {
            Ok(()) => self.written.set(self.made.take()),
            Err(_) => drop(fs::remove_file(&self.temporary)),
        }
        placed
    }
}

/// Where the trace is best cut: nothing older is kept than was asked for, and no more than a part of the budget.
fn cut_at(trace: &Trace<'_>, order: &CutOrder) -> TraceNanos {
    let mut chunks: Vec<_> = trace.chunks().iter().map(|chunk| chunk.header).collect();
    chunks.sort_unstable_by_key(|header| std::cmp::Reverse(header.last));
    let mut left = order.budget.map_or(u64::MAX, |budget| budget / EVENTS_ONE_IN);
    let mut at = TraceNanos(0);
    for header in chunks {
        match left.checked_sub(u64::from(header.stored_bytes)) {
            Some(rest) => left = rest,
            None => {
                at = header.last;
                break;
            }
        }
    }
    at.max(order.keep_from.unwrap_or(TraceNanos(0))).min(order.complete_until)
}

/// A file that refuses to grow beyond a budget.
struct Budgeted {
    file: File,
    left: u64,
}

impl Write for Budgeted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        self.file.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn sizes_are_written_so() {
        fn check(text: &str, expected: Option<u64>) {
            assert_eq!(size(text).ok(), expected, "{text}");
        }
        check("8M", Some(8_000_000));
        check("8MB", Some(8_000_000));
        check("8MiB", Some(8 << 20));
        check("8mib", Some(8 << 20));
        check("5000000", Some(5_000_000));
        check("2G", Some(2_000_000_000));
        check("5000k", Some(5_000_000));
        check("1MiB", Some(1 << 20));
        check("1M", None);
        check("1K", None);
        check("8 parsecs", None);
        check("", None);
        check("-8M", None);
        check("99999999999999999999", None);
        check("99999999999G", None);
    }

    #[test]
    fn buffers_of_any_largest_size() {
        let buffers = |max_size| BoundsArgs { max_size, keep_last: None }.buffer_bytes(64 << 20);
        assert_eq!(buffers(None), 64 << 20);
        assert_eq!(buffers(Some(1 << 20)), 2 << 20);
        assert_eq!(buffers(Some(u64::MAX)), 64 << 20);
        assert_eq!(buffers(Some(1 << 63)), 64 << 20);
    }

    #[test]
    fn another_file_in_the_place_of_the_trace_is_no_trace_to_shorten() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("trace");
        let written = WrittenFile::default();
        written.set(Some(File::create(&path).expect("a file")));
        fs::remove_file(&path).expect("it is there");
        fs::write(&path, b"something else").expect("room");
        let order =
            CutOrder { written: 4, behind: Arc::new([]), complete_until: TraceNanos(1), keep_from: None, budget: None };
        let made = Compactor::new(&path, written).shorten(&order);
        assert!(matches!(&made, Err(CutError::Failed(why)) if why == NOT_THERE), "{made:?}");
        assert_eq!(fs::read(&path).expect("it is left"), b"something else");
    }
}
