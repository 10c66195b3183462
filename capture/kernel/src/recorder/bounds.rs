//! How much of a recording is kept, and when what is old is cut off.
//!
//! The recorder only says when and how far: what must be known of the past to go on from a moment takes a replay, so
//! somebody else makes the shorter file ([`Shortener`]), on a thread of low priority. Meanwhile the recorder writes on, to the
//! file as it is and to memory; when the shorter one is ready it takes the place of the other, and what is in memory goes
//! behind it.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pagetrace_format::{TraceEnd, TraceNanos};
use rustix::process::setpriority_process;

use super::tick_mapper::now;

/// How much of a recording is kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// Its files never take more bytes, the one in the making included.
    pub max_bytes: Option<u64>,
    /// At least so much of the end is kept, and not much more than twice that; less where `max_bytes` asks for it.
    pub keep_last: Option<Duration>,
}

/// What is to be cut off.
#[derive(Clone, Debug)]
pub struct CutOrder {
    /// The trace is this long; what is written behind it is none of the shorter one's.
    pub written: u64,
    /// Chunks that had no room in it and belong behind it.
    pub behind: Arc<[u8]>,
    /// Nothing that is still to come is older than this: the cut lies at or before it.
    pub complete_until: TraceNanos,
    /// What is older may go, `None` where the budget alone decides.
    pub keep_from: Option<TraceNanos>,
    /// The shorter trace has at most so many bytes, `None` where that does not matter.
    pub budget: Option<u64>,
}

/// Why there is no shorter trace.
#[derive(Debug)]
pub enum CutError {
    /// Too much of it is so new that something older may still come: later there is more to cut.
    TooEarly,
    /// What must be kept is larger than the budget.
    OverBudget,
    /// Something went wrong, in words.
    Failed(String),
}

/// The shorter trace.
#[derive(Debug)]
pub struct Shortened<W> {
    /// It, at its end.
    pub out: W,
    /// Where that is.
    pub end: TraceEnd,
    /// Events before this were cut off.
    pub cut_at: TraceNanos,
}

/// Makes a shorter trace beside the one that is being written.
pub trait Shortener<W>: Send + Debug {
    /// Makes it. Nothing of it is left where that fails.
    ///
    /// # Errors
    /// Why there is none.
    fn shorten(&mut self, order: &CutOrder) -> Result<Shortened<W>, CutError>;

    /// Puts it in the place of the other one, in one step.
    ///
    /// # Errors
    /// What the file system says; the shorter one is removed then.
    fn put_in_place(&mut self) -> io::Result<()>;
}

/// A file of `max` bytes is shared out so: a cut begins when half is full, the file may grow by another eighth while it is
/// made, the shorter one has five sixteenths, and one sixteenth is for the last records.
const BEGIN_EIGHTHS: u64 = 4;
const GROWN_EIGHTHS: u64 = 5;
const RESERVE_SHIFT: u32 = 4;
/// So much, in sixteenths of `max`, waits in memory at most; beyond, the recorder waits for the cut.
const MEMORY_SIXTEENTHS: u64 = 4;
/// With no bound on bytes.
const MEMORY_BYTES: u64 = 256 << 20;
/// A cut that failed is tried again after this.
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// One that came too early after this.
const TOO_EARLY: Duration = Duration::from_millis(50);
/// Below that of the programs (nice(2)), and not so far that they could starve a cut: then they would wait for it in the end.
const PRIORITY: i32 = 5;

/// What `max` leaves beside the part for the last records.
fn without_reserve(max: u64) -> u64 {
    max - (max >> RESERVE_SHIFT)
}

type Made<W> = (Box<dyn Shortener<W>>, Result<Shortened<W>, CutError>);
type Spawn<W> = fn(Box<dyn Shortener<W>>, CutOrder) -> io::Result<JoinHandle<Made<W>>>;

/// The bounds of a recording that is going on.
#[derive(Debug)]
pub struct Bounding<W> {
    bounds: Bounds,
    /// Nobody else has it while no cut is made.
    shortener: Option<Box<dyn Shortener<W>>>,
    spawn: Spawn<W>,
    making: Option<JoinHandle<Made<W>>>,
    /// How long the file was when the cut began that is being made.
    began_at: u64,
    kept_from: TraceNanos,
    not_before: Option<Instant>,
}

impl<W> Bounding<W> {
    /// Bounds for what is recorded from `start` on.
    pub fn new(bounds: Bounds, shortener: Box<dyn Shortener<W>>, start: TraceNanos) -> Bounding<W>
    where
        W: Send + 'static,
    {
        let (shortener, spawn) = (Some(shortener), spawn::<W> as Spawn<W>);
        Bounding { bounds, shortener, spawn, making: None, began_at: 0, kept_from: start, not_before: None }
    }

