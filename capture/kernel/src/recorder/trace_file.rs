//! The trace that a recording writes, what went wrong with it, and how it is kept within bounds.

use std::io::Write;

use pagetrace_format::access::Access;
use pagetrace_format::header::CHUNK_HEADER_BYTES;
use pagetrace_format::records::{Loss, LossReason, Record};
use pagetrace_format::{
    ChunkHeader, FileHeader, FormatError, ProcessId, Snapshot, StreamId, TraceEnd, TraceNanos, TraceWriter,
};

use crate::writes::WriteProtection;

use super::bounds::{Bounding, Bounds, CutError, CutOrder, Shortened, Shortener};
use super::kernel_streams::Output;
use super::stream_events::StreamEvents;
use super::tee::{Missed, Room, Tee};
use super::tick_mapper::now;

/// A trace in the making. After the first error nothing more is written.
#[derive(Debug)]
pub struct TraceFile<W: Write> {
    writer: TraceWriter<Tee<W>>,
    /// Where the file ends, without what is in memory.
    file_end: TraceEnd,
    error: Option<FormatError>,
    events: u64,
    bounding: Option<Bounding<W>>,
    /// What had no room.
    lost: Missed,
    /// Whether what must be kept was too large for a shorter trace when one was last tried.
    over_budget: bool,
    /// Set when the file has no room left and gets none any more: from then on events are lost.
    is_full: bool,
    notices: Vec<String>,
    told_of_failure: bool,
}

/// What a trace came to.
#[derive(Debug)]
pub struct Written {
    /// What ended the writing early.
    pub write_error: Option<FormatError>,
    /// Bytes written.
    pub bytes: u64,
    /// Events written.
    pub events: u64,
}

impl<W: Write> TraceFile<W> {
    /// Writes the file header.
    ///
    /// # Errors
    /// What `out` gives.
    pub fn new(out: W, header: &FileHeader) -> Result<TraceFile<W>, FormatError> {
        let writer = TraceWriter::new(Tee::new(out), header)?;
        Ok(TraceFile {
            file_end: writer.end(),
            writer,
            error: None,
            events: 0,
            bounding: None,
            lost: Missed::default(),
            over_budget: false,
            is_full: false,
            notices: Vec::new(),
            told_of_failure: false,
        })
    }

    /// Keeps the trace within bounds from now on.
    pub fn bound(&mut self, bounds: Bounds, shortener: Box<dyn Shortener<W>>, start: TraceNanos)
    where
        W: Send + 'static,
    {
        self.bounding = Some(Bounding::new(bounds, shortener, start));
    }

    /// What ended the writing, if anything did.
    pub fn error(&self) -> Option<&FormatError> {
        self.error.as_ref()
    }

    /// What the user is to know, each once.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// Whether all that is known is to be written now, because a cut is due.
    pub fn wants_cut(&self) -> bool {
        let written = self.writer.get_ref().written();
        let due = |bounding: &Bounding<W>| bounding.is_due(written, now());
        let may_begin = self.bounding.as_ref().is_some_and(Bounding::may_begin);
        let is_cut_due = may_begin && self.writer.get_ref().is_in_memory() || self.bounding.as_ref().is_some_and(due);
        self.error.is_none() && !self.is_full && is_cut_due
    }

    /// Whether something is in memory for want of room.
    pub fn wants_room(&self) -> bool {
        self.writer.get_ref().is_in_memory()
    }

    /// Begins a cut; nothing older than `complete_until` is still to come.
    pub fn begin_cut(&mut self, complete_until: TraceNanos) {
        let Some(bounding) = self.bounding.as_mut().filter(|_| self.error.is_none()) else { return };
        let written = self.writer.get_ref().written();
        let behind = self.writer.get_mut().begin();
        if let Err(error) = bounding.begin(CutOrder { written, behind, complete_until, keep_from: None, budget: None })
        {
            self.go_on();
            self.tell_failure(&error);
        }
    }

