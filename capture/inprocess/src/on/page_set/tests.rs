//! Tests of page sets against a model, and with readers beside the owner.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;
use std::thread;

use pagetrace_format::{Address, PageShift};
use proptest::prelude::*;

use super::*;

const MARKS: [PageMark; 3] = [PageMark::Alloc, PageMark::Free, PageMark::Scavenge];

fn note(set: &PageSet, base: u64, pages: u64, mark: PageMark, tick: u64) {
    // SAFETY: each test has one thread that notes in a set.
    unsafe { set.note(PageIndex(base), PageCount(pages), mark, tick) };
}

/// Unmaps a set at the end of a test, also of one that fails.
struct Owned(PageSet);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.unmap();
    }
}

fn set() -> Owned {
    Owned(PageSet::new())
}

fn run(base: u64, pages: u64, mark: Option<PageMark>, tick: u64) -> NotedRun {
    NotedRun { base: PageIndex(base), pages: PageCount(pages), mark, tick }
}

fn sorted(set: &PageSet) -> Vec<NotedRun> {
    let mut runs: Vec<_> = set.runs().collect();
    runs.sort_by_key(|run| (run.base, run.pages));
    runs
}

#[derive(Clone, Debug)]
enum Operation {
    Note { base: u64, pages: u64, mark: PageMark },
    ClearMarks,
    Release,
}

fn operation() -> impl Strategy<Value = Operation> {
    let base = prop_oneof![4 => 0..60_u64, 2 => 0..4000_u64, 1 => Just((1 << 36) - 1)];
    let pages = prop_oneof![4 => 1..4_u64, 2 => 1..100_u64];
    prop_oneof![
        200 => (base, pages, prop::sample::select(&MARKS)).prop_map(|(base, pages, mark)| Operation::Note { base, pages, mark }),
        1 => Just(Operation::ClearMarks),
        1 => Just(Operation::Release),
    ]
}

/// A run, start and length, and when what was last done with it.
type Model = BTreeMap<(u64, u64), (u64, Option<PageMark>)>;

