//! One watched range: its pages are moved to a stash that nobody knows, and moved back one by one as somebody comes for them.
//!
//! ```text
//!            moved away                     somebody reads: moved back, write-protected
//!   open ────────────────▶ armed ──────────────────────────────────────────────▶ open to reads
//!    ▲  ▲                    │ somebody writes: moved back                            │
//!    │  └────────────────────┘                                                        │
//!    └────────────────────────────────────────────────────── somebody writes ─────────┘
//!   open, and cannot be moved (shared with a forked child, or pinned): write-protected, so that writes alone are seen
//! ```

use super::super::mapped_array::MappedArray;
use super::mechanism::{Mechanism, Place, State, drop_stashed};
use crate::sys::userfaultfd::Userfaultfd;
use crate::sys::{self, PAGE_BYTES, page_rights};

/// A page is armed again before its period is over, to see who else comes for it: so often if several threads have lately…
const EARLY_CONTESTED: u8 = 10;
/// …so often if not, for the sake of a second one…
const EARLY_ALONE: u8 = 2;
/// …and of such pages so many in a period.
const EARLY_ALONE_ALL: u32 = 32;
/// What *lately* is, in periods.
const LATELY: u8 = 200;
/// The kernel tells that a page is to be given back before it is: by then it is, unless its thread stands still.
const GIVING_BACK_NS: u64 = 1_000_000_000;
/// The part of a period between two such armings.
pub const EARLY_PARTS: u64 = 12;

/// What is known of a page.
#[derive(Clone, Copy, Debug)]
struct Page {
    state: State,
    /// Whether it is among those that are to be armed again.
    touched: bool,
    /// How often it was armed early in this period.
    early: u8,
    /// Who was seen at it last in this period, 0 for nobody.
    seen: u32,
    /// Whether that wrote.
    seen_writing: bool,
    /// Who was seen at it last, 0 for nobody; and for how many periods more it counts as contested.
    accessed_by: u32,
    contested: u8,
    /// Who was seen writing last, 0 for nobody, and when.
    modified_by: u32,
    modified_at: u64,
    /// When the program gave it back, 0 for never.
    given_back_at: u64,
}

const NEW: Page = Page {
    state: State::Open,
    touched: true,
    early: 0,
    seen: 0,
    seen_writing: false,
    accessed_by: 0,
    contested: 0,
    modified_by: 0,
    modified_at: 0,
    given_back_at: 0,
};

/// The range.
pub struct WatchedRange {
    start: usize,
    end: usize,
    stash: usize,
    pages: MappedArray<Page>,
    /// Pages that were accessed since they were armed.
    touched: MappedArray<u32>,
    /// Armings before the end of this period that pages may have of which one thread alone was seen at each.
    early_left: u32,
}

/// What an access was, for those who are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Who modified the page last and when, if that was another thread.
    pub modified: Option<(u32, u64)>,
    /// Whether it is news: not what the same thread was seen doing before in this period.
    pub is_news: bool,
    /// By protection, not by absence.
    pub protected: bool,
    /// Whether the page should be armed early, to see who else comes.
    pub early: bool,
}

impl WatchedRange {
    pub const fn new() -> WatchedRange {
        WatchedRange {
            start: 0,
            end: 0,
            stash: 0,
            pages: MappedArray::new(),
            touched: MappedArray::new(),
            early_left: 0,
        }
    }

    /// Takes a range over, and makes room for what is to be known and for its pages.
    ///
    /// # Errors
    /// The kernel's number.
    pub fn begin(&mut self, by: &Mechanism, start: usize, end: usize) -> Result<(), i32> {
        let count = (end - start) / PAGE_BYTES;
        let mut pages = MappedArray::new();
        let mut touched = MappedArray::new();
        let stash = if by.moves() {
            // SAFETY: anywhere.
            unsafe { sys::map_zeroed(core::ptr::null(), end - start) }
        } else {
            Some(core::ptr::null())
        };
        let (Some(stash), true) = (stash, pages.make(count) && touched.make(count)) else { return Err(libc::ENOMEM) };
        *self = WatchedRange { start, end, stash: stash as usize, pages, touched, early_left: 0 };
        for index in 0..count {
            self.pages.push(NEW);
            self.touched.push(index as u32);
        }
        by.begin(self.place(0), end - start).inspect_err(|_| self.unmap())
    }

