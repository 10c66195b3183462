//! Size classes of Go's heap: what a span holds. The table is the same in Go 1.23 to 1.27.

/// Bytes of a slot, by class; class 0 is a span with one object.
static SLOT_BYTES: [u16; 68] = [
    0, 8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256, 288, 320, 352, 384, 416, 448,
    480, 512, 576, 640, 704, 768, 896, 1024, 1152, 1280, 1408, 1536, 1792, 2048, 2304, 2688, 3072, 3200, 3456, 4096,
    4864, 5376, 6144, 6528, 6784, 6912, 8192, 9472, 9728, 10240, 10880, 12288, 13568, 14336, 16384, 18432, 19072,
    20480, 21760, 24576, 27264, 28672, 32768,
];

/// Number of classes.
pub const CLASSES: usize = SLOT_BYTES.len();
/// Spans of small objects have at most so many pages of 8 KiB, and so many slots.
pub const SMALL_SPAN_PAGES_MAX: u64 = 16;
/// Objects up to this size have their pointer bits at the end of their span.
const BITS_IN_SPAN_BYTES_MAX: u64 = 512;
/// Bytes of mark bits at the end of a span of the Green Tea collector.
const INLINE_MARK_BYTES: u64 = 128;

/// What a span is for: the argument of its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpanClass {
    /// Not for objects: goroutine stacks, and the collector's work buffers.
    Manual,
    /// Objects of one size class.
    Objects {
        /// The size class, below [`CLASSES`].
        class: u8,
        /// Whether the objects have no pointers.
        noscan: bool,
    },
}

impl SpanClass {
    /// Tells what the argument says, `None` for a class that there is not.
    #[inline]
    #[must_use]
    pub fn from_argument(argument: u64) -> Option<SpanClass> {
        if argument & 1 != 0 {
            return Some(SpanClass::Manual);
        }
        let class = argument >> 2;
        let noscan = argument & 2 != 0;
        (class < CLASSES as u64).then_some(SpanClass::Objects { class: class as u8, noscan })
    }

    /// Bytes of a slot in a span of `span_bytes`; 0 where there are none.
    #[inline]
    #[must_use]
    pub fn slot_bytes(self, span_bytes: u64) -> u64 {
        match self {
            SpanClass::Manual => 0,
            SpanClass::Objects { class: 0, .. } => span_bytes,
            SpanClass::Objects { class, .. } => u64::from(SLOT_BYTES[class as usize]),
        }
    }

    /// How many slots the runtime uses of a span. With `inline_marks` some room is for mark bits.
    #[must_use]
    pub fn slots(self, span_bytes: u64, inline_marks: bool) -> u64 {
        let slot = self.slot_bytes(span_bytes);
        let SpanClass::Objects { class, noscan } = self else { return 0 };
        if class == 0 || slot == 0 {
            return 1;
        }
        let mut reserved = 0;
        if slot <= BITS_IN_SPAN_BYTES_MAX {
            if inline_marks && slot >= 16 {
                reserved += INLINE_MARK_BYTES;
            }
            if !noscan {
                reserved += span_bytes / 64;
            }
        }
        span_bytes.saturating_sub(reserved) / slot
    }

    /// Whether this is where the tiny allocator puts several objects into one slot.
    #[inline]
    #[must_use]
    pub fn is_tiny(self) -> bool {
        self == SpanClass::Objects { class: 2, noscan: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_told_apart() {
        assert_eq!(SpanClass::from_argument(1), Some(SpanClass::Manual));
        assert_eq!(SpanClass::from_argument(10), Some(SpanClass::Objects { class: 2, noscan: true }));
        assert_eq!(SpanClass::from_argument(67 << 2), Some(SpanClass::Objects { class: 67, noscan: false }));
        assert_eq!(SpanClass::from_argument(68 << 2), None);
    }

    #[test]
    fn slots_leave_room_for_bits() {
        let class = |class, noscan| SpanClass::Objects { class, noscan };
        assert_eq!(class(2, true).slots(8192, false), 512);
        assert_eq!(class(2, true).slots(8192, true), 504);
        assert_eq!(class(2, false).slots(8192, false), 504);
        assert_eq!(class(67, false).slots(32768, true), 1);
        assert_eq!(class(0, false).slots(1 << 20, true), 1);
        assert_eq!(SpanClass::Manual.slots(8192, true), 0);
    }
}
