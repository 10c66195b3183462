//! Who touched each resident page first: when, which thread, from where. A record is 16 bytes.
//!
//! Records of pages that were given back stay until the next clean-up: a page's record is the latest one, and counts
//! only while the page is resident.

use std::ops::Range;

use hashbrown::HashMap;
use pagetrace_format::{Address, PageCall, StackId, TraceNanos};

use super::range_map::RangeMap;
use crate::intervals::Intervals;
use crate::page_map::{LEAF_PAGES, PageMap};

/// Leaves and ranges from which on they are cleaned up.
const CLEAN_UP_FROM: usize = 256;

/// How a page came to be touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TouchCause {
    /// The program touched it.
    Fault,
    /// The kernel touched it for the program, in a system call.
    KernelFault,
    /// A system call filled it.
    Call(PageCall),
    /// The kernel filled it when the program was started.
    Exec,
    /// It was resident when the recording attached to the process: the time is that of the attaching, the thread is none.
    NotSeen,
}

/// From where pages were touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TouchSite {
    /// How.
    pub cause: TouchCause,
    /// The instruction, 0 where not known.
    pub instruction: Address,
    /// The stack, for a share of touches.
    pub stack: StackId,
}

impl TouchSite {
    /// With nothing known but how.
    pub(crate) const fn of(cause: TouchCause) -> TouchSite {
        TouchSite { cause, instruction: Address(0), stack: StackId::UNKNOWN }
    }
}

/// A first touch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Touch {
    /// Zero of a page that was not touched.
    pub(crate) time: TraceNanos,
    pub(crate) tid: u32,
    /// An index of [`Touches::sites`].
    pub(crate) site: u32,
}

/// First touches of the pages of an address space.
#[derive(Clone, Debug)]
pub(crate) struct Touches {
    by_page: PageMap<Touch>,
    /// Pages that were touched together.
    together: RangeMap<Touch>,
    clean_up_from: usize,
    sites: Vec<TouchSite>,
    site_of: HashMap<TouchSite, u32>,
}

/// Touches on their way from one place to another.
#[derive(Debug)]
pub(crate) struct Moved {
    by_page: Vec<(u64, Touch)>,
    together: Vec<(Range<u64>, Touch)>,
}

impl Touches {
    pub(crate) fn new() -> Touches {
        Touches {
            by_page: PageMap::new(),
            together: RangeMap::default(),
            clean_up_from: CLEAN_UP_FROM,
            sites: Vec::new(),
            site_of: HashMap::new(),
        }
    }

    /// The number of a site.
    pub(crate) fn site(&mut self, site: TouchSite) -> u32 {
        let sites = &mut self.sites;
        *self.site_of.entry(site).or_insert_with(|| {
            sites.push(site);
            sites.len() as u32 - 1
        })
    }

    /// All sites by their numbers.
    pub(crate) fn sites(&self) -> &[TouchSite] {
        &self.sites
    }

    /// Pages became resident by one touch.
    pub(crate) fn add(&mut self, range: Range<u64>, touch: Touch, resident: &Intervals) {
        if range.start.checked_add(1) == Some(range.end) {
            *self.by_page.get_mut(range.start) = touch;
        } else {
            self.together.insert(range, touch);
        }
        if self.by_page.leaf_count() + self.together.len() > self.clean_up_from {
            self.clean_up(resident);
        }
    }

    /// Leaves of pages that were touched one by one.
    pub(crate) fn leaf_count(&self) -> usize {
        self.by_page.leaf_count()
    }

    /// The first touch of a page, if it is resident and its touch is known.
    pub(crate) fn of(&self, page: u64) -> Option<Touch> {
        let together = self.together.at(page).map(|(_, touch)| touch);
        let own = Some(self.by_page.get(page)).filter(|touch| touch.time.0 != 0);
        own.into_iter().chain(together).max_by_key(|touch| touch.time)
    }

    /// Leaves and ranges that are kept.
    #[cfg(test)]
    pub(crate) fn records(&self) -> usize {
        self.by_page.leaf_count() + self.together.len()
    }

    /// About how much memory a copy takes.
    pub(crate) fn heap_bytes(&self) -> usize {
        let sites = self.sites.len() * 2 * size_of::<(TouchSite, u32)>();
        self.by_page.heap_bytes() + self.together.heap_bytes() + sites
    }

    /// Takes down what is to move.
    pub(crate) fn copy(&self, range: Range<u64>) -> Moved {
        let mut by_page = Vec::new();
        let known = |(page, touch): &(u64, Touch)| touch.time.0 != 0 && range.contains(page);
        if range.end - range.start <= self.by_page.leaf_count() as u64 * LEAF_PAGES {
            by_page.extend(range.clone().map(|page| (page, self.by_page.get(page))).filter(known));
        } else {
            for (first, touches) in self.by_page.leaves() {
                by_page.extend((first..).zip(touches.iter().copied()).filter(known));
            }
        }
        Moved { by_page, together: self.together.within(range).collect() }
    }

    /// Puts down what was taken at the page `from` so that it begins in `to`, where nothing else is.
    pub(crate) fn paste(&mut self, moved: Moved, from: u64, to: Range<u64>) {
        let place = |page: u64| page.wrapping_sub(from).wrapping_add(to.start);
        self.forget(to.clone());
        for (range, touch) in moved.together {
            self.together.insert(place(range.start)..place(range.end), touch);
        }
        for (page, touch) in moved.by_page {
            *self.by_page.get_mut(place(page)) = touch;
        }
    }

