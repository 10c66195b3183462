//! How programs end.

use std::path::Path;
use std::thread;
use std::time::Duration;

use pagetrace::Builder;

use super::work;
use crate::counts::{self, Tagged};
use crate::sys;

/// How often the trace is written where a program is killed.
const FLUSH_INTERVAL: Duration = Duration::from_millis(20);
/// After so long everything that was recorded before is in the file.
const FLUSHED: Duration = Duration::from_millis(400);

pub fn guard_leaked(file: &Path) {
    std::mem::forget(Builder::new(file).init().expect("a recording"));
    work();
    counts::tell();
}

pub fn panic_unwinds(file: &Path) {
    let _guard = Builder::new(file).init().expect("a recording");
    work();
    counts::tell();
    panic!("as this program is to do");
}

pub fn panic_in_thread(file: &Path) {
    let _guard = Builder::new(file).init().expect("a recording");
    let thread = thread::spawn(|| {
        work();
        panic!("as this thread is to do");
    });
    assert!(thread.join().is_err());
    work();
    counts::tell();
}

/// In a program whose panics unwind nothing tells the tracer of this one: it is as if it had been killed.
pub fn panic_aborts(file: &Path) {
    let _guard = Builder::new(file).flush_interval(FLUSH_INTERVAL).init().expect("a recording");
    work();
    counts::tell();
    thread::sleep(FLUSHED);
    sys::panic_that_cannot_unwind();
}

/// The exit status is 3, and threads go on allocating until the end.
pub fn exit_from_thread(file: &Path) {
    let _guard = Builder::new(file).init().expect("a recording");
    for _ in 0..3 {
        thread::spawn(|| {
            loop {
                drop(Tagged::new());
            }
        });
    }
    thread::spawn(|| {
        thread::sleep(Duration::from_millis(30));
        std::process::exit(3);
    });
    loop {
        drop(Tagged::new());
    }
}

pub fn killed(file: &Path) {
    let _guard = Builder::new(file).flush_interval(FLUSH_INTERVAL).init().expect("a recording");
    work();
    counts::tell();
    thread::sleep(FLUSHED);
    work();
    sys::kill_self();
}

/// `_exit`, which runs nothing of what exit runs.
pub fn ends_without_exit(file: &Path) {
    let _guard = Builder::new(file).flush_interval(FLUSH_INTERVAL).init().expect("a recording");
    work();
    counts::tell();
    thread::sleep(FLUSHED);
    sys::end_without_exit(4);
}
