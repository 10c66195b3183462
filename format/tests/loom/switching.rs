//! Switching off while hooks are at work. This is a model of the tracer's `event_buffer.rs`, not its code, which lies
//! deep in thread-local memory: a hook says that it is inside, then looks whether the epoch is still its own; who
//! switches begins another epoch, then waits until nobody is inside, then takes the memory away.
//!
//! membarrier(2) is a full fence on every processor at some moment between the two steps of a hook; a fence in both
//! stands for it.

use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::thread;

use crate::sys::BlockMemory;

/// Where a hook says that it is inside.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flag {
    /// In a place of the stream's own, that nobody else ever writes to.
    OfTheStream,
    /// In the block's header: whose block it is changes.
    OfTheBlock,
}

/// One block, and two streams that have it one after the other.
struct Program {
    flag: Flag,
    /// The epoch; odd while recording.
    active: AtomicU32,
    inside: [AtomicU32; 2],
    /// The block's memory. loom fails the model where it is given back while a hook writes.
    memory: BlockMemory,
}

impl Program {
    fn new(flag: Flag) -> Program {
        let inside = [AtomicU32::new(0), AtomicU32::new(0)];
        Program { flag, active: AtomicU32::new(1), inside, memory: BlockMemory::new() }
    }

    fn flag_of(&self, stream: usize) -> &AtomicU32 {
        if self.flag == Flag::OfTheStream { &self.inside[stream] } else { &self.inside[0] }
    }

    /// A hook of a stream whose block was taken in `epoch`.
    fn hook(&self, stream: usize, epoch: u32) {
        if self.active.load(Ordering::Relaxed) != epoch {
            return;
        }
        let inside = self.flag_of(stream);
        inside.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.active.load(Ordering::Relaxed) == epoch {
            self.memory.use_alone();
        }
        inside.store(0, Ordering::Release);
    }

    /// Begins the next epoch and waits until nobody is inside; then the memory is the switcher's.
    fn off(&self) {
        self.active.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        for inside in &self.inside {
            while inside.load(Ordering::Acquire) != 0 {
                thread::yield_now();
            }
        }
        self.memory.use_alone();
    }

    fn on(&self) -> u32 {
        self.active.fetch_add(1, Ordering::AcqRel) + 1
    }
}

fn switched_off_once(flag: Flag) {
    loom::model(move || {
        let program = Arc::new(Program::new(flag));
        let hooks = program.clone();
        let hook = thread::spawn(move || hooks.hook(0, 1));
        program.off();
        hook.join().expect("it ended");
    });
}

/// The block goes to another stream in the next epoch, while a hook of the first stream still stands before its mark.
fn switched_off_again(flag: Flag) {
    let mut model = Builder::new();
    // All interleavings take minutes; the error that this is about shows with two preemptions.
    model.preemption_bound = Some(3);
    model.check(move || {
        let program = Arc::new(Program::new(flag));
        let (first, second) = (program.clone(), program.clone());
        let first = thread::spawn(move || first.hook(0, 1));
        program.off();
        let epoch = program.on();
        let second = thread::spawn(move || second.hook(1, epoch));
        program.off();
        first.join().expect("it ended");
        second.join().expect("it ended");
    });
}

#[test]
fn nobody_writes_after_off() {
    switched_off_once(Flag::OfTheStream);
    switched_off_once(Flag::OfTheBlock);
}

#[test]
fn nobody_writes_after_a_second_off() {
    switched_off_again(Flag::OfTheStream);
}

/// Why the mark is not in the block's header: a late hook takes back the mark of the block's next owner.
#[test]
#[should_panic(expected = "Causality violation")]
fn a_mark_in_the_block_would_be_taken_back_by_its_last_owner() {
    switched_off_again(Flag::OfTheBlock);
}