    /// Forgets what was there. Takes as many steps as there are pages or leaves, whichever are fewer.
    fn forget(&mut self, range: Range<u64>) {
        self.together.remove(range.clone());
        if range.end - range.start <= self.by_page.leaf_count() as u64 * LEAF_PAGES {
            for page in range {
                if self.by_page.get(page) != Touch::default() {
                    *self.by_page.get_mut(page) = Touch::default();
                }
            }
        } else {
            self.by_page.prune(|first, touches| {
                let touches = (first..).zip(touches).filter(|(page, _)| range.contains(page));
                touches.for_each(|(_, touch)| *touch = Touch::default());
            });
        }
    }

    /// Resident pages by the numbers of the sites that touched them first.
    pub(crate) fn pages_by_site(&self, resident: &Intervals) -> HashMap<u32, u64> {
        let mut pages_of: HashMap<u32, u64> = HashMap::new();
        for (range, touch) in self.together.iter() {
            let pages: u64 = resident.within(range).map(|part| part.end - part.start).sum();
            *pages_of.entry(touch.site).or_default() += pages;
        }
        for (first, touches) in self.by_page.leaves() {
            for part in resident.within(first..first + LEAF_PAGES) {
                for page in part {
                    let touch = touches[(page - first) as usize];
                    let together = self.together.at(page).map(|(_, touch)| touch);
                    if touch.time.0 == 0 || together.is_some_and(|together| together.time > touch.time) {
                        continue;
                    }
                    *pages_of.entry(touch.site).or_default() += 1;
                    if let Some(together) = together {
                        *pages_of.entry(together.site).or_default() -= 1;
                    }
                }
            }
        }
        pages_of
    }

    /// The first touch of each resident page, neighbours of one touch together.
    pub(crate) fn of_resident(&self, resident: &Intervals) -> Vec<(Range<u64>, Touch)> {
        let mut all = RangeMap::default();
        for (range, touch) in self.together.iter() {
            resident.within(range).for_each(|part| all.insert(part, touch));
        }
        for (first, touches) in self.by_page.leaves() {
            for page in resident.within(first..first + LEAF_PAGES).flatten() {
                let touch = touches[(page - first) as usize];
                let is_older = self.together.at(page).is_some_and(|(_, together)| together.time > touch.time);
                if touch.time.0 != 0 && !is_older {
                    all.insert(page..page + 1, touch);
                }
            }
        }
        all.iter().collect()
    }

    /// The site of the first touch of each resident page, ascending, neighbours of one site together. Takes as many steps as
    /// there are records, however many pages are resident.
    pub(crate) fn sites_of_resident(&self, resident: &Intervals) -> Vec<(Range<u64>, u32)> {
        let mut leaves: Vec<(u64, &[Touch])> = self.by_page.leaves().collect();
        leaves.sort_unstable_by_key(|(first, _)| *first);
        let mut leaves = leaves.into_iter().peekable();
        let mut all: Vec<(Range<u64>, u32)> = Vec::new();
        let mut add = |pages: Range<u64>, touch: Touch| match all.last_mut() {
            Some((last, site)) if last.end == pages.start && *site == touch.site => last.end = pages.end,
            _ => all.push((pages, touch.site)),
        };
        for range in resident.iter() {
            let mut page = range.start;
            while page < range.end {
                while leaves.next_if(|(first, _)| first + LEAF_PAGES <= page).is_some() {}
                let leaf = leaves.peek().copied();
                let (until, touches) = match leaf {
                    Some((first, touches)) if first <= page => {
                        (first + LEAF_PAGES, &touches[(page - first) as usize..])
                    }
                    Some((first, _)) => (first, &[][..]),
                    None => (range.end, &[][..]),
                };
                let part = page..until.min(range.end);
                page = part.end;
                if touches.is_empty() {
                    self.together.within(part).for_each(|(pages, touch)| add(pages, touch));
                    continue;
                }
                let mut together = self.together.within(part.clone()).peekable();
                for (page, &own) in part.zip(touches) {
                    while together.next_if(|(pages, _)| pages.end <= page).is_some() {}
                    let with_others =
                        together.peek().filter(|(pages, _)| pages.contains(&page)).map(|(_, touch)| *touch);
                    let own = Some(own).filter(|touch| touch.time.0 != 0);
                    if let Some(touch) = own.into_iter().chain(with_others).max_by_key(|touch| touch.time) {
                        add(page..page + 1, touch);
                    }
                }
            }
        }
        all
    }

    /// Forgets touches of pages that are not resident.
    #[cold]
    fn clean_up(&mut self, resident: &Intervals) {
        self.by_page.prune(|first, touches| {
            for (page, touch) in (first..).zip(touches) {
                if !resident.contains(page) {
                    *touch = Touch::default();
                }
            }
        });
        let mut kept = RangeMap::default();
        for (range, touch) in self.together.iter() {
            resident.within(range).for_each(|part| kept.insert(part, touch));
        }
        self.together = kept;
        self.clean_up_from = CLEAN_UP_FROM.max(2 * (self.by_page.leaf_count() + self.together.len()));
    }
}
