//! Random distances between samples, from arithmetic alone.

/// A source of random numbers: SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
/// Its state, of which 0 stands for none.
#[derive(Clone, Copy, Debug)]
pub struct Random(pub u64);

impl Random {
    /// One that depends on all bits of a seed.
    pub fn seeded(seed: [u64; 4]) -> Random {
        let mixed = seed.into_iter().fold(Random(0x5eed), |mut random, part| {
            random.0 ^= part;
            Random(random.next())
        });
        Random(mixed.0.max(1))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// The number of the byte, from 1, that the next sample lies on: an exponentially distributed distance, rounded up. So it
    /// is at most `s` with the probability 1 − exp(−s/mean), for whole `s` exactly.
    pub fn gap(&mut self, mean_bytes: u64) -> u64 {
        let gap = (minus_ln(self.next()) * mean_bytes as f64).to_bits();
        // Rounded up by hand: the function for it may be one of the library of mathematics, which is not to be loaded.
        let whole = f64::from_bits(gap) as u64;
        let rest = f64::from_bits(gap) > whole as f64;
        whole.saturating_add(rest.into()).max(1)
    }
}

/// −ln of a number from 2⁻⁶⁴ to 1, that is of `(random + 1) / 2⁶⁴`, to some 10⁻¹².
fn minus_ln(random: u64) -> f64 {
    let bits = (random as f64 + 1.0).to_bits();
    let exponent = (bits >> 52) as i64 - 1023;
    let mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    // ln m = 2 artanh((m − 1) / (m + 1)), of at most a third.
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let square = ratio * ratio;
    let series = (0..12).rev().fold(0.0, |sum, term| sum * square + 1.0 / f64::from(2 * term + 1));
    (64 - exponent) as f64 * core::f64::consts::LN_2 - 2.0 * ratio * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_those_of_the_library() {
        let mut random = Random(1);
        let few = [0, 1, 2, 1 << 52, 1 << 63, u64::MAX - 1, u64::MAX];
        for number in few.into_iter().chain((0..10_000).map(|_| random.next())) {
            let expected = -((number as f64 + 1.0) / 2_f64.powi(64)).ln();
            assert!((minus_ln(number) - expected).abs() < 1e-11, "{number}: {} {expected}", minus_ln(number));
        }
    }

    /// With fixed seeds, so that it always gives the same.
    #[test]
    fn an_object_is_sampled_with_the_probability_that_its_size_has() {
        const DRAWS: u32 = 400_000;
        for mean in [2, 512, 524_288, 1 << 40] {
            let mut random = Random::seeded([mean, 1, 2, 3]);
            let gaps: Vec<u64> = (0..DRAWS).map(|_| random.gap(mean)).collect();
            for size in [1, mean / 8, mean / 2, mean, 3 * mean, 8 * mean].into_iter().filter(|&size| size > 0) {
                let probability = -(-(size as f64) / mean as f64).exp_m1();
                let found = gaps.iter().filter(|&&gap| gap <= size).count() as f64;
                let expected = probability * f64::from(DRAWS);
                let error = (expected * (1.0 - probability)).sqrt();
                assert!(
                    (found - expected).abs() <= 4.0 * error + 1.0,
                    "{size} of {mean}: {found}, expected {expected}"
                );
            }
        }
    }

    #[test]
    fn seeds_that_are_alike_give_numbers_that_are_not() {
        let of = |seed| Random::seeded(seed).gap(1 << 40);
        let all = [of([1, 2, 3, 4]), of([1, 2, 3, 5]), of([1, 2, 4, 4]), of([2, 2, 3, 4])];
        for (place, one) in all.iter().enumerate() {
            assert!(all[..place].iter().all(|other| one.abs_diff(*other) > 1000), "{all:?}");
        }
    }
}
