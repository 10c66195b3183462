//! Off and on while the program runs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pagetrace::{Builder, Off, PageTraceBuf, State};

use super::{INVENTED_PAGES, page_rounds, work};
use crate::counts::{self, Tagged};
use crate::sys;

const THREADS: usize = 6;
const SWITCHES: usize = 40;
/// Little, since what is buffered is written at each switch.
const BUFFER_BYTES: usize = 1 << 20;

/// Threads work while another one switches.
fn under_load(file: &Path, off: Off) {
    let guard = Builder::new(file).buffer_bytes(BUFFER_BYTES).init().expect("a recording");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut kept = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    kept.push(Tagged::new());
                    if kept.len() == 50 {
                        // Some die in another order than they came, and some stay.
                        kept.drain(10..40);
                        kept.drain(..5).for_each(Tagged::leak);
                    }
                    if kept.len() > 40 {
                        kept.swap_remove(3);
                    }
                }
                kept.into_iter().for_each(Tagged::leak);
            });
        }
        let mut longest = Duration::ZERO;
        for _ in 0..SWITCHES {
            let start = Instant::now();
            pagetrace::off(off).expect("no hook takes a second");
            longest = longest.max(start.elapsed());
            assert!(!pagetrace::is_recording());
            thread::sleep(Duration::from_millis(1));
            pagetrace::on().expect("it was initialized");
            assert!(pagetrace::is_recording());
            thread::sleep(Duration::from_millis(1));
        }
        done.store(true, Ordering::Relaxed);
        counts::note(&format!("{SWITCHES} times off and on, the longest off in {longest:?}"));
    });
    drop(guard);
    counts::tell();
}

pub fn keep_under_load(file: &Path) {
    under_load(file, Off::Keep);
}

pub fn drop_under_load(file: &Path) {
    under_load(file, Off::Drop);
}

/// Call sites that are met first while ids alone go on: each stack has a block of its own, opened and closed for it.
pub fn new_stacks_while_off(file: &Path) {
    let guard = Builder::new(file).init().expect("a recording");
    for round in 0..3 {
        pagetrace::off(Off::Keep).expect("it records");
        (1..40).for_each(|depth| Tagged::leak(made_at(depth, round)));
        pagetrace::on().expect("it was initialized");
        work();
    }
    drop(guard);
    counts::tell();
}

/// Made so many calls down, from a place that differs by `round`.
#[inline(never)]
fn made_at(depth: usize, round: usize) -> Tagged {
    match (depth, round) {
        (0, _) => Tagged::new(),
        (_, 0) => std::hint::black_box(made_at(depth - 1, 0)),
        (_, 1) => std::hint::black_box(made_at(depth - 1, 1)),
        _ => std::hint::black_box(made_at(depth - 1, 2)),
    }
}

/// What happened while it kept is caught up with.
pub fn keep_resumes(file: &Path) {
    let guard = Builder::new(file).init().expect("a recording");
    work();
    let (dies, stays) = (Tagged::new(), Tagged::new());
    let numbers = |object: &Tagged| pagetrace::object_at(object.address()).map(|object| object.id);
    let stays_before = numbers(&stays);
    assert!(stays_before.is_some(), "the table knows it");
    pagetrace::off(Off::Keep).expect("it records");
    assert_eq!(pagetrace::state(), State::Keeping);
    pagetrace::off(Off::Keep).expect("a second time it does nothing");
    drop(dies);
    let (born, passing) = (Tagged::new(), Tagged::new());
    drop(passing);
    let born_before = numbers(&born);
    assert!(born_before.is_some_and(|id| Some(id) > stays_before), "ids go on");
    pagetrace::on().expect("it was off");
    assert_eq!(pagetrace::state(), State::Recording);
    pagetrace::on().expect("while recording it does nothing");
    assert_eq!((numbers(&stays), numbers(&born)), (stays_before, born_before));
    work();
    drop(born);
    stays.leak();
    drop(guard);
    counts::tell();
}

/// What was before is unknown afterwards.
pub fn drop_forgets(file: &Path) {
    let guard = Builder::new(file).init().expect("a recording");
    work();
    let earlier = Tagged::new();
    pagetrace::off(Off::Drop).expect("it records");
    assert_eq!(pagetrace::state(), State::Dropped);
    assert!(pagetrace::object_at(earlier.address()).is_none());
    assert_eq!(pagetrace::statistics().live_objects, 0);
    assert!(pagetrace::statistics().pages.distinct > 0, "the pages stay known");
    pagetrace::on().expect("it was off");
    assert!(pagetrace::object_at(earlier.address()).is_none(), "earlier objects are unknown");
    drop(earlier);
    work();
    drop(guard);
    counts::tell();
}

