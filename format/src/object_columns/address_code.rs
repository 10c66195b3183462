//! Where the address of an event is to be found, in one byte or two: allocators hand out what came back lately, and cut what
//! they hand out from where they cut last.
//!
//! ```text
//!   0         the next literal
//!   1 –  63   that of so many events ago
//!  64 – 191   that of 256 × (code − 64) + low + 64 events ago
//! 192 – 207   right behind the object of the alloc that is code − 191 allocs ago
//! 208 – 255   right behind that of 256 × (code − 208) + low + 17 allocs ago
//! ```

/// Where an address is to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressCode {
    Literal,
    /// That of so many events ago.
    Same(usize),
    /// Behind the object of the alloc of so many allocs ago.
    Behind(usize),
}

/// The code of literals.
pub(super) const LITERAL: u8 = 0;
const SAME_FAR: u8 = 64;
const BEHIND_NEAR: u8 = 192;
const BEHIND_FAR: u8 = 208;
/// The first distances that take a low byte.
const SAME_FAR_FROM: usize = SAME_FAR as usize;
const BEHIND_FAR_FROM: usize = (BEHIND_FAR - BEHIND_NEAR) as usize + 1;
const SAME_END: usize = SAME_FAR_FROM + 256 * (BEHIND_NEAR - SAME_FAR) as usize;
const BEHIND_END: usize = BEHIND_FAR_FROM + 256 * (256 - BEHIND_FAR as usize);

/// Whether a code takes a low byte.
#[inline(always)]
pub(super) const fn takes_low(code: u8) -> bool {
    matches!(code, SAME_FAR..BEHIND_NEAR | BEHIND_FAR..)
}

impl AddressCode {
    /// Whether there is a code for it.
    #[inline(always)]
    pub(super) fn is_in_reach(self) -> bool {
        match self {
            AddressCode::Literal => true,
            AddressCode::Same(distance) => (1..SAME_END).contains(&distance),
            AddressCode::Behind(distance) => (1..BEHIND_END).contains(&distance),
        }
    }

    /// The code, and its low byte if it takes one. It must be in reach.
    #[inline(always)]
    pub(super) fn to_bytes(self) -> (u8, Option<u8>) {
        let far = |code: u8, above: usize| (code.wrapping_add((above >> 8) as u8), Some(above as u8));
        match self {
            AddressCode::Literal => (LITERAL, None),
            AddressCode::Same(distance) if distance < SAME_FAR_FROM => (distance as u8, None),
            AddressCode::Same(distance) => far(SAME_FAR, distance - SAME_FAR_FROM),
            AddressCode::Behind(distance) if distance < BEHIND_FAR_FROM => (BEHIND_NEAR - 1 + distance as u8, None),
            AddressCode::Behind(distance) => far(BEHIND_FAR, distance - BEHIND_FAR_FROM),
        }
    }
}

/// What a code says.
#[derive(Clone, Copy, Debug)]
pub(super) struct CodeMeaning {
    /// The distance, without the low byte.
    pub(super) distance: u16,
    /// All bits where a low byte belongs to it.
    pub(super) low: u8,
    /// Whether the address is the next literal.
    pub(super) is_literal: bool,
    /// Whether allocs are counted and the ends of their objects meant, not events and their addresses.
    pub(super) is_behind: bool,
}

/// What each code says.
pub(super) static CODES: [CodeMeaning; 256] = {
    let mut codes = [CodeMeaning { distance: 0, low: 0, is_literal: true, is_behind: false }; 256];
    let mut code = 1;
    while code < codes.len() {
        let byte = code as u8;
        let (first, from) = match byte {
            LITERAL..SAME_FAR => (LITERAL, 0),
            SAME_FAR..BEHIND_NEAR => (SAME_FAR, SAME_FAR_FROM),
            BEHIND_NEAR..BEHIND_FAR => (BEHIND_NEAR, 1),
            BEHIND_FAR.. => (BEHIND_FAR, BEHIND_FAR_FROM),
        };
        let steps = (byte - first) as usize * if takes_low(byte) { 256 } else { 1 };
        codes[code] = CodeMeaning {
            distance: (from + steps) as u16,
            low: if takes_low(byte) { u8::MAX } else { 0 },
            is_literal: false,
            is_behind: byte >= BEHIND_NEAR,
        };
        code += 1;
    }
    codes
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_distance_in_reach_comes_back() {
        let mut codes = vec![AddressCode::Literal];
        codes.extend((0..70_000).map(AddressCode::Same));
        codes.extend((0..70_000).map(AddressCode::Behind));
        codes.retain(|code| code.is_in_reach());
        assert_eq!(codes.len(), 1 + (63 + 128 * 256) + (16 + 48 * 256));
        for code in codes {
            let (byte, low) = code.to_bytes();
            assert_eq!(takes_low(byte), low.is_some(), "{code:?}");
            let CodeMeaning { distance, low: mask, is_literal, is_behind } = CODES[usize::from(byte)];
            let distance = usize::from(distance) + usize::from(low.unwrap_or(0xaa) & mask);
            let meant = match (is_literal, is_behind) {
                (true, _) => AddressCode::Literal,
                (false, false) => AddressCode::Same(distance),
                (false, true) => AddressCode::Behind(distance),
            };
            assert_eq!(meant, code);
        }
    }
}
