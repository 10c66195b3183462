//! What a reallocation looks like when another thread gets the old address before the allocator has returned: the live
//! table and the trace keep the two objects apart.

use std::thread;

use pagetrace::{Caller, Function, object_alloc, object_at, object_free, object_free_begins, statistics};
use pagetrace_format::Trace;
use pagetrace_replay::{Moment, replay};

const OLD: usize = 0x10_0000;
const NEW: usize = 0x20_0000;

fn alloc(address: usize, size: usize) {
    object_alloc(address, size, size, Function::Plain, Caller::UNKNOWN);
}

/// One test, since a process has one recording.
#[test]
fn the_old_address_may_be_taken_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("realloc.pagetrace");
    let guard = pagetrace::Builder::new(&file).init().expect("nothing else records");

    alloc(OLD, 100);
    let moves = object_free_begins(OLD);
    thread::spawn(|| alloc(OLD, 7)).join().expect("it does not panic");
    moves.happened(Function::Realloc);
    alloc(NEW, 300);
    assert_eq!(object_at(OLD).map(|object| object.size), Some(7), "the other thread's object is known");

    let before = object_at(NEW).expect("it was just allocated");
    let fails = object_free_begins(NEW);
    assert_eq!(object_at(NEW), None, "it may be gone already");
    fails.failed();
    assert_eq!(object_at(NEW), Some(before), "it lives on under its number");

    object_free(OLD, Function::Plain);
    assert_eq!(statistics().unknown_frees, 0);
    drop(guard);

    let bytes = std::fs::read(&file).expect("the trace is there");
    let replayed = replay(&Trace::open(&bytes).expect("a trace"), Moment::End, &mut |_| {}).expect("events");
    let objects = replayed.processes[0].objects.expect("it has objects");
    assert_eq!((objects.live, objects.live_bytes), (1, 300));
    assert_eq!((objects.allocated, objects.freed), (3, 2));
    assert_eq!((objects.unknown_frees, objects.replaced), (0, 0));
    assert!(replayed.complete);
}
