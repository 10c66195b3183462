//! From ticks to nanoseconds: one straight line for the whole recording, so that the order of events between streams
//! survives. Its slope is measured between the start and the first time that something is written.

use core::sync::atomic::Ordering;

use pagetrace_format::TraceNanos;
use pagetrace_format::encode::TickClock;
use pagetrace_format::session::{SessionHeader, clock};

use crate::sys::{self, files::ReadFile};

/// The clocks are read at least so far apart: reading them errs by some 20 ns, so the slope by 2 millionths.
const BASELINE_NS: u64 = 10_000_000;
const SHIFT: u32 = 31;
/// The pair is taken from the quickest of so many readings.
const READINGS: usize = 5;

/// The clock that hooks should use here: the counter only where the kernel trusts it as its own clock.
pub fn best_clock() -> u32 {
    let mut name = [0; 16];
    let path = c"/sys/devices/system/clocksource/clocksource0/current_clocksource";
    match ReadFile::open(path).and_then(|file| file.read(&mut name)) {
        Some(bytes) if name[..bytes] == *b"tsc\n" => clock::TSC,
        _ => clock::MONOTONIC,
    }
}

/// Notes where the line begins.
pub fn begin(header: &SessionHeader, kind: u32) {
    header.clock.store(kind, Ordering::Relaxed);
    let [base_tick, base, slope] = &header.clock_line;
    if kind == clock::MONOTONIC {
        base_tick.store(0, Ordering::Relaxed);
        base.store(0, Ordering::Relaxed);
        slope.store(1, Ordering::Release);
        return;
    }
    let (tick, nanos) = read_both();
    base_tick.store(tick, Ordering::Relaxed);
    base.store(nanos, Ordering::Relaxed);
    slope.store(0, Ordering::Release);
}

/// The line. The first call sets its slope, and may sleep for some milliseconds before; the caller holds the lock for
/// writing.
pub fn line(header: &SessionHeader) -> TickClock {
    let [base_tick, base, slope] = &header.clock_line;
    let (base_tick, base) = (base_tick.load(Ordering::Relaxed), base.load(Ordering::Relaxed));
    if slope.load(Ordering::Acquire) == 0 {
        let (mut tick, mut nanos) = read_both();
        while nanos - base < BASELINE_NS {
            sys::sleep_ns(BASELINE_NS - (nanos - base));
            (tick, nanos) = read_both();
        }
        let ratio = (u128::from(nanos - base) << SHIFT) / u128::from(tick.wrapping_sub(base_tick).max(1));
        let mult = u64::try_from(ratio).unwrap_or(u64::MAX).clamp(1, u64::from(u32::MAX));
        slope.store(u64::from(SHIFT) << 32 | mult, Ordering::Release);
    }
    let slope = slope.load(Ordering::Relaxed);
    TickClock { base_tick, base: TraceNanos(base), mult: slope as u32, shift: (slope >> 32) as u32 }
}

fn read_both() -> (u64, u64) {
    let reading = || {
        let before = sys::time_stamp_counter();
        let nanos = sys::monotonic_ns();
        let after = sys::time_stamp_counter();
        let took = after.wrapping_sub(before);
        (took, before.wrapping_add(took / 2), nanos)
    };
    let (_, tick, nanos) = (1..READINGS).map(|_| reading()).fold(reading(), |best, next| best.min(next));
    (tick, nanos)
}
