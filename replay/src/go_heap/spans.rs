//! The spans of the heap, found by page, and the slots of their objects.

use pagetrace_format::go_execution_trace::SpanClass;
use pagetrace_format::go_execution_trace::size_class::SMALL_SPAN_PAGES_MAX;
use pagetrace_format::{Address, PageCount, PageShift};

use crate::page_map::PageMap;

/// No program takes a longer span, half a terabyte; a longer one is damage.
const SPAN_PAGES_MAX: u64 = 1 << 26;
/// No span of small objects has more slots.
const SLOTS_MAX: u64 = 1024;
/// Addresses are below this on all of Go's platforms.
const ADDRESS_BITS: u32 = 57;

/// A span in use.
#[derive(Debug)]
pub struct Span {
    pub base: Address,
    pub pages: PageCount,
    pub class: SpanClass,
    /// Bytes of a slot, 0 where it has none.
    pub slot_bytes: u64,
    /// 2^32 / `slot_bytes`, rounded up: an offset is divided by a multiplication.
    reciprocal: u64,
    /// Slots with an object.
    pub live: u64,
    /// The number of each slot's site plus one, 0 for a free slot; empty until the first object comes.
    pub slots: Box<[u32]>,
}

impl Span {
    /// The slot of an address in this span.
    #[inline]
    fn slot_of(&self, address: Address) -> usize {
        match self.class {
            SpanClass::Objects { class: 0, .. } => 0,
            _ => (((address.0 - self.base.0) * self.reciprocal) >> 32) as usize,
        }
    }
}

/// All spans in use.
#[derive(Debug)]
pub struct Spans {
    shift: PageShift,
    spans: Vec<Option<Span>>,
    vacant: Vec<u32>,
    /// The place of a page's span plus one. Of a large span only the first page is there: nothing points behind it.
    of_page: PageMap<u32>,
}

/// A slot that was found, to be looked at and changed.
pub struct Slot<'s> {
    /// Its first byte.
    pub begin: Address,
    /// Its size.
    pub bytes: u64,
    /// Whether the tiny allocator fills it.
    pub is_tiny: bool,
    /// How many slots of its span hold an object.
    pub live: &'s mut u64,
    /// The number of its site plus one, 0 where it is free.
    pub content: &'s mut u32,
}

impl Spans {
    pub fn new(shift: PageShift) -> Spans {
        Spans { shift, spans: Vec::new(), vacant: Vec::new(), of_page: PageMap::new() }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Span> {
        self.spans.iter().flatten()
    }

    pub fn get(&self, place: u32) -> Option<&Span> {
        self.spans.get(place as usize)?.as_ref()
    }

    /// Whether there can be such a span.
    pub fn is_possible(&self, base: Address, pages: PageCount, class: SpanClass) -> bool {
        let bytes = self.shift.bytes_in(pages);
        let is_small = matches!(class, SpanClass::Objects { class: 1.., .. });
        let slots = if is_small { bytes / class.slot_bytes(bytes).max(1) } else { 0 };
        (1..=SPAN_PAGES_MAX).contains(&pages.0)
            && self.shift.address_of(self.shift.page_of(base)) == base
            && base.0.checked_add(bytes).is_some_and(|end| end >> ADDRESS_BITS == 0)
            && (!is_small || pages.0 <= SMALL_SPAN_PAGES_MAX && (1..=SLOTS_MAX).contains(&slots))
    }

    /// The places of spans in the way of a new one.
    pub fn overlapping(&self, base: Address, pages: PageCount, class: SpanClass) -> Vec<u32> {
        let mut places: Vec<u32> = self
            .mapped(base, pages, class)
            .map(|page| self.of_page.get(page))
            .filter(|place| *place != 0)
            .map(|place| place - 1)
            .collect();
        places.dedup();
        places
    }

    pub fn insert(&mut self, base: Address, pages: PageCount, class: SpanClass) {
        let slot_bytes = class.slot_bytes(self.shift.bytes_in(pages));
        let reciprocal = if slot_bytes == 0 { 0 } else { (1_u64 << 32).div_ceil(slot_bytes) };
        let span = Span { base, pages, class, slot_bytes, reciprocal, live: 0, slots: Box::default() };
        let place = match self.vacant.pop() {
            Some(place) => {
                self.spans[place as usize] = Some(span);
                place
            }
            None => {
                self.spans.push(Some(span));
                self.spans.len() as u32 - 1
            }
        };
        for page in self.mapped(base, pages, class) {
            *self.of_page.get_mut(page) = place + 1;
        }
    }

    /// The place of the span that begins there.
    pub fn starting_at(&self, base: Address) -> Option<u32> {
        let place = self.of_page.get(self.shift.page_of(base).0).checked_sub(1)?;
        (self.get(place)?.base == base).then_some(place)
    }

    pub fn remove(&mut self, place: u32) -> Option<Span> {
        let span = self.spans.get_mut(place as usize)?.take()?;
        self.vacant.push(place);
        for page in self.mapped(span.base, span.pages, span.class) {
            let of_page = self.of_page.get_mut(page);
            if *of_page == place + 1 {
                *of_page = 0;
            }
        }
        Some(span)
    }

    /// The slot at an address; `None` outside spans for objects.
    #[inline]
    pub fn slot(&mut self, address: Address) -> Option<Slot<'_>> {
        let place = self.of_page.get(self.shift.page_of(address).0).checked_sub(1)?;
        let span = self.spans[place as usize].as_mut()?;
        if span.slots.is_empty() {
            span.slots = vec![0; slots_of(span, self.shift)].into_boxed_slice();
        }
        let slot = span.slot_of(address);
        Some(Slot {
            begin: Address(span.base.0 + slot as u64 * span.slot_bytes),
            bytes: span.slot_bytes,
            is_tiny: span.class.is_tiny(),
            live: &mut span.live,
            content: span.slots.get_mut(slot)?,
        })
    }

