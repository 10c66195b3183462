//! A sparse array over all pages of an address space: leaves of 512 neighbours, found by hash, the recent ones remembered.

use hashbrown::HashMap;

/// Pages a leaf holds.
pub(crate) const LEAF_PAGES: u64 = 512;
const LEAF_SHIFT: u32 = LEAF_PAGES.trailing_zeros();
/// Leaves that are found without the hash table: enough for 512 MiB of pages of 4 KiB side by side.
const RECENT: usize = 256;
/// The number of no leaf.
const NONE: u64 = u64::MAX;

/// A value for each page; pages never written hold the default.
#[derive(Clone, Debug)]
pub(crate) struct PageMap<T> {
    /// The number of each leaf: its first page divided by [`LEAF_PAGES`].
    numbers: Vec<u64>,
    /// The pages of all leaves, one leaf after the other.
    pages: Vec<T>,
    slot_of: HashMap<u64, usize>,
    /// Number and slot of leaves, by their numbers modulo [`RECENT`].
    recent: Box<[(u64, usize); RECENT]>,
}

impl<T: Copy + Default + PartialEq> PageMap<T> {
    pub(crate) fn new() -> PageMap<T> {
        PageMap { numbers: Vec::new(), pages: Vec::new(), slot_of: HashMap::new(), recent: nothing_recent() }
    }

    /// The value of a page.
    #[inline]
    pub(crate) fn get(&self, page: u64) -> T {
        let number = page >> LEAF_SHIFT;
        let slot = match self.recent[number as usize % RECENT] {
            (recent, slot) if recent == number => slot,
            _ => match self.slot_of.get(&number) {
                Some(&slot) => slot,
                None => return T::default(),
            },
        };
        self.pages[place(slot, page)]
    }

    /// The value of a page, to be changed.
    #[inline]
    pub(crate) fn get_mut(&mut self, page: u64) -> &mut T {
        let number = page >> LEAF_SHIFT;
        let slot = match self.recent[number as usize % RECENT] {
            (recent, slot) if recent == number => slot,
            _ => self.find_or_insert(number),
        };
        &mut self.pages[place(slot, page)]
    }

    #[cold]
    fn find_or_insert(&mut self, number: u64) -> usize {
        let PageMap { numbers, pages, slot_of, recent } = self;
        let slot = *slot_of.entry(number).or_insert_with(|| {
            numbers.push(number);
            pages.resize(pages.len() + LEAF_PAGES as usize, T::default());
            numbers.len() - 1
        });
        recent[number as usize % RECENT] = (number, slot);
        slot
    }

    /// About how much memory a copy takes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.leaf_count() * LEAF_PAGES as usize * size_of::<T>() + RECENT * size_of::<(u64, usize)>()
    }

    /// How many leaves there are.
    pub(crate) fn leaf_count(&self) -> usize {
        self.numbers.len()
    }

    /// Every leaf, in no order: its first page and the values of its pages.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = (u64, &[T])> {
        let first_pages = self.numbers.iter().map(|number| number << LEAF_SHIFT);
        first_pages.zip(self.pages.chunks_exact(LEAF_PAGES as usize))
    }

    /// Lets `change` edit every leaf and gives back the memory of those that hold only defaults afterwards.
    pub(crate) fn prune(&mut self, mut change: impl FnMut(u64, &mut [T])) {
        let mut kept = 0;
        for slot in 0..self.numbers.len() {
            let number = self.numbers[slot];
            let leaf = place(slot, 0)..place(slot + 1, 0);
            change(number << LEAF_SHIFT, &mut self.pages[leaf.clone()]);
            if self.pages[leaf.clone()].iter().any(|page| *page != T::default()) {
                self.numbers[kept] = number;
                self.pages.copy_within(leaf, place(kept, 0));
                kept += 1;
            }
        }
        self.numbers.truncate(kept);
        self.pages.truncate(place(kept, 0));
        self.pages.shrink_to(2 * self.pages.len());
        self.recent = nothing_recent();
        self.slot_of.clear();
        self.slot_of.extend(self.numbers.iter().enumerate().map(|(slot, &number)| (number, slot)));
    }
}

/// Where a page of a leaf lies.
#[inline]
fn place(slot: usize, page: u64) -> usize {
    slot * LEAF_PAGES as usize + (page % LEAF_PAGES) as usize
}

fn nothing_recent() -> Box<[(u64, usize); RECENT]> {
    Box::new([(NONE, 0); RECENT])
}