/// Page by page, as one would do it with all the memory in the world.
fn naive_statistics(sets: &[Model]) -> PageStatistics {
    let mut pages: HashMap<u64, (u64, Option<PageMark>)> = HashMap::new();
    for (&(base, count), &last) in sets.iter().flatten() {
        for page in base..base + count {
            let known = pages.entry(page).or_insert(last);
            *known = last.max(*known);
        }
    }
    let count = |mark| PageCount(pages.values().filter(|(_, known)| *known == mark).count() as u64);
    PageStatistics {
        distinct: PageCount(pages.len() as u64),
        in_use: count(Some(PageMark::Alloc)),
        free: count(Some(PageMark::Free)),
        scavenged: count(Some(PageMark::Scavenge)),
        unmarked: count(None),
        runs: sets.iter().map(|set| set.len() as u64).sum(),
        missed: 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn sets_hold_what_was_noted_and_statistics_count_each_page_once(
        operations in prop::collection::vec((0..3_usize, operation(), 0..2_u64), 1..900),
    ) {
        let sets = [set(), set(), set()];
        let mut models = [const { Model::new() }; 3];
        // Now and then two sets have the same time.
        let mut tick = 0;
        for (index, operation, step) in operations {
            tick += step;
            match operation {
                Operation::Note { base, pages, mark } => {
                    note(&sets[index].0, base, pages, mark, tick);
                    models[index].insert((base, pages), (tick, Some(mark)));
                }
                Operation::ClearMarks => {
                    sets[index].0.clear_marks();
                    models[index].values_mut().for_each(|(_, mark)| *mark = None);
                }
                Operation::Release => {
                    sets[index].0.release();
                    models[index].clear();
                }
            }
            prop_assert_eq!(sets[index].0.len(), models[index].len());
        }
        for (set, model) in sets.iter().zip(&models) {
            let expected: Vec<_> =
                model.iter().map(|(&(base, pages), &(tick, mark))| run(base, pages, mark, tick)).collect();
            prop_assert_eq!(sorted(&set.0), expected);
        }
        let statistics = page_statistics(sets.iter().map(|set| &set.0)).expect("memory is to be had");
        prop_assert_eq!(statistics, naive_statistics(&models));
    }
}

#[test]
fn the_latest_mark_on_a_page_counts_also_among_runs_of_different_lengths() {
    let (first, second) = (set(), set());
    note(&first.0, 10, 10, PageMark::Alloc, 1);
    note(&second.0, 12, 2, PageMark::Free, 2);
    note(&second.0, 13, 1, PageMark::Scavenge, 3);
    note(&first.0, 19, 5, PageMark::Free, 4);
    note(&first.0, 23, 1, PageMark::Alloc, 3);
    let statistics = page_statistics([&first.0, &second.0].into_iter()).expect("memory is to be had");
    let expected = PageStatistics {
        distinct: PageCount(14),
        in_use: PageCount(7),
        free: PageCount(6),
        scavenged: PageCount(1),
        unmarked: PageCount(0),
        runs: 5,
        missed: 0,
    };
    assert_eq!(statistics, expected);
    let nothing = page_statistics([&set().0].into_iter()).expect("it needs no memory");
    assert_eq!(nothing, PageStatistics::default());
    assert_eq!(run(3, 1, None, 0).address(PageShift::KIB_8), Address(3 * 8192));
}

#[test]
fn nothing_is_mapped_before_the_first_note() {
    let set = set();
    assert_eq!((set.0.bytes_mapped(), set.0.runs().count(), set.0.len()), (0, 0, 0));
    set.0.clear_marks();
    set.0.release();
    assert_eq!(set.0.bytes_mapped(), 0);
    note(&set.0, 1, 1, PageMark::Alloc, 1);
    assert_eq!((set.0.bytes_mapped(), set.0.len()), (4096, 1));
}

#[test]
fn runs_that_an_entry_cannot_say_are_split_or_counted() {
    let set = set();
    note(&set.0, 5, 0, PageMark::Alloc, 1);
    assert_eq!((set.0.len(), set.0.missed()), (0, 0), "a run of no pages is none");
    note(&set.0, 1 << 36, 1, PageMark::Alloc, 1);
    assert_eq!((set.0.len(), set.0.missed()), (0, 1), "no page can be there");
    note(&set.0, 1 << 30, (1 << 29) + 7, PageMark::Free, 2);
    let statistics = page_statistics([&set.0].into_iter()).expect("memory is to be had");
    assert_eq!((statistics.free, statistics.runs, statistics.missed), (PageCount((1 << 29) + 7), 3, 1));
    note(&set.0, (1 << 36) - 1, 1 << 28, PageMark::Free, 2);
    assert_eq!(set.0.missed(), 2, "it goes on where no page can be");
}

#[test]
fn a_reader_keeps_the_table_it_looks_at() {
    let set = set();
    for base in 1..=100 {
        note(&set.0, base, 1, PageMark::Alloc, base);
    }
    let mut runs = set.0.runs();
    assert!(runs.next().is_some());
    for base in 101..=1000 {
        note(&set.0, base, 1, PageMark::Alloc, base);
    }
    let current = 2048 * 16;
    assert_eq!(set.0.bytes_mapped(), current + (1024 + 512 + 256) * 16, "none of the old ones is given up");
    // It goes on in the table of 256, which took runs until three quarters of it were full.
    let rest = runs.count();
    assert!((99..192).contains(&rest), "{rest}");
    for base in 1001..=2000 {
        note(&set.0, base, 1, PageMark::Alloc, base);
    }
    assert_eq!(set.0.bytes_mapped(), current * 2, "without readers only the present one is left");
    assert_eq!(set.0.runs().count(), 2000);
    assert_eq!(set.0.missed(), 0);
}

#[test]
fn with_a_reader_that_never_ends_notes_are_counted_as_missed() {
    let set = set();
    note(&set.0, 1, 1, PageMark::Alloc, 1);
    let runs = set.0.runs();
    let notes = 1 << 18;
    for base in 2..=notes {
        note(&set.0, base, 1, PageMark::Alloc, base);
    }
    let (held, missed) = (set.0.len() as u64, set.0.missed());
    assert!(missed > 0, "{held} are held");
    assert_eq!(held + missed, notes);
    // The table of the first, and eight doublings.
    assert_eq!(held, (256 << 8) * 15 / 16);
    drop(runs);
    note(&set.0, 1 << 20, 1, PageMark::Alloc, 1);
    assert_eq!((set.0.len() as u64, set.0.missed()), (held + 1, missed));

    let runs = set.0.runs();
    std::mem::forget(runs);
    // SAFETY: no other thread has this set, and the iterator is forgotten, as in a child.
    unsafe { set.0.forget_readers_in_child() };
    for base in 0..held {
        note(&set.0, (1 << 21) + base, 1, PageMark::Alloc, 1);
    }
    assert_eq!(set.0.missed(), missed);
}

#[test]
fn released_memory_goes_back_to_the_kernel() {
    let set = set();
    for base in 0..40_000 {
        note(&set.0, base, 1, PageMark::Alloc, base);
    }
    let (base, bytes) = {
        let table = Table(set.0.table.load(Ordering::Relaxed));
        (table.base(), table.bytes())
    };
    let resident_pages = || {
        let mut pages = vec![0_u8; bytes / sys::PAGE_BYTES];
        // SAFETY: a byte for each page of a mapping of the set's (mincore(2)).
        assert_eq!(unsafe { libc::mincore(base as *mut _, bytes, pages.as_mut_ptr()) }, 0);
        pages.iter().filter(|&&page| page & 1 != 0).count()
    };
    assert_eq!(resident_pages(), bytes / sys::PAGE_BYTES);
    set.0.release();
    assert_eq!(resident_pages(), 0);
    assert_eq!((set.0.len(), set.0.runs().count()), (0, 0));
    note(&set.0, 7, 2, PageMark::Free, 9);
    assert_eq!(sorted(&set.0), [run(7, 2, Some(PageMark::Free), 9)]);
}

#[test]
fn a_set_whose_memory_is_locked_is_emptied_too() {
    let set = set();
    note(&set.0, 7, 2, PageMark::Free, 9);
    let table = Table(set.0.table.load(Ordering::Relaxed));
    // SAFETY: the set's own mapping; one page, which every user may lock.
    assert_eq!(unsafe { libc::mlock(table.base().cast(), table.bytes()) }, 0);
    set.0.release();
    assert_eq!((set.0.len(), set.0.runs().count()), (0, 0));
    note(&set.0, 7, 2, PageMark::Alloc, 10);
    assert_eq!(sorted(&set.0), [run(7, 2, Some(PageMark::Alloc), 10)]);
}

#[test]
fn readers_clearers_and_releasers_are_never_in_the_owners_way() {
    static SET: PageSet = PageSet::new();
    let over = AtomicBool::new(false);
    // Each run says itself what belongs to it.
    let pages_of = |base: u64| base % 50 + 1;
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    for run in SET.runs() {
                        assert_eq!(run.pages.0, pages_of(run.base.0));
                        // The first is possible between a release and the note that it overtook.
                        let right = run.tick == 0 || run.tick % (1 << 20) == run.base.0 % (1 << 20);
                        assert!(right, "{run:?}");
                    }
                    page_statistics([&SET].into_iter()).expect("memory is to be had");
                }
            });
        }
        scope.spawn(|| {
            for round in 0.. {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                if round % 4 == 0 {
                    SET.release()
                } else {
                    SET.clear_marks()
                }
                thread::sleep(std::time::Duration::from_micros(300));
            }
        });
        for round in 1..16_u64 {
            for base in 1..20_000 {
                let base = base + round % 5 * 10_000;
                note(&SET, base, pages_of(base), MARKS[(base % 3) as usize], round << 20 | base);
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    SET.release();
    note(&SET, 1, 1, PageMark::Alloc, 1);
    assert_eq!(sorted(&SET), [run(1, 1, Some(PageMark::Alloc), 1)]);
    SET.clear_marks();
    assert_eq!(sorted(&SET), [run(1, 1, None, 1)]);
}