    /// Gives back everything that was taken for it, once its pages are back.
    pub fn end(&mut self, by: &Mechanism) {
        by.end(self.place(0), self.end - self.start);
        self.unmap();
    }

    /// Whether an address lies in it.
    pub fn holds(&self, address: usize) -> bool {
        (self.start..self.end).contains(&address)
    }

    /// Whether a part of a range lies in it.
    pub fn overlaps(&self, from: usize, to: usize) -> bool {
        self.start < to && from < self.end
    }

    /// Puts all pages back. Whoever comes then finds them. False while the kernel is changing mappings, since it waits for its
    /// messages to be read: then it is to be tried again.
    pub fn restore(&mut self, by: &Mechanism) -> bool {
        if !by.moves() {
            self.give_all_rights();
            return true;
        }
        for index in 0..self.pages.values().len() {
            let state = self.pages.values()[index].state;
            if state == State::Open {
                continue;
            }
            if !by.restore(self.place(index), state) {
                return false;
            }
            self.open(index, State::Open);
        }
        true
    }

    /// A period begins: arms all pages that were accessed.
    pub fn arm(&mut self, by: &Mechanism) {
        if self.touched.values().len() == self.pages.values().len()
            && self.pages.values().iter().all(|page| page.state == State::Open && page.given_back_at == 0)
        {
            // Those that have moved are armed, whatever became of the rest.
            let armed = by.arm_all(self.place(0), self.end - self.start) / PAGE_BYTES;
            self.pages.values_mut()[..armed].iter_mut().for_each(|page| page.state = State::Armed);
        }
        self.early_left = EARLY_ALONE_ALL;
        let mut kept = 0;
        for at in 0..self.touched.values().len() {
            let index = self.touched.values()[at];
            let page = &mut self.pages.values_mut()[index as usize];
            (page.early, page.seen, page.contested) = (0, 0, page.contested.saturating_sub(1));
            if self.arm_page(by, index as usize) {
                self.pages.values_mut()[index as usize].touched = false;
            } else {
                // Not now: it is tried again.
                self.touched.values_mut()[kept] = index;
                kept += 1;
            }
        }
        self.touched.truncate(kept);
    }

    /// Arms the page of an address within its period.
    pub fn arm_early(&mut self, by: &Mechanism, address: usize) {
        let index = (address - self.start) / PAGE_BYTES;
        let page = &mut self.pages.values_mut()[index];
        if page.state != State::Armed {
            page.early += 1;
            // It stays among the touched ones, so that the next period finds it.
            self.arm_page(by, index);
        }
    }

    /// What an access is that has come to an address.
    pub fn seen(&mut self, address: usize, tid: u32, write: bool, time: u64) -> Seen {
        let page = &mut self.pages.values_mut()[(address - self.start) / PAGE_BYTES];
        let modified =
            (page.modified_by != 0 && page.modified_by != tid).then_some((page.modified_by, page.modified_at));
        let is_news = page.seen != tid || write && !page.seen_writing;
        if page.accessed_by != tid && page.accessed_by != 0 {
            page.contested = LATELY;
        }
        page.accessed_by = tid;
        let alone = page.contested == 0;
        let early = page.early < if alone { EARLY_ALONE } else { EARLY_CONTESTED } && (!alone || self.early_left > 0);
        self.early_left -= u32::from(early && alone);
        let seen = Seen { modified, is_news, protected: page.state == State::OpenToReads, early };
        page.seen_writing = write || page.seen_writing && page.seen == tid;
        page.seen = tid;
        if write {
            page.modified_by = tid;
            page.modified_at = time;
        }
        seen
    }

    /// Lets who waits for an address go on.
    pub fn resolve(&mut self, by: &Mechanism, address: usize, write: bool) {
        let index = (address - self.start) / PAGE_BYTES;
        match by.give(self.place(index), self.pages.values()[index].state, write) {
            Some(state) => self.open(index, state),
            // It stays as it is, and who waits comes again.
            None if by.moves() => {}
            // So many mappings there cannot be: the whole range becomes one again.
            None => self.give_all_rights(),
        }
    }

