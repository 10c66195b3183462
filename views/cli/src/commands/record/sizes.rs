//! Bytes as options of `record` take them: a number and its unit.

use super::durations::number_and_unit;

/// The most bytes from one sample to the next.
const SAMPLE_BYTES_MOST: u64 = 1 << 40;

/// A number of bytes; `examples` are for who wrote something else.
pub fn bytes(text: &str, examples: &str) -> Result<u64, String> {
    let expected = || format!("expected a size such as {examples}, found {text:?}");
    let (number, unit) = number_and_unit(text);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return Err(expected()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(expected)
}

/// Mean bytes from one sampled object to the next.
pub fn sample_bytes(text: &str) -> Result<u64, String> {
    let bytes = bytes(text, "512KiB or 1M")?;
    if !(1..=SAMPLE_BYTES_MOST).contains(&bytes) {
        return Err(format!("expected 1 byte, which records all objects, to 1024GiB, found {bytes} bytes"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_of_samples_are_written_so() {
        fn check(text: &str, expected: Option<u64>) {
            assert_eq!(sample_bytes(text).ok(), expected, "{text}");
        }
        check("1", Some(1));
        check("512KiB", Some(512 << 10));
        check("512k", Some(512_000));
        check("1024GiB", Some(1 << 40));
        check("0", None);
        check("1025GiB", None);
        check("all", None);
    }
}
