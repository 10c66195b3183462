//! Reads a chunk of accesses.

use super::chunk::{
    ARMED, COLUMNS, EPOCH, EPOCH_WITH_RANGES, HAS_WRITER, INSTRUCTION, IS_FOREIGN, IS_WRITE, LAYOUT, Last, NUMBER,
    PAGE, PAGES, THREAD, TIME, WATCHED, WRITE_TIME, WRITTEN,
};
use super::{
    Access, AccessSource, ColumnInputs, FirstWriter, Modification, PageRange, WatchedAccess, WriteEpoch, WriteLabel,
    WrittenRun,
};
use crate::error::FormatError;
use crate::units::{Address, PageCount, PageIndex, PageShift, StackId, TraceNanos};

/// The accesses of one chunk, one after the other.
#[derive(Debug)]
pub struct AccessCursor {
    page_shift: PageShift,
    inputs: ColumnInputs<COLUMNS>,
    last: Last,
    left: u32,
    /// Ranges need an epoch before them.
    in_epoch: bool,
}

impl AccessCursor {
    /// Finds the columns of a payload with `count` items, the first time being that of the chunk's header.
    ///
    /// # Errors
    /// [`FormatError::Payload`] where the lengths do not fit the payload or the count.
    pub fn open(payload: Vec<u8>, count: u32, first: TraceNanos) -> Result<AccessCursor, FormatError> {
        let unknown = FormatError::Payload("unknown layout of columns of accesses");
        let Some(&[layout, shift, columns]) = payload.get(..3) else { return Err(unknown) };
        let Some(page_shift) = PageShift::new(shift).filter(|_| layout == LAYOUT && columns == COLUMNS as u8) else {
            return Err(unknown);
        };
        let inputs = ColumnInputs::open(payload, 3, count)?;
        Ok(AccessCursor { page_shift, inputs, last: Last::at(first), left: count, in_epoch: false })
    }

    /// The size of the pages that ranges count in.
    #[must_use]
    pub fn page_shift(&self) -> PageShift {
        self.page_shift
    }

    /// The next item, `None` after the last.
    ///
    /// # Errors
    /// [`FormatError::Payload`] where a column ends early or holds what cannot be; the rest of the chunk is lost.
    pub fn next_access(&mut self) -> Result<Option<Access>, FormatError> {
        if self.left == 0 {
            return Ok(None);
        }
        match self.decode() {
            Some(item) => {
                self.left -= 1;
                Ok(Some(item))
            }
            None => {
                self.left = 0;
                Err(FormatError::Payload("an access with a kind or a number that cannot be"))
            }
        }
    }

    fn decode(&mut self) -> Option<Access> {
        match self.inputs.kind()? {
            kind @ (EPOCH | EPOCH_WITH_RANGES) => {
                self.in_epoch = true;
                self.epoch(kind == EPOCH_WITH_RANGES).map(Access::Epoch)
            }
            ARMED if self.in_epoch => self.range().map(Access::Armed),
            kind @ WRITTEN..WATCHED if self.in_epoch => self.written(kind - WRITTEN).map(Access::Written),
            kind => self.watched(kind.checked_sub(WATCHED)?).map(Access::Watched),
        }
    }

    fn epoch(&mut self, ranges_follow: bool) -> Option<WriteEpoch> {
        let end = self.time()?;
        let number = self.inputs.number(NUMBER)?;
        let begin = TraceNanos(end.0.checked_sub(self.inputs.number(NUMBER)?)?);
        self.last.write_time = begin.0;
        Some(WriteEpoch { number, begin, end, source: self.source()?, ranges_follow })
    }

    fn range(&mut self) -> Option<PageRange> {
        let first = self.inputs.difference(PAGE, self.last.page)?;
        let pages = self.inputs.number(PAGES)?;
        // All of it lies in the address space.
        let end = first.checked_add(pages).filter(|&end| end <= u64::MAX >> self.page_shift.get())?;
        self.last.page = end;
        Some(PageRange { first: PageIndex(first), pages: PageCount(pages) })
    }

    fn written(&mut self, bits: u8) -> Option<WrittenRun> {
        let label = match bits & 3 {
            0 => WriteLabel::Written,
            1 => WriteLabel::Discarded,
            2 => WriteLabel::New,
            _ => return None,
        };
        if bits >= 2 * HAS_WRITER {
            return None;
        }
        let range = self.range()?;
        let writer = if bits & HAS_WRITER == 0 { None } else { Some(self.writer()?) };
        Some(WrittenRun { range, label, writer })
    }

    fn writer(&mut self) -> Option<FirstWriter> {
        let tid = self.thread()?;
        self.last.write_time = self.inputs.difference(WRITE_TIME, self.last.write_time)?;
        let instruction = self.instruction()?;
        let span_ns = self.inputs.number(NUMBER)?;
        let (stack, task) = (StackId(self.inputs.small(NUMBER)?), self.optional()?);
        Some(FirstWriter { time: TraceNanos(self.last.write_time), span_ns, tid, instruction, stack, task })
    }

    fn watched(&mut self, bits: u8) -> Option<WatchedAccess> {
        if bits > IS_WRITE + IS_FOREIGN {
            return None;
        }
        let (time, tid, instruction) = (self.time()?, self.thread()?, self.instruction()?);
        let address = Address(self.inputs.number(NUMBER)?);
        let (stack, task) = (StackId(self.inputs.small(NUMBER)?), self.optional()?);
        let source = self.source()?;
        let foreign = match bits & IS_FOREIGN {
            0 => None,
            _ => Some(Modification {
                tid: self.inputs.small(NUMBER).filter(|&tid| tid != 0)?,
                time: TraceNanos(self.inputs.number(NUMBER)?),
            }),
        };
        let write = bits & IS_WRITE != 0;
        Some(WatchedAccess { time, tid, address, instruction, stack, task, write, source, foreign })
    }

    fn time(&mut self) -> Option<TraceNanos> {
        self.last.time = self.last.time.checked_add(self.inputs.number(TIME)?)?;
        Some(TraceNanos(self.last.time))
    }

    fn thread(&mut self) -> Option<u32> {
        self.last.tid = self.inputs.difference(THREAD, self.last.tid)?;
        u32::try_from(self.last.tid).ok()
    }

    fn instruction(&mut self) -> Option<Address> {
        self.last.instruction = self.inputs.difference(INSTRUCTION, self.last.instruction)?;
        Some(Address(self.last.instruction))
    }

    fn source(&mut self) -> Option<AccessSource> {
        Some(u8::try_from(self.inputs.number(NUMBER)?).map_or(AccessSource::Unknown, AccessSource::from_number))
    }

    /// None is 0; the outer one is the end of the column.
    fn optional(&mut self) -> Option<Option<u64>> {
        Some(self.inputs.number(NUMBER)?.checked_sub(1))
    }
}
