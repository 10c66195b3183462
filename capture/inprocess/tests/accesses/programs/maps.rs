//! Memory that comes, goes and moves while writes are tracked.

use std::io::Write;
use std::path::Path;
use std::thread;

use pagetrace::{Thread, page_info, write_statistics};

use crate::memory::{BY_HAND, PAGE, Pages, end_epoch, track_all};
use crate::sys;

pub fn new_mappings(_file: &Path) {
    track_all(BY_HAND);
    let pages = Pages::untouched(200);
    (0..50).for_each(|page| pages.write(page));
    let by = thread::scope(|scope| {
        let other = scope.spawn(|| {
            (50..60).for_each(|page| pages.write(page));
            Thread::current()
        });
        other.join().expect("it writes")
    });
    end_epoch();
    for page in 0..pages.count {
        let info = pages.info(page);
        assert_eq!(info.modified, page < 60, "{page}: {info:?}");
        let expected = match page {
            0..50 => Some(Thread::current()),
            50..60 => Some(by),
            _ => None,
        };
        assert_eq!(info.first_writer_of_last_epoch, expected, "{page}");
    }
    (55..70).for_each(|page| pages.write(page));
    end_epoch();
    for page in 0..pages.count {
        let expected = u32::from(page < 60) + u32::from((55..70).contains(&page));
        assert_eq!(pages.info(page).epochs_written, expected, "{page}");
    }
    // Memory that is gone, and other memory in its place, has no past.
    sys::unmap(pages.base, 100 * PAGE);
    end_epoch();
    assert!(!page_info(pages.base).expect("it is asked while writes are tracked").modified);
    assert!(pages.info(55 + 100).epochs_written == 0 && pages.info(120).epochs_written == 0);
}

pub fn heap_grows(_file: &Path) {
    track_all(BY_HAND);
    let start = sys::grow_heap(100 * PAGE).next_multiple_of(PAGE);
    let pages = Pages { base: start, count: 90 };
    (10..20).for_each(|page| pages.write(page));
    end_epoch();
    (15..40).for_each(|page| pages.write(page));
    end_epoch();
    for page in 0..pages.count {
        let expected = u32::from((10..20).contains(&page)) + u32::from((15..40).contains(&page));
        assert_eq!(pages.info(page).epochs_written, expected, "{page}");
        let writer = pages.info(page).first_writer_of_last_epoch;
        assert_eq!(writer, (expected > 0).then(Thread::current), "{page}");
    }
}

/// mremap(2) takes the protection away: what was moved is armed again, and moving is not writing.
pub fn moved_memory(_file: &Path) {
    let pages = Pages::written(100);
    track_all(BY_HAND);
    pages.write(3);
    end_epoch();
    let moved = Pages { base: sys::move_memory(pages.base, 100 * PAGE, 200 * PAGE), count: 200 };
    moved.write(150);
    end_epoch();
    for page in 0..200 {
        assert_eq!(moved.info(page).modified, page == 150, "{page}: {:?}", moved.info(page));
    }
    (0..10).for_each(|page| moved.write(page));
    end_epoch();
    for page in 0..200 {
        assert_eq!(moved.info(page).modified, page < 10 || page == 150, "{page}");
        assert_eq!(sys::read(moved.at(page) + 24), if page < 100 || page == 150 { page as u8 } else { 0 });
    }
}

/// Of a private file the first write makes a copy; of shared memory reading is not writing, whoever had the page before.
pub fn files_and_shared_memory(_file: &Path) {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&vec![7; 50 * PAGE]).expect("room");
    let private = Pages { base: sys::map_private_file(&file, 50 * PAGE), count: 50 };
    let shared = Pages { base: sys::map_shared(50 * PAGE), count: 50 };
    (0..10).for_each(|page| shared.write(page));
    track_all(BY_HAND);
    for (round, from) in [0, 20].into_iter().enumerate() {
        for page in 0..50 {
            assert_eq!(sys::read(private.at(page)), 7);
            sys::read(shared.at(page));
        }
        (from..from + 5).for_each(|page| {
            private.write(page);
            shared.write(page);
        });
        end_epoch();
        for page in 0..50 {
            let written = page < 5 || round == 1 && (20..25).contains(&page);
            assert_eq!(private.info(page).modified, written, "private, {page}, round {round}");
            assert_eq!(shared.info(page).modified, written, "shared, {page}, round {round}");
        }
    }
    // Pages of shared memory are not gone when this mapping gives them back, nor are they written when they return.
    sys::discard(shared.base, 50 * PAGE);
    (0..50).for_each(|page| {
        sys::read(shared.at(page));
    });
    let before = shared.epochs_written();
    end_epoch();
    assert_eq!(shared.epochs_written(), before);
    assert_eq!(sys::read(shared.at(7) + 24), 7);
    assert!(write_statistics().pages_written >= 20);
}

/// A huge page comes as a whole, of which one page was written; after that each is seen by itself.
pub fn huge_pages(_file: &Path) {
    const HUGE: usize = 512;
    track_all(BY_HAND);
    let base = sys::map(3 * HUGE * PAGE).next_multiple_of(HUGE * PAGE);
    let pages = Pages { base, count: HUGE };
    if !sys::want_huge_pages(base, HUGE * PAGE) {
        println!("skipped: this kernel has no huge pages");
        return;
    }
    pages.write(100);
    end_epoch();
    let modified = |pages: &Pages| (0..HUGE).filter(|&page| pages.info(page).modified).collect::<Vec<_>>();
    assert_eq!(modified(&pages), [100]);
    pages.write(7);
    pages.write(400);
    end_epoch();
    assert_eq!(modified(&pages), [7, 100, 400]);
}

/// Memory that is unmapped and mapped again within an epoch, at the same place.
pub fn mapped_again(_file: &Path) {
    let pages = Pages::written(60);
    track_all(BY_HAND);
    pages.write(3);
    end_epoch();
    sys::map_again(pages.at(20), 20 * PAGE);
    (25..30).for_each(|page| pages.write(page));
    pages.write(50);
    end_epoch();
    for page in 0..60 {
        let expected = page == 3 || (25..30).contains(&page) || page == 50;
        assert_eq!(pages.info(page).modified, expected, "{page}: {:?}", pages.info(page));
    }
    pages.write(22);
    end_epoch();
    assert_eq!(pages.info(22).first_writer_of_last_epoch, Some(Thread::current()));
    assert_eq!(write_statistics().bytes_untracked, 0);
}
