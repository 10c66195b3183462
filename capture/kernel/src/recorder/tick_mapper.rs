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

/// Lines kept: a hook that was preempted in the middle can publish an old tick.
const LINES: usize = 512;
/// Binary digits of a slope behind the point.
const SLOPE_SHIFT: u32 = 40;

/// Maps ticks to nanoseconds.
#[derive(Debug)]
pub struct TickMapper {
    ticks_are_nanos: bool,
    /// A tick and the time at it.
    newest: Option<(u64, u64)>,
    /// From each pair to the next one.
    lines: VecDeque<Line>,
}

/// A straight line.
#[derive(Clone, Copy, Debug)]
struct Line {
    tick: u64,
    nanos: u64,
    /// Nanoseconds a tick, times 2^[`SLOPE_SHIFT`].
    slope: u64,
}

impl Line {
    /// Through two pairs of which the second is later.
    fn through((tick, nanos): (u64, u64), (later_tick, later_nanos): (u64, u64)) -> Line {
        let (ticks, nanos_since) = (u128::from(later_tick - tick), u128::from(later_nanos - nanos));
        // Rounded up, so that the line meets the second pair.
        let slope = (nanos_since << SLOPE_SHIFT).div_ceil(ticks);
        Line { tick, nanos, slope: slope.try_into().unwrap_or(u64::MAX) }
    }

    /// The time of a tick that is not before its own, which nearly all are.
    #[inline]
    fn time_behind(&self, ticks: u64) -> TraceNanos {
        let nanos = (u128::from(ticks) * u128::from(self.slope)) >> SLOPE_SHIFT;
        TraceNanos(self.nanos.saturating_add(nanos.try_into().unwrap_or(u64::MAX)))
    }

    fn time_of(&self, tick: u64) -> TraceNanos {
        let nanos = (i128::from(tick) - i128::from(self.tick)).saturating_mul(self.slope.into()) >> SLOPE_SHIFT;
        TraceNanos(i128::from(self.nanos).saturating_add(nanos).clamp(0, i128::from(u64::MAX)) as u64)
    }
}

impl TickMapper {
    /// A mapper for a clock of [`clock`].
    pub fn new(kind: u32) -> TickMapper {
        let mut mapper = TickMapper { ticks_are_nanos: kind == clock::MONOTONIC, newest: None, lines: VecDeque::new() };
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
        match self.newest {
            Some((newest, newest_nanos)) if tick <= newest || nanos <= newest_nanos => return,
            Some(newest) => {
                if self.lines.len() == LINES {
                    self.lines.pop_front();
                }
                self.lines.push_back(Line::through(newest, (tick, nanos)));
            }
            None => {}
        }
        self.newest = Some((tick, nanos));
    }

    /// The newest tick whose time is known.
    pub fn present_tick(&self) -> u64 {
        if self.ticks_are_nanos { now().0 } else { self.newest.map_or(0, |(tick, _)| tick) }
    }

    /// The time of a tick.
    #[inline]
    pub fn time_of(&self, tick: u64) -> TraceNanos {
        if self.ticks_are_nanos {
            return TraceNanos(tick);
        }
        // Nearly all ticks lie on the last line.
        match self.lines.back() {
            Some(line) if tick >= line.tick => line.time_behind(tick - line.tick),
            _ => self.time_of_earlier(tick),
        }
    }

    #[cold]
    fn time_of_earlier(&self, tick: u64) -> TraceNanos {
        let line = self.lines.iter().rev().find(|line| tick >= line.tick).or_else(|| self.lines.front());
        match line {
            Some(line) => line.time_of(tick),
            None => TraceNanos(self.newest.map_or(0, |(_, nanos)| nanos)),
        }
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
        let pairs = [(1000, 500), (3000, 1600), (4000, 2000)];
        let lines = pairs.windows(2).map(|pairs| Line::through(pairs[0], pairs[1])).collect();
        let mapper = TickMapper { ticks_are_nanos: false, newest: Some(pairs[2]), lines };
        let times: Vec<u64> = (900..4100).map(|tick| mapper.time_of(tick).0).collect();
        assert!(times.is_sorted());
        for line in &mapper.lines {
            for ticks in [0, 1, 999, 1 << 40, u64::MAX - line.tick] {
                assert_eq!(line.time_behind(ticks), line.time_of(line.tick + ticks), "{line:?}, {ticks}");
            }
        }
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
