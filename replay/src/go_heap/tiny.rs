//! Slots that the tiny allocator of each P is filling.
//!
//! It puts objects of less than 16 bytes into one slot until that is full. Events name an object by its address in units of
//! 8 bytes, so a second object of the same unit has the same name as the slot itself: only that its P has just begun the slot
//! tells it from a new use of a slot whose free is yet to come.

use pagetrace_format::Address;

/// Ps that are told apart.
const PROCESSORS: usize = 256;
/// Slots that a P has begun and that may still be filled: a large tiny object gets a slot of its own in between.
const RECENT: usize = 16;

/// The latest slots of each P.
#[derive(Debug)]
pub struct TinySlots(Box<[[Address; RECENT]; PROCESSORS]>);

impl TinySlots {
    pub fn new() -> TinySlots {
        TinySlots(Box::new([[Address(u64::MAX); RECENT]; PROCESSORS]))
    }

    /// A P has begun a slot.
    pub fn begin(&mut self, processor: i64, slot: Address) {
        let recent = &mut self.0[processor as usize % PROCESSORS];
        recent.rotate_right(1);
        recent[0] = slot;
    }

    /// Whether a P may still be filling a slot.
    pub fn is_being_filled(&self, processor: i64, slot: Address) -> bool {
        self.0[processor as usize % PROCESSORS].contains(&slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_p_fills_its_latest_slots() {
        let mut tiny = TinySlots::new();
        for slot in 0..20 {
            tiny.begin(1, Address(16 * slot));
        }
        tiny.begin(-1, Address(1000));
        assert!(tiny.is_being_filled(1, Address(19 * 16)) && tiny.is_being_filled(1, Address(4 * 16)));
        assert!(!tiny.is_being_filled(1, Address(3 * 16)) && !tiny.is_being_filled(1, Address(1000)));
        assert!(tiny.is_being_filled(-1, Address(1000)) && !tiny.is_being_filled(0, Address(80)));
    }
}
