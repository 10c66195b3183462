//! A chunk of events that is being read: some of its events decoded, the cursor behind them.

use pagetrace_format::{BatchColumns, EventBatch, EventCursor, FormatError, TraceNanos};

/// Events of a stream that are decoded at a time.
const DECODED_EVENTS: usize = 256;

/// The chunk of a stream that has the stream's next event.
#[derive(Debug)]
pub(crate) struct OpenChunk {
    pub(crate) cursor: EventCursor,
    /// Its index in the trace.
    pub(crate) chunk: u32,
    /// Events that are decoded; the one at `at` is due.
    pub(crate) decoded: EventBatch,
    pub(crate) at: usize,
    /// Whether what follows `decoded` is damaged.
    pub(crate) damaged: bool,
    /// Events of it that were given away.
    pub(crate) delivered: u32,
}

impl OpenChunk {
    /// `None` where there is no event; an error where there is damage in front of the first.
    pub(crate) fn open(cursor: EventCursor, chunk: u32, decoded: EventBatch) -> Result<Option<OpenChunk>, FormatError> {
        let mut open = OpenChunk { cursor, chunk, decoded, at: 0, damaged: false, delivered: 0 };
        let result = open.cursor.fill(&mut open.decoded, DECODED_EVENTS);
        open.damaged = result.is_err();
        match open.decoded.is_empty() {
            true => result.map(|()| None),
            false => Ok(Some(open)),
        }
    }

    /// Decodes more events, if there are any.
    #[inline]
    pub(crate) fn decode(&mut self) -> bool {
        self.at = 0;
        if self.damaged {
            self.decoded.clear();
        } else {
            self.damaged = self.cursor.fill(&mut self.decoded, DECODED_EVENTS).is_err();
        }
        !self.decoded.is_empty()
    }

    /// Gives `each` the event that is due and those after it, decoded and due before another stream is, `max` at most.
    #[inline]
    pub(crate) fn deliver(
        &mut self,
        until: (u64, u32),
        max: usize,
        mut each: impl FnMut(TraceNanos, &BatchColumns<'_>, usize),
    ) {
        let columns = self.decoded.columns();
        let first = self.at;
        let end = columns.times.len().min(first + max);
        for (index, &time) in columns.times[..end].iter().enumerate().skip(first) {
            if (time.0, self.chunk) > until {
                break;
            }
            each(time, &columns, index);
            self.at = index + 1;
        }
        self.delivered += (self.at - first) as u32;
    }

    /// When the event that is due happened.
    #[inline]
    pub(crate) fn next_time(&self) -> u64 {
        self.decoded.columns().times[self.at].0
    }
}
