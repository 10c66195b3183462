//! Several threads at one table.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::super::*;
use super::TraceModel;

const THREADS: usize = 8;
const ROUNDS: usize = 60_000;

/// xorshift64*, so that each thread has its own numbers without a lock.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as usize % end
    }
}

#[test]
fn threads_keep_their_own_objects_beside_those_they_share() {
    static TABLE: ObjectTable = ObjectTable::new();
    let next_id = AtomicU64::new(1);
    let live: usize = thread::scope(|scope| {
        let work = |thread: usize| {
            let next_id = &next_id;
            move || {
                let mut random = Random(thread as u64 + 1);
                let mut own: HashMap<usize, u64> = HashMap::new();
                for _ in 0..ROUNDS {
                    let id = next_id.fetch_add(1, Ordering::Relaxed);
                    // Neighbours in memory belong to different threads.
                    let address = 0x10_0000 + (random.below(3000) * THREADS + thread) * 16;
                    if random.below(5) < 3 {
                        let inserted = TABLE.insert(address, id, thread as u32, id % 900, true).expect("memory");
                        assert_eq!(inserted.replaced.map(|it| it.entry.id), own.insert(address, id));
                    } else {
                        assert_eq!(TABLE.remove(address).map(|it| it.entry.id), own.remove(&address));
                    }
                    let shared = 0x1000 + random.below(64) * 16;
                    if random.below(2) == 0 {
                        TABLE.insert(shared, id, u32::MAX, 16, true).expect("memory");
                    } else if let Some(removed) = TABLE.remove(shared) {
                        assert_eq!((removed.entry.address, removed.entry.bucket), (shared, u32::MAX));
                    }
                }
                for (&address, &id) in &own {
                    let entry = TABLE.get(address).expect("nobody else takes it out");
                    assert_eq!((entry.id, entry.bucket, entry.size), (id, thread as u32, id % 900));
                }
                own.len()
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(work(thread))).collect();
        threads.into_iter().map(|thread| thread.join().expect("its assertions hold")).sum()
    });
    for shared in 0..64 {
        TABLE.remove(0x1000 + shared * 16);
    }
    assert_eq!(TABLE.len(), live);
    TABLE.release();
}

#[test]
fn with_keeping_on_and_off_each_object_has_one_alloc_and_one_free_or_neither() {
    static TABLE: ObjectTable = ObjectTable::new();
    let over = AtomicBool::new(false);
    let next_id = AtomicU64::new(1);
    let work = |thread: usize| {
        let (over, next_id) = (&over, &next_id);
        move || {
            let mut random = Random(thread as u64 + 99);
            let (mut allocs, mut frees) = (Vec::new(), Vec::new());
            while !over.load(Ordering::Relaxed) {
                let address = 0x1000 + (random.below(400) * THREADS + thread) * 16;
                if random.below(2) == 0 {
                    let id = next_id.fetch_add(1, Ordering::Relaxed);
                    let inserted = TABLE.insert(address, id, thread as u32, 1, true).expect("memory");
                    frees.extend(inserted.replaced.filter(|it| it.event_due).map(|it| it.entry));
                    let entry = Entry { address, id, bucket: thread as u32, size: 1, announced: true };
                    allocs.extend(inserted.event_due.then_some(entry));
                } else {
                    frees.extend(TABLE.remove(address).filter(|it| it.event_due).map(|it| it.entry));
                }
            }
            (allocs, frees)
        }
    };
    let (hooks, caught_up) = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(work(thread))).collect();
        let (mut allocs, mut frees) = (Vec::new(), Vec::new());
        for _ in 0..25 {
            TABLE.set_keeping(true);
            thread::sleep(Duration::from_millis(1));
            TABLE.set_keeping(false);
            TABLE.drain_dead(|dead| frees.push(*dead));
            TABLE.announce_all(|entry| allocs.push(*entry));
            thread::sleep(Duration::from_millis(1));
        }
        over.store(true, Ordering::Relaxed);
        let hooks: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("it ends")).collect();
        (hooks, (allocs, frees))
    });
    assert!(!caught_up.0.is_empty() && !caught_up.1.is_empty(), "the two never met: nothing was tested");

    let mut trace = TraceModel::default();
    hooks.iter().flat_map(|(allocs, _)| allocs).chain(&caught_up.0).for_each(|entry| trace.alloc(entry));
    hooks.iter().flat_map(|(_, frees)| frees).for_each(|entry| trace.free(entry.address, entry.id, entry.bucket));
    caught_up.1.iter().for_each(|dead| trace.free(dead.address, dead.id, dead.bucket));
    let mut live = HashMap::new();
    for shard in 0..SHARDS {
        TABLE.for_each_in_shard(shard, |entry| {
            assert!(entry.announced);
            live.insert(entry.id, (entry.address, entry.bucket));
            true
        });
    }
    assert_eq!(trace.alive, live);
    TABLE.release();
}

