//! Looks at all pages at the end of an epoch: which were written, by whom first, which were given back; and arms what is new.

use core::sync::atomic::{AtomicU64, Ordering};

use pagetrace_format::access::WriteLabel;

use super::super::mapped_array::MappedArray;
use super::super::watched_ranges::WatchedRanges;
use super::armed_ranges::{ArmedRange, ArmedRanges, Kind};
use super::epoch_events::EpochEvents;
use super::fault_log::{FaultLog, Noted};
use super::fault_rings::FaultRings;
use super::page_records::{UNIT_PAGES, units};
use super::{COUNTS, EPOCHS, RECORDS, WRITERS};
use crate::sys::files::ReadFile;
use crate::sys::pagemap::{PageRegion, mapping_of, page_is, pagemap_scan_and_protect};
use crate::sys::userfaultfd::{Userfaultfd, feature, mode};
use crate::sys::{self, PAGE_BYTES};

/// Pages that are looked at in one step: a record of a fault within a step cannot be told to be before or after it.
const STEP_PAGES: usize = 16 << 10;
/// Regions of one call: more than a step can have.
const REGIONS: usize = STEP_PAGES + 1;
/// Bytes of a ring where the user may lock so much.
const RING_BYTES: usize = 2 << 20;

/// What the tracking works with. One thread has it at a time.
pub struct Tracker {
    pub wanted: Option<(usize, usize)>,
    userfaultfd: Option<Userfaultfd>,
    pub rings: FaultRings,
    faults: FaultLog,
    ranges: ArmedRanges,
    events: EpochEvents,
    regions: MappedArray<PageRegion>,
    epoch: u32,
    /// When the look of the epoch before began.
    begun: u64,
    /// Whether a range of memory has gone in this epoch: what came new may be its contents.
    something_went: bool,
    first_look: bool,
    /// The last writer and its number.
    last_writer: ((u32, Option<u64>), u32),
}

impl Tracker {
    pub const fn new() -> Tracker {
        Tracker {
            wanted: None,
            userfaultfd: None,
            rings: FaultRings::new(),
            faults: FaultLog::new(),
            ranges: ArmedRanges::new(),
            events: EpochEvents::new(),
            regions: MappedArray::new(),
            epoch: 0,
            begun: 0,
            something_went: false,
            first_look: true,
            last_writer: ((0, None), 0),
        }
    }

    /// Makes room, and asks the kernel for what it takes.
    pub fn open(&mut self) -> Result<(), crate::AccessError> {
        let made = RECORDS.make()
            && WRITERS.make()
            && EPOCHS.make()
            && self.faults.make()
            && self.ranges.make()
            && self.events.make()
            && self.regions.make(REGIONS);
        if !made {
            return Err(crate::AccessError::Memory(std::io::Error::last_os_error()));
        }
        while self.regions.room() > 0 {
            self.regions.push(PageRegion::default());
        }
        let features = feature::WP_ASYNC;
        self.userfaultfd = Some(Userfaultfd::open(features, false).map_err(|errno| unavailable(ASYNC, errno))?);
        self.find_out()?;
        if !self.rings.open(RING_BYTES) {
            COUNTS.threads_unseen.store(u64::MAX, Ordering::Relaxed);
        } else {
            COUNTS.threads_unseen.store(self.rings.unseen, Ordering::Relaxed);
        }
        self.epoch = 0;
        self.first_look = true;
        self.begun = sys::monotonic_ns();
        EPOCHS.set_start(self.begun);
        self.end_epoch()
    }

    /// Tries it all on a page of the tracer's own: kernels have been seen that accept everything and do nothing.
    fn find_out(&mut self) -> Result<(), crate::AccessError> {
        // SAFETY: anywhere; unmapped below.
        let page = unsafe { sys::map_zeroed(core::ptr::null(), PAGE_BYTES) };
        let Some(page) = page else { return Err(crate::AccessError::Memory(std::io::Error::last_os_error())) };
        let range = (page as usize, page as usize + PAGE_BYTES);
        // SAFETY: the page is this function's own.
        let word = unsafe { &*page.cast::<AtomicU64>() };
        word.store(1, Ordering::Relaxed);
        let result = self.written_after(range, || ()).and_then(|first| {
            let untouched = self.written_after(range, || ())?;
            let written = self.written_after(range, || word.store(2, Ordering::Relaxed))?;
            Ok((first, untouched, written))
        });
        if let Some(userfaultfd) = &self.userfaultfd {
            let _ = userfaultfd.unregister(range.0, range.1);
        }
        // SAFETY: nobody has it.
        unsafe { sys::unmap(page, PAGE_BYTES) };
        match result {
            Ok((true, false, true)) => Ok(()),
            Ok(_) => Err(unavailable(ASYNC, libc::EOPNOTSUPP)),
            Err(errno) => Err(unavailable(SCAN, errno)),
        }
    }

