//! A live object as the live-object table tells it, and what its operations say.

/// A live object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it starts.
    pub address: usize,
    /// Unique in the process's family.
    pub id: u64,
    /// A stack, or with the top bit set a registered bucket.
    pub bucket: u32,
    /// In bytes. From 256 GiB on it comes back rounded up to 4096, and is at most 1 PiB.
    pub size: u64,
    /// Whether the trace knows it.
    pub announced: bool,
}

/// What an insert did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inserted {
    /// The caller is to write the allocation event.
    pub event_due: bool,
    /// What was at the address: its free was not seen.
    pub replaced: Option<Removed>,
}

/// An entry that was taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// As it was.
    pub entry: Entry,
    /// The caller is to write the free event.
    pub event_due: bool,
}

/// Why an object could not be put in. Each is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertRefused {
    /// The kernel gives no more memory.
    NoMemory,
    /// Zero, or above what a user's address can be.
    NotAnAddress,
}

/// Objects or entries that the table could not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableLosses {
    /// Inserts refused: these objects are not in the table.
    pub inserts: u64,
    /// Deaths while keeping for which the log had no memory: the trace has these objects alive.
    pub deaths: u64,
    /// Shards emptied since they were in use elsewhere at a fork that did not lock the table.
    pub shards_at_fork: u64,
}

impl Entry {
    /// Whether the address is inside; an object of no bytes holds its own.
    #[inline]
    pub fn holds(&self, address: usize) -> bool {
        address >= self.address && ((address - self.address) as u64) < self.size.max(1)
    }
}

/// Of objects inside each other the inner one: it starts later.
pub fn innermost(best: Option<Entry>, entry: Entry) -> Option<Entry> {
    Some(best.filter(|best| best.address >= entry.address).unwrap_or(entry))
}
