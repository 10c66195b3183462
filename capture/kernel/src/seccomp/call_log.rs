//! The way from the supervisor to the recorder: a ring of fixed entries in memory that both have.
//!
//! ```text
//!  word 0   how many entries were written       word 3   1 when the supervisor is there
//!  word 1   how many were read                  word 4   what became of the filter: sys.rs
//!  word 2   how many found no room
//!  from word 8: entries of nine words: time · pid << 32 | tid · what · six arguments
//! ```
//!
//! An entry is whole before the count of entries covers it (release order). The recorder's end leaves the ring full, and the
//! supervisor counts.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::perf::{Body, PerfRecord};
use crate::sys::words_shared_with_forks;

/// Rounds are 2 ms apart, a call takes some microseconds: this is for a recorder that does not get to run for a third of a second.
const ENTRIES: usize = 1 << 16;
const ENTRY_WORDS: usize = 9;
const HEADER_WORDS: usize = 8;

const WRITTEN: usize = 0;
const READ: usize = 1;
const LOST: usize = 2;
const SUPERVISED: usize = 3;
const OUTCOME: usize = 4;

/// Values of `what` that are no call's number.
const EXEC: u64 = 1 << 32;
const FORKED: u64 = 2 << 32;

/// The ring, as either side has it.
#[derive(Clone, Copy, Debug)]
pub struct CallLog {
    words: &'static [AtomicU64],
}

/// What the supervisor saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A system call begins.
    Call(i64, [u64; 6]),
    /// The program is another one since the call before. Its name, at most 15 bytes.
    Exec([u8; 16]),
    /// It is a child of this process, which has made no call yet that was seen.
    Forked(u32),
}

impl CallLog {
    /// An empty one, for this process and those that it forks. It stays mapped.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn new() -> io::Result<CallLog> {
        Ok(CallLog { words: words_shared_with_forks(HEADER_WORDS + ENTRIES * ENTRY_WORDS)? })
    }

    /// What became of the filter.
    pub fn outcome(self) -> &'static AtomicU64 {
        &self.words[OUTCOME]
    }

    /// Says that the supervisor is there.
    pub fn supervised(self) {
        self.words[SUPERVISED].store(1, Ordering::Release);
    }

    /// Whether it is.
    pub fn is_supervised(self) -> bool {
        self.words[SUPERVISED].load(Ordering::Acquire) == 1
    }

    /// Takes something down, or counts it where there is no room. For the supervisor.
    pub fn put(self, time: u64, pid: u32, tid: u32, seen: Seen) {
        let written = self.words[WRITTEN].load(Ordering::Relaxed);
        if written.wrapping_sub(self.words[READ].load(Ordering::Acquire)) >= ENTRIES as u64 {
            self.words[LOST].fetch_add(1, Ordering::Relaxed);
            return;
        }
        let (what, arguments) = match seen {
            Seen::Call(number, arguments) => (number as u64 & 0xffff_ffff, arguments),
            Seen::Exec(name) => {
                let half =
                    |at: usize| name[at..].iter().take(8).rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
                (EXEC, [half(0), half(8), 0, 0, 0, 0])
            }
            Seen::Forked(parent) => (FORKED, [parent.into(), 0, 0, 0, 0, 0]),
        };
        let head = [time, u64::from(pid) << 32 | u64::from(tid), what];
        for (word, value) in self.entry(written).iter().zip(head.into_iter().chain(arguments)) {
            word.store(value, Ordering::Relaxed);
        }
        self.words[WRITTEN].store(written.wrapping_add(1), Ordering::Release);
    }

    /// Takes all entries out. For the recorder.
    pub fn take(self, mut each: impl FnMut(PerfRecord)) {
        let written = self.words[WRITTEN].load(Ordering::Acquire);
        let mut read = self.words[READ].load(Ordering::Relaxed);
        while read != written {
            let mut values = [0; ENTRY_WORDS];
            for (value, word) in values.iter_mut().zip(self.entry(read)) {
                *value = word.load(Ordering::Relaxed);
            }
            read = read.wrapping_add(1);
            self.words[READ].store(read, Ordering::Release);
            each(record_of(values));
        }
    }

    /// How many found no room.
    pub fn lost(self) -> u64 {
        self.words[LOST].load(Ordering::Relaxed)
    }

    fn entry(self, number: u64) -> &'static [AtomicU64] {
        let first = HEADER_WORDS + (number as usize & (ENTRIES - 1)) * ENTRY_WORDS;
        &self.words[first..first + ENTRY_WORDS]
    }
}

fn record_of([time, process, what, a, b, c, d, e, f]: [u64; ENTRY_WORDS]) -> PerfRecord {
    let body = match what {
        EXEC => {
            let name: Vec<u8> =
                [a, b].iter().flat_map(|word| word.to_le_bytes()).take_while(|&byte| byte != 0).collect();
            Body::Exec { name: String::from_utf8_lossy(&name).into_owned() }
        }
        FORKED => Body::Forked { parent: a as u32 },
        number => Body::Begun { number: number as i64, arguments: [a, b, c, d, e, f] },
    };
    PerfRecord { time, pid: (process >> 32) as u32, tid: process as u32, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_comes_out_once_and_in_order() {
        let log = CallLog::new().expect("memory");
        let all = || {
            let mut found = Vec::new();
            log.take(|record| found.push(record));
            found
        };
        let mut name = [0; 16];
        name[..11].copy_from_slice(b"a-long-name");
        log.put(5, 70, 71, Seen::Call(9, [1, 2, 3, 4, 5, 6]));
        log.put(6, 70, 70, Seen::Exec(name));
        log.put(7, 80, 80, Seen::Forked(70));
        let expected = [
            (5, 70, 71, Body::Begun { number: 9, arguments: [1, 2, 3, 4, 5, 6] }),
            (6, 70, 70, Body::Exec { name: "a-long-name".into() }),
            (7, 80, 80, Body::Forked { parent: 70 }),
        ];
        assert_eq!(all(), expected.map(|(time, pid, tid, body)| PerfRecord { time, pid, tid, body }));
        assert_eq!(all(), []);
    }

    #[test]
    fn what_finds_no_room_is_counted_and_nothing_is_written_over() {
        const MORE: usize = 100;
        let log = CallLog::new().expect("memory");
        let numbered = |time: u64| log.put(time, 1, 1, Seen::Call(1, [time; 6]));
        for round in 0..3 {
            (0..(ENTRIES + MORE) as u64).for_each(numbered);
            let mut times = Vec::new();
            log.take(|record| times.push(record.time));
            assert!(times.iter().copied().eq(0..ENTRIES as u64), "round {round}: {} entries", times.len());
            assert_eq!(log.lost(), (MORE * (round + 1)) as u64);
        }
    }
}
