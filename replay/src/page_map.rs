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
    leaves: Vec<Leaf<T>>,
    slot_of: HashMap<u64, usize>,
    /// Number and slot of leaves, by their numbers modulo [`RECENT`].
    recent: Box<[(u64, usize)]>,
}

#[derive(Clone, Debug)]
struct Leaf<T> {
    number: u64,
    pages: Box<[T]>,
}

impl<T: Copy + Default + PartialEq> PageMap<T> {
    pub(crate) fn new() -> PageMap<T> {
        PageMap { leaves: Vec::new(), slot_of: HashMap::new(), recent: nothing_recent() }
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
        self.leaves[slot].pages[(page % LEAF_PAGES) as usize]
    }

    /// The value of a page, to be changed.
    #[inline]
    pub(crate) fn get_mut(&mut self, page: u64) -> &mut T {
        let number = page >> LEAF_SHIFT;
        let slot = match self.recent[number as usize % RECENT] {
            (recent, slot) if recent == number => slot,
            _ => self.find_or_insert(number),
        };
        &mut self.leaves[slot].pages[(page % LEAF_PAGES) as usize]
    }

    #[cold]
    fn find_or_insert(&mut self, number: u64) -> usize {
        let leaves = &mut self.leaves;
        let slot = *self.slot_of.entry(number).or_insert_with(|| {
            leaves.push(Leaf { number, pages: vec![T::default(); LEAF_PAGES as usize].into_boxed_slice() });
            leaves.len() - 1
        });
        self.recent[number as usize % RECENT] = (number, slot);
        slot
    }

    /// How many leaves there are.
    pub(crate) fn leaf_count(&self) -> usize {
        self.leaves.len()
    }

    /// Every leaf, in no order: its first page and the values of its pages.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = (u64, &[T])> {
        self.leaves.iter().map(|leaf| (leaf.number << LEAF_SHIFT, &leaf.pages[..]))
    }

    /// Lets `change` edit every leaf and gives back the memory of those that hold only defaults afterwards.
    pub(crate) fn prune(&mut self, mut change: impl FnMut(u64, &mut [T])) {
        self.leaves.retain_mut(|leaf| {
            change(leaf.number << LEAF_SHIFT, &mut leaf.pages);
            leaf.pages.iter().any(|page| *page != T::default())
        });
        self.recent = nothing_recent();
        self.slot_of.clear();
        self.slot_of.extend(self.leaves.iter().enumerate().map(|(slot, leaf)| (leaf.number, slot)));
        self.leaves.shrink_to(2 * self.leaves.len());
    }
}

fn nothing_recent() -> Box<[(u64, usize)]> {
    vec![(NONE, 0); RECENT].into_boxed_slice()
}
