//! Finds the buffers of a page trace of Go and reads their events.

use super::words::{self, WORD_BYTES, Word};
use crate::decode::Defect;
use crate::error::FormatError;
use crate::event::Event;
use crate::units::TraceNanos;

/// The largest P id that [`GoPageTrace::looks_like`] believes: far beyond any GOMAXPROCS, far below other files' bytes.
const PROCESSOR_PLAUSIBLE_MAX: i64 = 1 << 20;

/// A page trace of Go in memory, or mapped into it. Opening reads it once, and keeps where each buffer is.
#[derive(Debug)]
pub struct GoPageTrace<'a> {
    bytes: &'a [u8],
    runs: Vec<GoRun>,
    defects: Vec<Defect>,
}

/// One buffer that one P wrote: a P word, a time sync, events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoRun {
    /// The P, −1 for events without a P.
    pub processor: i64,
    /// Offset in the file of the first word behind the P word, bytes.
    pub payload_offset: usize,
    /// Bytes of the words behind the P word.
    pub bytes: usize,
    /// How many events [`GoCursor`] gives: page events and time syncs, at least one.
    pub events: u32,
    /// Time of the earliest of them.
    pub first: TraceNanos,
    /// Time of the latest.
    pub last: TraceNanos,
}

impl<'a> GoPageTrace<'a> {
    /// Whether `bytes` start like a page trace of Go: a P word with an id that can be, and a time sync behind it.
    #[must_use]
    pub fn looks_like(bytes: &[u8]) -> bool {
        let Some(Word::Processor(processor)) = words::read(bytes) else { return false };
        let plausible = (-1..PROCESSOR_PLAUSIBLE_MAX).contains(&processor);
        plausible
            && match bytes.get(WORD_BYTES..2 * WORD_BYTES).and_then(words::read) {
                Some(Word::Sync(time)) => time > 0,
                Some(_) => false,
                None => true,
            }
    }

    /// Finds the buffers and checks every word.
    ///
    /// # Errors
    /// [`FormatError::Empty`], and [`FormatError::Foreign`] where nothing of the file is a buffer of a P. Damage
    /// beside buffers that can be read is no error: see [`GoPageTrace::defects`].
    pub fn open(bytes: &'a [u8]) -> Result<GoPageTrace<'a>, FormatError> {
        if bytes.is_empty() {
            return Err(FormatError::Empty);
        }
        let mut trace = GoPageTrace { bytes, runs: Vec::new(), defects: Vec::new() };
        trace.find_runs();
        if trace.runs.is_empty() && !GoPageTrace::looks_like(bytes) {
            return Err(FormatError::Foreign {
                expected: "the P word of a Go page trace (a little-endian 64-bit word whose low three bits are 100)",
                found: bytes.iter().take(8).map(|byte| format!("{byte:02x} ")).collect::<String>().trim_end().into(),
            });
        }
        Ok(trace)
    }

    /// The buffers in the order of the file.
    #[must_use]
    pub fn runs(&self) -> &[GoRun] {
        &self.runs
    }

    /// What was stepped over: bytes behind the last whole word, words before a P word, an event that the end of the
    /// file cuts, a word with a time beyond 64 bits and what its buffer holds behind it.
    #[must_use]
    pub fn defects(&self) -> &[Defect] {
        &self.defects
    }

    /// The events of one of this trace's [`GoPageTrace::runs`].
    #[must_use]
    pub fn events(&self, run: &GoRun) -> GoCursor<'a> {
        let end = run.payload_offset.saturating_add(run.bytes);
        GoCursor { rest: self.bytes.get(run.payload_offset..end).unwrap_or_default(), time_base: 0 }
    }

