//! Threads that take and give back memory: each grows and shrinks what it holds, and passes blocks on to the next
//! thread, which gives them back.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use page_run_allocator::{Allocator, Block, PAGE_BYTES};

/// A thread holds at most so many blocks before it shrinks.
const HELD_BLOCKS_MAX: usize = 400;
/// Of so many blocks one is passed on.
const PASSED_ON: u64 = 16;
/// Of so many blocks one is a run of pages.
const PAGE_RUNS: u64 = 8;
const RUN_PAGES_MAX: u64 = 40;
const SMALL_BYTES_MAX: u64 = 4096;

/// When threads stop.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After so many blocks taken or given back by each.
    Operations(u64),
    /// At this moment.
    Moment(Instant),
}

/// Runs `threads` threads on as many shards, and returns the blocks that are held when they have ended.
pub fn run(allocator: &Allocator, threads: usize, until: Until) -> Vec<Block> {
    let mailboxes: Vec<Mutex<Vec<Block>>> = (0..threads).map(|_| Mutex::new(Vec::new())).collect();
    let mut held: Vec<Block> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let mailboxes = &mailboxes;
                scope.spawn(move || work(allocator, mailboxes, thread, until))
            })
            .collect();
        running.into_iter().flat_map(|thread| thread.join().expect("a worker does not panic")).collect()
    });
    held.extend(mailboxes.iter().flat_map(take_all));
    held
}

fn work(allocator: &Allocator, mailboxes: &[Mutex<Vec<Block>>], thread: usize, until: Until) -> Vec<Block> {
    let mut random = Random((thread as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut held: Vec<Block> = Vec::new();
    let mut growing = true;
    let mut operations = 0;
    let goes_on = |operations| match until {
        Until::Operations(most) => operations < most,
        Until::Moment(end) => Instant::now() < end,
    };
    while goes_on(operations) {
        operations += 1;
        growing = if growing { held.len() < HELD_BLOCKS_MAX } else { held.len() < HELD_BLOCKS_MAX / 8 };
        // Two of three while growing, one of three while shrinking.
        if random.below(3) < if growing { 2 } else { 1 } {
            // A full region is no failure: something is given back first.
            match allocator.alloc(thread, block_bytes(&mut random)) {
                Some(mut block) => {
                    touch(&mut block, thread as u8);
                    held.push(block);
                }
                None => growing = false,
            }
        } else if !held.is_empty() {
            let block = held.swap_remove(random.below(held.len() as u64) as usize);
            if random.below(PASSED_ON) == 0 {
                mailboxes[(thread + 1) % mailboxes.len()].lock().unwrap_or_else(PoisonError::into_inner).push(block);
            } else {
                allocator.free(block);
            }
        }
        if operations.is_multiple_of(PASSED_ON) {
            take_all(&mailboxes[thread]).into_iter().for_each(|block| allocator.free(block));
        }
    }
    held
}

fn take_all(mailbox: &Mutex<Vec<Block>>) -> Vec<Block> {
    std::mem::take(&mut *mailbox.lock().unwrap_or_else(PoisonError::into_inner))
}

fn block_bytes(random: &mut Random) -> usize {
    let bytes = match random.below(PAGE_RUNS) {
        0 => SMALL_BYTES_MAX + random.below(RUN_PAGES_MAX * PAGE_BYTES as u64 - SMALL_BYTES_MAX),
        _ => random.below(SMALL_BYTES_MAX),
    };
    bytes as usize + 1
}

/// Writes to each page, so that the kernel has to put one there.
fn touch(block: &mut Block, byte: u8) {
    block.bytes_mut().iter_mut().step_by(PAGE_BYTES / 2).for_each(|at| *at = byte);
}

/// Numbers that look random and are not (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
