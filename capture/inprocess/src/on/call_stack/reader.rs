//! Reads the numbers of which unwind tables are made, and never beyond the bytes that it was given.

/// Bytes that lie at a known address, and how far they have been read.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    address: usize,
    at: usize,
}

/// How a pointer is written (DW_EH_PE_*; Linux Standard Base, Core, 10.5).
mod encoding {
    pub const OMITTED: u8 = 0xff;
    pub const FORMAT: u8 = 0x0f;
    pub const RELATION: u8 = 0x70;
    pub const TO_ITSELF: u8 = 0x10;
    pub const INDIRECT: u8 = 0x80;
}

impl<'a> Reader<'a> {
    /// At the start of `bytes`, which lie at `address`.
    pub fn new(bytes: &'a [u8], address: usize) -> Reader<'a> {
        Reader { bytes, address, at: 0 }
    }

    /// The same bytes, read from this address on.
    pub fn at_address(&self, address: usize) -> Option<Reader<'a>> {
        let at = address.checked_sub(self.address)?;
        (at <= self.bytes.len()).then_some(Reader { at, ..*self })
    }

    /// The address of what is read next.
    pub fn address(&self) -> usize {
        self.address + self.at
    }

    /// Whether all has been read.
    pub fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// The next `count` bytes, to be read by themselves.
    pub fn part(&mut self, count: usize) -> Option<Reader<'a>> {
        let address = self.address();
        Some(Reader::new(self.take(count)?, address))
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    /// All that is left.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or(&[])
    }

    pub fn u8(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    pub fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    pub fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub fn i32(&mut self) -> Option<i32> {
        self.u32().map(|word| word as i32)
    }

    pub fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    /// An unsigned LEB128 number (DWARF 5, 7.6).
    pub fn uleb(&mut self) -> Option<u64> {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let byte = self.u8()?;
            if shift < 64 {
                value |= u64::from(byte & 0x7f) << shift;
            }
            shift += 7;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
    }

    /// A signed LEB128 number.
    pub fn sleb(&mut self) -> Option<i64> {
        let (mut value, mut shift) = (0_i64, 0);
        loop {
            let byte = self.u8()?;
            if shift < 64 {
                value |= i64::from(byte & 0x7f) << shift;
            }
            shift += 7;
            if byte & 0x80 == 0 {
                let sign = shift < 64 && byte & 0x40 != 0;
                return Some(if sign { value | -1 << shift } else { value });
            }
        }
    }

    /// A pointer: absolute or relative to where it stands. `None` for other relations, which no table of a loaded file
    /// has.
    pub fn pointer(&mut self, how: u8) -> Option<usize> {
        let base = match how & encoding::RELATION {
            0 => 0,
            encoding::TO_ITSELF => self.address(),
            _ => return None,
        };
        let value = self.encoded(how)?;
        (how & encoding::INDIRECT == 0).then_some(base.wrapping_add(value as usize))
    }

    /// The number of a pointer, without what it is relative to.
    pub fn encoded(&mut self, how: u8) -> Option<u64> {
        if how == encoding::OMITTED {
            return None;
        }
        match how & encoding::FORMAT {
            0x0 | 0x4 | 0xc => self.u64(),
            0x1 => self.uleb(),
            0x2 => self.u16().map(u64::from),
            0x3 => self.u32().map(u64::from),
            0x9 => self.sleb().map(|value| value as u64),
            0xa => self.u16().map(|value| value as i16 as u64),
            0xb => self.i32().map(|value| value as u64),
            _ => None,
        }
    }
}