    fn written_after(&mut self, range: (usize, usize), work: impl FnOnce()) -> Result<bool, i32> {
        let pagemap = ReadFile::open(c"/proc/self/pagemap").ok_or(libc::ENOENT)?;
        if let Some(userfaultfd) = &self.userfaultfd {
            userfaultfd.register(range.0, range.1, mode::WRITE_PROTECT)?;
        }
        work();
        let range = (range.0 as u64, range.1 as u64);
        let reported = page_is::WRITTEN | page_is::PRESENT;
        let count = pagemap_scan_and_protect(&pagemap, range, reported, self.regions.values_mut())?;
        Ok(self.regions.values()[..count].iter().any(|region| region.categories & page_is::WRITTEN != 0))
    }

    /// Takes what the rings hold.
    pub fn drain(&mut self) {
        let faults = &mut self.faults;
        let lost = self.rings.take(&mut |fault| faults.note(&RECORDS, fault));
        COUNTS.faults_lost.fetch_add(lost + core::mem::take(&mut faults.lost), Ordering::Relaxed);
    }

    /// Whether the epoch should end early.
    pub fn is_nearly_full(&self) -> bool {
        self.faults.is_nearly_full()
    }

    /// Ends the epoch: looks at all pages and arms them again.
    pub fn end_epoch(&mut self) -> Result<(), crate::AccessError> {
        self.drain();
        if !self.userfaultfd.as_ref().is_some_and(Userfaultfd::is_there) {
            // The program has closed it, and all was disarmed with it.
            self.userfaultfd =
                Some(Userfaultfd::open(feature::WP_ASYNC, false).map_err(|errno| unavailable(ASYNC, errno))?);
            self.rings.close();
            self.rings.open(RING_BYTES);
            self.first_look = true;
            self.ranges.release();
        }
        let pagemap = ReadFile::open(c"/proc/self/pagemap").ok_or_else(|| unavailable(SCAN, libc::ENOENT))?;
        let looked = self.ranges.look(self.wanted, WatchedRanges::now().as_slice());
        if !looked {
            return Err(unavailable("/proc/self/maps", libc::ENOENT));
        }
        let began = sys::monotonic_ns();
        let (mut changed, mut went) = (self.first_look, false);
        self.ranges.for_each_gone(&mut |range| {
            (changed, went) = (true, true);
            RECORDS.forget((range.from, range.to));
        });
        self.something_went = went;
        let mut new = NewRanges::default();
        self.ranges.for_each_new(&mut |range| {
            changed = true;
            new.arm(self.userfaultfd.as_ref(), range);
        });
        self.epoch += 1;
        let mut events = core::mem::replace(&mut self.events, EpochEvents::new());
        events.begin(self.epoch, self.begun, changed.then(|| self.ranges.now()));
        let (mut bytes, mut untracked) = (0, 0);
        for index in 0..self.ranges.now().len() {
            let range = self.ranges.now()[index];
            bytes += ((range.to - range.from) * PAGE_BYTES) as u64;
            untracked += self.look_at(&pagemap, range, &mut new, &mut events);
        }
        let end = sys::monotonic_ns();
        events.end(end);
        self.events = events;
        self.faults.keep_later(&RECORDS, began);
        EPOCHS.note(self.epoch, self.begun, end);
        COUNTS.epochs.store(self.epoch.into(), Ordering::Relaxed);
        COUNTS.bytes_tracked.store(bytes - untracked, Ordering::Relaxed);
        COUNTS.bytes_untracked.store(untracked, Ordering::Relaxed);
        COUNTS.last_scan_ns.store(end - began, Ordering::Relaxed);
        self.begun = began;
        self.first_look = false;
        Ok(())
    }

