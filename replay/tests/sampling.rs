//! Traces of sampled objects: figures are estimates with their errors, and classes still make up the kernel's figure.

mod trace;

use pagetrace_format::records::{EndStatus, ProcessOrigin, Record, Sampling};
use pagetrace_format::{Event, PageShift};
use pagetrace_replay::{Moment, ReplayedProcess, RssClasses};

use trace::*;

const PAGE: u64 = 4096;
const HEAP: u64 = 0x5555_0000_0000;
// Not at a multiple of 64 MiB, where glibc's heaps of other arenas start.
const BLOCK: u64 = 0x7eee_0100_0000;
const MEAN: u64 = 1 << 20;

/// The one process of a trace with these events and a snapshot behind them.
fn sampled(events: &[Event], maps: &[Map], resident: &[(u64, u64, u8)], rss: u64) -> ReplayedProcess {
    let records = [
        Record::Sampling(Sampling { mean_bytes: MEAN }),
        libc_module(0),
        process(0, ProcessOrigin::Command, None, 1),
        stream(1, 0, None),
        ended(0, 900, EndStatus::Exited(0)),
    ];
    let snapshot = snapshot(0, 800, rss, maps, resident);
    let bytes = Builder::new(PageShift::KIB_4).records(&records).events(1, events).snapshot(&snapshot).end(950);
    replayed(&bytes, Moment::End).processes.remove(0)
}

#[test]
fn a_sample_stands_for_what_it_is_likely_to_be_one_of() {
    // Of 64 KiB one in 16 or so is there, of 64 MiB all.
    let (small, large) = (64 << 10, 64 << 20);
    let events = [alloc(10, HEAP, small, 1), alloc(11, BLOCK, large, 2), alloc(12, HEAP + 2 * small, small, 1)];
    let freed = [events[0], events[1], events[2], free(20, HEAP)];
    let probability = -(-(small as f64) / MEAN as f64).exp_m1();
    let (weight, error) = (1.0 / probability, (1.0 - probability).sqrt() / probability);
    let near = |found: u64, expected: f64| assert!((found as f64 - expected).abs() <= 1.0, "{found}, {expected}");

    let found = sampled(&freed, &[], &[], 0);
    let objects = found.objects.unwrap();
    near(objects.allocated, 2.0 * weight + 1.0);
    near(objects.live, weight + 1.0);
    near(objects.freed, weight);
    near(objects.live_bytes, weight * small as f64 + large as f64);
    let errors = objects.sampled.unwrap();
    near(errors.live_bytes_error, error * small as f64);
    near(errors.allocated_bytes_error, 2_f64.sqrt() * error * small as f64);
    assert_eq!((errors.live_samples, objects.unknown_frees), (2, 0));
    let site = found.sites.iter().find(|site| site.id.stack.0 == 2).unwrap();
    let exact = site.sampled.unwrap();
    assert_eq!((site.live_bytes, exact.live_bytes_error, exact.live_samples), (large, 0, 1));
}

#[test]
fn classes_of_estimates_make_up_the_rss() {
    let heap_pages = 1000;
    let maps = [(HEAP, heap_pages * PAGE, "rw-p", "[heap]"), (BLOCK, 600 * PAGE, "rw-p", "")];
    let resident = [(HEAP, heap_pages, 0), (BLOCK, 600, 0)];
    let rss = 1600 * PAGE;
    let classes = |events: &[Event]| {
        let explanation = sampled(events, &maps, &resident, rss).rss.unwrap().explanation.unwrap();
        assert_eq!(explanation.classes.sum() as u64, rss);
        assert_eq!(explanation.allocator_explained_fraction(), None);
        (explanation.classes, explanation.live_error.unwrap())
    };
    // One object that stands for 16 and a half of 64 KiB in the heap: 264 pages of the thousand.
    let (found, error) = classes(&[alloc(10, HEAP + 16, (64 << 10) - 8, 1)]);
    let live = found.live_objects as u64;
    assert!((1_080_000..1_084_000).contains(&live) && (1_040_000..1_060_000).contains(&error), "{live} {error}");
    let rest = RssClasses {
        live_objects: live as i64,
        allocator_rest: (heap_pages * PAGE - live) as i64,
        other_anonymous: (600 * PAGE) as i64,
        sampled: true,
        ..RssClasses::default()
    };
    assert_eq!(found, rest);
    assert!(found.named().iter().all(|(name, _)| !["slack", "pinned", "retained", "metadata"].contains(name)));
    // More of them than the heap has room for.
    let many: Vec<Event> = (0..8).map(|n| alloc(10 + n, HEAP + 16 + n * (64 << 10), (64 << 10) - 8, 1)).collect();
    let (found, _) = classes(&many);
    assert_eq!((found.live_objects as u64, found.allocator_rest), (heap_pages * PAGE, 0));
}
