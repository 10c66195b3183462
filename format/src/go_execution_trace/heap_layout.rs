//! Where the heap begins and how ids become addresses.

use crate::units::{Address, PageShift};
use crate::varint::Input;

/// What the numbers of spans, objects and stacks are multiples of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeapLayout {
    /// The lowest address of the heap.
    pub base: Address,
    /// Go's own pages: 8 KiB.
    pub page_shift: PageShift,
    /// Bytes that objects' addresses are multiples of: 8.
    pub object_align: u64,
    /// Bytes that stacks' addresses are multiples of: 2048.
    pub stack_align: u64,
}

impl HeapLayout {
    /// What Go has had on Linux so far, for traces whose own words are lost. Addresses count from the heap's begin.
    pub const USUAL: HeapLayout =
        HeapLayout { base: Address(0), page_shift: PageShift::KIB_8, object_align: 8, stack_align: 2048 };

    /// Reads the payload of the batch that says it, behind its kind.
    pub fn read(payload: &[u8]) -> Result<HeapLayout, &'static str> {
        let mut input = Input::new(payload);
        let mut number = || input.number().ok_or("a description of the heap that is cut");
        let (base, page_bytes, object_align, stack_align) = (number()?, number()?, number()?, number()?);
        let is_page = page_bytes.is_power_of_two() && (4096..=65536).contains(&page_bytes);
        let page_shift = PageShift::new(page_bytes.trailing_zeros() as u8)
            .filter(|_| is_page)
            .ok_or("a page size of the heap that cannot be")?;
        let plausible = |align: u64| align.is_power_of_two() && (8..=1 << 20).contains(&align);
        if !plausible(object_align) || !plausible(stack_align) || base >> 57 != 0 {
            return Err("a description of the heap that cannot be");
        }
        Ok(HeapLayout { base: Address(base), page_shift, object_align, stack_align })
    }

    /// The address of the span with this id, `None` beyond 64 bits.
    #[inline]
    pub fn span(&self, id: u64) -> Option<Address> {
        self.address(id, self.page_shift.bytes())
    }

    /// The address of the object with this id.
    #[inline]
    pub fn object(&self, id: u64) -> Option<Address> {
        self.address(id, self.object_align)
    }

    /// The address of the goroutine stack with this id.
    #[inline]
    pub fn stack(&self, id: u64) -> Option<Address> {
        self.address(id, self.stack_align)
    }

    #[inline]
    fn address(&self, id: u64, unit: u64) -> Option<Address> {
        id.checked_mul(unit)?.checked_add(self.base.0).map(Address)
    }
}