    /// Looks at a range, step by step. How many bytes of it could not be looked at.
    fn look_at(&mut self, pagemap: &ReadFile, range: ArmedRange, new: &mut NewRanges, events: &mut EpochEvents) -> u64 {
        let (mut from, mut untracked) = (range.from, 0);
        // Up to where a mapping has been tried to be armed on its own.
        let mut tried = range.from;
        while from < range.to {
            // Steps end at units, whose time of the last look is one.
            let mut to = ((from + STEP_PAGES) / UNIT_PAGES * UNIT_PAGES).min(range.to);
            if from < tried {
                to = to.min(tried);
            }
            match self.step(pagemap, ArmedRange { from, to, ..range }, new, events) {
                Ok(()) => {}
                Err(libc::EINTR) => continue,
                Err(_) if from < tried => untracked += ((to - from) * PAGE_BYTES) as u64,
                Err(_) => {
                    // A part of it was mapped anew at the same place, or could not be registered with the rest.
                    let mapped = mapping_of(from * PAGE_BYTES).map_or(to, |(_, end)| end / PAGE_BYTES);
                    tried = mapped.clamp(from + 1, range.to);
                    new.arm(self.userfaultfd.as_ref(), ArmedRange { from, to: tried, ..range });
                    continue;
                }
            }
            from = to;
        }
        untracked
    }

    /// Looks at so many pages as one call can.
    fn step(
        &mut self,
        pagemap: &ReadFile,
        range: ArmedRange,
        new: &NewRanges,
        events: &mut EpochEvents,
    ) -> Result<(), i32> {
        let began = sys::monotonic_ns();
        let bounds = ((range.from * PAGE_BYTES) as u64, (range.to * PAGE_BYTES) as u64);
        let reported = page_is::WRITTEN
            | page_is::PRESENT
            | page_is::PFNZERO
            | page_is::HUGE
            | if range.kind == Kind::PrivateFile { page_is::FILE } else { 0 };
        let count = pagemap_scan_and_protect(pagemap, bounds, reported, self.regions.values_mut())?;
        let ended = sys::monotonic_ns();
        self.drain();
        let mut next = range.from;
        for index in 0..count {
            let region = self.regions.values()[index];
            let pages = (region.start as usize / PAGE_BYTES, region.end as usize / PAGE_BYTES);
            self.absent(range.kind, (next, pages.0), events);
            self.present(range.kind, pages, region.categories, new, ended, events);
            next = pages.1;
        }
        self.absent(range.kind, (next, range.to), events);
        RECORDS.set_looked_at((range.from, range.to), began);
        Ok(())
    }

    /// Pages without contents: those that had some were given back. Of shared ones the contents are elsewhere.
    fn absent(&mut self, kind: Kind, pages: (usize, usize), events: &mut EpochEvents) {
        if kind == Kind::Shared {
            return;
        }
        RECORDS.for_each_held(pages, &mut |page| discarded(page, events));
    }

    /// Pages side by side that the kernel says the same of.
    fn present(
        &mut self,
        kind: Kind,
        pages: (usize, usize),
        is: u64,
        new: &NewRanges,
        until: u64,
        events: &mut EpochEvents,
    ) {
        let own_contents = is & page_is::PFNZERO == 0 && (kind != Kind::PrivateFile || is & page_is::FILE == 0);
        if !own_contents {
            return self.absent(kind, pages, events);
        }
        let in_memory = is & page_is::PRESENT != 0;
        if is & page_is::WRITTEN == 0 || self.first_look {
            for (from, to) in units(pages) {
                if RECORDS.held_in_unit(from) as usize != UNIT_PAGES {
                    (from..to).for_each(|page| RECORDS.set_held(page, true, in_memory));
                }
            }
            return;
        }
        for page in pages.0..pages.1 {
            let by = self.faults.take(&RECORDS, page, until);
            let (is_new, huge) = (new.hold(page), is & page_is::HUGE != 0);
            if by.is_none() && (is_new || huge) {
                // The kernel wrote there, or it was moved from elsewhere, or only read; of a huge page it is known of the whole
                // alone.
                events.page(page, WriteLabel::New, None);
                if kind == Kind::Anonymous && is_new && !huge && !self.something_went {
                    self.written(page, None);
                }
            } else {
                events.page(page, WriteLabel::Written, by.as_ref());
                self.written(page, by.as_ref());
            }
            RECORDS.set_held(page, true, in_memory);
        }
    }

