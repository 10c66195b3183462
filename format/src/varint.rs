//! Variable-length integers: seven bits a byte, low bits first (LEB128), and zigzag for signed ones.

/// Bytes of the longest number.
pub const NUMBER_BYTES_MAX: usize = 10;

/// Maps small negative and positive numbers to small unsigned ones: 0, -1, 1, -2 … to 0, 1, 2, 3 …
#[must_use]
pub const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
#[must_use]
pub const fn unzigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

/// Where encoded bytes go.
pub trait Output {
    /// Appends bytes.
    fn write(&mut self, bytes: &[u8]);
}

#[cfg(feature = "std")]
impl Output for Vec<u8> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Bytes in memory of a fixed size. It goes on counting behind the end, so that in the end it is known how many bytes
/// there would have been.
#[derive(Debug)]
pub struct SliceOutput<'a> {
    memory: &'a mut [u8],
    length: usize,
}

impl<'a> SliceOutput<'a> {
    /// Writes to the front of `memory`.
    #[must_use]
    pub const fn new(memory: &'a mut [u8]) -> SliceOutput<'a> {
        SliceOutput::behind(memory, 0)
    }

    /// Writes to `memory` behind its first `length` bytes.
    #[must_use]
    pub const fn behind(memory: &'a mut [u8], length: usize) -> SliceOutput<'a> {
        SliceOutput { memory, length }
    }

    /// How many bytes were to be written so far; more than the memory holds if it was too small.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length
    }
}

impl Output for SliceOutput<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let end = self.length.saturating_add(bytes.len());
        if let Some(place) = self.memory.get_mut(self.length..end) {
            place.copy_from_slice(bytes);
        }
        self.length = end;
    }
}

/// Appends `value` to `out`.
#[inline]
pub fn put(out: &mut impl Output, mut value: u64) {
    // Most numbers of a column are one byte long.
    if value < 0x80 {
        return out.write(&[value as u8]);
    }
    let mut bytes = [0; NUMBER_BYTES_MAX];
    let mut length = 0;
    while value >= 0x80 {
        bytes[length] = value as u8 | 0x80;
        length += 1;
        value >>= 7;
    }
    bytes[length] = value as u8;
    out.write(&bytes[..=length]);
}

/// Appends the length of `text` and its bytes to `out`.
pub fn put_bytes(out: &mut impl Output, text: &[u8]) {
    put(out, text.len() as u64);
    out.write(text);
}

/// Reads from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// Starts at the first byte of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { rest: bytes }
    }

    /// What has not been read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// One number. `None` at the end of input and for a number of more than 64 bits.
    #[inline]
    pub fn number(&mut self) -> Option<u64> {
        // Most numbers of a column are one or two bytes long.
        let &first = self.rest.first()?;
        if first < 0x80 {
            self.rest = &self.rest[1..];
            return Some(u64::from(first));
        }
        self.long_number()
    }

    fn long_number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for (index, &byte) in self.rest.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            if index == 9 && bits > 1 {
                return None;
            }
            value |= bits << (7 * index);
            if byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Some(value);
            }
        }
        None
    }

    /// One zigzag number.
    #[inline]
    pub fn signed(&mut self) -> Option<i64> {
        self.number().map(unzigzag)
    }

    /// One byte.
    #[inline]
    pub fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// So many bytes.
    pub fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    /// A length and so many bytes.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        self.take(length)
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_number_comes_back(value: u64, tail: Vec<u8>) {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            bytes.extend_from_slice(&tail);
            let mut input = Input::new(&bytes);
            prop_assert_eq!(input.number(), Some(value));
            prop_assert_eq!(input.rest(), &tail[..]);
        }

        #[test]
        fn a_signed_number_comes_back(value: i64) {
            prop_assert_eq!(unzigzag(zigzag(value)), value);
        }
    }

    #[test]
    fn a_slice_too_small_tells_how_much_was_needed() {
        for size in 0..=5 {
            let mut memory = vec![0; size];
            let mut out = SliceOutput::new(&mut memory);
            put(&mut out, 300);
            put_bytes(&mut out, b"ab");
            assert_eq!(out.length(), 5);
            // The number, then the length of the text, then the text: each whole or not at all.
            let expected: &[u8] = match size {
                0 | 1 => &[],
                2 => &[0xac, 2],
                3 | 4 => &[0xac, 2, 2],
                _ => &[0xac, 2, 2, b'a', b'b'],
            };
            assert!(memory.starts_with(expected) && memory[expected.len()..].iter().all(|&byte| byte == 0), "{size}");
        }
    }

    #[test]
    fn too_many_bits_are_refused() {
        assert_eq!(Input::new(&[0xff; 10]).number(), None);
        assert_eq!(Input::new(&[0x80; 3]).number(), None);
    }
}