    /// Goes over to the shorter trace if there is one; waits for it where it is asked to, or where too much waits in
    /// memory.
    pub fn take_cut(&mut self, wait: bool) {
        let Some(bounding) = self.bounding.as_mut().filter(|bounding| bounding.is_making()) else { return };
        let Some(made) = bounding.take(wait) else { return };
        self.over_budget = matches!(made, Err(CutError::OverBudget));
        match made {
            Ok(Shortened { out, end, .. }) => {
                let chunks = self.writer.get_mut().go_over_to(out, end.bytes());
                self.file_end = end;
                self.append(&chunks);
            }
            // In memory it waits for the next try.
            Err(CutError::TooEarly) => self.writer.get_mut().wait_on(),
            Err(error) => {
                self.tell_failure(&error);
                self.go_on();
            }
        }
    }

    /// Whether so much waits in memory that nothing more should be taken from the programs' buffers.
    pub fn is_crowded(&self) -> bool {
        let bytes = self.writer.get_ref().memory_bytes();
        self.error.is_none() && self.bounding.as_ref().is_some_and(|bounding| bytes > bounding.memory_bytes_max())
    }

    /// No cut is made any more: what is in memory goes into the file as far as there is room.
    pub fn end_cuts(&mut self) {
        self.go_on();
    }

    /// What the file lacks of what is in memory is written to it.
    fn go_on(&mut self) {
        let chunks = self.writer.get_mut().go_on();
        self.append(&chunks);
    }

    /// Writes what was in memory to the file, as far as there is room.
    fn append(&mut self, mut chunks: &[u8]) {
        let most = self.bounding.as_ref().map_or(u64::MAX, Bounding::joined_bytes_max);
        let room = Room { most, may_wait: false };
        let mut missed = Missed::default();
        self.writer.set_end(self.file_end);
        // They were made here and are whole.
        while let Ok(header) = ChunkHeader::decode(chunks) {
            let (chunk, rest) = chunks.split_at(CHUNK_HEADER_BYTES + header.stored_bytes as usize);
            if self.write_in(room, |writer| writer.whole_chunk(&header, chunk)) {
                missed.add(Missed::of_chunk(&header));
            }
            chunks = rest;
        }
        self.lose(missed);
    }

    /// Writes records.
    pub fn records(&mut self, records: &[Record]) {
        if !self.is_full {
            return self.try_records(records);
        }
        // The stacks of events that are lost; what is left of the room is for those that say more.
        let is_of_events = |record: &&Record| matches!(record, Record::StackNode(_) | Record::Stack(_));
        let others: Vec<Record> = records.iter().filter(|record| !is_of_events(record)).cloned().collect();
        self.try_records(&others);
    }

    fn try_records(&mut self, records: &[Record]) {
        if self.write(|writer| writer.records(now(), records)) {
            self.lose(Missed { events: 0, records: true });
        }
    }

    /// Writes the events of a stream that wait, as one chunk.
    pub fn events(&mut self, stream: StreamId, events: &mut StreamEvents) {
        if !self.write_events(events.len() as u64, |writer| events.write(stream, writer)) {
            *events = StreamEvents::new();
        }
    }

    /// Writes what the kernel told.
    pub fn kernel_events(&mut self, output: Output) {
        self.records(&output.records);
        for (process, columns) in output.chunks {
            self.write_events(columns.len() as u64, |writer| writer.kernel_events(process, &columns));
        }
    }

    /// Writes who accessed memory of processes.
    pub fn accesses(&mut self, chunks: Vec<(ProcessId, Vec<Access>)>) {
        for (process, accesses) in chunks {
            let shift = WriteProtection::page_shift();
            self.write_events(accesses.len() as u64, |writer| writer.accesses(process, shift, &accesses));
        }
    }

    /// Writes a snapshot behind the modules that it is the first to show.
    pub fn snapshot(&mut self, (snapshot, modules): (Snapshot, Vec<Record>)) {
        self.records(&modules);
        // One more or less is no event that is missed.
        self.write_events(0, |writer| writer.snapshot(&snapshot));
    }

