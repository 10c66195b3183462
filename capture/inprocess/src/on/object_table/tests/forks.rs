//! The table in forked children, and without memory.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::super::*;
use super::put;

/// Runs `work` in a forked child and gives the number that it returned. The child ends at once, so it runs nothing of
/// the test harness.
fn in_child(work: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child calls the given work and _exit(2) alone.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let status = work();
        // SAFETY: ends the process.
        unsafe { libc::_exit(status) };
    }
    assert!(pid > 0, "fork: {}", std::io::Error::last_os_error());
    let mut status = 0;
    // SAFETY: waits for our child and writes to a local.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -libc::WTERMSIG(status) }
}

/// 0 if the table is whole and does its work; else which of the checks failed.
fn check(table: &ObjectTable) -> i32 {
    let mut walked = 0;
    for shard in 0..SHARDS {
        table.for_each_in_shard(shard, |_| {
            walked += 1;
            true
        });
    }
    if walked != table.len() {
        return 1;
    }
    for object in 1..=5000_usize {
        if table.insert(0x7000_0000 + object * 16, object as u64, 1, 16, true).is_err() {
            return 2;
        }
    }
    for object in 1..=5000_usize {
        if table.remove(0x7000_0000 + object * 16).map(|it| it.entry.id) != Some(object as u64) {
            return 3;
        }
    }
    if walked == table.len() { 0 } else { 4 }
}

#[test]
fn a_child_of_a_fork_that_locked_the_table_finds_it_whole() {
    static TABLE: ObjectTable = ObjectTable::new();
    let over = AtomicBool::new(false);
    let work = |thread: usize| {
        let over = &over;
        move || {
            let mut round = thread;
            while !over.load(Ordering::Relaxed) {
                round = round.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let address = 0x1000 + (round >> 40) % 4000 * 16;
                if round >> 63 == 0 {
                    put(&TABLE, address, address as u64, 16);
                } else {
                    TABLE.remove(address);
                }
            }
        }
    };
    thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(work(thread));
        }
        let statuses: Vec<i32> = (0..25)
            .map(|_| {
                TABLE.lock_all();
                let status = in_child(|| {
                    // SAFETY: the child has one thread, and the locks were taken above.
                    unsafe { TABLE.unlock_all_in_child(true) };
                    check(&TABLE)
                });
                // SAFETY: they were taken above.
                unsafe { TABLE.unlock_all() };
                status
            })
            .collect();
        over.store(true, Ordering::Relaxed);
        assert_eq!(statuses, [0; 25]);
    });
    assert_eq!(TABLE.losses(), TableLosses::default());
    TABLE.release();
}

#[test]
fn a_shard_in_other_hands_at_a_fork_without_locks_is_emptied_in_the_child() {
    static TABLE: ObjectTable = ObjectTable::new();
    for object in 1..=6400 {
        put(&TABLE, object * 16, object as u64, 16);
    }
    let (held, done) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            TABLE.for_each_in_shard(5, |_| {
                held.wait();
                done.wait();
                false
            });
        });
        held.wait();
        let status = in_child(|| {
            // SAFETY: the child has one thread.
            unsafe { TABLE.unlock_all_in_child(false) };
            let lost = 6400 - TABLE.len();
            match (TABLE.losses().shards_at_fork, lost) {
                (1, 50..=150) => check(&TABLE),
                _ => 10,
            }
        });
        done.wait();
        assert_eq!(status, 0);
    });
    assert_eq!((TABLE.len(), TABLE.losses().shards_at_fork), (6400, 0), "the parent's own is whole");
    TABLE.release();
}

/// Sets `errno`, which nothing that follows may change.
fn set_errno(value: i32) {
    // SAFETY: errno is the calling thread's own.
    unsafe { *libc::__errno_location() = value };
}

fn errno() -> i32 {
    // SAFETY: errno is the calling thread's own.
    unsafe { *libc::__errno_location() }
}

#[test]
fn without_memory_inserts_are_refused_and_counted_and_errno_stays() {
    static TABLE: ObjectTable = ObjectTable::new();
    let status = in_child(|| {
        set_errno(77);
        for object in 1..=10_000_usize {
            put(&TABLE, object * 16, object as u64, 16);
        }
        if errno() != 77 {
            return 1;
        }
        let nothing_more = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: reads a local. From here on there is no address space beyond what is mapped already.
        if unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const nothing_more) } != 0 {
            return 2;
        }
        set_errno(77);
        let mut refused = 0;
        for object in 10_001..=40_000_usize {
            refused += u64::from(TABLE.insert(object * 16, object as u64, 1, 16, true).is_err());
        }
        if refused == 0 || TABLE.losses().inserts != refused || TABLE.len() as u64 != 40_000 - refused {
            return 3;
        }
        if (1..=10_000_usize).any(|object| TABLE.get(object * 16).map(|it| it.id) != Some(object as u64)) {
            return 4;
        }
        // A place that is given up can be had again.
        TABLE.remove(16);
        if TABLE.insert(16, 1, 1, 16, true).is_err() {
            return 5;
        }
        TABLE.set_keeping(true);
        for object in 1..=40_000_usize {
            TABLE.remove(object * 16);
        }
        if TABLE.losses().deaths != 40_000 - refused || TABLE.len() != 0 {
            return 6;
        }
        if errno() == 77 { 0 } else { 7 }
    });
    assert_eq!(status, 0);
}
