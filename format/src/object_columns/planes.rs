//! Numbers byte by byte: the lowest bytes of all of them, then the next ones.

/// Bytes that the largest of the numbers needs.
pub(super) fn width(values: &[u64]) -> u8 {
    let all = values.iter().fold(0, |all, value| all | value);
    (8 - all.leading_zeros() / 8) as u8
}

/// Appends the lowest `width` bytes of all numbers, and to `ends` where each plane ends.
pub(super) fn put(out: &mut Vec<u8>, values: &[u64], width: u8, ends: &mut Vec<usize>) {
    for plane in 0..u32::from(width) {
        out.extend(values.iter().map(|value| (value >> (8 * plane)) as u8));
        ends.push(out.len());
    }
}

/// Where planes lie in a payload, and which number is next.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Planes {
    at: usize,
    count: usize,
    width: u8,
    next: usize,
}

impl Planes {
    /// `count` numbers from the offset `at`. `None` for more than 8 bytes a number, or more numbers than memory.
    pub(super) fn at(at: usize, count: usize, width: u8) -> Option<Planes> {
        (width <= 8 && count.checked_mul(8).is_some()).then_some(Planes { at, count, width, next: 0 })
    }

    /// Their length in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.count * usize::from(self.width)
    }

    /// Overwrites `numbers` with the next ones, at most `most`. `payload` must hold the planes.
    pub(super) fn take(&mut self, payload: &[u8], most: usize, numbers: &mut Vec<u64>) {
        let taken = most.min(self.count - self.next);
        let plane = |index: usize| &payload[self.at + index * self.count + self.next..][..taken];
        numbers.clear();
        match self.width {
            0 => numbers.resize(taken, 0),
            1 => numbers.extend(plane(0).iter().map(|&byte| u64::from(byte))),
            _ => {
                let pairs = plane(0).iter().zip(plane(1));
                numbers.extend(pairs.map(|(&low, &high)| u64::from(u16::from_le_bytes([low, high]))));
            }
        }
        for index in 2..usize::from(self.width) {
            for (number, &byte) in numbers.iter_mut().zip(plane(index)) {
                *number |= u64::from(byte) << (8 * index);
            }
        }
        self.next += taken;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back_in_parts(values in prop::collection::vec(any::<u64>(), 0..50), mask: u64, part in 1_usize..9) {
            let values: Vec<u64> = values.iter().map(|value| value & mask).collect();
            let mut bytes = vec![7];
            put(&mut bytes, &values, width(&values), &mut Vec::new());
            let mut planes = Planes::at(1, values.len(), width(&values)).expect("few numbers");
            prop_assert_eq!(1 + planes.bytes(), bytes.len());
            let (mut read, mut numbers) = (Vec::new(), Vec::new());
            loop {
                planes.take(&bytes, part, &mut numbers);
                if numbers.is_empty() {
                    break;
                }
                read.extend_from_slice(&numbers);
            }
            prop_assert_eq!(read, values);
        }
    }

    #[test]
    fn a_width_is_just_enough() {
        assert_eq!([0, 1, 0xff, 0x100, u64::MAX].map(|value| width(&[value, 0])), [0, 1, 1, 2, 8]);
    }
}
