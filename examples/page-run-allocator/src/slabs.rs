//! Slabs: pages that are cut into slots of one size. What is known of a slab lies beside the page, not on it.

use crate::PAGE_BYTES;
use crate::page_heap::PageHeap;

/// A page has 128 of these: as many slots as `Slab::vacant` has bits.
const SLOT_BYTES_MIN: usize = 64;
/// The largest slot is half a page; what is larger is a run of pages.
const CLASSES: usize = 7;

/// The class whose slots are the smallest that hold `bytes`, `None` where none does.
pub fn class_of(bytes: usize) -> Option<usize> {
    (0..CLASSES).find(|class| bytes <= slot_bytes(*class))
}

/// Bytes of a slot of the class.
pub fn slot_bytes(class: usize) -> usize {
    SLOT_BYTES_MIN << class
}

#[derive(Clone, Copy, Debug, Default)]
struct Slab {
    class: usize,
    /// A bit for each slot that nobody has.
    vacant: u128,
    /// Its neighbours among the slabs of its class that have vacant slots.
    previous: Option<u32>,
    next: Option<u32>,
}

/// The slabs of a region.
#[derive(Debug)]
pub struct Slabs {
    /// By page of the region.
    slabs: Box<[Slab]>,
    /// The first slab with vacant slots, by class.
    first: [Option<u32>; CLASSES],
}

impl Slabs {
    /// For a region of so many pages.
    pub fn new(pages: usize) -> Slabs {
        Slabs { slabs: vec![Slab::default(); pages].into_boxed_slice(), first: [None; CLASSES] }
    }

    /// Takes a slot, on a new page where no slab of the class has one. Returns its address.
    pub fn alloc(&mut self, heap: &mut PageHeap, class: usize) -> Option<usize> {
        let index = match self.first[class] {
            Some(index) => index as usize,
            None => {
                let address = heap.alloc(1)?;
                let index = heap.index(address);
                self.slabs[index] = Slab { class, vacant: all_slots(class), ..Slab::default() };
                self.link(index);
                index
            }
        };
        let slot = self.slabs[index].vacant.trailing_zeros() as usize;
        self.slabs[index].vacant &= !(1 << slot);
        if self.slabs[index].vacant == 0 {
            self.unlink(index);
        }
        Some(heap.address(index) + slot * slot_bytes(class))
    }

    /// Gives a slot back, and its page where it was the slab's last.
    pub fn free(&mut self, heap: &mut PageHeap, address: usize) {
        let index = heap.index(address);
        let Slab { class, vacant, .. } = self.slabs[index];
        let slot = address % PAGE_BYTES / slot_bytes(class);
        self.slabs[index].vacant |= 1 << slot;
        if vacant == 0 {
            self.link(index);
        }
        if self.slabs[index].vacant == all_slots(class) {
            self.unlink(index);
            heap.free(heap.address(index), 1);
        }
    }

    fn link(&mut self, index: usize) {
        let class = self.slabs[index].class;
        let next = self.first[class].replace(index as u32);
        self.slabs[index].previous = None;
        self.slabs[index].next = next;
        if let Some(next) = next {
            self.slabs[next as usize].previous = Some(index as u32);
        }
    }

    fn unlink(&mut self, index: usize) {
        let Slab { class, previous, next, .. } = self.slabs[index];
        match previous {
            Some(previous) => self.slabs[previous as usize].next = next,
            None => self.first[class] = next,
        }
        if let Some(next) = next {
            self.slabs[next as usize].previous = previous;
        }
    }
}

fn all_slots(class: usize) -> u128 {
    u128::MAX >> (u128::BITS as usize - PAGE_BYTES / slot_bytes(class))
}
