//! Starting, switching and ending a recording.

use std::path::Path;
use std::time::Duration;

use crate::error::Error;
use crate::page_writes::WriteTracking;
use crate::twin;

/// The format of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TraceFormat {
    /// pagetrace's own: everything.
    #[default]
    Native,
    /// That of Go's page tracer (Go 1.20–1.22): page events only, in pages of 8 KiB.
    Go,
}

/// What a hook does when all buffers are full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Waits until the flusher has written one out.
    #[default]
    Wait,
    /// Counts the event as lost.
    Lose,
}

/// What [`off`] keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Off {
    /// Ids and the live table go on, so that [`on`] resumes exactly.
    Keep,
    /// Nothing: after [`on`] earlier objects are unknown.
    Drop,
}

/// Where the tracer stands. See the picture in the crate's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Before [`init`], after [`reset`], and compiled out.
    Uninitialized,
    /// Events are recorded.
    Recording,
    /// After [`off`] with [`Off::Keep`].
    Keeping,
    /// After [`off`] with [`Off::Drop`].
    Dropped,
    /// After [`finish`].
    Finished,
}

/// How to record, and where to.
///
/// ```no_run
/// # fn main() -> Result<(), pagetrace::Error> {
/// let _guard = pagetrace::Builder::new("service.pagetrace")
///     .flush_interval(std::time::Duration::from_millis(200))
///     .buffer_bytes(4 << 20)
///     .init()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is recorded before init"]
pub struct Builder(twin::Builder);

impl Builder {
    /// Records to `path`. An existing trace there is replaced, another file that is not empty is refused; where
    /// another process records to it, the file is `path` with a dot and the pid behind.
    #[inline]
    pub fn new(path: impl AsRef<Path>) -> Builder {
        Builder(twin::Builder::new(path.as_ref()))
    }

    /// As the environment says: `PAGETRACE=file[,option…]`, or `pagetrace=file` in `GODEBUG`, which stands for Go's
    /// format and pages of 8 KiB. `None` without either.
    ///
    /// | Option | |
    /// |---|---|
    /// | `format=native`, `format=go` | see [`Builder::format`] |
    /// | `page_size=8192` | see [`Builder::page_bytes`] |
    /// | `interval=500ms`, `interval=2s` | see [`Builder::flush_interval`] |
    /// | `buffer=16M` | see [`Builder::buffer_bytes`] |
    /// | `full=wait`, `full=lose` | see [`Builder::when_full`] |
    /// | `table=no` | see [`Builder::live_table`] |
    /// | `snapshots=no` | see [`Builder::snapshots`] |
    /// | `args=no` | see [`Builder::args`] |
    /// | `writes`, `writes=100ms` | all writable memory in epochs of 1 s, or so long: see [`Builder::track_writes`] |
    /// | `sample=512K` | see [`Builder::sample_bytes`] |
    /// | `off` | see [`Builder::start_off`] |
    ///
    /// # Errors
    /// [`Error::Option`] for an option that is unknown or malformed.
    #[inline]
    pub fn from_env() -> Result<Option<Builder>, Error> {
        Ok(twin::Builder::from_env()?.map(Builder))
    }

    /// The file's format; native by default.
    #[inline]
    pub fn format(self, format: TraceFormat) -> Builder {
        Builder(self.0.format(format))
    }

    /// The size of the pages that page hooks count in: a power of two from 512 bytes to 1 GiB. By default 4096, and
    /// 8192 with Go's format, which holds no others.
    #[inline]
    pub fn page_bytes(self, bytes: usize) -> Builder {
        Builder(self.0.page_bytes(bytes))
    }

    /// Buffers are written at least so often, 1 s by default: what a kill can cost. At least 1 ms.
    #[inline]
    pub fn flush_interval(self, interval: Duration) -> Builder {
        Builder(self.0.flush_interval(interval))
    }

    /// The most memory that buffers take, 16 MiB by default, at least 512 KiB. Pages are taken as needed.
    #[inline]
    pub fn buffer_bytes(self, bytes: usize) -> Builder {
        Builder(self.0.buffer_bytes(bytes))
    }

    /// Records a sample of the objects: one of `s` bytes with the probability 1 − exp(−s/mean), and its free. All by default,
    /// and with 0 or 1. Reports tell estimates then, with their errors. Ids, [`object_at`](crate::object_at) and the live table
    /// know the sampled objects alone.
    #[inline]
    pub fn sample_bytes(self, mean: usize) -> Builder {
        Builder(self.0.sample_bytes(mean))
    }

