//! The events of a trace in batches, the next ones made by a second thread while the caller is busy with the last.
//!
//! Reading (checksums, decompression, decoding, merging) and following the events take about as long as each other. The
//! batches and their order are the same with one thread as with two.

use std::sync::mpsc;
use std::thread;

use crate::merged_event::MergedEvent;
use crate::timeline::Timeline;

/// Events of a batch. What is handed from one thread to the other should stay in the processor's caches: all batches are 1.1 MiB.
pub(crate) const BATCH_EVENTS: usize = 1 << 12;
/// Batches there are: those that are being read, those that are followed, and as many for those who are not quite equally fast.
const BATCHES: usize = 3 * GIVEN_BACK;
/// Batches are given back so many at a time: to wake a reader that waits for one costs as much as to follow a hundred events.
const GIVEN_BACK: usize = 2;
/// Shorter traces are done before a thread has started.
const AHEAD_FROM_EVENTS: u64 = 1 << 14;

/// Gives `each` all events, [`BATCH_EVENTS`] at a time and the rest last. `owners` has the process of each stream's slot,
/// `expected` says how many events there are about.
pub(crate) fn for_each_batch(
    timeline: &mut Timeline<'_, '_>,
    owners: &[u32],
    expected: u64,
    mut each: impl FnMut(&[MergedEvent]),
) {
    if expected >= AHEAD_FROM_EVENTS {
        read_ahead(timeline, owners, &mut each);
    }
    // Also where no second thread is to be had: nothing has been read then.
    let mut batch = Vec::new();
    while read(timeline, owners, &mut batch) {
        each(&batch);
    }
}

fn read(timeline: &mut Timeline<'_, '_>, owners: &[u32], batch: &mut Vec<MergedEvent>) -> bool {
    batch.clear();
    timeline.fill(batch, BATCH_EVENTS, owners);
    !batch.is_empty()
}

fn read_ahead(timeline: &mut Timeline<'_, '_>, owners: &[u32], each: &mut impl FnMut(&[MergedEvent])) {
    thread::scope(|scope| {
        let (read_out, to_follow) = mpsc::sync_channel(BATCHES);
        let (followed, to_read) = mpsc::sync_channel(BATCHES);
        let reader = move || {
            // An end of a channel goes away where the other side is done, or panics.
            while let Ok(mut batch) = to_read.recv() {
                if !read(timeline, owners, &mut batch) || read_out.send(batch).is_err() {
                    break;
                }
            }
        };
        if thread::Builder::new().name("read ahead".into()).spawn_scoped(scope, reader).is_err() {
            return;
        }
        let batches = std::iter::repeat_with(|| Vec::with_capacity(BATCH_EVENTS)).take(BATCHES);
        batches.for_each(|batch| drop(followed.send(batch)));
        let mut done = Vec::with_capacity(GIVEN_BACK);
        while let Ok(batch) = to_follow.recv() {
            each(&batch);
            done.push(batch);
            if done.len() == GIVEN_BACK {
                done.drain(..).for_each(|batch| drop(followed.send(batch)));
            }
        }
    });
}