    /// Ends the writing, with these records as the last.
    pub fn finish(mut self, mut last: Vec<Record>) -> Written {
        debug_assert!(!self.writer.get_ref().is_in_memory(), "the last cut was taken");
        last.splice(..0, self.losses());
        // The last part of the room is theirs.
        let most = self.bounding.as_ref().map_or(u64::MAX, Bounding::last_bytes_max);
        self.write_in(Room { most, may_wait: false }, |writer| writer.records(now(), &last));
        let TraceFile { mut writer, mut error, events, .. } = self;
        let bytes = writer.get_ref().written();
        if let Err(last) = writer.get_mut().flush() {
            error.get_or_insert(last.into());
        }
        Written { write_error: error, bytes, events }
    }

    /// What was lost for want of room.
    fn losses(&self) -> impl Iterator<Item = Record> {
        let Missed { events, records } = self.lost;
        let (process, reason, time) = (None, LossReason::SizeLimit, now());
        let counted = (events > 0).then_some(Loss { process, reason, events, time });
        let uncounted = records.then_some(Loss { process, reason, events: 0, time });
        counted.into_iter().chain(uncounted).map(Record::Loss)
    }

    /// Writes a chunk of so many events, unless they are lost: whether it was tried.
    fn write_events(
        &mut self,
        events: u64,
        write: impl FnOnce(&mut TraceWriter<Tee<W>>) -> Result<(), FormatError>,
    ) -> bool {
        if self.error.is_some() || self.is_full {
            self.lost.events += events;
            return false;
        }
        self.events += events;
        if self.write(write) {
            self.lose(Missed { events, records: false });
        }
        true
    }

    /// Writes a chunk. Where the file has no room it goes to memory until a cut has made some; if none can be made, it is
    /// refused, which is told.
    fn write(&mut self, write: impl FnOnce(&mut TraceWriter<Tee<W>>) -> Result<(), FormatError>) -> bool {
        let is_making = self.bounding.as_ref().is_some_and(Bounding::is_making);
        let may_begin = !self.is_full && self.bounding.as_ref().is_some_and(Bounding::may_begin);
        let most = self.bounding.as_ref().map_or(u64::MAX, |bounding| {
            // Without a cut to come the file may be filled but for the part for the last records.
            if is_making || may_begin { bounding.file_bytes_max() } else { bounding.joined_bytes_max() }
        });
        self.write_in(Room { most, may_wait: is_making || may_begin }, write)
    }

    /// Whether it was refused.
    fn write_in(
        &mut self,
        room: Room,
        write: impl FnOnce(&mut TraceWriter<Tee<W>>) -> Result<(), FormatError>,
    ) -> bool {
        if self.error.is_some() {
            return false;
        }
        let end = self.writer.end();
        self.writer.get_mut().set_room(room);
        self.error = write(&mut self.writer).err();
        let is_refused = self.writer.get_mut().take_refused();
        if is_refused {
            // It is not there for readers either.
            self.writer.set_end(end);
        }
        if self.writer.end().bytes() == self.writer.get_ref().written() {
            self.file_end = self.writer.end();
        }
        is_refused
    }

    fn lose(&mut self, missed: Missed) {
        if missed == Missed::default() {
            return;
        }
        if self.over_budget && !std::mem::replace(&mut self.is_full, true) {
            self.notices.push(
                "the trace has reached --max-size and cannot be shortened any more: events from now on are lost; the program \
                 goes on, what is written stays readable"
                    .into(),
            );
        } else if self.lost == Missed::default() {
            self.notices.push(
                "the trace has reached --max-size before it could be shortened: what had no room is lost; the trace goes on"
                    .into(),
            );
        }
        self.lost.add(missed);
    }

    fn tell_failure(&mut self, error: &CutError) {
        if std::mem::replace(&mut self.told_of_failure, true) {
            return;
        }
        self.notices.push(match error {
            CutError::TooEarly => return,
            CutError::OverBudget => {
                "what the programs hold now takes more than --max-size leaves for it; the trace goes on as long as it fits"
                    .into()
            }
            CutError::Failed(why) => format!("cannot shorten the trace: {why}; it goes on as it is"),
        });
    }
}

#[cfg(test)]
mod tests;