/// The buffers' memory is inaccessible while off, and given back.
pub fn memory_given_back(file: &Path) {
    const NOT_MEANWHILE: Duration = Duration::from_secs(60);
    let guard = Builder::new(file).flush_interval(NOT_MEANWHILE).init().expect("a recording");
    // Enough for many blocks to hold something when it is switched off.
    let mut buffer = PageTraceBuf::new();
    page_rounds(&mut buffer, INVENTED_PAGES, 30_000);
    work();
    let before = Mapping::find();
    let blocks_before = before.shared_blocks();
    pagetrace::off(Off::Keep).expect("it records");
    let off = Mapping::find();
    // Before the look at its pages: to read a page that the file does not hold gives it one.
    let blocks_off = off.shared_blocks();
    let inaccessible = off.inaccessible_pages();
    counts::note(&format!(
        "the shared mapping: {} KiB resident while recording, {} KiB after off, {} of its {} pages inaccessible",
        before.resident_kib,
        off.resident_kib,
        inaccessible.len(),
        off.pages().count(),
    ));
    assert!(!inaccessible.is_empty(), "no page of {off:?} is inaccessible");
    assert!(off.resident_kib * 2 < before.resident_kib, "{before:?}, off {off:?}");
    for &page in [inaccessible.first(), inaccessible.last()].into_iter().flatten() {
        assert_eq!(sys::child_that_reads(page), Some(libc::SIGSEGV), "a child reads at {page:#x}");
    }
    match (blocks_before, blocks_off) {
        (Ok(before), Ok(off)) => {
            counts::note(&format!("its file holds {before} blocks of 512 bytes while recording, {off} after off"));
            assert!(off * 2 < before, "blocks of 512 bytes: {before}, after off {off}");
        }
        (Err(error), _) | (_, Err(error)) => counts::note(&format!("skipped: the shared file's blocks: {error}")),
    }
    pagetrace::on().expect("it was off");
    let on = Mapping::find();
    let (inaccessible, pages) = (on.inaccessible_pages().len(), on.pages().count());
    assert!(inaccessible < pages, "all pages stay inaccessible: {on:?}");
    work();
    pagetrace::flush().expect("it records");
    pagetrace::off(Off::Drop).expect("it records");
    pagetrace::on().expect("it was off");
    work();
    drop(guard);
    counts::tell();
}

/// The mapping of the session.
#[derive(Debug)]
struct Mapping {
    ranges: Vec<(usize, usize)>,
    resident_kib: u64,
}

impl Mapping {
    fn find() -> Mapping {
        let smaps = fs::read_to_string("/proc/self/smaps").expect("proc is mounted");
        let mut found = Mapping { ranges: Vec::new(), resident_kib: 0 };
        let mut ours = false;
        for line in smaps.lines() {
            let first = line.split(' ').next().unwrap_or_default();
            if let Some((start, end)) = first.split_once('-') {
                let range = usize::from_str_radix(start, 16).ok().zip(usize::from_str_radix(end, 16).ok());
                ours = line.contains("memfd:pagetrace");
                found.ranges.extend(range.filter(|_| ours));
            } else if let (true, Some(kib)) = (ours, line.strip_prefix("Rss:")) {
                let kib = kib.trim().trim_end_matches(" kB");
                found.resident_kib += kib.parse::<u64>().expect("a number");
            }
        }
        assert!(!found.ranges.is_empty(), "no mapping of the tracer's: {smaps}");
        found
    }

    fn pages(&self) -> impl Iterator<Item = usize> {
        self.ranges.iter().flat_map(|&(start, end)| (start..end).step_by(sys::page_bytes()))
    }

    fn inaccessible_pages(&self) -> Vec<usize> {
        self.pages().filter(|&page| !sys::is_readable(page)).collect()
    }

    /// Blocks of 512 bytes that the file behind the mapping holds: stat(2).
    fn shared_blocks(&self) -> std::io::Result<u64> {
        let (start, end) = self.ranges[0];
        Ok(fs::metadata(format!("/proc/self/map_files/{start:x}-{end:x}"))?.blocks())
    }
}
