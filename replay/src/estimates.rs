//! Sums over all objects where only a sample of them is in the trace.
//!
//! An object of `s` bytes is in the trace with the probability p = 1 − exp(−s/mean), independently of the others. So a sum of
//! `x` over all objects is estimated by that of `x/p` over those that are there (Horvitz and Thompson, 1952), without a bias, and
//! the variance of that by the sum of `x²(1 − p)/p²` over the same. Where all objects are in the trace sums are exact.

pub(crate) mod checkpoint;

use std::ops::AddAssign;

/// How objects were sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SamplingRate {
    /// Mean bytes from one sample to the next, `None` where all objects are there.
    mean_bytes: Option<u64>,
}

/// The probability that an object is in the trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Chance(f64);

/// Of an object that is there in any case.
pub(crate) const CERTAIN: Chance = Chance(1.0);

/// A sum over objects.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sum {
    /// Over those in the trace.
    pub(crate) seen: u64,
    /// How much more the estimate is.
    more: f64,
    variance: f64,
}

/// A figure of objects that is the exact one or an estimate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// The figure.
    pub value: u64,
    /// Its standard error; 0 of an exact one, and where nothing was sampled that it is about.
    pub error: u64,
}

impl SamplingRate {
    pub(crate) fn new(mean_bytes: Option<u64>) -> SamplingRate {
        SamplingRate { mean_bytes: mean_bytes.filter(|&mean_bytes| mean_bytes > 1) }
    }

    /// Whether not all objects are there.
    #[inline]
    pub(crate) fn is_sampled(self) -> bool {
        self.mean_bytes.is_some()
    }

    /// The probability of an object of so many bytes, as it was asked for.
    #[inline]
    pub(crate) fn chance(self, size: u64) -> Chance {
        match self.mean_bytes {
            None => CERTAIN,
            // One of no bytes is never there; a damaged trace may say so.
            Some(mean_bytes) => Chance(-(-(size.max(1) as f64) / mean_bytes as f64).exp_m1()),
        }
    }
}

impl Sum {
    /// Adds what an object that is there has of it.
    #[inline]
    pub(crate) fn add(&mut self, amount: u64, chance: Chance) {
        self.seen = self.seen.saturating_add(amount);
        let Chance(chance) = chance;
        if chance < 1.0 {
            let amount = amount as f64;
            self.more += amount * (1.0 - chance) / chance;
            self.variance += amount * amount * (1.0 - chance) / (chance * chance);
        }
    }

    /// Of all objects.
    pub(crate) fn exact(seen: u64) -> Sum {
        Sum { seen, more: 0.0, variance: 0.0 }
    }

    /// As if [`Sum::add`] had not been.
    pub(crate) fn take_back(&mut self, amount: u64, chance: Chance) {
        let mut other = Sum::default();
        other.add(amount, chance);
        self.seen = self.seen.saturating_sub(other.seen);
        self.more = (self.more - other.more).max(0.0);
        self.variance = (self.variance - other.variance).max(0.0);
    }

    pub(crate) fn estimate(&self) -> Estimate {
        // Conversions saturate.
        Estimate {
            value: self.seen.saturating_add(self.more.round() as u64),
            error: self.variance.sqrt().round() as u64,
        }
    }

    /// For a checkpoint, what is not exact, as bits of a double.
    pub(crate) fn bits(&self) -> [u64; 2] {
        [self.more.to_bits(), self.variance.to_bits()]
    }

    /// The inverse; what cannot be is taken for nothing.
    pub(crate) fn from_bits(seen: u64, bits: [u64; 2]) -> Sum {
        let [more, variance] = bits.map(f64::from_bits).map(|it| if it.is_finite() { it.max(0.0) } else { 0.0 });
        Sum { seen, more, variance }
    }
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Sum) {
        self.seen = self.seen.saturating_add(other.seen);
        self.more += other.more;
        self.variance += other.variance;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_objects_make_an_exact_sum() {
        let mut sum = Sum::default();
        [3, 5, u64::MAX].iter().for_each(|&amount| sum.add(amount, SamplingRate::default().chance(amount)));
        assert_eq!(sum.estimate(), Estimate { value: u64::MAX, error: 0 });
        assert_eq!(SamplingRate::new(Some(1)), SamplingRate::default());
    }

    #[test]
    fn a_sample_stands_for_as_many_as_it_is_unlikely() {
        let rate = SamplingRate::new(Some(1000));
        let mut sum = Sum::default();
        sum.add(1, rate.chance(10));
        // 1 / (1 − exp(−0.01)) and the root of (1 − p)/p².
        assert_eq!(sum.estimate(), Estimate { value: 101, error: 100 });
        let mut large = Sum::default();
        large.add(1 << 40, rate.chance(1 << 40));
        assert_eq!(large.estimate(), Estimate { value: 1 << 40, error: 0 });
        assert_eq!(Sum::from_bits(sum.seen, sum.bits()), sum);
        assert_eq!(Sum::from_bits(7, [f64::NAN.to_bits(), (-1.0_f64).to_bits()]), Sum { seen: 7, ..Sum::default() });
    }
}
