//! Giving back memory that one thread works in, while it may be at work: what it leaves alone then. A model of the tracer's
//! records of last walks (`call_stack/walk_records.rs`), with fences as in [`crate::switching`].

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::thread;

use crate::sys::BlockMemory;

struct Record {
    at_work: AtomicU32,
    closed: AtomicU32,
    /// loom fails the model where it is given back during a walk.
    memory: BlockMemory,
}

impl Record {
    fn walk(&self) {
        self.at_work.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.closed.load(Ordering::Acquire) == 0 {
            self.memory.use_alone();
        }
        self.at_work.store(0, Ordering::Release);
    }

    fn give_back(&self) {
        self.closed.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.at_work.load(Ordering::Acquire) == 0 {
            self.memory.use_alone();
        }
        self.closed.store(0, Ordering::Release);
    }
}

#[test]
fn nobody_walks_in_a_record_that_is_given_back() {
    loom::model(|| {
        let memory = BlockMemory::new();
        let record = Arc::new(Record { at_work: AtomicU32::new(0), closed: AtomicU32::new(0), memory });
        let walker = record.clone();
        let walker = thread::spawn(move || {
            walker.walk();
            walker.walk();
        });
        record.give_back();
        record.give_back();
        walker.join().expect("it ended");
    });
}
