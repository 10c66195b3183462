//! The events of one stream that wait for their chunk to fill.

use std::io::Write;

use pagetrace_format::encode::PackedReader;
use pagetrace_format::{
    Event, EventColumns, EventKind, FormatError, ObjectColumns, StreamId, TimeRounding, TraceNanos, TraceWriter,
};

/// Events that are not written yet.
#[derive(Debug)]
pub enum StreamEvents {
    /// Of objects alone.
    Objects(ObjectColumns),
    /// Of a stream that has had an event about pages.
    Mixed(EventColumns),
}

impl StreamEvents {
    /// None yet.
    pub fn new() -> StreamEvents {
        StreamEvents::Objects(ObjectColumns::new())
    }

    /// Appends an event.
    #[inline]
    pub fn push(&mut self, time: TraceNanos, kind: EventKind) {
        match (&mut *self, kind) {
            (StreamEvents::Objects(objects), EventKind::ObjectAlloc(alloc)) => objects.push_alloc(time, &alloc),
            (StreamEvents::Objects(objects), EventKind::ObjectFree(free)) => objects.push_free(time, &free),
            _ => self.push_mixed(Event { time, kind }),
        }
    }

    /// Appends the events of objects that packed words begin with, as far as they are quick to take.
    #[inline]
    pub fn take_packed(
        &mut self,
        reader: &PackedReader,
        words: &mut &[u64],
        events_max: usize,
        time_of: impl Fn(u64) -> TraceNanos,
    ) {
        if let StreamEvents::Objects(objects) = self {
            objects.take_packed(reader, words, events_max, time_of);
        }
    }

    #[cold]
    fn push_mixed(&mut self, event: Event) {
        if let StreamEvents::Objects(objects) = self {
            let mut mixed = EventColumns::new();
            objects.events().for_each(|event| mixed.push(event));
            *self = StreamEvents::Mixed(mixed);
        }
        if let StreamEvents::Mixed(mixed) = self {
            mixed.push(event);
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        match self {
            StreamEvents::Objects(objects) => objects.len(),
            StreamEvents::Mixed(mixed) => mixed.len(),
        }
    }

    /// Writes them as one chunk. What is written or cannot be is forgotten, its memory kept.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&mut self, stream: StreamId, writer: &mut TraceWriter<impl Write>) -> Result<(), FormatError> {
        match self {
            StreamEvents::Objects(objects) => {
                let written = writer.objects(stream, objects, TimeRounding::ToDistance);
                objects.clear();
                written
            }
            StreamEvents::Mixed(mixed) => {
                let written = writer.events(stream, mixed);
                mixed.clear();
                written
            }
        }
    }
}
