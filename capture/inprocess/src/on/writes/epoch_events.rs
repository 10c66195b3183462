//! The events of an epoch, joined to runs of pages with one writer, on their way to the trace.

use pagetrace_format::access::{
    Access, AccessChunk, AccessSource, FirstWriter, PageRange, WriteEpoch, WriteLabel, WrittenRun,
};
use pagetrace_format::{Address, PageCount, PageIndex, StackId, TraceNanos};

use super::super::access_chunks;
use super::super::mapped_array::MappedArray;
use super::armed_ranges::ArmedRange;
use super::fault_log::Noted;

/// Items of a chunk at the most.
const ITEMS: usize = 4096;
/// Bytes of a chunk at the most.
const CHUNK_BYTES: usize = AccessChunk::bytes_max(ITEMS);

/// What is collected. Nothing is, where no trace is written.
pub struct EpochEvents {
    items: MappedArray<Access>,
    chunk: MappedArray<u8>,
    wanted: bool,
}

impl EpochEvents {
    pub const fn new() -> EpochEvents {
        EpochEvents { items: MappedArray::new(), chunk: MappedArray::new(), wanted: false }
    }

    /// Makes room, once.
    pub fn make(&mut self) -> bool {
        let made = self.items.make(ITEMS) && self.chunk.make(CHUNK_BYTES);
        while made && self.chunk.room() > 0 {
            self.chunk.push(0);
        }
        made
    }

    /// Begins with an epoch. Its end is not known yet: [`EpochEvents::end`] says it.
    pub fn begin(&mut self, number: u32, begin: u64, ranges: Option<&[ArmedRange]>) {
        self.items.truncate(0);
        self.wanted = access_chunks::are_wanted();
        if !self.wanted {
            return;
        }
        self.items.push(Access::Epoch(WriteEpoch {
            number: number.into(),
            begin: TraceNanos(begin),
            end: TraceNanos(begin),
            source: AccessSource::AsyncWriteProtection,
            ranges_follow: ranges.is_some(),
        }));
        for range in ranges.unwrap_or_default() {
            let range =
                PageRange { first: PageIndex(range.from as u64), pages: PageCount((range.to - range.from) as u64) };
            self.push(Access::Armed(range));
        }
    }

    /// Adds a page.
    pub fn page(&mut self, page: usize, label: WriteLabel, by: Option<&Noted>) {
        if !self.wanted {
            return;
        }
        if let Some(Access::Written(run)) = self.items.values_mut().last_mut()
            && joined(run, page, label, by)
        {
            return;
        }
        let writer = by.map(|noted| FirstWriter {
            time: TraceNanos(noted.time),
            span_ns: 0,
            tid: noted.tid,
            instruction: Address(noted.instruction),
            stack: StackId(0),
            task: noted.task,
        });
        let range = PageRange { first: PageIndex(page as u64), pages: PageCount(1) };
        self.push(Access::Written(WrittenRun { range, label, writer }));
    }

    /// Ends the epoch, and writes what there is.
    pub fn end(&mut self, end: u64) {
        if self.wanted {
            self.write(end);
        }
    }

    fn push(&mut self, item: Access) {
        if self.items.push(item) {
            return;
        }
        // The epoch goes on in another chunk: one of the same number, which ends as far as is known now.
        self.write(crate::sys::monotonic_ns());
        let more = match self.items.values() {
            [Access::Epoch(epoch), ..] => {
                Access::Epoch(WriteEpoch { ranges_follow: matches!(item, Access::Armed(_)), ..*epoch })
            }
            _ => return,
        };
        self.items.truncate(0);
        self.items.push(more);
        self.items.push(item);
    }

    fn write(&mut self, end: u64) {
        if let Some(Access::Epoch(epoch)) = self.items.values_mut().first_mut() {
            epoch.end = TraceNanos(end);
        }
        access_chunks::append(self.chunk.values_mut(), self.items.values());
    }
}

/// Adds a page to the run before it, if it is right behind and has the same writer.
fn joined(run: &mut WrittenRun, page: usize, label: WriteLabel, by: Option<&Noted>) -> bool {
    let follows = run.range.first.0 + run.range.pages.0 == page as u64 && run.label == label;
    match (&mut run.writer, by) {
        (None, None) if follows => {}
        (Some(writer), Some(noted)) if follows && writer.tid == noted.tid && writer.task == noted.task => {
            let (begin, end) = (writer.time.0.min(noted.time), (writer.time.0 + writer.span_ns).max(noted.time));
            writer.time = TraceNanos(begin);
            writer.span_ns = end - begin;
        }
        _ => return false,
    }
    run.range.pages.0 += 1;
    true
}
