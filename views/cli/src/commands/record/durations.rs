//! Durations as options of `record` take them: a number and its unit.

use std::time::Duration;

/// Times of a trace are nanoseconds in 64 bits.
const MOST: Duration = Duration::from_secs(u64::MAX / 4_000_000_000);

/// How much of a recording is kept, at least a second.
pub fn keep_last(text: &str) -> Result<Duration, String> {
    let duration = duration(text, "30s, 10m or 2h")?;
    if !(Duration::from_secs(1)..=MOST).contains(&duration) {
        return Err(format!("expected at least 1s and at most some centuries, found {text:?}"));
    }
    Ok(duration)
}

/// The length of an epoch: no shorter than it can take to look at all memory, and no longer than a day.
pub fn epoch(text: &str) -> Result<Duration, String> {
    let duration = duration(text, "100ms, 1s or 1m")?;
    if !(Duration::from_millis(10)..=Duration::from_secs(86_400)).contains(&duration) {
        return Err(format!("expected at least 10ms and at most a day, found {text:?}"));
    }
    Ok(duration)
}

/// When to let go of a process.
pub fn until_detached(text: &str) -> Result<Duration, String> {
    let duration = duration(text, "500ms, 10s or 5m")?;
    if !(Duration::from_millis(1)..=MOST).contains(&duration) {
        return Err(format!("expected at least 1ms and at most some centuries, found {text:?}"));
    }
    Ok(duration)
}

fn duration(text: &str, examples: &str) -> Result<Duration, String> {
    let expected = || format!("expected a duration such as {examples}, found {text:?}");
    let (number, unit) = number_and_unit(text);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(expected()),
    };
    let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms)).ok_or_else(expected)?;
    Ok(Duration::from_millis(ms))
}

/// Digits, and what is behind them.
pub fn number_and_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_so() {
        fn check(text: &str, kept: Option<u64>, epoch_ms: Option<u64>) {
            assert_eq!(keep_last(text).ok(), kept.map(Duration::from_secs), "{text}");
            assert_eq!(epoch(text).ok(), epoch_ms.map(Duration::from_millis), "{text}");
        }
        check("30s", Some(30), Some(30_000));
        check("10m", Some(600), Some(600_000));
        check("2h", Some(7200), Some(7_200_000));
        check("1d", Some(86_400), Some(86_400_000));
        check("2d", Some(172_800), None);
        check("100ms", None, Some(100));
        check("9ms", None, None);
        check("0s", None, None);
        check("30", None, None);
        check("1.5h", None, None);
        check("99999999999999h", None, None);
        check("999999999999999999999h", None, None);
        check("", None, None);
    }
}