    /// The program is giving a range back: what is in the stash of it must not come back.
    pub fn removed(&mut self, userfaultfd: &Userfaultfd, from: usize, to: usize) {
        let (from, to) = (from.max(self.start), to.min(self.end));
        if from >= to {
            return;
        }
        drop_stashed(userfaultfd, self.stash + (from - self.start), to - from);
        for index in (from - self.start) / PAGE_BYTES..(to - self.start) / PAGE_BYTES {
            self.open(index, State::Open);
        }
        self.was_given_back(from, to, sys::monotonic_ns());
    }

    /// The program was about to give a range back then.
    pub fn was_given_back(&mut self, from: usize, to: usize, time: u64) {
        let (from, to) = (from.max(self.start), to.min(self.end));
        if from < to {
            let pages = (from - self.start) / PAGE_BYTES..(to - self.start) / PAGE_BYTES;
            for page in &mut self.pages.values_mut()[pages] {
                page.given_back_at = page.given_back_at.max(time);
            }
        }
    }

    /// The program has moved a part of it elsewhere: its pages follow, and are not watched there. False while the kernel is still
    /// changing mappings: then it is to be tried again.
    pub fn remapped(&mut self, userfaultfd: &Userfaultfd, from: usize, to: usize, bytes: usize) -> bool {
        for index in 0..self.pages.values().len() {
            let start = self.address(index);
            if !(from..from + bytes).contains(&start) {
                continue;
            }
            if self.pages.values()[index].state == State::Armed {
                let stashed = self.stash + index * PAGE_BYTES;
                // Nothing to move where there was no page.
                if userfaultfd.move_page(stashed, to + (start - from), true) == Err(libc::EAGAIN) {
                    return false;
                }
            }
            self.open(index, State::Open);
        }
        let _ = userfaultfd.write_protect(to, to + bytes, false);
        let _ = userfaultfd.unregister(to, to + bytes);
        true
    }

    /// Whether it is armed now, or open to reads alone.
    fn arm_page(&mut self, by: &Mechanism, index: usize) -> bool {
        let page = &self.pages.values()[index];
        if page.state == State::Armed {
            return true;
        }
        if page.given_back_at != 0 && sys::monotonic_ns() < page.given_back_at + GIVING_BACK_NS {
            // Moved away now, its contents would escape the thread that is about to drop them. It is tried again later.
            if by.arm_for_writes(self.place(index)) {
                self.pages.values_mut()[index].state = State::OpenToReads;
            }
            return false;
        }
        self.pages.values_mut()[index].given_back_at = 0;
        let armed = by.arm(self.place(index));
        if let Some(state) = armed {
            self.pages.values_mut()[index].state = state;
        }
        armed.is_some()
    }

    fn open(&mut self, index: usize, state: State) {
        let page = &mut self.pages.values_mut()[index];
        page.state = state;
        if !page.touched {
            page.touched = true;
            self.touched.push(index as u32);
        }
    }

    /// Makes one mapping of it again, all of whose pages are open.
    fn give_all_rights(&mut self) {
        if self.start != self.end {
            // What the program has unmapped meanwhile has none.
            let _ = sys::set_rights(self.start, self.end - self.start, page_rights::ALL);
            (0..self.pages.values().len()).for_each(|index| self.open(index, State::Open));
        }
    }

    fn place(&self, index: usize) -> Place {
        Place { page: self.address(index), stashed: self.stash + index * PAGE_BYTES }
    }

    fn address(&self, index: usize) -> usize {
        self.start + index * PAGE_BYTES
    }

    fn unmap(&mut self) {
        if self.stash != 0 {
            // SAFETY: mapped by `begin`; its pages were moved back, and nobody else knows of it.
            unsafe { sys::unmap(self.stash as *const u8, self.end - self.start) };
        }
        self.pages.unmap();
        self.touched.unmap();
        (self.start, self.end) = (0, 0);
    }
}
