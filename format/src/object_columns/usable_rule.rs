//! What an allocator makes of a size: said once a chunk, so that it need not be said of each object.

/// How many usable bytes an object of a size is expected to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum UsableRule {
    /// As many as were asked for.
    AsAsked = 0,
    /// As many as in the smallest chunk of glibc's (malloc/malloc.c, `request2size`): 16 bytes are one unit, of which a chunk has at
    /// least two, and 8 bytes are its header.
    Glibc = 1,
}

impl UsableRule {
    pub(super) fn from_number(number: u8) -> Option<UsableRule> {
        match number {
            0 => Some(UsableRule::AsAsked),
            1 => Some(UsableRule::Glibc),
            _ => None,
        }
    }

    /// The expected usable bytes of a size.
    #[inline(always)]
    pub(super) fn usable(self, size: u64) -> u64 {
        match self {
            UsableRule::AsAsked => size,
            UsableRule::Glibc => (size.wrapping_add(23) & !15).max(32).wrapping_sub(8),
        }
    }

    /// Bytes between the usable ones of an object and the object behind it.
    #[inline(always)]
    pub(super) fn gap(self) -> u64 {
        match self {
            UsableRule::AsAsked => 0,
            UsableRule::Glibc => 8,
        }
    }

    /// The rule that leaves least to say.
    pub(super) fn best(sizes: &[u64], usable: &[u64]) -> UsableRule {
        let mut exact = 0;
        for (&size, &usable) in sizes.iter().zip(usable) {
            let expected = UsableRule::Glibc.usable(size);
            if usable < expected {
                return UsableRule::AsAsked;
            }
            exact += usize::from(usable == expected && usable != size);
        }
        if exact * 2 > sizes.len() { UsableRule::Glibc } else { UsableRule::AsAsked }
    }
}

#[cfg(test)]
mod tests {
    use super::UsableRule;

    #[test]
    fn glibc_chunks_are_multiples_of_16_and_hold_at_least_24_bytes() {
        for (size, usable) in [(0, 24), (1, 24), (24, 24), (25, 40), (40, 40), (41, 56), (1000, 1000), (1001, 1016)] {
            assert_eq!(UsableRule::Glibc.usable(size), usable, "{size}");
        }
    }

    #[test]
    fn a_rule_is_taken_where_it_holds() {
        assert_eq!(UsableRule::best(&[1, 30], &[24, 40]), UsableRule::Glibc);
        assert_eq!(UsableRule::best(&[1, 30], &[8, 32]), UsableRule::AsAsked);
        assert_eq!(UsableRule::best(&[8, 32], &[1000, 2000]), UsableRule::AsAsked);
    }
}