    /// The file must not grow beyond this now.
    pub fn file_bytes_max(&self) -> u64 {
        // Where a cut can begin, room is left for the shorter file.
        let is_cut = self.making.is_some() || self.may_begin();
        let of_max = |max: u64| if is_cut { self.grown(max) } else { without_reserve(max) };
        self.bounds.max_bytes.map_or(u64::MAX, of_max)
    }

    /// How far the file may grow while a cut is made. One that was tried before may begin late.
    fn grown(&self, max: u64) -> u64 {
        (max / 8 * GROWN_EIGHTHS).max(if self.making.is_some() { self.began_at } else { 0 })
    }

    /// What is in memory when a cut is over must fit into a file of so many bytes.
    pub fn joined_bytes_max(&self) -> u64 {
        self.bounds.max_bytes.map_or(u64::MAX, without_reserve)
    }

    /// The file must not grow beyond this even with the last records.
    pub fn last_bytes_max(&self) -> u64 {
        self.bounds.max_bytes.unwrap_or(u64::MAX)
    }

    /// With more in memory nothing is taken from the buffers until the cut is done.
    pub fn memory_bytes_max(&self) -> u64 {
        // If the cut fails it must fit behind the old file.
        let of_max = |max: u64| (max / 16 * MEMORY_SIXTEENTHS).min(without_reserve(max).saturating_sub(self.began_at));
        self.bounds.max_bytes.map_or(MEMORY_BYTES, of_max).min(MEMORY_BYTES)
    }

    /// Whether a cut is being made.
    pub fn is_making(&self) -> bool {
        self.making.is_some()
    }

    /// Whether a cut could begin now.
    pub fn may_begin(&self) -> bool {
        self.shortener.is_some() && self.not_before.is_none_or(|time| Instant::now() >= time)
    }

    /// Whether a cut is due for a file of so many bytes.
    pub fn is_due(&self, written: u64, now: TraceNanos) -> bool {
        let is_large = self.bounds.max_bytes.is_some_and(|max| written >= max / 8 * BEGIN_EIGHTHS);
        let age = Duration::from_nanos(now.0.saturating_sub(self.kept_from.0));
        self.may_begin() && (is_large || self.bounds.keep_last.is_some_and(|last| age >= 2 * last))
    }

    /// Begins to make a cut; how far it goes follows from the bounds.
    pub fn begin(&mut self, order: CutOrder) -> Result<(), CutError> {
        let Some(shortener) = self.shortener.take() else { return Ok(()) };
        let written = order.written;
        self.began_at = written;
        let keep_last = self.bounds.keep_last.map(|last| u64::try_from(last.as_nanos()).unwrap_or(u64::MAX));
        let keep_from = keep_last.map(|last| TraceNanos(now().0.saturating_sub(last)));
        let grown = |max: u64| (max / 8 * GROWN_EIGHTHS).max(written);
        let budget = self.bounds.max_bytes.map(|max| without_reserve(max).saturating_sub(grown(max)));
        match (self.spawn)(shortener, CutOrder { keep_from, budget, ..order }) {
            Ok(making) => {
                self.making = Some(making);
                Ok(())
            }
            // The thread took the shortener with it: the recording goes on without cuts.
            Err(error) => {
                self.bounds.keep_last = None;
                Err(CutError::Failed(error.to_string()))
            }
        }
    }

    /// The shorter trace, put in its place; `None` while it is being made, unless it is to be waited for.
    pub fn take(&mut self, wait: bool) -> Option<Result<Shortened<W>, CutError>> {
        if !wait && !self.making.as_ref()?.is_finished() {
            return None;
        }
        let Ok((mut shortener, made)) = self.making.take()?.join() else {
            return Some(Err(CutError::Failed("the thread that makes the shorter trace has panicked".into())));
        };
        let placed = made.and_then(|made| match shortener.put_in_place() {
            Ok(()) => Ok(made),
            Err(error) => Err(CutError::Failed(error.to_string())),
        });
        self.shortener = Some(shortener);
        match &placed {
            Ok(made) => self.kept_from = made.cut_at,
            Err(CutError::TooEarly) => self.not_before = Some(Instant::now() + TOO_EARLY),
            Err(_) => self.not_before = Some(Instant::now() + TRY_AGAIN),
        }
        Some(placed)
    }
}

fn spawn<W: Send + 'static>(mut shortener: Box<dyn Shortener<W>>, order: CutOrder) -> io::Result<JoinHandle<Made<W>>> {
    std::thread::Builder::new().name("shorten".into()).spawn(move || {
        // On Linux 0 is this thread alone (setpriority(2), "C library/kernel differences"). Without it the cut is made all
        // the same.
        let _ = setpriority_process(None, PRIORITY);
        let made = shortener.shorten(&order);
        (shortener, made)
    })
}
