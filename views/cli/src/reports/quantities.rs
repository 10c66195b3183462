//! Bytes, counts, times and shares as people read them.

/// Bytes with a binary unit: `45.1 MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // What rounds to 1024.0 belongs to the next unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Bytes that may be negative.
pub fn signed_bytes(amount: i64) -> String {
    let sign = if amount < 0 { "−" } else { "" };
    format!("{sign}{}", bytes(amount.unsigned_abs()))
}

/// A count with thousands set apart: `12,345`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count and its noun: `1 object`, `2 objects`.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Nanoseconds as seconds or milliseconds.
pub fn duration(nanos: u64) -> String {
    let seconds = nanos as f64 / 1e9;
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}

/// A share in per cent; small ones are not rounded to nothing, nor almost all to all.
pub fn percent(part: f64, whole: f64) -> String {
    if whole <= 0.0 {
        return "–".into();
    }
    match part / whole * 100.0 {
        0.0 => "0 %".into(),
        share if share > 0.0 && share < 0.1 => "<0.1 %".into(),
        share if share > 99.9 && share < 100.0 => ">99.9 %".into(),
        share => format!("{share:.1} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_these() {
        fn check(found: String, expected: &str) {
            assert_eq!(found, expected);
        }
        check(bytes(0), "0 B");
        check(bytes(1023), "1023 B");
        check(bytes(1024), "1.0 KiB");
        check(bytes((1 << 20) - 1), "1.0 MiB");
        check(bytes(47_290_777), "45.1 MiB");
        check(bytes(u64::MAX), "16777216.0 TiB");
        check(signed_bytes(-2048), "−2.0 KiB");
        check(count(0), "0");
        check(count(123), "123");
        check(count(1_234_567), "1,234,567");
        check(counted(1, "object"), "1 object");
        check(counted(2000, "object"), "2,000 objects");
        check(duration(200_000_000), "200.0 ms");
        check(duration(1_500_000_000), "1.50 s");
        check(percent(0.0, 10.0), "0 %");
        check(percent(1.0, 100_000.0), "<0.1 %");
        check(percent(99_999.0, 100_000.0), ">99.9 %");
        check(percent(1.0, 0.0), "–");
        check(percent(1.0, 3.0), "33.3 %");
    }
}
