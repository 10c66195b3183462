//! What objects do to pages: live bytes and live objects on each page, and whether it ever held one.
//!
//! That it did is a byte a page; what lies there now is [counted](live_counts) when it is asked for. The pages that a big object
//! covers whole are not kept one by one: taking 1 GiB costs two records and one interval. Which pages those are at a moment is
//! told by the objects themselves ([`PageTable::covered_whole`]).

mod checkpoint;
mod live_counts;

use pagetrace_format::PageShift;

use crate::intervals::{INTERVAL_BYTES, Intervals};
use crate::page_map::{LEAF_PAGES, PageMap};
use live_counts::LiveCounts;
pub(crate) use live_counts::LiveOnPage;

/// From this many pages covered whole, an object's inner pages are kept as an interval.
const LARGE_FROM_PAGES: u64 = 32;

/// What was on a page since it was mapped, inner pages of large objects left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held(u8);

impl Held {
    const OBJECT: u8 = 1;
    /// A chunk of a glibc heap, by its usable size.
    const CHUNK: u8 = 2;

    fn has(self, what: u8) -> bool {
        self.0 & what != 0
    }
}

/// The pages of one process.
#[derive(Clone, Debug)]
pub(crate) struct PageTable {
    shift: PageShift,
    held: PageMap<Held>,
    live: LiveCounts,
    large_ever_held: Intervals,
    /// Pages that held an object before a gap after which objects are unknown.
    held_before_gap: Intervals,
    /// Those of them that held a chunk of a glibc heap.
    chunks_before_gap: Intervals,
    /// Anonymous pages that were resident when the recording attached.
    before_attach: Intervals,
}

impl PageTable {
    pub(crate) fn new(shift: PageShift) -> PageTable {
        PageTable {
            shift,
            held: PageMap::new(),
            live: LiveCounts::default(),
            large_ever_held: Intervals::default(),
            held_before_gap: Intervals::default(),
            chunks_before_gap: Intervals::default(),
            before_attach: Intervals::default(),
        }
    }

    pub(crate) fn shift(&self) -> PageShift {
        self.shift
    }

    /// An object of `usable` bytes came to life.
    #[inline]
    pub(crate) fn add(&mut self, address: u64, usable: u64) {
        let span = Span::of(self.shift, address, usable);
        if span.is_large() {
            self.large_ever_held.insert(span.first + 1..span.last);
        }
        let holds = Held::OBJECT | if usable % 16 == 8 { Held::CHUNK } else { 0 };
        span.change_records(|page, _, _| self.held.get_mut(page).0 |= holds);
        self.live.add(span);
    }

    /// The pages of a dead object were unmapped with it: whatever is there later is not the allocator's for its sake. What lies
    /// on pages must have been [asked for](PageTable::ask_for_live).
    pub(crate) fn unmap(&mut self, address: u64, usable: u64) {
        let span = Span::of(self.shift, address, usable);
        if span.is_large() {
            self.large_ever_held.remove(span.first + 1..span.last);
        }
        span.each_record(|page, _| {
            if self.live.on(page).objects == 0 {
                *self.held.get_mut(page) = Held::default();
            }
        });
    }

    /// An object that [`PageTable::add`] was told of died.
    #[inline]
    pub(crate) fn remove(&mut self, address: u64, usable: u64) {
        self.live.remove(Span::of(self.shift, address, usable));
    }

    /// Reads the memory that [`PageTable::add`] and [`PageTable::remove`] of an object here read first.
    #[inline]
    pub(crate) fn approach(&self, address: u64) {
        self.live.approach(address >> self.shift.get());
    }

    /// So many events went by, and so many objects live.
    #[inline]
    pub(crate) fn go_on(&mut self, events: usize, live: usize) {
        self.live.go_on(events, live);
    }

    /// From here to the next event it is known what lies on each page: `objects` are the addresses and usable bytes of the live ones.
    pub(crate) fn ask_for_live(&mut self, objects: impl Iterator<Item = (u64, u64)>) {
        let shift = self.shift;
        self.live.ask(objects.map(|(address, usable)| Span::of(shift, address, usable)));
    }

    /// What lies on a page. It must have been [asked for](PageTable::ask_for_live).
    #[inline]
    pub(crate) fn live_on(&self, page: u64) -> LiveOnPage {
        self.live.on(page)
    }

    /// Takes all objects away without saying that they died: their pages are the allocator's, and what they hold is
    /// not known.
    pub(crate) fn forget(&mut self) {
        self.chunks_before_gap = self.ever_held_chunks();
        self.held_before_gap = self.ever_held();
        self.large_ever_held = Intervals::default();
        self.held = PageMap::new();
        self.live.clear();
    }

    /// Whether a page may hold objects nobody knows of.
    pub(crate) fn may_hold_unknown(&self, page: u64) -> bool {
        self.held_before_gap.contains(page) || self.before_attach.contains(page)
    }

    /// Whether there may be any such.
    pub(crate) fn has_unknown(&self) -> bool {
        !self.held_before_gap.is_empty() || !self.before_attach.is_empty()
    }

    /// These pages were resident when the recording attached. Which of them are the allocator's only later objects tell.
    pub(crate) fn attach(&mut self, resident: Intervals) {
        self.before_attach = resident;
    }