    /// Notes in a page's record that it was written.
    fn written(&mut self, page: usize, by: Option<&Noted>) {
        let Some(record) = RECORDS.get_or_make(page) else { return };
        let before = record.known().writer;
        let writer = by.map_or(0, |noted| self.number_of(noted));
        if before != writer
            && let (Some((before, _)), Some(by)) = (WRITERS.get(before), by)
            && before != by.tid
        {
            COUNTS.by_another.fetch_add(1, Ordering::Relaxed);
        }
        COUNTS.pages_written.fetch_add(1, Ordering::Relaxed);
        COUNTS.without_thread.fetch_add(u64::from(by.is_none()), Ordering::Relaxed);
        record.set_written(self.epoch, writer);
    }

    /// Neighbours have one writer most of the time, which is not looked up again.
    fn number_of(&mut self, noted: &Noted) -> u32 {
        let writer = (noted.tid, noted.task);
        if self.last_writer.0 != writer {
            self.last_writer = (writer, WRITERS.number_of(noted.tid, noted.task));
        }
        self.last_writer.1
    }

    /// Ends the tracking of a range that is in the list of those to leave out.
    pub fn let_go_of(&mut self, start: usize, end: usize) {
        // What was written until here is told, and the range is left out from here on.
        let _ = self.end_epoch();
        if let Some(userfaultfd) = &self.userfaultfd {
            let _ = userfaultfd.unregister(start, end);
        }
    }

    /// Disarms everything and gives all back.
    pub fn close(&mut self) {
        if let Some(userfaultfd) = self.userfaultfd.take()
            && userfaultfd.is_there()
        {
            for range in self.ranges.now() {
                // What was unmapped meanwhile is not registered any more.
                let _ = userfaultfd.unregister(range.from * PAGE_BYTES, range.to * PAGE_BYTES);
            }
        }
        self.rings.close();
        self.forget();
    }

    /// In a forked child: what it has of its parent's is closed, and nothing is known of its own memory yet.
    pub fn close_in_child(&mut self) {
        self.userfaultfd = None;
        self.rings.close_in_child();
        self.forget();
    }

    fn forget(&mut self) {
        self.faults.release();
        self.ranges.release();
        self.last_writer = ((0, None), 0);
        RECORDS.release();
        WRITERS.release();
    }
}

fn discarded(page: usize, events: &mut EpochEvents) {
    RECORDS.set_held(page, false, false);
    if let Some(record) = RECORDS.get(page) {
        record.set_discarded();
    }
    COUNTS.discarded.fetch_add(1, Ordering::Relaxed);
    events.page(page, WriteLabel::Discarded, None);
}

const ASYNC: &str = "userfaultfd with asynchronous write protection (UFFD_FEATURE_WP_ASYNC)";
const SCAN: &str = "the PAGEMAP_SCAN ioctl of /proc/self/pagemap";

fn unavailable(what: &'static str, errno: i32) -> crate::AccessError {
    crate::AccessError::Unavailable { what, source: std::io::Error::from_raw_os_error(errno) }
}

/// The ranges that came in this epoch. Of more than there is room for the last one goes from the first of these to the end.
#[derive(Default)]
struct NewRanges {
    ranges: [(usize, usize); 32],
    count: usize,
}

impl NewRanges {
    /// Registers a range. Shared pages are protected at once, since a page that is read first would look as if written.
    fn arm(&mut self, userfaultfd: Option<&Userfaultfd>, range: ArmedRange) {
        let Some(userfaultfd) = userfaultfd else { return };
        let (start, end) = (range.from * PAGE_BYTES, range.to * PAGE_BYTES);
        // What cannot be registered is told by the look at it.
        let registered = userfaultfd.register(start, end, mode::WRITE_PROTECT);
        if registered.is_ok() && range.kind == Kind::Shared {
            let _ = userfaultfd.write_protect(start, end, true);
        }
        if self.count < self.ranges.len() {
            self.ranges[self.count] = (range.from, range.to);
            self.count += 1;
        } else if let Some(last) = self.ranges.last_mut() {
            last.1 = range.to;
        }
    }

    fn hold(&self, page: usize) -> bool {
        self.ranges[..self.count].iter().any(|&(from, to)| (from..to).contains(&page))
    }
}
