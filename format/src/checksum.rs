//! CRC-32 (the polynomial of IEEE 802.3, as in zlib and PNG) of headers and payloads.
//!
//! A program that is traced gets the table below, since nothing else may be linked into it; readers and the
//! recorder use the crc32fast crate. A test holds the two against each other.

/// The checksum of `bytes`.
///
/// ```
/// assert_eq!(pagetrace_format::checksum::crc32(b"123456789"), 0xcbf4_3926);
/// ```
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    #[cfg(feature = "std")]
    return crc32fast::hash(bytes);
    #[cfg(not(feature = "std"))]
    return crc32_by_table(bytes);
}

#[cfg(any(not(feature = "std"), test))]
fn crc32_by_table(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, &byte| (crc >> 8) ^ TABLE[usize::from(crc as u8 ^ byte)])
}

#[cfg(any(not(feature = "std"), test))]
static TABLE: [u32; 256] = {
    let mut table = [0_u32; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_table_agrees_with_crc32fast(bytes: Vec<u8>) {
            prop_assert_eq!(super::crc32_by_table(&bytes), crc32fast::hash(&bytes));
        }
    }
}
