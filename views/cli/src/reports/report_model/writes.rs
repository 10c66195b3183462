//! Who wrote the pages of a process: a part of a report.

/// Tracked writes of a process. Counts are of the whole trace, pages and ages those of the report's moment.
#[derive(Debug, serde::Serialize)]
pub struct Writes {
    /// `async_write_protection` and its like: how they are known.
    pub source: &'static str,
    /// Epochs that have ended; a page counts once in each in which it was written.
    pub epochs: u64,
    /// How long an epoch was on average.
    pub epoch_ns: Option<u64>,
    /// From when to when writes were tracked, since the start of the trace.
    pub since_ns: u64,
    /// See above.
    pub until_ns: u64,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Pages that are tracked, in memory or not.
    pub armed_pages: u64,
    /// Written pages, those of all epochs added up.
    pub written_pages: u64,
    /// Those of them whose first writer in the epoch is not known: the kernel wrote, or no fault told.
    pub without_writer_pages: u64,
    /// Written pages of the epoch with the most.
    pub most_in_epoch_pages: u64,
    /// Written pages of the last epoch.
    pub last_epoch_pages: u64,
    /// Pages that were written and given back in the same epoch.
    pub discarded_pages: u64,
    /// Pages that came into memory that was not tracked yet, by a write or a read.
    pub new_pages: u64,
    /// Resident memory by the time since it was written; `None` where it is not known what was resident.
    pub resident: Option<WrittenResident>,
    /// Pages that were written in the most epochs.
    pub hot_pages: Vec<WrittenPage>,
    /// How many pages more than one thread wrote to.
    pub contended_page_count: u64,
    /// Those of them with the most hand-overs: false sharing at the level of pages, or memory of the wrong node.
    pub contended_pages: Vec<WrittenPage>,
    /// From where pages were written, most first.
    pub sites: Vec<WriteSite>,
    /// What had to be copied for forked children.
    pub forks: Vec<Fork>,
    /// Accesses to ranges that the program has asked to watch.
    pub watched: Watched,
}

/// Resident anonymous memory that is tracked.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct WrittenResident {
    pub bytes: u64,
    /// Cold memory for several ages.
    pub cold: Vec<Cold>,
    /// Not written since it is tracked.
    pub never_written_bytes: u64,
    /// For how long it is.
    pub tracked_ns: u64,
}

/// Resident memory that was not written for so long.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct Cold {
    pub for_ns: u64,
    /// `None` where it was not tracked for so long.
    pub bytes: Option<u64>,
}

/// A page.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct WrittenPage {
    pub address: String,
    pub epochs_written: u64,
    /// When the last of them began and ended, since the start of the trace.
    pub last_epoch_ns: [u64; 2],
    /// Who wrote first in that epoch; `None` where it is not known, as of writes of the kernel.
    pub first_writer: Option<u32>,
    /// Threads that were seen to write to it; there may be more.
    pub threads: Vec<u32>,
    /// How often another thread than the last known was first in an epoch, or accessed what another had modified.
    pub hand_overs: u64,
    /// The objects on it by their sites.
    pub objects: Vec<ObjectsOnPage>,
}

/// Objects of one site on a page.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct ObjectsOnPage {
    pub stack: Vec<String>,
    /// Bytes of them on the page.
    pub bytes: u64,
}

/// A place of the program that writes.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct WriteSite {
    pub stack: Vec<String>,
    /// Pages of which it was the first writer in an epoch, added up.
    pub pages: u64,
    /// The same in a second of tracked time.
    pub pages_per_second: Option<f64>,
}

/// A child.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct Fork {
    pub pid: Option<u32>,
    /// Since the start of the trace.
    pub time_ns: u64,
    /// Until it ended or executed another program.
    pub lived_ns: u64,
    /// What its parent wrote meanwhile, which was copied.
    pub written_bytes: u64,
    /// What its parent wrote in the epoch of the fork, before or after it.
    pub unclear_bytes: u64,
}

/// Watched accesses.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct Watched {
    pub reads: u64,
    pub writes: u64,
    /// Of either, to pages that another thread had modified.
    pub foreign: u64,
}
