//! Random moments that can be had again: the seed is printed, and `PAGETRACE_TEST_SEED` gives it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Numbers by SplitMix64.
pub struct Random(u64);

impl Random {
    /// The seed of this run, which is printed.
    pub fn seed() -> u64 {
        let asked = std::env::var("PAGETRACE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = asked.unwrap_or_else(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            since.map_or(0, |since| u64::from(since.subsec_nanos()))
        });
        println!("PAGETRACE_TEST_SEED={seed}");
        seed
    }

    /// All numbers of a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A number below this one.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % end
    }
}
