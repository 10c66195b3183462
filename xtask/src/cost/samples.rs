//! Where processors spend their time: samples of perf(1) by its clock of processor time, which needs no hardware counter.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, ensure};

/// A sample each so many nanoseconds of processor time.
pub const PERIOD_NS: u64 = 250_000;

/// A process's name, a file of code, and an address as in the file: how many samples lie there.
pub type Samples = BTreeMap<(String, String, u64), u64>;

/// A part of a file that is mapped.
#[derive(Clone, Copy, Debug)]
struct Mapped {
    start: u64,
    end: u64,
    offset: u64,
}

/// Reads what `perf script -F comm,pid,tid,ip,dso --show-mmap-events` prints.
pub fn parse(text: &str, vaddr_of: &mut dyn FnMut(&str, u64) -> u64) -> Result<Samples> {
    let mut samples = Samples::new();
    let mut mapped: HashMap<(String, String), Vec<Mapped>> = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        let here = || format!("line {} of perf script: `{line}`", index + 1);
        if let Some((_, what)) = line.split_once("PERF_RECORD_MMAP2 ") {
            let (pid, place, path) = mapping(what).with_context(here)?;
            mapped.entry((pid, path)).or_default().push(place);
        } else if line.contains(" PERF_RECORD_") {
            continue;
        } else if let Some((command, pid, address, file)) = sample(line) {
            let places = mapped.get(&(pid.to_owned(), file.to_owned()));
            let place = places.and_then(|all| all.iter().rev().find(|it| (it.start..it.end).contains(&address)));
            let address = place.map_or(address, |it| vaddr_of(file, address - it.start + it.offset));
            *samples.entry((command.to_owned(), file.to_owned(), address)).or_default() += 1;
        }
    }
    ensure!(!samples.is_empty(), "perf took no samples");
    Ok(samples)
}

/// `PID/TID: [START(LENGTH) @ OFFSET …]: r-xp PATH`.
fn mapping(what: &str) -> Option<(String, Mapped, String)> {
    let (ids, rest) = what.split_once(": [")?;
    let (place, path) = rest.split_once("]: ")?;
    let (start, rest) = place.split_once('(')?;
    let (length, rest) = rest.split_once(") @ ")?;
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    let start = number(start)?;
    let mapped = Mapped { start, end: start + number(length)?, offset: number(rest.split(' ').next()?)? };
    Some((ids.split('/').next()?.to_owned(), mapped, path.split_once(' ')?.1.to_owned()))
}

/// `COMMAND PID/TID ADDRESS (FILE)`.
fn sample(line: &str) -> Option<(&str, &str, u64, &str)> {
    let (before, file) = line.trim_end().strip_suffix(')')?.split_once(" (")?;
    let mut words = before.split_whitespace().rev();
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    let pid = words.next()?.split('/').next()?;
    Some((before.split_whitespace().next()?, pid, address, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_in_the_files_of_their_process() {
        let text = "  tool 7/7 PERF_RECORD_MMAP2 7/7: [0x5000(0x1000) @ 0x200 fe:00 1 2]: r-xp /bin/tool\n\
                    \x20 tool 7/8  5010 (/bin/tool)\n  tool 7/8  5010 (/bin/tool)\n  tool 9/9  ffffffff81 ([kernel.kallsyms])\n";
        let samples = parse(text, &mut |_, offset| offset + 0x1000).unwrap();
        let expected = [(("tool", "/bin/tool", 0x1210), 2), (("tool", "[kernel.kallsyms]", 0xff_ffff_ff81), 1)];
        let found: Vec<_> = samples.iter().map(|((it, file, at), n)| ((it.as_str(), file.as_str(), *at), *n)).collect();
        assert_eq!(found, expected);
        assert!(parse("", &mut |_, offset| offset).is_err());
    }
}
