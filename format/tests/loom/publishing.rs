//! A thread that fills blocks, and who drains them at the same time.

use loom::sync::Arc;
use loom::sync::atomic::Ordering;
use loom::thread;
use pagetrace_format::session::{Session, block_state};

use crate::sys::ModelSession;

/// Words of one event; they are published together.
const EVENT_WORDS: u32 = 2;
const EVENTS: u32 = 2;

/// The word at `index` of block number `sequence` of the thread. Never zero, as words of another block may be.
fn word(sequence: u32, index: u32) -> u64 {
    u64::from(100 * (sequence + 1) + index)
}

/// Fills one block as the tracer's event buffer does: taken, words, count; at last handed over.
fn fill_a_block(session: &Session, sequence: u32) -> bool {
    let Some(index) = session.take_free_block() else { return false };
    let (block, words) = (session.block(index).expect("it was on the list"), session.words(index).expect("as well"));
    block.committed_words.store(0, Ordering::Relaxed);
    block.sequence.store(sequence, Ordering::Relaxed);
    block.state.store(block_state::OWNED, Ordering::Release);
    for event in 0..EVENTS {
        for index in event * EVENT_WORDS..(event + 1) * EVENT_WORDS {
            words[index as usize].store(word(sequence, index), Ordering::Relaxed);
        }
        block.publish((event + 1) * EVENT_WORDS);
    }
    block.hand_over();
    true
}

/// One look at the only block, as the drainer takes it: what is published is whole, and a full block is complete.
/// Returns the sequence of a block that it has put back.
fn look(session: &Session) -> Option<u32> {
    let block = session.block(0).expect("there is one");
    let found = block.published()?;
    let sequence = block.sequence.load(Ordering::Relaxed);
    let words = session.words(0).expect("there is one");
    assert_eq!(found.words % EVENT_WORDS, 0, "half an event is published");
    for index in 0..found.words {
        assert_eq!(words[index as usize].load(Ordering::Relaxed), word(sequence, index), "an unfinished word");
    }
    if !found.full {
        return None;
    }
    assert_eq!(found.words, EVENTS * EVENT_WORDS, "a full block's count is final");
    session.put_free_block(0);
    Some(sequence)
}

#[test]
fn what_is_published_is_finished() {
    loom::model(|| {
        let session = Arc::new(ModelSession::new(1));
        let writers = session.clone();
        let writer = thread::spawn(move || fill_a_block(&writers, 0));
        let mut drained: Vec<u32> = (0..2).filter_map(|_| look(&session)).collect();
        assert!(writer.join().expect("it ended"), "the only block was free");
        drained.extend(look(&session));
        assert_eq!(drained, [0]);
    });
}

#[test]
fn a_block_that_is_used_again_has_nothing_of_before() {
    loom::model(|| {
        let session = Arc::new(ModelSession::new(1));
        let writers = session.clone();
        let writer = thread::spawn(move || {
            let first = fill_a_block(&writers, 0);
            (first, fill_a_block(&writers, 1))
        });
        let mut drained: Vec<u32> = (0..2).filter_map(|_| look(&session)).collect();
        let (first, second) = writer.join().expect("it ended");
        drained.extend(look(&session));
        let written: Vec<u32> =
            [first, second].into_iter().zip(0..).filter(|(filled, _)| *filled).map(|(_, it)| it).collect();
        assert_eq!(drained, written);
    });
}