    /// Whether there is this very span.
    pub fn is_there(&self, base: Address, pages: PageCount, class: SpanClass) -> bool {
        let span = self.starting_at(base).and_then(|place| self.get(place));
        span.is_some_and(|span| (span.pages, span.class) == (pages, class))
    }

    /// Pages of a span that lead to it.
    fn mapped(&self, base: Address, pages: PageCount, class: SpanClass) -> std::ops::Range<u64> {
        let first = self.shift.page_of(base).0;
        match class {
            SpanClass::Objects { class: 1.., .. } => first..first + pages.0,
            _ => first..first + 1,
        }
    }
}

/// How many slots fit; the runtime leaves some of them out, by collector.
fn slots_of(span: &Span, shift: PageShift) -> usize {
    match span.class {
        SpanClass::Manual => 0,
        SpanClass::Objects { class: 0, .. } => 1,
        SpanClass::Objects { .. } => (shift.bytes_in(span.pages) / span.slot_bytes) as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offset_finds_its_slot() {
        for class in 1..68 {
            let class = SpanClass::Objects { class, noscan: true };
            let size = class.slot_bytes(0);
            let pages = PageCount((1..=10).find(|pages| pages * 8192 % size * 8 <= pages * 8192).expect("some fit"));
            let mut spans = Spans::new(PageShift::KIB_8);
            let base = Address(0xc0_0000_0000);
            assert!(spans.is_possible(base, pages, class), "{class:?}");
            spans.insert(base, pages, class);
            for slot in 0..pages.0 * 8192 / size {
                for offset in [slot * size, (slot + 1) * size - 1] {
                    let found = spans.slot(Address(base.0 + offset)).expect("a slot");
                    assert_eq!(found.begin, Address(base.0 + slot * size), "{class:?}");
                }
            }
        }
    }

    #[test]
    fn impossible_spans_are_known() {
        let spans = Spans::new(PageShift::KIB_8);
        let base = Address(0xc0_0000_0000);
        let small = |class| SpanClass::Objects { class, noscan: false };
        assert!(!spans.is_possible(base, PageCount(0), SpanClass::Manual));
        assert!(!spans.is_possible(base, PageCount(1 << 40), SpanClass::Manual));
        assert!(!spans.is_possible(base, PageCount(17), small(67)));
        assert!(!spans.is_possible(base, PageCount(2), small(1)), "2048 slots");
        assert!(!spans.is_possible(Address(u64::MAX - 8191), PageCount(1), small(1)));
        assert!(!spans.is_possible(Address(base.0 + 16), PageCount(1), small(1)), "no page begins there");
        assert!(spans.is_possible(base, PageCount(1 << 20), small(0)));
    }
}
