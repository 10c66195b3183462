//! The trace that a recording writes, and what went wrong with it.

use std::io::Write;

use pagetrace_format::records::Record;
use pagetrace_format::{FormatError, Snapshot, StreamId, TraceWriter};

use super::kernel_streams::Output;
use super::stream_events::StreamEvents;
use super::tick_mapper::now;

/// A trace in the making. After the first error nothing more is written.
#[derive(Debug)]
pub struct TraceFile<W: Write> {
    writer: TraceWriter<W>,
    error: Option<FormatError>,
    /// Events written.
    pub events: u64,
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
    /// Goes on behind the file header.
    pub fn new(writer: TraceWriter<W>) -> TraceFile<W> {
        TraceFile { writer, error: None, events: 0 }
    }

    /// What ended the writing, if anything did.
    pub fn error(&self) -> Option<&FormatError> {
        self.error.as_ref()
    }

    /// Writes records.
    pub fn records(&mut self, records: &[Record]) {
        if self.error.is_none() {
            self.error = self.writer.records(now(), records).err();
        }
    }

    /// Writes the events of a stream that wait, as one chunk.
    pub fn events(&mut self, stream: StreamId, events: &mut StreamEvents) {
        self.events += events.len() as u64;
        if self.error.is_none() {
            self.error = events.write(stream, &mut self.writer).err();
        } else {
            *events = StreamEvents::new();
        }
    }

    /// Writes what the kernel told.
    pub fn kernel_events(&mut self, output: Output) {
        self.records(&output.records);
        for (process, columns) in output.chunks {
            if self.error.is_none() {
                self.events += columns.len() as u64;
                self.error = self.writer.kernel_events(process, &columns).err();
            }
        }
    }

    /// Writes a snapshot behind the modules that it is the first to show.
    pub fn snapshot(&mut self, (snapshot, modules): (Snapshot, Vec<Record>)) {
        self.records(&modules);
        if self.error.is_none() {
            self.error = self.writer.snapshot(&snapshot).err();
        }
    }

    /// Ends the writing.
    pub fn finish(self) -> Written {
        let TraceFile { writer, mut error, events } = self;
        let bytes = writer.bytes_written();
        if let Err(last) = writer.into_inner() {
            error.get_or_insert(last);
        }
        Written { write_error: error, bytes, events }
    }
}
