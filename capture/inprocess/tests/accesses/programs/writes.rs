//! Writes by threads and by the kernel.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use pagetrace::{Builder, Thread, page_info, task_begins, write_statistics};
use pagetrace_format::access::{Access, WriteLabel};

use crate::memory::{BY_HAND, PAGE, Pages, end_epoch, track_all};
use crate::{sys, trace};

const THREADS: usize = 4;

/// Who writes a page in a round; a third of the pages nobody does.
fn owner(page: usize, round: usize) -> Option<usize> {
    let mixed = (page + (round << 20)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    (!mixed.is_multiple_of(3)).then_some(mixed / 3 % THREADS)
}

/// Four threads write to 64 MiB, pages of which some were never in memory: exactly those pages are reported, with who wrote,
/// by `page_info` and in the trace.
pub fn pattern_of_four_threads(file: &Path) {
    const ROUNDS: usize = 4;
    let pages = Pages::untouched(16 << 10);
    (0..pages.count / 2).for_each(|page| pages.write(page));
    let guard = Builder::new(file).init().expect("a recording");
    track_all(BY_HAND);
    let (mut written, mut right, mut wrong) = (0_u64, 0_u64, 0_u64);
    let mut expected = Vec::new();
    for round in 0..ROUNDS {
        let before = pages.epochs_written();
        let own = |index| (0..pages.count).filter(move |&page| owner(page, round) == Some(index));
        let threads: Vec<Thread> = thread::scope(|scope| {
            let work = |index| {
                scope.spawn(move || {
                    own(index).for_each(|page| pages.write(page));
                    Thread::current()
                })
            };
            let started: Vec<_> = (0..THREADS).map(work).collect();
            started.into_iter().map(|it| it.join().expect("it writes")).collect()
        });
        end_epoch();
        for (page, before) in before.into_iter().enumerate() {
            let info = pages.info(page);
            let by = owner(page, round);
            assert_eq!(info.epochs_written - before, u32::from(by.is_some()), "round {round}, page {page}: {info:?}");
            let Some(by) = by else { continue };
            written += 1;
            match info.first_writer_of_last_epoch {
                Some(thread) if thread == threads[by] => right += 1,
                Some(_) => wrong += 1,
                None => {}
            }
            expected.push((pages.at(page) / PAGE, threads[by]));
        }
    }
    assert!(right * 1000 >= written * 999, "{right} right and {wrong} wrong of {written}: {:?}", write_statistics());
    drop(guard);
    let mut told = Vec::new();
    let first = pages.base / PAGE;
    for access in trace::accesses(file) {
        if let Access::Written(run) = access
            && run.label == WriteLabel::Written
        {
            let range = run.range.first.0 as usize..(run.range.first.0 + run.range.pages.0) as usize;
            let ours = range.filter(|page| (first..first + pages.count).contains(page));
            told.extend(ours.map(|page| (page, run.writer)));
        }
    }
    let pages_of = |list: &mut dyn Iterator<Item = usize>| {
        let mut pages: Vec<usize> = list.collect();
        pages.sort_unstable();
        pages
    };
    assert_eq!(
        pages_of(&mut told.iter().map(|&(page, _)| page)),
        pages_of(&mut expected.iter().map(|&(page, _)| page)),
        "the trace has the same pages"
    );
    let known = told.iter().filter(|(_, writer)| writer.is_some_and(|it| it.tid != 0 && it.instruction.0 != 0)).count();
    assert!(known as u64 * 1000 >= written * 999, "{known} of {written} with a thread and an instruction");
}

/// read(2) into armed pages works, is reported, and has no thread.
pub fn kernel_writes(_file: &Path) {
    let pages = Pages::written(64);
    track_all(BY_HAND);
    sys::kernel_writes(pages.at(3), 5 * PAGE).expect("it does not fail");
    sys::kernel_writes(pages.at(20) + 100, 10).expect("it does not fail");
    end_epoch();
    for page in 0..pages.count {
        let info = pages.info(page);
        let written = (3..8).contains(&page) || page == 20;
        assert_eq!((info.modified, info.epochs_written), (written, u32::from(written)), "{page}: {info:?}");
        assert_eq!(info.first_writer_of_last_epoch, None, "{page}");
        assert_eq!(info.last_epoch.is_some(), written);
    }
    // Memory that nobody has touched yet, and memory that is new.
    let fresh = Pages::untouched(16);
    sys::kernel_writes(fresh.at(2), 4 * PAGE).expect("it does not fail");
    end_epoch();
    let written: Vec<bool> = (0..16).map(|page| fresh.info(page).modified).collect();
    assert_eq!(written, [[false; 2].as_slice(), &[true; 4], &[false; 10]].concat());
    sys::kernel_writes(fresh.at(8), PAGE).expect("it does not fail");
    end_epoch();
    assert!(fresh.info(8).modified && !fresh.info(7).modified);
    assert_eq!(fresh.info(8).first_writer_of_last_epoch, None);
}

/// Pages that were given back are labelled; those that are written after it are written.
pub fn discarded_pages(file: &Path) {
    let pages = Pages::written(40);
    let guard = Builder::new(file).init().expect("a recording");
    track_all(BY_HAND);
    pages.write_all();
    end_epoch();
    assert_eq!(pages.epochs_written(), [1; 40]);
    sys::discard(pages.at(0), 30 * PAGE);
    (10..20).for_each(|page| pages.write(page));
    assert!((20..25).all(|page| sys::read(pages.at(page)) == 0));
    end_epoch();
    for page in 0..40 {
        let info = pages.info(page);
        let (written, discarded) = ((10..20).contains(&page), page < 10 || (20..30).contains(&page));
        assert_eq!((info.epochs_written, info.discarded), (1 + u32::from(written), discarded), "{page}: {info:?}");
        assert!(info.first_writer_of_last_epoch.is_some(), "{page}");
    }
    assert_eq!(write_statistics().pages_discarded, 20);
    // Zero pages that were read only, and are written now.
    (20..25).for_each(|page| pages.write(page));
    end_epoch();
    for page in 0..40 {
        let (written, info) = (u32::from((10..25).contains(&page)), pages.info(page));
        assert_eq!(
            (info.epochs_written, info.discarded),
            (1 + written, page < 10 || (25..30).contains(&page)),
            "{page}"
        );
    }
    drop(guard);
    let first = (pages.base / PAGE) as u64;
    let labelled = trace::accesses(file).into_iter().filter_map(|access| match access {
        Access::Written(run) if run.label == WriteLabel::Discarded => Some(run.range),
        _ => None,
    });
    let ours: u64 =
        labelled.filter(|range| (first..first + 40).contains(&range.first.0)).map(|range| range.pages.0).sum();
    assert_eq!(ours, 20);
}

/// What a thread said it was at is known of its writes.
pub fn tasks(file: &Path) {
    let pages = Pages::written(100);
    let guard = Builder::new(file).init().expect("a recording");
    track_all(BY_HAND);
    for page in 0..99 {
        task_begins(Some(page as u64 / 3 + 1_000_000_000_000));
        pages.write(page);
    }
    task_begins(None);
    pages.write(99);
    end_epoch();
    for page in 0..99 {
        let info = pages.info(page);
        assert_eq!(info.first_writer_of_last_epoch, Some(Thread::current()), "{page}");
        assert_eq!(info.task, Some(page as u64 / 3 + 1_000_000_000_000), "{page}");
    }
    assert_eq!((pages.info(99).task, pages.info(99).modified), (None, true));
    drop(guard);
    let tasks = trace::accesses(file).into_iter().filter_map(|access| match access {
        Access::Written(run) => run.writer?.task.map(|task| (run.range.pages.0, task)),
        _ => None,
    });
    let found: Vec<(u64, u64)> = tasks.collect();
    for task in 0..33 {
        assert!(found.contains(&(3, task + 1_000_000_000_000)), "{task}: {found:?}");
    }
}

/// Nobody else writes, so nobody else is reported.
pub fn one_thread_alone(_file: &Path) {
    track_all(Duration::from_millis(5));
    let pages = Pages::written(300);
    let start = std::time::Instant::now();
    while start.elapsed() < Duration::from_millis(400) {
        pages.write_all();
        drop(vec![1_u8; 10_000]);
        sys::kernel_writes(pages.at(7), PAGE).expect("it does not fail");
    }
    end_epoch();
    let statistics = write_statistics();
    assert!(statistics.epochs > 10 && statistics.pages_written > 1000, "{statistics:?}");
    assert_eq!(statistics.written_by_another_thread, 0, "{statistics:?}");
}

/// Two threads write to one page in turns: both are found to, within two epochs.
pub fn two_threads_on_a_page(_file: &Path) {
    let pages = Pages::written(4);
    track_all(BY_HAND);
    let tid = AtomicU64::new(0);
    for _ in 0..10 {
        pages.write(1);
        end_epoch();
        assert_eq!(pages.info(1).first_writer_of_last_epoch, Some(Thread::current()));
        let before = write_statistics().written_by_another_thread;
        thread::scope(|scope| {
            scope.spawn(|| {
                tid.store(Thread::current().0.into(), Ordering::Relaxed);
                pages.write(1);
            });
        });
        end_epoch();
        assert_eq!(pages.info(1).first_writer_of_last_epoch, Some(Thread(tid.load(Ordering::Relaxed) as u32)));
        assert!(write_statistics().written_by_another_thread > before);
    }
}

/// Many threads ask while others write and epochs end.
pub fn page_info_from_any_thread(_file: &Path) {
    let pages = Pages::written(2000);
    track_all(Duration::from_millis(2));
    let done = AtomicBool::new(false);
    let writer_tid = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            writer_tid.store(Thread::current().0.into(), Ordering::Relaxed);
            for round in 0..100 {
                (0..pages.count).filter(|page| page % 100 != round).for_each(|page| pages.write(page));
            }
            done.store(true, Ordering::Relaxed);
        });
        for _ in 0..3 {
            scope.spawn(|| {
                let mut last = pages.epochs_written();
                while !done.load(Ordering::Relaxed) {
                    for (page, last) in last.iter_mut().enumerate() {
                        let info = pages.info(page);
                        assert!(info.epochs_written >= *last, "{page}");
                        assert!(
                            info.first_writer_of_last_epoch
                                .is_none_or(|thread| { u64::from(thread.0) == writer_tid.load(Ordering::Relaxed) })
                        );
                        assert!(info.last_epoch.is_none_or(|epoch| epoch.begin < epoch.end));
                        *last = info.epochs_written;
                    }
                }
            });
        }
    });
    pagetrace::stop_tracking_writes();
    assert_eq!(page_info(pages.at(0)), None);
}