    /// About how much memory a copy takes.
    pub(crate) fn heap_bytes(&self) -> usize {
        let sets = [&self.large_ever_held, &self.held_before_gap, &self.chunks_before_gap, &self.before_attach];
        self.held.heap_bytes()
            + LiveCounts::heap_bytes_max(&self.held)
            + sets.map(Intervals::len).iter().sum::<usize>() * INTERVAL_BYTES
    }

    /// All pages that ever held an object.
    pub(crate) fn ever_held(&self) -> Intervals {
        let mut held = self.held_before_gap.clone();
        self.large_ever_held.iter().for_each(|range| held.insert(range));
        self.add_pages(&mut held, Held::OBJECT);
        held
    }

    /// Pages that ever held a chunk of a glibc heap, inner pages of large ones left out.
    pub(crate) fn ever_held_chunks(&self) -> Intervals {
        let mut held = self.chunks_before_gap.clone();
        self.add_pages(&mut held, Held::CHUNK);
        held
    }

    fn add_pages(&self, set: &mut Intervals, what: u8) {
        for (first, pages) in self.held.leaves() {
            let mut start = first;
            for run in pages.chunk_by(|a, b| a.has(what) == b.has(what)) {
                let end = start + run.len() as u64;
                if run[0].has(what) {
                    set.insert(start..end);
                }
                start = end;
            }
        }
    }

    /// The pages that objects of [`PageTable::add`] cover whole without a record for each.
    pub(crate) fn covered_whole(shift: PageShift, objects: impl Iterator<Item = (u64, u64)>) -> Intervals {
        let mut covered = Intervals::default();
        let large = objects.map(|(address, usable)| Span::of(shift, address, usable)).filter(Span::is_large);
        large.for_each(|span| covered.insert(span.first + 1..span.last));
        covered
    }

    /// Whether [`PageTable::prune`] has to know what lies on pages.
    pub(crate) fn holds_unmapped(&self, mapped: &Intervals) -> bool {
        self.held.leaves().any(|(first, pages)| {
            !mapped.covers(first..first + LEAF_PAGES)
                && (first..).zip(pages).any(|(page, held)| held.has(Held::OBJECT) && !mapped.contains(page))
        })
    }

    /// Forgets what pages held that are not in `mapped` any more and hold no live object. Where it
    /// [holds some](PageTable::holds_unmapped) what lies on pages must have been [asked for](PageTable::ask_for_live).
    pub(crate) fn prune(&mut self, mapped: &Intervals) {
        self.large_ever_held = self.large_ever_held.intersection(mapped);
        self.held_before_gap = self.held_before_gap.intersection(mapped);
        self.chunks_before_gap = self.chunks_before_gap.intersection(mapped);
        self.before_attach = self.before_attach.intersection(mapped);
        self.held.prune(|first, pages| {
            if mapped.covers(first..first + LEAF_PAGES) {
                return;
            }
            for (page, held) in (first..).zip(pages) {
                if held.has(Held::OBJECT) && !mapped.contains(page) && self.live.on(page).objects == 0 {
                    *held = Held::default();
                }
            }
        });
        self.live.prune();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.leaves().next().is_none() && self.held_before_gap.is_empty()
    }
}

/// The pages of one object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    first: u64,
    last: u64,
    first_bytes: u32,
    last_bytes: u32,
    page_bytes: u32,
}

impl Span {
    /// An object without usable bytes lies on the page of its address.
    #[inline]
    pub(crate) fn of(shift: PageShift, address: u64, usable: u64) -> Span {
        let page_bytes = shift.bytes();
        let end = address.saturating_add(usable);
        let last_byte = end.saturating_sub(1).max(address);
        let (first, last) = (address >> shift.get(), last_byte >> shift.get());
        let in_page = page_bytes - 1;
        // A page is at most 1 GiB, so that its bytes fit 32 bits. Without branches: which case it is cannot be foreseen.
        let first_bytes = (end - address).min(page_bytes - (address & in_page)) as u32;
        let last_bytes = ((last_byte & in_page) + 1) as u32 * u32::from(first != last);
        Span { first, last, first_bytes, last_bytes, page_bytes: page_bytes as u32 }
    }

    /// Its first and its last page.
    pub(crate) fn pages(&self) -> (u64, u64) {
        (self.first, self.last)
    }

    #[inline]
    fn is_large(&self) -> bool {
        self.last - self.first > LARGE_FROM_PAGES
    }

    /// Gives `change` every page of the object that has a record, the bytes of the object on it and one object. What lies on a
    /// single page changes its record twice, the second time by nothing: whether there is a second page is a coin toss that the
    /// processor would lose half of the time.
    #[inline]
    fn change_records(&self, mut change: impl FnMut(u64, u32, u32)) {
        change(self.first, self.first_bytes, 1);
        if self.last - self.first > 1 && !self.is_large() {
            for page in self.first + 1..self.last {
                change(page, self.page_bytes, 1);
            }
        }
        change(self.last, self.last_bytes, u32::from(self.first != self.last));
    }

    /// Every page of the object that has a record, with the bytes of the object on it.
    #[inline]
    pub(crate) fn each_record(&self, mut each: impl FnMut(u64, u32)) {
        each(self.first, self.first_bytes);
        if self.first == self.last {
            return;
        }
        if !self.is_large() {
            for page in self.first + 1..self.last {
                each(page, self.page_bytes);
            }
        }
        each(self.last, self.last_bytes);
    }
}
