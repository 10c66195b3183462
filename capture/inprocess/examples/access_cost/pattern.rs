//! Four threads write a known pattern, each to pages of its own, and what is known of each page is held against it.

use std::thread;

use pagetrace::{Thread, end_write_epoch, page_info, write_statistics};

use crate::{PAGE, row, sys};

const THREADS: usize = 4;
const ROUNDS: usize = 4;

/// Runs it and prints what was right.
pub fn run(memory: usize, pages: usize) {
    let lost = write_statistics().faults_lost;
    let [mut written, mut missing, mut others, mut right] = [0_u64; 4];
    for round in 0..ROUNDS {
        let work = |index| {
            thread::spawn(move || {
                let own = |page: &usize| owner(*page, round) == Some(index);
                (0..pages).filter(own).for_each(|page| sys::write(memory + page * PAGE + 8, 3));
                Thread::current()
            })
        };
        let epochs = |page| page_info(memory + page * PAGE).expect("it is tracked").epochs_written;
        let before: Vec<u32> = (0..pages).map(epochs).collect();
        let started: Vec<_> = (0..THREADS).map(work).collect();
        let threads: Vec<Thread> = started.into_iter().map(|it| it.join().expect("it writes")).collect();
        end_write_epoch().expect("it is tracked");
        for (page, before) in before.into_iter().enumerate() {
            let info = page_info(memory + page * PAGE).expect("it is tracked");
            let was_written = info.epochs_written != before;
            match owner(page, round) {
                Some(owner) => {
                    written += 1;
                    missing += u64::from(!was_written);
                    right += u64::from(info.first_writer_of_last_epoch == Some(threads[owner]));
                }
                None => others += u64::from(was_written),
            }
        }
    }
    row("pages written by four threads", written as f64, "");
    row("  not reported", missing as f64, "0");
    row("  reported though not written", others as f64, "0");
    row("  first writer right, %", 100.0 * right as f64 / written as f64, ">= 99.9");
    row("  records of faults lost", (write_statistics().faults_lost - lost) as f64, "");
}

/// Who writes a page in a round; a third of the pages nobody does.
fn owner(page: usize, round: usize) -> Option<usize> {
    let mixed = (page + (round << 20)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    (!mixed.is_multiple_of(3)).then_some(mixed / 3 % THREADS)
}