#[test]
fn memory_is_released_under_load() {
    static TABLE: ObjectTable = ObjectTable::new();
    let over = AtomicBool::new(false);
    let work = |thread: usize| {
        let over = &over;
        move || {
            let mut random = Random(thread as u64 + 7);
            while !over.load(Ordering::Relaxed) {
                let address = 0x1000 + random.below(40_000) * 16;
                match random.below(4) {
                    0 | 1 => drop(TABLE.insert(address, address as u64, 1, 16, true).expect("memory")),
                    2 => assert!(TABLE.remove(address).is_none_or(|it| it.entry.id == address as u64)),
                    _ => assert!(TABLE.containing(address + 5).is_none_or(|it| it.address == address)),
                }
            }
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(work(thread))).collect();
        let mut released = 0;
        for _ in 0..60 {
            thread::sleep(Duration::from_micros(500));
            TABLE.set_keeping(!TABLE.is_keeping());
            released += TABLE.len();
            TABLE.release();
        }
        over.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().expect("its assertions hold"));
        assert!(released > 0, "there was nothing to release: nothing was tested");
    });
    TABLE.release();
    assert_eq!((TABLE.len(), TABLE.bytes_mapped()), (0, 0));
}

#[test]
fn a_thread_sleeps_for_a_shard_that_is_held_long_and_is_woken() {
    static TABLE: ObjectTable = ObjectTable::new();
    super::put(&TABLE, 0x1000, 1, 16);
    let (sender, receiver) = mpsc::channel();
    let shard = (0..SHARDS).find(|&shard| !TABLE.for_each_in_shard(shard, |_| false)).expect("one has the entry");
    thread::scope(|scope| {
        TABLE.for_each_in_shard(shard, |_| {
            let sender = sender.clone();
            scope.spawn(move || sender.send(TABLE.remove(0x1000).map(|it| it.entry.id)));
            let early = receiver.recv_timeout(Duration::from_millis(60));
            assert_eq!(early, Err(mpsc::RecvTimeoutError::Timeout), "the shard is held");
            true
        });
        assert_eq!(receiver.recv_timeout(Duration::from_secs(20)), Ok(Some(1)));
    });
    TABLE.release();
}

#[test]
fn keeping_has_begun_for_everybody_when_the_call_returns() {
    static TABLE: ObjectTable = ObjectTable::new();
    super::put(&TABLE, 0x1000, 1, 16);
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        // A hook that is in a shard may have seen the state before.
        let shard = (0..SHARDS).find(|&shard| !TABLE.for_each_in_shard(shard, |_| false)).expect("one has the entry");
        TABLE.for_each_in_shard(shard, |_| {
            let sender = sender.clone();
            scope.spawn(move || {
                TABLE.set_keeping(true);
                sender.send(())
            });
            assert_eq!(receiver.recv_timeout(Duration::from_millis(60)), Err(mpsc::RecvTimeoutError::Timeout));
            true
        });
        assert_eq!(receiver.recv_timeout(Duration::from_secs(20)), Ok(()));
    });
    assert!(!super::put(&TABLE, 0x2000, 2, 16).event_due);
    TABLE.release();
}
