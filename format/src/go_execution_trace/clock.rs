//! The clock of a trace: how long its units are, and what time of the day one moment was.

use super::event_type::{CLOCK_SNAPSHOT, FREQUENCY, SYNC};
use crate::units::TraceNanos;
use crate::varint::Input;

/// A trace on Linux has a unit of 64 ns of CLOCK_MONOTONIC; taken where a cut trace does not say.
const USUAL_UNITS_PER_SECOND: u64 = 1_000_000_000 / 64;
/// Units per second that are believed: from a millisecond to a picosecond.
const PLAUSIBLE_UNITS_PER_SECOND: std::ops::RangeInclusive<u64> = 1000..=1_000_000_000_000;
/// Fractional bits of [`Clock::nanos_per_unit`].
const FRACTION_BITS: u32 = 40;

/// Converts clock units to nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Fixed point: at most a million, with [`FRACTION_BITS`] behind the point.
    nanos_per_unit: u64,
}

impl Clock {
    pub const USUAL: Clock = Clock::new(USUAL_UNITS_PER_SECOND);

    const fn new(units_per_second: u64) -> Clock {
        Clock { nanos_per_unit: ((1_000_000_000_u128 << FRACTION_BITS) / units_per_second as u128) as u64 }
    }

    /// A time beyond 64 bits is the last that there is.
    #[inline]
    pub fn nanos(self, units: u64) -> TraceNanos {
        let nanos = (u128::from(units) * u128::from(self.nanos_per_unit)) >> FRACTION_BITS;
        TraceNanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// What the clock batches of a generation say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockReading {
    pub clock: Option<Clock>,
    /// Clock units, and nanoseconds since 1970 at that moment.
    pub wall: Option<(u64, u64)>,
}

impl ClockReading {
    /// Adds what the payload of a clock batch says, whose base time is `time`.
    pub fn read(&mut self, payload: &[u8], mut time: u64) -> Result<(), &'static str> {
        const CUT: &str = "a clock batch that is cut";
        let mut input = Input::new(payload);
        while let Some(kind) = input.byte() {
            let mut number = || input.number().ok_or(CUT);
            match kind {
                SYNC => {}
                FREQUENCY => {
                    let units_per_second = number()?;
                    if !PLAUSIBLE_UNITS_PER_SECOND.contains(&units_per_second) {
                        return Err("a clock of less than a thousand or more than a billion units a millisecond");
                    }
                    self.clock = Some(Clock::new(units_per_second));
                }
                CLOCK_SNAPSHOT => {
                    time = time.saturating_add(number()?);
                    let (_monotonic, seconds, nanos) = (number()?, number()?, number()?);
                    self.wall = Some((time, seconds.saturating_mul(1_000_000_000).saturating_add(nanos)));
                }
                _ => return Err("a clock batch with something else in it"),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_become_nanoseconds() {
        assert_eq!(Clock::USUAL.nanos(3), TraceNanos(192));
        assert_eq!(Clock::USUAL.nanos(1 << 50), TraceNanos(64 << 50), "exact far from zero");
        assert_eq!(Clock::new(1000).nanos(u64::MAX), TraceNanos(u64::MAX));
        assert_eq!(Clock::new(1_000_000_000_000).nanos(2_000_000), TraceNanos(1999), "at most 1 ns too early");
    }
}
