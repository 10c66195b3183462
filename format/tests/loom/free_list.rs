//! The free list of blocks, from which many threads take and to which one puts back.

use loom::sync::Arc;
use loom::thread;
use pagetrace_format::session::Session;

use crate::sys::ModelSession;

/// All blocks that are left on the list.
fn taken_to_the_end(session: &Session) -> Vec<u32> {
    std::iter::from_fn(|| session.take_free_block()).collect()
}

#[track_caller]
fn assert_each_once(session: &Session, mut held: Vec<u32>) {
    held.extend(taken_to_the_end(session));
    held.sort_unstable();
    let all: Vec<u32> = (0..session.layout().block_count).collect();
    assert_eq!(held, all, "no block twice, none lost");
}

#[test]
fn two_threads_never_get_the_same_block() {
    loom::model(|| {
        let session = Arc::new(ModelSession::new(2));
        let other = session.clone();
        let taker = thread::spawn(move || other.take_free_block());
        let mine = session.take_free_block();
        let theirs = taker.join().expect("the taker ended");
        assert_each_once(&session, mine.into_iter().chain(theirs).collect());
    });
}

/// A block comes back while a thread is between its look at the list's head and its change of it: the head is the block
/// that the thread has seen, but what follows it is not.
#[test]
fn a_block_that_came_back_is_not_taken_for_the_one_seen_before() {
    loom::model(|| {
        let session = Arc::new(ModelSession::new(2));
        let (slow, quick) = (session.clone(), session.clone());
        let slow = thread::spawn(move || slow.take_free_block());
        let quick = thread::spawn(move || {
            let (first, second) = (quick.take_free_block(), quick.take_free_block());
            if let Some(first) = first {
                // As the drainer does; only ever one thread of a model.
                quick.put_free_block(first);
            }
            second
        });
        let slow = slow.join().expect("it ended");
        let quick = quick.join().expect("it ended");
        assert_each_once(&session, slow.into_iter().chain(quick).collect());
    });
}

#[test]
fn takers_and_the_putter_lose_nothing() {
    loom::model(|| {
        let session = Arc::new(ModelSession::new(3));
        let in_use = session.take_free_block().expect("three are there");
        let takers = [session.clone(), session.clone()].map(|session| thread::spawn(move || session.take_free_block()));
        session.put_free_block(in_use);
        let held = takers.into_iter().filter_map(|taker| taker.join().expect("it ended"));
        assert_each_once(&session, held.collect());
    });
}
