//! Where the parts of a file are to lie in memory, by readelf(1).

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The loaded parts of a file: offset, address and length in the file.
#[derive(Clone, Debug, Default)]
pub struct Segments(Vec<[u64; 3]>);

impl Segments {
    /// Those of a program or a library.
    pub fn of(file: &Path) -> Result<Segments> {
        let output = Command::new("readelf").arg("-lW").arg(file).output().context("readelf (Debian: binutils)")?;
        ensure!(output.status.success(), "readelf cannot read {}", file.display());
        Ok(parse(&String::from_utf8_lossy(&output.stdout)))
    }

    /// The address that symbols are given for, of a byte in the file.
    pub fn address_of(&self, in_file: u64) -> u64 {
        let part = self.0.iter().find(|[offset, _, length]| in_file >= *offset && in_file - offset < *length);
        part.map_or(in_file, |[offset, address, _]| in_file - offset + address)
    }
}

/// The lines `LOAD OFFSET ADDRESS PHYSICAL FILE-LENGTH …`.
fn parse(printed: &str) -> Segments {
    let loads = printed.lines().filter_map(|line| line.trim().strip_prefix("LOAD"));
    let number = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
    Segments(
        loads
            .filter_map(|line| {
                let numbers: Vec<u64> = line.split_whitespace().map_while(number).collect();
                Some([*numbers.first()?, *numbers.get(1)?, *numbers.get(3)?])
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_lies_where_its_segment_does() {
        let printed = "  LOAD  0x000000 0x0000000000000000 0x0000000000000000 0x01079c 0x01079c R   0x1000\n  LOAD 0x01079c 0x000000000001179c 0x000000000001179c 0x057064 0x057064 R E 0x1000\n";
        let segments = parse(printed);
        assert_eq!((segments.address_of(0x100), segments.address_of(0x1079c + 8)), (0x100, 0x117a4));
        assert_eq!(segments.address_of(0xffff_0000), 0xffff_0000);
    }
}
