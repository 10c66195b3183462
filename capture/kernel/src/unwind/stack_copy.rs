//! The copied top of a stack.

/// Bytes of a stack, from the stack pointer upwards.
#[derive(Clone, Copy, Debug)]
pub struct StackCopy<'a> {
    start: u64,
    bytes: &'a [u8],
}

impl<'a> StackCopy<'a> {
    /// What was copied from `start` on.
    pub fn new(start: u64, bytes: &'a [u8]) -> StackCopy<'a> {
        StackCopy { start, bytes }
    }

    /// The word at an address, `None` where it was not copied.
    pub fn word(&self, address: u64) -> Option<u64> {
        let offset = usize::try_from(address.checked_sub(self.start)?).ok()?;
        let bytes = self.bytes.get(offset..offset.checked_add(8)?)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_within_the_copy() {
        let copy = StackCopy::new(0x1000, &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!((copy.word(0x1000), copy.word(0x1008)), (Some(1), Some(2)));
        assert_eq!((copy.word(0xfff), copy.word(0x100a), copy.word(u64::MAX)), (None, None, None));
    }
}
