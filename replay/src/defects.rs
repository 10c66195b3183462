//! What could not be read of a trace.

/// A part of the trace that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defect {
    /// Offset in the file, bytes.
    pub offset: usize,
    /// What is wrong there.
    pub kind: DefectKind,
    /// Events that are known to have been in it.
    pub events_lost: u64,
}

/// What is wrong with a part of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefectKind {
    /// Bytes between chunks, or a cut chunk.
    Unreadable {
        /// How many bytes were stepped over.
        bytes: usize,
        /// What was found.
        what: &'static str,
    },
    /// A chunk of events, damaged: its events from there on are lost.
    DamagedEvents,
    /// A chunk of records, damaged.
    DamagedRecords,
    /// A snapshot, damaged.
    DamagedSnapshot,
    /// More forks of larger processes than the trace is long: some children were taken to begin without what their parents
    /// had. The offset is that of the file.
    TooManyCopies,
    /// A table of the state before which events were dropped, damaged.
    DamagedCheckpoint,
    /// Tables of that state say something of more pages than the trace is long: what they say of the rest was not taken over.
    /// The offset is that of the file.
    OversizedCheckpoint,
}
