//! What the truth program writes, read.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};

use super::figures::PageSet;

/// The process at one stop.
#[derive(Debug, PartialEq, Eq)]
pub struct Stop {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time_ns: u64,
    /// `Anonymous` of smaps_rollup, pages.
    pub rollup_pages: u64,
    /// Anonymous pages in RAM.
    pub anonymous: PageSet,
    /// File pages in RAM, in mappings of ELF files.
    pub elf: PageSet,
    /// Pages of mappings of other files, in RAM or not.
    pub other_files: PageSet,
}

/// Reads all stops; `truth.c` says how they are written.
pub fn parse(text: &str) -> Result<Vec<Stop>> {
    let mut stops = Vec::new();
    let mut current: Option<OpenStop> = None;
    let mut ended = false;
    for (index, line) in text.lines().enumerate() {
        let mut words = line.split_whitespace();
        let kind = words.next().unwrap_or_default();
        let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        match (kind, numbers.as_slice(), &mut current) {
            ("stop", &[time_ns, rollup_pages, listed, _tries], _) => {
                stops.extend(current.take().map(OpenStop::close).transpose()?);
                let (anonymous, elf, other_files) = (Vec::new(), Vec::new(), Vec::new());
                current = Some(OpenStop { time_ns, rollup_pages, listed, anonymous, elf, other_files });
            }
            ("anon", &[first, past], Some(stop)) => stop.anonymous.push(first..past),
            ("elf", &[first, past], Some(stop)) => stop.elf.push(first..past),
            ("other", &[first, past], Some(stop)) => stop.other_files.push(first..past),
            ("end", ..) => ended = true,
            _ => bail!("line {}: expected `stop`, `anon`, `elf`, `other` or `end`, found `{line}`", index + 1),
        }
    }
    ensure!(ended, "it ends after {} stops without a word: the truth program has failed", stops.len());
    stops.extend(current.map(OpenStop::close).transpose()?);
    Ok(stops)
}

struct OpenStop {
    time_ns: u64,
    rollup_pages: u64,
    listed: u64,
    anonymous: Vec<Range<u64>>,
    elf: Vec<Range<u64>>,
    other_files: Vec<Range<u64>>,
}

impl OpenStop {
    fn close(self) -> Result<Stop> {
        let anonymous = PageSet::new(self.anonymous);
        let found = anonymous.pages();
        let listed = self.listed;
        ensure!(found == listed, "stop at {}: expected {listed} pages, found {found}", self.time_ns);
        let (elf, other_files) = (PageSet::new(self.elf), PageSet::new(self.other_files));
        Ok(Stop { time_ns: self.time_ns, rollup_pages: self.rollup_pages, anonymous, elf, other_files })
    }
}

/// The largest share by which a list of pages differs from what smaps_rollup says at the same stop.
pub fn worst_difference(stops: &[Stop]) -> Result<f64> {
    let difference = |stop: &Stop| {
        let pages = stop.anonymous.pages();
        stop.rollup_pages.abs_diff(pages) as f64 / pages.max(1) as f64
    };
    stops.iter().map(difference).reduce(f64::max).context("no stop at all")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "stop 10 5 5 1\nanon 1 4\nanon 7 9\nelf 20 21\nother 30 40\nstop 30 1 2 1\nanon 1 3\nend gone\n";

    #[test]
    fn stops_are_read_with_their_pages() {
        let stops = parse(TEXT).unwrap();
        assert_eq!((stops.len(), stops[0].time_ns, stops[1].time_ns), (2, 10, 30));
        assert_eq!(stops[0].anonymous.ranges(), [1..4, 7..9]);
        assert_eq!((stops[0].elf.pages(), stops[1].elf.pages()), (1, 0));
        assert_eq!((stops[0].other_files.pages(), stops[1].other_files.pages()), (10, 0));
        assert_eq!(worst_difference(&stops).unwrap(), 0.5);
    }

    #[test]
    fn what_is_cut_or_foreign_is_no_truth() {
        assert!(parse("stop 10 5 5 1\nanon 1 4\n").is_err());
        assert!(parse("stop 10 5 5 1\nanon 1 4\nend gone\n").is_err(), "a run is missing");
        assert!(parse("anon 1 4\nend gone\n").is_err(), "no stop is open");
        assert!(worst_difference(&[]).is_err());
    }
}
