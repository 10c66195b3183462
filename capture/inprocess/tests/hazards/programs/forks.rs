//! Forks and execs.

use std::env;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use pagetrace::{Builder, Off};

use super::work;
use crate::counts::{self, Tagged};
use crate::sys;

/// How long a child outlives its parent.
const OUTLIVES: Duration = Duration::from_millis(500);
/// A variable that the exec'd program knows itself by.
const EXECUTED: &str = "HAZARD_EXECUTED";

fn forked_work() {
    counts::restart();
    work();
    counts::tell();
}

/// A child that works and ends in `end`; then the parent works again.
fn one_child(file: &Path, end: fn()) {
    let _guard = Builder::new(file).init().expect("a recording");
    work();
    let child = sys::fork(|| {
        forked_work();
        end();
    });
    work();
    sys::wait(child);
    work();
    counts::tell();
}

pub fn child_exits(file: &Path) {
    one_child(file, || std::process::exit(0));
}

pub fn child_ends_without_exit(file: &Path) {
    one_child(file, || sys::end_without_exit(0));
}

pub fn child_killed(file: &Path) {
    one_child(file, sys::kill_self);
}

/// Recording is off in the parent, and its buffers are inaccessible to it, while it writes what the child records.
pub fn off_in_the_parent(file: &Path) {
    let guard = Builder::new(file).flush_interval(Duration::from_millis(5)).init().expect("a recording");
    work();
    let child = sys::fork(|| {
        counts::restart();
        for _ in 0..50 {
            work();
            thread::sleep(Duration::from_millis(2));
        }
        counts::tell();
        sys::end_without_exit(0);
    });
    pagetrace::off(Off::Keep).expect("it records");
    work();
    sys::wait(child);
    pagetrace::on().expect("it was initialized");
    work();
    drop(guard);
    counts::tell();
}

/// The other way round: the child, whose recording is off, finishes what its parent has begun.
pub fn off_in_the_child(file: &Path) {
    let guard = Builder::new(file).flush_interval(Duration::from_millis(5)).init().expect("a recording");
    work();
    let child = sys::fork(|| {
        counts::restart();
        work();
        pagetrace::off(Off::Drop).expect("it records");
        thread::sleep(Duration::from_millis(20));
        pagetrace::on().expect("it was initialized");
        work();
        pagetrace::off(Off::Keep).expect("it records");
        counts::tell();
        std::process::exit(0);
    });
    while sys::runs(child) {
        work();
    }
    sys::wait(child);
    drop(guard);
    counts::tell();
}

pub fn grandchild(file: &Path) {
    let _guard = Builder::new(file).init().expect("a recording");
    work();
    let child = sys::fork(|| {
        forked_work();
        let grandchild = sys::fork(|| {
            forked_work();
            std::process::exit(0);
        });
        sys::wait(grandchild);
        work();
        counts::tell();
        std::process::exit(0);
    });
    sys::wait(child);
    work();
    counts::tell();
}

/// Forks while other threads are at work, so that the fork finds the tracer's locks in any state.
pub fn with_threads(file: &Path) {
    const FORKS: usize = 30;
    let _guard = Builder::new(file).init().expect("a recording");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    drop(Tagged::new());
                }
            });
        }
        for _ in 0..FORKS {
            let child = sys::fork(|| {
                counts::restart();
                (0..100).for_each(|_| drop(Tagged::new()));
                counts::tell();
                sys::end_without_exit(0);
            });
            sys::wait(child);
        }
        done.store(true, Ordering::Relaxed);
    });
    counts::tell();
}

/// The parent ends first. The driver waits for the child too, since it holds the output open.
pub fn daemon(file: &Path) {
    let guard = Builder::new(file).init().expect("a recording");
    work();
    sys::fork(|| {
        counts::restart();
        thread::sleep(OUTLIVES);
        work();
        counts::tell();
        std::process::exit(0);
    });
    work();
    counts::tell();
    drop(guard);
}

/// A child becomes this program again, with the same environment: it must not touch its parent's file.
pub fn execs(file: &Path) {
    let _guard = pagetrace::init().expect("the environment has started it");
    work();
    if env::var_os(EXECUTED).is_none() {
        let name = env::args().nth(2).expect("the name of the case");
        let program = env::current_exe().expect("this program has a path");
        let mut command = Command::new(program);
        command.args([crate::PROGRAM, &name]).arg(file).env(EXECUTED, "1");
        let child = sys::fork(|| {
            let error = command.exec();
            panic!("cannot exec: {error}");
        });
        sys::wait(child);
        work();
    }
    counts::tell();
}