    /// What hooks do when buffers are full; they wait by default.
    #[inline]
    pub fn when_full(self, when_full: WhenFull) -> Builder {
        Builder(self.0.when_full(when_full))
    }

    /// Whether a table of the live objects is kept, as is the default: for ids in the trace, [`object_at`] and
    /// [`Off::Keep`]. It takes about 40 bytes for each live object.
    ///
    /// [`object_at`]: crate::object_at
    #[inline]
    pub fn live_table(self, keep: bool) -> Builder {
        Builder(self.0.live_table(keep))
    }

    /// Whether the kernel's view of the process (mappings, resident pages, its figures) is taken now and then and at
    /// the end, as is the default.
    #[inline]
    pub fn snapshots(self, take: bool) -> Builder {
        Builder(self.0.snapshots(take))
    }

    /// Whether the program's arguments go into the trace, as is the default. Its environment never does.
    #[inline]
    pub fn args(self, record: bool) -> Builder {
        Builder(self.0.args(record))
    }

    /// Starts as after [`off`] with [`Off::Drop`].
    #[inline]
    pub fn start_off(self, off: bool) -> Builder {
        Builder(self.0.start_off(off))
    }

    /// Tracks writes from the start on, as [`WriteTracking::start`] does. Where they cannot be tracked, that is said on standard
    /// error and in the trace, and the rest is recorded.
    #[inline]
    pub fn track_writes(self, what: WriteTracking) -> Builder {
        Builder(self.0.track_writes(what))
    }

    /// Starts recording. The trace is finished when the guard is dropped; also at exit, if the guard has leaked, and
    /// on a panic that aborts.
    ///
    /// # Errors
    /// [`Error::AlreadyInitialized`], an option that cannot be, or what the kernel refused: memory, the file, a thread.
    #[inline]
    pub fn init(self) -> Result<Guard, Error> {
        self.0.init()?;
        Ok(Guard(twin::FinishWhenDropped::new(true)))
    }
}

/// Starts recording if the environment asks for it ([`Builder::from_env`]) and that has not been done at the program's
/// start. Without such a variable the guard does nothing.
///
/// ```
/// # fn main() -> Result<(), pagetrace::Error> {
/// let _guard = pagetrace::init()?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`Builder::from_env`] and [`Builder::init`].
#[inline]
pub fn init() -> Result<Guard, Error> {
    if !matches!(state(), State::Uninitialized) {
        return Ok(Guard(twin::FinishWhenDropped::new(true)));
    }
    match Builder::from_env()? {
        Some(builder) => builder.init(),
        None => Ok(Guard(twin::FinishWhenDropped::new(false))),
    }
}

/// Finishes the trace when dropped.
#[derive(Debug)]
#[must_use = "the trace is finished when this is dropped"]
pub struct Guard(#[allow(dead_code)] twin::FinishWhenDropped);

/// Resumes recording after [`off`]. A gap in the trace says what is missing. Does nothing while recording.
///
/// # Errors
/// [`Error::NotInitialized`] before [`init`] and after [`finish`]; [`Error::Memory`] where the kernel does not make the
/// buffers accessible again.
#[inline]
pub fn on() -> Result<(), Error> {
    twin::on()
}

/// Stops recording: what is buffered is written, the buffers' memory goes back to the kernel and is inaccessible until
/// [`on`]. May be called by any thread at any time, but not from a hook or a signal handler that interrupted one.
///
/// # Errors
/// [`Error::NotInitialized`] as for [`on`]; [`Error::Busy`] when a thread stood still inside a hook for a second: then
/// recording is off, but the memory stays; [`Error::Write`] when the file fails.
#[inline]
pub fn off(off: Off) -> Result<(), Error> {
    twin::off(off)
}

/// Writes what is buffered.
///
/// # Errors
/// [`Error::Write`]; [`Error::NotInitialized`].
#[inline]
pub fn flush() -> Result<(), Error> {
    twin::flush()
}

/// Ends the recording: switches off, writes everything and the end of the trace. Does nothing before [`init`] or a
/// second time.
///
/// # Errors
/// [`Error::Write`], which has also been reported on standard error.
#[inline]
pub fn finish() -> Result<(), Error> {
    twin::finish()
}

/// Finishes if that has not been done, forgets all objects and pages, and goes back to the start, after which [`init`]
/// works again.
///
/// # Errors
/// [`Error::NotInitialized`] if there is nothing to reset; [`Error::Write`] as for [`finish`], the rest being done.
#[inline]
pub fn reset() -> Result<(), Error> {
    twin::reset()
}

/// Where the tracer stands.
#[inline]
#[must_use]
pub fn state() -> State {
    twin::state()
}
