//! Pages that a program writes to, and what the tracer says of them.

use std::time::Duration;

use pagetrace::{PageInfo, WriteTracking};

use crate::sys;

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// Pages side by side.
#[derive(Clone, Copy)]
pub struct Pages {
    pub base: usize,
    pub count: usize,
}

impl Pages {
    /// New ones that are all in memory.
    pub fn written(count: usize) -> Pages {
        let pages = Pages::untouched(count);
        pages.write_all();
        pages
    }

    /// New ones that are not.
    pub fn untouched(count: usize) -> Pages {
        // With a gap behind, so that no other memory is merged with them.
        Pages { base: sys::map((count + 1) * PAGE), count }
    }

    pub fn at(&self, page: usize) -> usize {
        assert!(page < self.count);
        self.base + page * PAGE
    }

    pub fn write(&self, page: usize) {
        sys::write(self.at(page) + 24, page as u8);
    }

    pub fn write_all(&self) {
        (0..self.count).for_each(|page| self.write(page));
    }

    pub fn info(&self, page: usize) -> PageInfo {
        pagetrace::page_info(self.at(page)).expect("writes are tracked")
    }

    /// In how many epochs each was written.
    pub fn epochs_written(&self) -> Vec<u32> {
        (0..self.count).map(|page| self.info(page).epochs_written).collect()
    }
}

/// Epochs that end when a program says so.
pub const BY_HAND: Duration = Duration::from_secs(3600);

/// Tracks everything.
#[track_caller]
pub fn track_all(epoch: Duration) {
    WriteTracking::all_writable().epoch(epoch).start().expect("writes can be tracked here");
}

/// Ends an epoch.
#[track_caller]
pub fn end_epoch() {
    pagetrace::end_write_epoch().expect("writes are tracked");
}
