//! From ticks of a session's clock to nanoseconds of `CLOCK_MONOTONIC`.
//!
//! The recorder reads both clocks once a round, after it has seen which events are published and before it takes
//! them: so an event's tick lies before the newest pair, and between two pairs the mapping is a straight line that
//! never changes afterwards. Order between threads survives it.

use std::collections::VecDeque;

use pagetrace_format::TraceNanos;
use pagetrace_format::session::clock;
use rustix::time::{ClockId, clock_gettime};

use super::sys;

/// Pairs kept: a hook that was preempted in the middle can publish an old tick.
const PAIRS: usize = 512;

/// Maps ticks to nanoseconds.
#[derive(Debug)]
pub struct TickMapper {
    ticks_are_nanos: bool,
    pairs: VecDeque<(u64, u64)>,
}

impl TickMapper {
    /// A mapper for a clock of [`clock`].
    pub fn new(kind: u32) -> TickMapper {
        let mut mapper = TickMapper { ticks_are_nanos: kind == clock::MONOTONIC, pairs: VecDeque::new() };
        mapper.read_clocks();
        mapper
    }

    /// The clock that hooks should use here: the counter only where the kernel trusts it as its own clock.
    pub fn best_clock() -> u32 {
        let source = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
        match source {
            Ok(name) if name.trim() == "tsc" => clock::TSC,
            _ => clock::MONOTONIC,
        }
    }

    /// Reads both clocks.
    pub fn read_clocks(&mut self) {
        if self.ticks_are_nanos {
            return;
        }
        let pair = (0..4)
            .map(|_| {
                let before = sys::time_stamp_counter();
                let nanos = now().0;
                let after = sys::time_stamp_counter();
                (after.wrapping_sub(before), before.wrapping_add(after.wrapping_sub(before) / 2), nanos)
            })
            .min();
        let Some((_, tick, nanos)) = pair else { return };
        if self.pairs.back().is_none_or(|&(last, last_nanos)| tick > last && nanos > last_nanos) {
            if self.pairs.len() == PAIRS {
                self.pairs.pop_front();
            }
            self.pairs.push_back((tick, nanos));
        }
    }

    /// The time of a tick.
    pub fn time_of(&self, tick: u64) -> TraceNanos {
        if self.ticks_are_nanos {
            return TraceNanos(tick);
        }
        let last = self.pairs.len().saturating_sub(1);
        // Nearly all ticks lie between the last two pairs.
        let after = (1..last).rev().find(|&index| self.pairs[index].0 < tick).map_or(1, |index| index + 1);
        let (Some(&(tick_0, nanos_0)), Some(&(tick_1, nanos_1))) = (self.pairs.get(after - 1), self.pairs.get(after))
        else {
            return TraceNanos(self.pairs.back().map_or(0, |pair| pair.1));
        };
        let ticks = i128::from(tick) - i128::from(tick_0);
        let nanos = ticks * i128::from(nanos_1 - nanos_0) / i128::from(tick_1 - tick_0);
        TraceNanos(i128::from(nanos_0).saturating_add(nanos).clamp(0, i128::from(u64::MAX)) as u64)
    }
}

/// The present.
pub fn now() -> TraceNanos {
    let time = clock_gettime(ClockId::Monotonic);
    TraceNanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_between_pairs_keep_their_order_and_meet_the_pairs() {
        let pairs: VecDeque<(u64, u64)> = [(1000, 500), (3000, 1600), (4000, 2000)].into();
        let mapper = TickMapper { ticks_are_nanos: false, pairs };
        let times: Vec<u64> = (900..4100).map(|tick| mapper.time_of(tick).0).collect();
        assert!(times.is_sorted());
        for (tick, nanos) in [(1000, 500), (3000, 1600), (4000, 2000), (3500, 1800)] {
            assert_eq!(mapper.time_of(tick), TraceNanos(nanos));
        }
    }

    #[test]
    fn the_real_clocks_agree() {
        let mut mapper = TickMapper::new(clock::TSC);
        std::thread::sleep(std::time::Duration::from_millis(20));
        let (tick, nanos) = (sys::time_stamp_counter(), now());
        mapper.read_clocks();
        let difference = mapper.time_of(tick).0.abs_diff(nanos.0);
        assert!(difference < 1_000_000, "the clocks differ by {difference} ns");
    }
}