    /// The words behind a run's P word, as they are in the file.
    pub(super) fn payload(&self, run: &GoRun) -> &'a [u8] {
        self.events(run).rest
    }

    fn find_runs(&mut self) {
        let mut rest = self.bytes;
        while !rest.is_empty() {
            let offset = self.bytes.len() - rest.len();
            match words::read(rest) {
                Some(Word::Processor(processor)) => {
                    rest = &rest[WORD_BYTES..];
                    match self.find_run_end(processor, &mut rest) {
                        Some(run) => self.runs.push(run),
                        None => self.step_over(offset, WORD_BYTES, "a P word without events"),
                    }
                }
                Some(_) => {
                    self.step_over(offset, WORD_BYTES, "words that belong to no buffer of a P");
                    rest = &rest[WORD_BYTES..];
                }
                None => {
                    self.step_over(offset, rest.len(), "a word that is cut");
                    rest = &[];
                }
            }
        }
        // A P word without events is noticed after the damage behind it.
        self.defects.sort_by_key(|defect| defect.offset);
    }

    /// Steps over the events at the front of `rest`: to the next P word, the end, or a word that is no event.
    fn find_run_end(&mut self, processor: i64, rest: &mut &'a [u8]) -> Option<GoRun> {
        let payload_offset = self.bytes.len() - rest.len();
        let mut cursor = GoCursor { rest, time_base: 0 };
        let (mut events, mut first, mut last) = (0_u32, TraceNanos(u64::MAX), TraceNanos(0));
        let mut damage = None;
        while events < u32::MAX && !cursor.rest.is_empty() && !words::is_processor(cursor.rest) {
            match cursor.decode() {
                Ok(event) => {
                    events += 1;
                    first = first.min(event.time);
                    last = last.max(event.time);
                }
                Err(what) => {
                    let bytes = cursor.rest.len().min(WORD_BYTES);
                    damage = Some(Defect { offset: self.bytes.len() - cursor.rest.len(), bytes, what });
                    break;
                }
            }
        }
        let bytes = rest.len() - cursor.rest.len();
        *rest = &cursor.rest[damage.map_or(0, |defect| defect.bytes)..];
        self.defects.extend(damage);
        (events > 0).then_some(GoRun { processor, payload_offset, bytes, events, first, last })
    }

    /// Adds to the last defect where it is the same one going on.
    fn step_over(&mut self, offset: usize, bytes: usize, what: &'static str) {
        match self.defects.last_mut() {
            Some(last) if last.what == what && last.offset + last.bytes == offset => last.bytes += bytes,
            _ => self.defects.push(Defect { offset, bytes, what }),
        }
    }
}

/// The events of one buffer, one after the other, time syncs too.
#[derive(Clone, Debug)]
pub struct GoCursor<'a> {
    rest: &'a [u8],
    time_base: u64,
}

impl GoCursor<'_> {
    /// The next event, `None` after the last. Times are multiples of 128 ns.
    ///
    /// # Errors
    /// [`FormatError::Payload`] for a run that is none of this trace's; the rest of it is lost.
    #[inline]
    pub fn next_event(&mut self) -> Result<Option<Event>, FormatError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.decode().map(Some).map_err(|what| {
            self.rest = &[];
            FormatError::Payload(what)
        })
    }

    /// Takes one event from the front; where it cannot, nothing is taken.
    #[inline]
    fn decode(&mut self) -> Result<Event, &'static str> {
        let (event, taken) = match words::read(self.rest).ok_or("a word that is cut")? {
            Word::Processor(_) => return Err("a P word inside a buffer"),
            Word::Sync(time) => {
                self.time_base = time;
                (words::sync_event(time), WORD_BYTES)
            }
            Word::BeyondTime => return Err("a time beyond 64 bits of nanoseconds"),
            Word::Page(page) => {
                let large = match page.large {
                    true => Some(words::number(&self.rest[WORD_BYTES..]).ok_or("an event of many pages that is cut")?),
                    false => None,
                };
                let event = page.event(self.time_base, large).ok_or("a time beyond 64 bits of nanoseconds")?;
                (event, if page.large { 2 * WORD_BYTES } else { WORD_BYTES })
            }
        };
        self.rest = &self.rest[taken..];
        Ok(event)
    }
}
