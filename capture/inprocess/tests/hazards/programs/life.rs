//! The life of a recording: init, finish, reset, in any order.

use std::path::Path;
use std::thread;
use std::time::Duration;

use pagetrace::{Builder, Caller, Error, Function, PageTraceBuf, State};

use super::{INVENTED_PAGES, page_rounds, work};
use crate::counts;

/// Nothing special.
pub fn one_run(file: &Path) {
    let guard = Builder::new(file).init().expect("a recording");
    assert_eq!(pagetrace::state(), State::Recording);
    work();
    drop(guard);
    assert_eq!(pagetrace::state(), State::Finished);
    counts::tell();
}

pub fn init_twice(file: &Path) {
    let guard = Builder::new(file).init().expect("a recording");
    let again = Builder::new(file.with_extension("second")).init();
    assert!(matches!(again, Err(Error::AlreadyInitialized)), "{again:?}");
    // The environment asks for nothing: this joins what there is.
    work();
    drop(guard);
    let again = Builder::new(file).init();
    assert!(again.is_err(), "only reset leads back to the start: {again:?}");
    assert!(!file.with_extension("second").exists());
    counts::tell();
}

pub fn finish_early_and_twice(file: &Path) {
    assert!(pagetrace::finish().is_ok(), "before init it does nothing");
    assert_eq!(pagetrace::state(), State::Uninitialized);
    let guard = Builder::new(file).init().expect("a recording");
    work();
    assert!(pagetrace::finish().is_ok());
    assert!(pagetrace::finish().is_ok(), "a second time it does nothing");
    assert_eq!(pagetrace::state(), State::Finished);
    assert!(matches!(pagetrace::on(), Err(Error::NotInitialized)));
    assert!(matches!(pagetrace::off(pagetrace::Off::Keep), Err(Error::NotInitialized)));
    assert!(matches!(pagetrace::flush(), Err(Error::NotInitialized)));
    drop(guard);
    counts::tell();
}

/// Every hook, whatever the state.
fn all_hooks(buffer: &mut PageTraceBuf) {
    let address = INVENTED_PAGES - 8192;
    buffer.alloc(address, 1);
    buffer.free(address, 1);
    buffer.scav(address, 1);
    buffer.flush();
    for buffer in [pagetrace::thread_buf(), pagetrace::shared_buf()] {
        buffer.alloc(address, 1);
        buffer.free(address, 1);
        buffer.scav(address, 1);
        buffer.flush();
        buffer.pages(|run| assert!(run.pages > 0));
    }
    pagetrace::object_alloc(address, 10, 16, Function::Plain, Caller::here());
    let before = pagetrace::now();
    pagetrace::object_free(address, Function::Plain);
    pagetrace::object_alloc_in(pagetrace::bucket("hazard"), address, 10, 16, Function::Aligned);
    pagetrace::object_free_at(before, address, Function::Realloc);
    assert!(pagetrace::object_at(address).is_none());
    assert!(pagetrace::object_containing(address).is_none());
    pagetrace::thread_ended();
}

pub fn hooks_before_and_after(file: &Path) {
    let mut buffer = PageTraceBuf::new();
    all_hooks(&mut buffer);
    assert!(!pagetrace::is_recording());
    assert_eq!(pagetrace::statistics().pages.distinct, 0, "nothing is traced before init");
    let guard = Builder::new(file).init().expect("a recording");
    page_rounds(&mut buffer, INVENTED_PAGES, 5);
    work();
    drop(guard);
    let before = pagetrace::statistics();
    all_hooks(&mut buffer);
    assert_eq!(pagetrace::statistics().pages, before.pages, "nothing is traced after finish");
    counts::tell();
}

pub fn reset_and_again(file: &Path) {
    assert!(matches!(pagetrace::reset(), Err(Error::NotInitialized)), "there is nothing to reset");
    let second = file.with_extension("second");
    let mut buffer = PageTraceBuf::new();
    let guard = Builder::new(&second).init().expect("a recording");
    page_rounds(&mut buffer, INVENTED_PAGES, 5);
    work();
    pagetrace::reset().expect("it was initialized");
    assert_eq!(pagetrace::state(), State::Uninitialized);
    assert_eq!(pagetrace::statistics().pages.distinct, 0, "every record is released");
    assert_eq!(pagetrace::statistics().live_objects, 0, "every record is released");
    std::mem::forget(guard);
    counts::restart();
    let guard = Builder::new(file).init().expect("init works again");
    page_rounds(&mut buffer, INVENTED_PAGES, 7);
    work();
    drop(guard);
    counts::tell();
}

pub fn unknown_frees(file: &Path) {
    const UNKNOWN: u64 = 7;
    let guard = Builder::new(file).init().expect("a recording");
    // Objects from before init, whose frees are unknown too, are all alive until after this.
    let before = pagetrace::statistics().unknown_frees;
    for number in 0..UNKNOWN as usize {
        pagetrace::object_free(INVENTED_PAGES + 64 * number, Function::Plain);
    }
    pagetrace::object_free(0, Function::Plain);
    assert_eq!(pagetrace::statistics().unknown_frees, before + UNKNOWN);
    work();
    drop(guard);
    counts::tell();
}

/// Recording has been started by the environment before main.
pub fn by_environment(_file: &Path) {
    assert_eq!(pagetrace::state(), State::Recording);
    let _guard = pagetrace::init().expect("it joins what the environment has started");
    work();
    counts::tell();
}

/// Go's format holds page events only, so there is nothing else to count.
pub fn pages_by_environment(_file: &Path) {
    let _guard = pagetrace::init().expect("it joins what the environment has started");
    assert_eq!(pagetrace::page_bytes(), 8192);
    page_rounds(&mut PageTraceBuf::new(), INVENTED_PAGES, 100);
    counts::tell();
}

/// The environment asks for what cannot be: the program runs as if it had not.
pub fn untraced(file: &Path) {
    assert_eq!(pagetrace::state(), State::Uninitialized);
    unwritten(file);
}

/// What is recorded cannot be written: the program does not see it.
pub fn unwritten(_file: &Path) {
    work();
    thread::sleep(Duration::from_millis(50));
    work();
}
