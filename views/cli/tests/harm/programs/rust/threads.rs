//! Threads of the standard library: many, those that nobody joins, and values that die with them.

mod hazard;
#[allow(dead_code, reason = "other programs use the rest")]
mod sys;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use hazard::strings;

fn main() -> ExitCode {
    hazard::run(&[
        ("threads_churn", sixty_four),
        ("detached_at_exit", detached_at_exit),
        ("tls_destructors", tls_destructors),
    ])
}

fn churn(mut seed: u32) -> usize {
    let mut held = BTreeMap::new();
    for _ in 0..300 {
        seed = seed.wrapping_mul(1_103_515_245).wrapping_add(12345);
        let key = seed >> 24;
        if key % 3 > 0 { held.insert(key, "x".repeat(key as usize + 20)) } else { held.remove(&(key + 1)) };
    }
    held.len()
}

fn sixty_four() -> u8 {
    for round in 0..4 {
        let threads: Vec<_> = (0..64).map(|index| thread::spawn(move || churn(round * 64 + index))).collect();
        let kept: usize = threads.into_iter().map(|thread| thread.join().expect("it does not panic")).sum();
        println!("{kept}");
    }
    // Objects that die in another thread than the one that made them.
    let (sender, receiver) = mpsc::channel();
    for _ in 0..8 {
        let sender = sender.clone();
        thread::spawn(move || strings(200, 60).into_iter().for_each(|text| sender.send(text).expect("it is received")));
    }
    drop(sender);
    println!("{}", receiver.into_iter().map(|text| text.len()).sum::<usize>());
    0
}

fn detached_at_exit() -> u8 {
    static RUNNING: AtomicU32 = AtomicU32::new(0);
    for seed in 0..8 {
        thread::spawn(move || {
            RUNNING.fetch_add(1, Ordering::Relaxed);
            loop {
                churn(seed);
                thread::sleep(Duration::from_micros(100));
            }
        });
    }
    while RUNNING.load(Ordering::Relaxed) < 8 {
        thread::yield_now();
    }
    thread::sleep(Duration::from_millis(20));
    0
}

struct Own(Vec<String>);

impl Drop for Own {
    fn drop(&mut self) {
        self.0.clear();
        drop(strings(10, 100));
    }
}

thread_local! {
    static OWN: RefCell<Own> = const { RefCell::new(Own(Vec::new())) };
}

fn tls_destructors() -> u8 {
    OWN.with_borrow_mut(|own| own.0.extend(strings(5, 60)));
    for count in 0..16 {
        thread::spawn(move || OWN.with_borrow_mut(|own| own.0.extend(strings(count, 30)))).join().expect("no panic");
    }
    0
}
