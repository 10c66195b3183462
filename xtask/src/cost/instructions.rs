//! Instructions by address, counted by callgrind: of a program under a recorder, or of the recorder.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

/// The files of code and their addresses as in the file, with the instructions that were executed there.
pub type Counts = BTreeMap<(String, u64), u64>;

/// Reads what callgrind writes with `--dump-instr=yes` and without compression.
pub fn parse(text: &str) -> Result<Counts> {
    let mut counts = Counts::new();
    let mut object = String::new();
    let mut is_of_a_call = false;
    for (index, line) in text.lines().enumerate() {
        if let Some(name) = line.strip_prefix("ob=") {
            name.clone_into(&mut object);
        } else if line.starts_with("calls=") {
            // The line behind it is what the callee took, which is counted there.
            is_of_a_call = true;
        } else if let Some(rest) = line.strip_prefix("0x") {
            if std::mem::take(&mut is_of_a_call) {
                continue;
            }
            let mut words = rest.split(' ');
            let address = words.next().and_then(|digits| u64::from_str_radix(digits, 16).ok());
            // The second is the line.
            let count = words.nth(1).map_or(Some(0), |count| count.parse::<u64>().ok());
            let (address, count) =
                address.zip(count).with_context(|| format!("line {}: expected a cost, found `{line}`", index + 1))?;
            *counts.entry((object.clone(), address)).or_default() += count;
        }
    }
    Ok(counts)
}

/// What a longer run took more than a shorter one. `name` is what a file is known by: one that is copied for each run has
/// another path in each.
pub fn difference(longer: Counts, shorter: Counts, name: impl Fn(&str) -> String) -> Counts {
    let mut more = Counts::new();
    for ((file, address), count) in longer {
        *more.entry((name(&file), address)).or_default() += count;
    }
    for ((file, address), count) in shorter {
        let both = more.entry((name(&file), address)).or_default();
        *both = both.saturating_sub(count);
    }
    more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_where_they_lead() {
        let text = "ob=/bin/x\nfl=x.c\nfn=main\n0x10 1 5\n0x14 1 2\ncob=/lib/y\ncfn=f\ncalls=3 0x90 0\n0x14 1 600\n0x10 1 1\n\nob=/lib/y\nfn=f\n0x90 0 600\n";
        let counts = parse(text).unwrap();
        let of = |object: &str, address| counts[&(object.to_owned(), address)];
        assert_eq!((of("/bin/x", 0x10), of("/bin/x", 0x14), of("/lib/y", 0x90)), (6, 2, 600));
        assert!(parse("ob=x\n0xzz 1 2\n").is_err());
    }

    #[test]
    fn a_file_that_lies_elsewhere_each_time_is_the_same_one() {
        let run = |directory: &str, count| Counts::from([((format!("{directory}/lib.so"), 8), count)]);
        let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        assert_eq!(difference(run("/b", 50), run("/a", 20), name), Counts::from([(("lib.so".to_owned(), 8), 30)]));
    }
}
