//! Starting, ending, forks, and what programs do to what they do not know of.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use pagetrace::{AccessError, Builder, Off, Thread, WriteTracking, end_write_epoch, page_info, write_statistics};
use pagetrace_format::access::Access;

use crate::memory::{BY_HAND, Pages, end_epoch, track_all};
use crate::{sys, trace};

/// The child's memory is armed anew, and neither knows of the other's writes.
pub fn forked_child(file: &Path) {
    let pages = Pages::written(100);
    let guard = Builder::new(file).init().expect("a recording");
    track_all(BY_HAND);
    (0..10).for_each(|page| pages.write(page));
    end_epoch();
    let status = sys::forked(|| {
        assert!((0..100).all(|page| !pages.info(page).modified), "of itself it knows nothing yet");
        (50..60).for_each(|page| pages.write(page));
        sys::kernel_writes(pages.at(70), 100).expect("it does not fail");
        end_epoch();
        for page in 0..100 {
            let info = pages.info(page);
            assert_eq!(info.modified, (50..60).contains(&page) || page == 70, "{page}");
            assert_eq!(info.first_writer_of_last_epoch, (50..60).contains(&page).then(Thread::current), "{page}");
        }
        let grandchild = sys::forked(|| {
            pages.write(1);
            end_epoch();
            assert!(pages.info(1).modified && !pages.info(50).modified);
        });
        assert_eq!(grandchild, 0);
    });
    assert_eq!(status, 0, "the child was right");
    pages.write(90);
    end_epoch();
    for page in 0..100 {
        assert_eq!(pages.info(page).modified, page < 10 || page == 90, "{page}");
    }
    drop(guard);
    let epochs = trace::accesses(file).into_iter().filter(|access| matches!(access, Access::Epoch(_))).count();
    assert!(epochs >= 4, "{epochs}");
}

/// Forks find the tracker in any state.
pub fn forks_under_load(file: &Path) {
    let _guard = Builder::new(file).flush_interval(Duration::from_millis(2)).init().expect("a recording");
    let pages = Pages::written(500);
    track_all(Duration::from_millis(1));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    pages.write_all();
                    drop(vec![1_u8; 5000]);
                    let _ = end_write_epoch();
                }
            });
        }
        for _ in 0..20 {
            assert_eq!(
                sys::forked(|| {
                    pages.write(3);
                    end_epoch();
                    assert!(pages.info(3).modified);
                }),
                0
            );
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// Lines of /proc/self/smaps that say that memory is registered with a userfaultfd.
fn registered() -> usize {
    let text = std::fs::read_to_string("/proc/self/smaps").expect("/proc");
    let flags = text.lines().filter_map(|line| line.strip_prefix("VmFlags:"));
    flags.filter(|flags| flags.split_whitespace().any(|flag| flag == "uw" || flag == "um")).count()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc").count()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("/proc").count()
}

/// Resident bytes of all private memory.
fn resident_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").expect("/proc");
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

pub fn finish_gives_all_back(file: &Path) {
    let pages = Pages::written(20_000);
    let before = (registered(), descriptors(), threads());
    assert_eq!(before.0, 0);
    let guard = Builder::new(file).init().expect("a recording");
    track_all(Duration::from_millis(20));
    pages.write_all();
    end_epoch();
    assert!(registered() > 0 && descriptors() > before.1 + 1 && threads() == before.2 + 2);
    let with = resident_kib();
    drop(guard);
    // The flusher may be on its way out.
    while threads() > before.2 {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!((registered(), descriptors(), threads()), before);
    assert!(
        with >= resident_kib() + 300,
        "records of 20,000 pages are 320 KB: {with} before, {} after",
        resident_kib()
    );
    assert_eq!(page_info(pages.at(0)), None);
    assert!(matches!(end_write_epoch(), Err(AccessError::NotTracking)));
    pages.write_all();
}

pub fn off_and_on(file: &Path) {
    let pages = Pages::written(50);
    let guard =
        Builder::new(file).track_writes(WriteTracking::all_writable().epoch(BY_HAND)).init().expect("a recording");
    pages.write(1);
    end_epoch();
    assert!(pages.info(1).modified);
    pagetrace::off(Off::Keep).expect("it records");
    assert_eq!((registered(), page_info(pages.at(1))), (0, None));
    pages.write(2);
    pagetrace::on().expect("it was off");
    pages.write(3);
    end_epoch();
    assert_eq!([1, 2, 3].map(|page| pages.info(page).modified), [false, false, true]);
    drop(guard);
    assert_eq!(registered(), 0);
}

/// A program that closes all that it does not know, and goes on.
pub fn descriptors_closed(_file: &Path) {
    let pages = Pages::written(50);
    track_all(Duration::from_millis(5));
    pages.write(1);
    end_epoch();
    assert!(pages.info(1).modified);
    sys::close_descriptors_from(3);
    let files: Vec<_> = (0..600).map_while(|_| std::fs::File::open("/dev/null").ok()).collect();
    // Pages are armed anew.
    end_epoch();
    pages.write(2);
    end_epoch();
    assert!(pages.info(2).modified && !pages.info(3).modified);
    assert_eq!(pages.info(2).first_writer_of_last_epoch, Some(Thread::current()));
    pagetrace::stop_tracking_writes();
    assert!(files.iter().all(|file| file.metadata().is_ok()), "files of the program's own stay open");
    assert_eq!(registered(), 0);
}

pub fn starts_and_stops(_file: &Path) {
    let pages = Pages::written(50);
    let start = || WriteTracking::range(pages.base + 10..pages.at(20)).epoch(BY_HAND).start();
    assert!(matches!(WriteTracking::range(5..5).start(), Err(AccessError::Range)));
    let before = (registered(), descriptors(), threads());
    for round in 0..20 {
        start().expect("writes can be tracked here");
        assert!(matches!(start(), Err(AccessError::AlreadyTracking)));
        pages.write(round % 20);
        pages.write(30);
        end_epoch();
        for page in 0..50 {
            assert_eq!(page_info(pages.at(page)).expect("tracked").modified, page == round % 20, "{page}");
        }
        assert_eq!(write_statistics().bytes_tracked, 20 * 4096);
        pagetrace::stop_tracking_writes();
        pagetrace::stop_tracking_writes();
        assert_eq!((registered(), descriptors(), threads()), before);
    }
}

/// `PAGETRACE=file,writes=20ms`.
pub fn environment_starts_it(file: &Path) {
    let pages = Pages::written(50);
    end_epoch();
    pages.write(7);
    let start = std::time::Instant::now();
    while pages.info(7).epochs_written < 2 {
        assert!(start.elapsed() < Duration::from_secs(20), "epochs end by themselves: {:?}", write_statistics());
        thread::sleep(Duration::from_millis(5));
        pages.write(7);
    }
    pagetrace::finish().expect("it records");
    assert!(trace::accesses(file).iter().any(|access| matches!(access, Access::Written(run) if run.writer.is_some())));
}
