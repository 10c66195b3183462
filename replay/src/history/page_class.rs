//! What a page is at a moment, in one byte: its class and how much of it live objects fill.

/// The class of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PageClass {
    /// Not mapped.
    #[default]
    Unmapped = 0,
    /// Mapped, and not seen in memory so far.
    NeverTouched = 1,
    /// Mapped and not in memory, where it was before.
    Returned = 2,
    /// Live objects on more than a quarter of it.
    Dense = 3,
    /// Live objects on a quarter of it at most.
    Sparse = 4,
    /// Free and kept by the allocator.
    Retained = 5,
    /// The allocator's own.
    Metadata = 6,
    /// Of a thread's stack.
    ThreadStack = 7,
    /// Anonymous memory that is none of the above.
    OtherAnonymous = 8,
    /// Of a file.
    File = 9,
    /// Shared with other processes.
    SharedMemory = 10,
    /// The tracer's.
    Tracer = 11,
    /// In memory, and nothing says what for.
    Unexplained = 12,
    /// In use, by its allocator's own word.
    InUse = 13,
    /// In swap.
    Swapped = 14,
    /// The allocator's, and whether anything lives on it is not known: objects are sampled.
    Allocator = 15,
}

impl PageClass {
    /// All of them by their numbers.
    pub const ALL: [PageClass; 16] = [
        PageClass::Unmapped,
        PageClass::NeverTouched,
        PageClass::Returned,
        PageClass::Dense,
        PageClass::Sparse,
        PageClass::Retained,
        PageClass::Metadata,
        PageClass::ThreadStack,
        PageClass::OtherAnonymous,
        PageClass::File,
        PageClass::SharedMemory,
        PageClass::Tracer,
        PageClass::Unexplained,
        PageClass::InUse,
        PageClass::Swapped,
        PageClass::Allocator,
    ];

    /// Its name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            PageClass::Unmapped => "unmapped",
            PageClass::NeverTouched => "never_touched",
            PageClass::Returned => "returned",
            PageClass::Dense => "dense",
            PageClass::Sparse => "sparse",
            PageClass::Retained => "retained",
            PageClass::Metadata => "metadata",
            PageClass::ThreadStack => "thread_stack",
            PageClass::OtherAnonymous => "other_anonymous",
            PageClass::File => "file",
            PageClass::SharedMemory => "shared_memory",
            PageClass::Tracer => "tracer",
            PageClass::Unexplained => "unexplained",
            PageClass::InUse => "in_use",
            PageClass::Swapped => "swapped",
            PageClass::Allocator => "allocator",
        }
    }
}

/// A page at a moment: `occupancy << 4 | class`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PageCell(pub u8);

/// Steps of occupancy beyond none.
const OCCUPANCY_STEPS: u64 = 15;

impl PageCell {
    /// A page without objects.
    #[must_use]
    pub const fn of(class: PageClass) -> PageCell {
        PageCell(class as u8)
    }

    /// A page with so many live bytes of its own number: any make at least one step of fifteen, and all of them 15.
    #[must_use]
    pub const fn with_live(class: PageClass, live_bytes: u64, page_bytes: u64) -> PageCell {
        let steps = match live_bytes {
            0 => 0,
            live if live >= page_bytes => OCCUPANCY_STEPS,
            live => 1 + live * (OCCUPANCY_STEPS - 1) / page_bytes,
        };
        PageCell((steps as u8) << 4 | class as u8)
    }

    /// Its class.
    #[must_use]
    pub fn class(self) -> PageClass {
        PageClass::ALL.get(usize::from(self.0 & 15)).copied().unwrap_or_default()
    }

    /// How much of it live objects fill, 0 to 15.
    #[must_use]
    pub const fn occupancy(self) -> u8 {
        self.0 >> 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_hold_class_and_occupancy() {
        for (number, class) in PageClass::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, number);
            assert_eq!(PageCell::of(class).class(), class);
        }
        let steps = |live| PageCell::with_live(PageClass::Sparse, live, 4096).occupancy();
        assert_eq!([0, 1, 2048, 4095, 4096, 9000].map(steps), [0, 1, 8, 14, 15, 15]);
        assert_eq!(PageCell::with_live(PageClass::Sparse, 80, 4096).class(), PageClass::Sparse);
    }
}
