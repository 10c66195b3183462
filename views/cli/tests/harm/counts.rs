//! What the programs count themselves, in a page that they map: see `programs/c/hazard.h`.

use std::fs::File;
use std::path::Path;

/// One program in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Its pid.
    pub pid: u64,
    /// Objects that it made.
    pub made: u64,
    /// Objects that it freed.
    pub freed: u64,
}

const BYTES: u64 = 4096;
const WORDS_OF_COUNT: usize = 3;

/// An empty page for a run.
pub fn prepare(path: &Path) {
    let made = File::create(path).and_then(|file| file.set_len(BYTES));
    made.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// What was counted, in the order in which the programs began.
pub fn read(path: &Path) -> Vec<Count> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let words: Vec<u64> =
        bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes"))).collect();
    let counts =
        words.chunks_exact(WORDS_OF_COUNT).map(|count| Count { pid: count[0], made: count[1], freed: count[2] });
    // The first has how many there are in the place of the pid.
    let number = words.first().copied().unwrap_or(0) as usize;
    counts.skip(1).take(number).collect()
}
