//! A region of pages: runs are taken at the lowest address that fits, free neighbours become one, and what is more than
//! is to be retained goes back to the kernel from the highest address down.
//!
//! The page-trace buffer is told of everything here, while the caller holds the lock of the shard.

use std::io;
use std::ops::Range;

use pagetrace::PageTraceBuf;

use crate::{PAGE_BYTES, sys};

/// Pages by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageCounts {
    /// Taken.
    pub in_use: usize,
    /// Free and kept.
    pub free: usize,
    /// Free and given back to the kernel.
    pub scavenged: usize,
    /// Never taken.
    pub fresh: usize,
}

impl PageCounts {
    pub(crate) fn plus(self, other: PageCounts) -> PageCounts {
        PageCounts {
            in_use: self.in_use + other.in_use,
            free: self.free + other.free,
            scavenged: self.scavenged + other.scavenged,
            fresh: self.fresh + other.fresh,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum PageState {
    #[default]
    Fresh,
    InUse,
    Free,
    Scavenged,
}

#[derive(Clone, Copy, Debug, Default)]
struct Page {
    state: PageState,
    /// On the first and on the last page of a run: its length. So both neighbours of a run are found at once.
    run_pages: u32,
}

/// A region and its page-trace buffer.
#[derive(Debug)]
pub struct PageHeap {
    base: usize,
    pages: Box<[Page]>,
    /// No page below it is free.
    lowest_free: usize,
    retained_pages: usize,
    retained_pages_max: usize,
    trace: PageTraceBuf,
}

impl PageHeap {
    /// Reserves a region of so many pages.
    pub fn new(pages: usize, retained_pages_max: usize) -> io::Result<PageHeap> {
        let base = sys::reserve(pages * PAGE_BYTES)?;
        let trace = PageTraceBuf::new();
        let mut heap = PageHeap {
            base,
            pages: vec![Page::default(); pages].into_boxed_slice(),
            lowest_free: 0,
            retained_pages: 0,
            retained_pages_max,
            trace,
        };
        heap.set_run(0..pages);
        Ok(heap)
    }

    /// Takes a run of pages, `None` where no free run is long enough. Returns its address.
    pub fn alloc(&mut self, pages: usize) -> Option<usize> {
        let found = self.first_fit(pages)?;
        let run = found.start..found.start + pages;
        if run.end < found.end {
            self.set_run(run.end..found.end);
        }
        self.set_run(run.clone());
        for page in &mut self.pages[run.clone()] {
            self.retained_pages -= usize::from(page.state == PageState::Free);
            page.state = PageState::InUse;
        }
        if self.lowest_free == run.start {
            self.lowest_free = run.end;
        }
        let address = self.address(run.start);
        // Before the lock is let go: no other event of these pages can come first.
        self.trace.alloc(address, pages);
        Some(address)
    }

    /// Gives a run back that was taken.
    pub fn free(&mut self, address: usize, pages: usize) {
        let mut run = self.index(address)..self.index(address) + pages;
        // Before others can take them, which is when the lock is let go.
        self.trace.free(address, pages);
        self.pages[run.clone()].iter_mut().for_each(|page| page.state = PageState::Free);
        self.retained_pages += pages;
        self.lowest_free = self.lowest_free.min(run.start);
        if run.start > 0 && self.pages[run.start - 1].state != PageState::InUse {
            run.start -= self.pages[run.start - 1].run_pages as usize;
        }
        if run.end < self.pages.len() && self.pages[run.end].state != PageState::InUse {
            run.end += self.pages[run.end].run_pages as usize;
        }
        self.set_run(run);
        if self.retained_pages > self.retained_pages_max {
            // Not down to the limit only: the next free would be above it again.
            self.scavenge(self.retained_pages_max / 2);
        }
    }

    /// Gives free pages back to the kernel until at most `retained_pages` are kept.
    pub fn scavenge(&mut self, retained_pages: usize) {
        let mut end = self.pages.len();
        while self.retained_pages > retained_pages && end > 0 {
            end = match self.pages[end - 1].state {
                PageState::InUse => end - self.pages[end - 1].run_pages as usize,
                PageState::Fresh | PageState::Scavenged => end - 1,
                PageState::Free => {
                    let surplus = self.retained_pages - retained_pages;
                    let free = self.pages[..end].iter().rev().take(surplus);
                    let pages = free.take_while(|page| page.state == PageState::Free).count();
                    self.give_back(end - pages..end);
                    end - pages
                }
            };
        }
    }

    /// Counts all pages, one by one.
    pub fn count(&self) -> PageCounts {
        let of = |state| self.pages.iter().filter(|page| page.state == state).count();
        PageCounts {
            in_use: of(PageState::InUse),
            free: of(PageState::Free),
            scavenged: of(PageState::Scavenged),
            fresh: of(PageState::Fresh),
        }
    }

    /// Number of the page in the region that `address` lies in.
    pub fn index(&self, address: usize) -> usize {
        (address - self.base) / PAGE_BYTES
    }

    /// Address of a page of the region.
    pub fn address(&self, index: usize) -> usize {
        self.base + index * PAGE_BYTES
    }

    fn give_back(&mut self, run: Range<usize>) {
        let address = self.address(run.start);
        if !sys::give_back(address, run.len() * PAGE_BYTES) {
            return;
        }
        // Free and under the lock: nobody has taken them meanwhile.
        self.trace.scav(address, run.len());
        self.retained_pages -= run.len();
        self.pages[run].iter_mut().for_each(|page| page.state = PageState::Scavenged);
    }

    fn first_fit(&self, pages: usize) -> Option<Range<usize>> {
        let mut start = self.lowest_free;
        while let Some(page) = self.pages.get(start) {
            let run = start..start + page.run_pages as usize;
            if page.state != PageState::InUse && run.len() >= pages {
                return Some(run);
            }
            start = run.end;
        }
        None
    }

    fn set_run(&mut self, run: Range<usize>) {
        self.pages[run.start].run_pages = run.len() as u32;
        self.pages[run.end - 1].run_pages = run.len() as u32;
    }
}
