//! Callbacks that do not let an access proceed.

use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};

use pagetrace::{Access, AccessKind, Decision, Watch};

use crate::memory::Pages;
use crate::sys;

/// The driver sees that nothing is printed after the write, and that it ended by SIGABRT.
pub fn aborts(_file: &Path) {
    fn decide(access: &Access) -> Decision {
        if access.kind == AccessKind::Write { Decision::Abort } else { Decision::Proceed }
    }
    let pages = Pages::written(2);
    let _watching =
        Watch::range(pages.at(0)..pages.at(1)).system_calls_may_fail().on_access(decide).start().expect("it can");
    assert_eq!(sys::read(pages.at(0) + 24), 0);
    pages.write(0);
    println!("not to be printed");
}

/// The process stands before the write, and goes on when it is told to.
pub fn stops(_file: &Path) {
    static CALLED: AtomicI32 = AtomicI32::new(-1);
    fn decide(_access: &Access) -> Decision {
        sys::put(CALLED.load(Ordering::Relaxed));
        Decision::Stop
    }
    let (called, call) = sys::pipe();
    let (done, tell) = sys::pipe();
    let child = sys::fork(|| {
        CALLED.store(call, Ordering::Relaxed);
        let pages = Pages::written(2);
        let watch = Watch::range(pages.at(1)..pages.at(1) + 1).system_calls_may_fail().on_access(decide);
        let _watching = watch.start().expect("it can be watched");
        pages.write(1);
        sys::put(tell);
    });
    sys::wait_for_stop(child);
    assert_eq!((sys::in_pipe(called), sys::in_pipe(done)), (1, 0), "it stands before the write");
    sys::go_on(child);
    assert_eq!((sys::wait(child), sys::in_pipe(done)), (0, 1));
}
